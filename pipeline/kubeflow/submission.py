"""What `alexnet submit` sends: checked parameters, both documents of pipeline.yaml, and how the run is to go."""

import json
import time
from pathlib import Path
from typing import Any

import yaml

from components.shared import release, storage
from components.shared.errors import AlexNetError, UsageError
from pipeline.graph import policy
from pipeline.kubeflow.client import Client, Refused
from pipeline.spec import ir
from pipeline.spec.nested import all_tasks

EXPERIMENT = "alexnet"
INPUTS = ("release_uri", "root_uri")


def documents(path: Path = ir.PIPELINE_PATH) -> list[dict[str, Any]]:
    """Read the documents of a compiled pipeline."""
    return ir.documents(storage.read_text(str(path)))


def pod_problems(given: list[dict[str, Any]], require_digests: bool) -> list[str]:
    """List what is wrong with the pods of a pipeline; the images that have no digest in one line."""
    found = policy.findings(given, require_digests=False)
    strict = policy.findings(given, require_digests) if require_digests else []
    tagged = [line.partition(":")[0] for line in strict if line not in found]
    remedy = "Run `alexnet images push`, `alexnet images digests`, `alexnet compile`"
    return found + ([f"the images of {', '.join(tagged)} have no digest. {remedy}"] if tagged else [])


def check_pods(given: list[dict[str, Any]], allow_tags: bool) -> None:
    """Refuse a pipeline whose pods would be refused by the cluster, or whose images may be others tomorrow.

    Raises:
        UsageError: names all that is wrong, and the remedy.
    """
    if problems := pod_problems(given, not allow_tags):
        hint = "" if allow_tags else ". Where the cluster has images of these tags loaded, --allow-tags takes them"
        raise UsageError(f"pipeline.yaml: {'; '.join(problems)}{hint}")


def read_file(path: str) -> list[str]:
    """Read a JSON or YAML file of parameters as `k=v` texts.

    Raises:
        UsageError: it holds something else.
    """
    try:
        content = yaml.safe_load(storage.read_bytes(path))  # JSON is YAML too
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: neither JSON nor YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected an object of parameters, got {type(content).__name__}")
    if empty := [name for name, value in content.items() if value is None]:
        raise UsageError(f"{path}: {empty[0]} is null. Give it a value, or leave it out for the default")
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in content.items()]


def parameters(pipeline: ir.Pipeline, given: list[str]) -> dict[str, Any]:
    """Check what a person gave against the pipeline and the components, which the server knows only the types of.

    The server refuses parameters that are missing, unknown, null or of another type too, one at a time; it takes 1.5
    for an integer, and knows nothing of ranges and URIs.

    Args:
        pipeline: the compiled one.
        given: `k=v`, the later one wins.

    Returns:
        The given values in their types; the server knows the defaults.

    Raises:
        UsageError: a parameter is unknown, ill-typed, out of range or missing.
    """
    values = pipeline.parse(given)
    missing = [name for name in pipeline.types if name not in pipeline.defaults and values.get(name, "") == ""]
    if missing:
        example = " ".join(f"--param {name}=..." for name in missing)
        raise UsageError(f"{', '.join(missing)}: needed and not given. Add {example}")
    for name in INPUTS:
        if name in values and storage.is_local(str(values[name])) and not str(values[name]).startswith("/"):
            raise UsageError(f"--param {name}: expected a URI, or a path that the pods see; got {values[name]!r}")
    return values


def fingerprint(values: dict[str, Any]) -> str:
    """Add the identity of the release to the parameters where it can be seen from here.

    Returns:
        A line that says what was done.
    """
    if "release_fingerprint" in values:
        return f"release_fingerprint: {values['release_fingerprint'] or 'empty'}, as given"
    try:
        values["release_fingerprint"] = release.fingerprint(str(values["release_uri"]))
    except AlexNetError as error:
        return f"release_fingerprint: left empty, the release is out of sight from here ({error})"
    return f"release_fingerprint: {values['release_fingerprint'][:16]}..., ingest refuses a release that changed since"


def without_cache(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a pipeline in which no task looks into the cache, those of nested graphs neither."""
    for _, task in all_tasks(spec):
        task["cachingOptions"] = {"enableCache": False}
    return spec


def experiment_id(client: Client, name: str) -> str:
    """Find an experiment by its name, or make it."""
    path = "/apis/v2beta1/experiments"
    for experiment in client.pages(path, "experiments", namespace=client.namespace):
        if experiment["display_name"] == name and experiment.get("storage_state") != "ARCHIVED":
            return experiment["experiment_id"]
    body = {"display_name": name} | ({"namespace": client.namespace} if client.namespace else {})
    return client.call("POST", path, body=body)["experiment_id"]


def upload(client: Client, name: str, path: Path = ir.PIPELINE_PATH) -> dict[str, str]:
    """Upload pipeline.yaml as a version of a pipeline, which is made if it is not there.

    Args:
        client: the server.
        name: NAME, or NAME:VERSION.
        path: the compiled pipeline.

    Returns:
        The reference that a run needs.

    Raises:
        UsageError: the pipeline has a version of that name.
    """
    name, _, version = name.partition(":")
    query = [("namespace", client.namespace)] if client.namespace else []
    try:
        found = client.call("GET", f"/apis/v2beta1/pipelines/names/{name}", query_params=query)
    except Refused as error:
        if error.status != 404:
            raise
        body = {"display_name": name} | dict(query)
        found = client.call("POST", "/apis/v2beta1/pipelines", body=body)
    version = version or f"{name} {time.strftime('%Y%m%d-%H%M%S')}"
    try:
        made = client.call(
            "POST",
            "/apis/v2beta1/pipelines/upload_version",
            query_params=[("name", version), ("pipelineid", found["pipeline_id"])],
            files={"uploadfile": str(path)},
        )
    except Refused as error:
        if error.status != 409:
            raise
        raise UsageError(
            f"--upload {name}:{version}: pipeline {name} on {client.endpoint} has a version {version}, and a version "
            f"never changes. Pass another name after the colon, or --upload {name} alone for one with the time"
        ) from None
    return {"pipeline_id": made["pipeline_id"], "pipeline_version_id": made["pipeline_version_id"]}


def run_body(
    source: dict[str, Any], name: str, values: dict[str, Any], experiment: str, service_account: str, pipeline_root: str
) -> dict[str, Any]:
    """Build the body of the request that makes a run.

    Args:
        source: `pipeline_spec` or `pipeline_version_reference`.
        name: of the run.
        values: parameters.
        experiment: its id.
        service_account: empty: the server's default.
        pipeline_root: where small artifacts go; empty: the server's default.
    """
    runtime = {"parameters": values} | ({"pipeline_root": pipeline_root} if pipeline_root else {})
    body = {"display_name": name, "experiment_id": experiment, "runtime_config": runtime, **source}
    return body | ({"service_account": service_account} if service_account else {})


def spec_source(given: list[dict[str, Any]]) -> dict[str, Any]:
    """Wrap the documents of pipeline.yaml for the server: the second one says GPUs, volumes, secrets and timeouts."""
    spec, *platform = given
    return {"pipeline_spec": {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec}
