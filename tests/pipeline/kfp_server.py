"""A Kubeflow Pipelines server for tests, over HTTP on this machine: the v2beta1 API, and what is used of v1.

It answers as grpc-gateway does (proto names, nothing that is empty, 1970 for no time, google.rpc.Status for
errors), and refuses what the real one refuses: unknown fields, specifications that are none, unknown experiments.
"""

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from argo_workflow import Workflow, at
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

RUN_FIELDS = {"display_name", "experiment_id", "pipeline_spec", "pipeline_version_reference", "runtime_config"}
RUN_FIELDS |= {"service_account", "description"}
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}


class Problem(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class KfpServer:
    """The server and what it knows. Use as a context manager."""

    def __init__(self):
        self.requests = []  # (method, path, query, headers, body)
        self.experiments, self.pipelines, self.runs = {}, {}, {}
        self.script = [("PENDING", {}), ("SUCCEEDED", {})]  # (state, {task: phases}) after each look at the run
        self.faults = []  # (part of the path, status or "hang up" or "login page", how often)
        self.token = ""
        self.has_v1 = True
        self.logs = {}  # pod: text; the pods that are not here are gone
        self.metadata = {}  # of artifacts, by name
        self.packed = self.terminated = self.gone = False
        self.root = "gs://bucket/kubeflow"
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("ApiHandler", (Handler,), {"api": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()

    def bodies(self, path):
        return [body for method, p, _, _, body in self.requests if p == path and method == "POST"]

    # ---- the API ----

    def healthz(self, *_):
        return {"commit_sha": "4a72c2e0", "tag_name": "2.17.0", "multi_user": False, "pipeline_store": "database"}

    def list_experiments(self, *_):
        return {"experiments": list(self.experiments.values())} if self.experiments else {}

    def create_experiment(self, _match, _query, body):
        if set(body) - {"display_name", "description", "namespace"}:
            raise Problem(400, f"unknown field in {sorted(body)}")
        made = body | {"experiment_id": str(uuid.uuid4()), "created_at": at(0), "storage_state": "AVAILABLE"}
        self.experiments[made["experiment_id"]] = made
        return made

    def pipeline_by_name(self, match, *_):
        for pipeline in self.pipelines.values():
            if pipeline["display_name"] == match[1]:
                return pipeline
        raise Problem(404, f"Failed to get a pipeline by name and namespace: Pipeline {match[1]} not found")

    def create_pipeline(self, _match, _query, body):
        made = body | {"pipeline_id": str(uuid.uuid4()), "created_at": at(0)}
        self.pipelines[made["pipeline_id"]] = made
        return made

    def upload_version(self, _match, query, body):
        if query["pipelineid"] not in self.pipelines or 'name="uploadfile"' not in body:
            raise Problem(400, "no such pipeline, or no file")
        made = {"pipeline_id": query["pipelineid"], "pipeline_version_id": str(uuid.uuid4())}
        return made | {"display_name": query["name"], "created_at": at(0)}

    def create_run(self, _match, _query, body):
        if unknown := set(body) - RUN_FIELDS:
            raise Problem(400, f'proto: (line 1:2): unknown field "{min(unknown)}"')
        if body["experiment_id"] not in self.experiments:
            raise Problem(404, f"Experiment {body['experiment_id']} not found")
        if spec := body.get("pipeline_spec"):
            try:
                json_format.ParseDict(spec["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
                json_format.ParseDict(spec["platform_spec"], pipeline_spec_pb2.PlatformSpec())
            except (json_format.ParseError, KeyError) as error:
                raise Problem(400, f"Failed to create a run: {error}") from error
        run_id = str(uuid.uuid4())
        self.runs[run_id] = {"body": body, "looks": 0, "workflow": None, "state": "PENDING"}
        return {
            "run_id": run_id,
            **body,
            "state": "PENDING",
            "created_at": at(0),
            "finished_at": "1970-01-01T00:00:00Z",
        }

    def _run(self, match):
        if match[1] not in self.runs:
            raise Problem(404, f"Failed to fetch run {match[1]}: ResourceNotFoundError: Run {match[1]} not found.")
        return self.runs[match[1]]

    def get_run(self, match, *_):
        run = self._run(match)
        state, tasks = self.script[min(run["looks"], len(self.script) - 1)]
        run["looks"] += 1
        body = run["body"]
        history = [{"update_time": at(3), "state": "PENDING"}]
        if body.get("pipeline_spec"):
            values = body["runtime_config"].get("parameters", {})
            workflow = Workflow(match[1], body["pipeline_spec"], values, self.root)
            workflow.packed, workflow.terminated = self.packed, self.terminated
            for index, (name, phases) in enumerate(tasks.items()):
                workflow.task(name, phases, (60 * index + 5, 60 * index + 50), self.metadata.items())
            run |= {"workflow": workflow, "state": state}
        final = state in ("SUCCEEDED", "FAILED", "CANCELED")
        answer = {"run_id": match[1], **body, "state": state, "storage_state": "AVAILABLE", "state_history": history}
        answer |= {
            "created_at": at(0),
            "scheduled_at": at(0),
            "finished_at": at(600) if final else "1970-01-01T00:00:00Z",
        }
        if run["workflow"] and run["workflow"].nodes:
            answer["run_details"] = {"task_details": run["workflow"].details()}
        return answer

    def get_run_v1(self, match, *_):
        run = self._run(match)
        if not self.has_v1:
            raise Problem(404, "Not Found")
        phases = {"SUCCEEDED": "Succeeded", "FAILED": "Failed"}
        manifest = run["workflow"].manifest(phases.get(run["state"], "Running")) if run["workflow"] else ""
        runtime = {"workflow_manifest": manifest} if manifest else {}
        return {"run": {"id": match[1], "name": run["body"]["display_name"]}, "pipeline_runtime": runtime}

    def list_runs(self, *_):
        return {}

    def log(self, match, *_):
        if match[2] in self.logs:
            return self.logs[match[2]].encode()
        why = f'Failed to read logs for run {match[1]}: pods "{match[2]}" not found'
        return json.dumps({"error_message": why, "error_details": why}).encode()  # with status 200, as the real one

    ROUTES = (
        ("GET", r"/apis/v2beta1/healthz", healthz),
        ("GET", r"/apis/v2beta1/experiments", list_experiments),
        ("POST", r"/apis/v2beta1/experiments", create_experiment),
        ("GET", r"/apis/v2beta1/pipelines/names/([^/]+)", pipeline_by_name),
        ("POST", r"/apis/v2beta1/pipelines", create_pipeline),
        ("POST", r"/apis/v2beta1/pipelines/upload_version", upload_version),
        ("POST", r"/apis/v2beta1/runs", create_run),
        ("GET", r"/apis/v2beta1/runs", list_runs),
        ("GET", r"/apis/v2beta1/runs/([^/]+)", get_run),
        ("GET", r"/apis/v1beta1/runs/([^/]+)", get_run_v1),
        ("GET", r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", log),
    )

    # ---- HTTP ----

    def fault(self, path):
        for index, (part, what, times) in enumerate(self.faults):
            if part in path and times > 0:
                self.faults[index] = (part, what, times - 1)
                return what
        return None

    def answer(self, method, path, query, body):
        for verb, pattern, action in self.ROUTES:
            if verb == method and (match := re.fullmatch(pattern, path)):
                return action(self, match, query, body)
        raise Problem(404, "Not Found")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: KfpServer

    def reply(self, status, data, kind="application/json", location=""):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(data)

    def perform(self):
        address = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(address.query).items()}
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(raw) if raw[:1] == b"{" else raw.decode(errors="replace")
        self.api.requests.append((self.command, address.path, query, dict(self.headers), body))
        fault = self.api.fault(address.path)
        if fault == "stop":
            self.api.gone = True
            threading.Thread(target=self.api.stop, daemon=True).start()
        if self.api.gone or fault == "hang up":
            self.close_connection = True
        elif fault == "login page":
            self.reply(200, b"<!doctype html><title>Sign in</title>", "text/html")
        elif fault == 302:
            self.reply(302, b"", location="https://dex.example/auth?client_id=kfp")
        else:
            self.answer(address.path, query, body, fault)

    def answer(self, path, query, body, fault):
        try:
            if fault:
                raise Problem(fault, "the fault that the test asked for")
            if self.api.token and self.headers.get("Authorization") != f"Bearer {self.api.token}":
                raise Problem(401, "Request header error: there is no user identity header.")
            answer = self.api.answer(self.command, path, query, body)
            if isinstance(answer, bytes):
                self.reply(200, answer, "text/plain")
            else:
                self.reply(200, json.dumps(answer).encode())
        except Problem as problem:
            code = CODES.get(problem.status, 2)
            detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": str(problem)}
            content = {"code": code, "message": str(problem), "details": [detail]}
            self.reply(problem.status, json.dumps(content).encode())

    do_GET = do_POST = perform

    def log_message(self, *_):
        pass
