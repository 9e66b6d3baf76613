"""What the API server of Kubeflow Pipelines 2.17 refuses, in its words: as recorded, or else read in its source."""

import json

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}
FIELDS = {
    "run": {"display_name", "experiment_id", "pipeline_spec", "pipeline_version_reference", "runtime_config"}
    | {"service_account", "description"},
    "experiment": {"display_name", "description", "namespace"},
}
KINDS = {
    "NUMBER_DOUBLE": ((int, float), "double or integer, but the parameter value is not of number value type"),
    "NUMBER_INTEGER": ((int, float), "double or integer, but the parameter value is not of number value type"),
    "STRING": (str, "string, but the input parameter is not of string value type"),
    "BOOLEAN": (bool, "bool, but the input parameter is not of bool value type"),
    "LIST": (list, "list, but the input parameter is not of list value type"),
    "STRUCT": (dict, "struct, but the input parameter is not of struct value type"),
}
INPUTS = "Failed to create a new run: Failed to generate the ExecutionSpec: invalid pipeline job inputs: "
BAD_SPEC = (
    "Failed to create a new run: InternalServerError: Failed to create a run due to error fetching manifest: Failed to "
    "fetch a template with an invalid pipeline spec manifest: InvalidInputError: unknown template format: pipeline "
    "spec is invalid"
)
NO_IDENTITY = "Request header error: there is no user identity header."


class Problem(Exception):
    """An answer that says no.

    Args:
        status: of HTTP.
        message: with all that was wrapped around it.
        detail: what it began with; None: the answer has no details.
    """

    def __init__(self, status, message, detail=None):
        super().__init__(message)
        self.status, self.message, self.detail = status, message, detail

    def body(self):
        code = CODES.get(self.status, 2)
        answer = {"code": code, "message": self.message}
        if self.detail is not None:
            kind = "type.googleapis.com/google.rpc.Status"
            answer["details"] = [{"@type": kind, "code": code, "message": self.detail}]
        return answer


class Upload(Problem):
    """A refusal of the upload routes, which are not of the gateway."""

    def body(self):
        return {"error_message": self.message, "error_details": self.message}


class NotForwarded(Problem):
    """What the UI server says of a route that it has not."""

    def page(self):
        head = '<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>'
        return f"<!DOCTYPE html>\n{head}\n<body>\n<pre>{self.message}</pre>\n</body>\n</html>\n".encode()


def wrapped(status, around, detail):
    return Problem(status, around + detail, detail)


def check_fields(kind, raw):
    """Refuse the first field that is unknown, at its place in the text."""
    unknown = [name for name in json.loads(raw) if name not in FIELDS[kind]]
    if unknown:
        column = raw.index(json.dumps(unknown[0])) + 1
        raise Problem(400, f'proto: (line 1:{column}): unknown field "{unknown[0]}"')


def check_spec(sent):
    try:
        json_format.ParseDict(sent.get("pipeline_spec", sent), pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(sent.get("platform_spec", {}), pipeline_spec_pb2.PlatformSpec())
    except json_format.ParseError:
        raise Problem(500, BAD_SPEC, "Internal Server Error") from None


def check_parameters(spec, values):
    """Refuse what root.inputDefinitions does not allow; 1.5 passes for an integer, and true for no number."""
    defined = spec["root"].get("inputDefinitions", {}).get("parameters", {})

    def refuse(detail):
        raise Problem(400, f"{INPUTS}Invalid input error: {detail}", detail)

    for name, entry in defined.items():
        if name not in values:
            if not entry.get("isOptional") and "defaultValue" not in entry:
                refuse(f"parameter {name} is not optional, yet has neither default value nor user provided value")
            continue
        types, words = KINDS[entry["parameterType"]]
        if not isinstance(values[name], types) or (isinstance(values[name], bool) and types is not bool):
            refuse(f"input parameter {name} requires type {words}")
    if extra := sorted(set(values) - set(defined)):
        refuse(f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")


def check_namespace(what, namespace, token, users):
    """Refuse a request for a list on a server of several users.

    Args:
        what: "run", as recorded, or "experiment", whose words were read in the source of 2.17.
        namespace: that was asked for.
        token: bearer token; empty: none.
        users: the namespaces of each token.
    """
    around = "Failed to list runs: Failed to list runs due to authorization error. Check if you have permission to "
    around = f"{around}access namespace {namespace}: " if what == "run" else "List experiments failed: "
    if not namespace:
        around = around if what == "run" else f"{around}Failed to authorize with API: "
        detail = f"{'A' if what == 'run' else 'An'} {what} cannot have an empty namespace in multi-user mode"
        raise wrapped(400, f"{around}Invalid input error: ", detail)
    around += f"Failed to access {what} . Check if you have access to namespace {namespace}: "
    if token not in users:
        detail = "Failed to check authorization. User identity is empty in the request header"
        raise Problem(401, f"{around}Unauthenticated: {detail}: Unauthenticated: {NO_IDENTITY}: {NO_IDENTITY}", detail)
    if namespace not in users[token]:
        asked = f"Namespace:{namespace},Verb:list,Group:pipelines.kubeflow.org,Version:v1beta1,Resource:{what}s,"
        asked += "Subresource:,Name:,FieldSelector:nil,LabelSelector:nil,"
        detail = f"User '{token}' is not authorized with reason:  (request: &ResourceAttributes{{{asked}}})"
        raise Problem(403, f"{around}PermissionDenied: {detail}: Unauthorized access", detail)


def missing_run(run_id, around):
    detail = f"Run {run_id} not found"
    return Problem(404, f"{around}: Failed to fetch run {run_id}: ResourceNotFoundError: {detail}", detail)


def missing_experiment(experiment_id):
    around = (
        "Failed to create a new run: Failed to create a run due to invalid experimentId and namespace combination: "
        f"Failed to fetch namespace for experiment {experiment_id}: Failed to fetch namespace from experiment "
        f"{experiment_id}: ResourceNotFoundError: "
    )
    return wrapped(404, around, f"Experiment {experiment_id} not found")


def missing_pipeline(name, namespace):
    around = f"Failed to get a pipeline with name {name} and namespace {namespace}. Check error stack.: "
    around += f"Failed to get a pipeline named {name} in namespace {namespace}: ResourceNotFoundError: "
    return wrapped(404, around, f"Namespace/Pipeline {namespace}/{name} not found")


def experiment_there(name):
    detail = f"Failed to create a new experiment. The name {name} already exists. Please specify a new name"
    return wrapped(409, "Failed to create a experiment: Already exist error: ", detail)


def no_log(run_id, why):
    text = f"BadRequestError: Failed to read logs for run {run_id} {why}".strip()
    return json.dumps({"error_message": text, "error_details": text}).encode()  # with status 200
