"""A Kubeflow Pipelines server for tests, over HTTP on this machine: the v2beta1 API, and what is used of v1.

It answers as grpc-gateway does (proto names, nothing that is empty, 1970 for no time, google.rpc.Status for
errors), and refuses what the genuine one refuses; test_imitation.py compares it with recorded answers.
"""

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from conftest import PROJECT_DIR
from kubeflow_imitation import refusals
from kubeflow_imitation.argo import Workflow
from kubeflow_imitation.driver import Driver
from kubeflow_imitation.nodes import at
from kubeflow_imitation.refusals import Problem


class KfpServer:
    """The server and what it knows. Use as a context manager."""

    def __init__(self):
        self.requests = []  # (method, path, query, headers, body)
        self.experiments, self.pipelines, self.versions, self.runs = {}, {}, {}, {}
        self.script = [("PENDING", {}), ("SUCCEEDED", {})]  # (state, {task: phases}) after each look at the run
        self.faults = []  # (part of the path, status or "hang up" or "login page", how often)
        self.token = ""
        self.users = None  # of a server of several users: the namespaces of each token
        self.has_v1 = True
        self.retried = True  # Argo's configuration of 2.17; False: that before
        self.through_ui = False  # its address is that of the UI server, which does not forward all
        self.logs = {}  # pod: text; the pods that are not here are gone
        self.metadata = {}  # of artifacts, by name
        self.packed = self.terminated = self.gone = False
        self.root = "gs://bucket/kubeflow"
        self.asking = ""  # token of the request
        self.uploaded = next(iter(yaml.safe_load_all((PROJECT_DIR / "pipeline.yaml").read_text())))
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
        answer = {"commit_sha": "2.17.0", "tag_name": "2.17.0", "multi_user": self.users is not None}
        return answer | {"pipeline_store": "database"}

    def list_experiments(self, _match, query, _body):
        if self.users is not None:
            refusals.check_namespace("experiment", query.get("namespace", ""), self.asking, self.users)
        first, found = int(query.get("page_token", 0)), list(self.experiments.values())
        answer = {"experiments": found[first:][:2], "total_size": len(found)} if found else {}
        return answer | ({"next_page_token": str(first + 2)} if found[first:][2:] else {})

    def create_experiment(self, _match, _query, body):
        refusals.check_fields("experiment", json.dumps(body, separators=(",", ":")))
        if body["display_name"] in [e["display_name"] for e in self.experiments.values()]:
            raise refusals.experiment_there(body["display_name"])
        made = body | {"experiment_id": str(uuid.uuid4()), "created_at": at(0), "storage_state": "AVAILABLE"}
        made["last_run_created_at"] = "1970-01-01T00:00:00Z"
        self.experiments[made["experiment_id"]] = made
        return made

    def pipeline_by_name(self, match, query, _body):
        for pipeline in self.pipelines.values():
            if pipeline["display_name"] == match[1]:
                return pipeline
        raise refusals.missing_pipeline(match[1], query.get("namespace", ""))

    def create_pipeline(self, _match, _query, body):
        made = {"pipeline_id": str(uuid.uuid4()), **body, "name": body["display_name"], "created_at": at(0)}
        self.pipelines[made["pipeline_id"]] = made
        return made

    def upload_version(self, _match, query, body):
        named = (query.get("pipelineid"), query["name"])
        if named[0] not in self.pipelines or 'name="uploadfile"' not in body:
            raise refusals.Upload(400, "Failed to create a pipeline version")
        if named in self.versions.values():
            raise refusals.Upload(409, "Failed to create a pipeline version")
        version_id = str(uuid.uuid4())
        self.versions[version_id] = named
        made = {"pipeline_id": named[0], "pipeline_version_id": version_id}
        return made | {"display_name": query["name"], "created_at": at(0)}

    def create_run(self, _match, _query, body):
        refusals.check_fields("run", json.dumps(body, separators=(",", ":")))
        if body["experiment_id"] not in self.experiments:
            raise refusals.missing_experiment(body["experiment_id"])
        if sent := body.get("pipeline_spec"):
            refusals.check_spec(sent)
            values = body.get("runtime_config", {}).get("parameters", {})
            refusals.check_parameters(sent.get("pipeline_spec", sent), values)
        run_id = str(uuid.uuid4())
        self.runs[run_id] = {"body": body, "looks": 0, "workflow": None, "state": "PENDING"}
        answer = {"run_id": run_id, "storage_state": "AVAILABLE", "service_account": "pipeline-runner", **body}
        times = {"created_at": at(0), "scheduled_at": at(0), "finished_at": "1970-01-01T00:00:00Z"}
        return answer | times | {"state": "PENDING", "state_history": [{"update_time": at(0), "state": "PENDING"}]}

    def _run(self, match, around="Failed to get a run"):
        if match[1] not in self.runs:
            raise refusals.missing_run(match[1], around)
        return self.runs[match[1]]

    def get_run(self, match, *_):
        run = self._run(match)
        state, tasks = self.script[min(run["looks"], len(self.script) - 1)]
        run["looks"] += 1
        body = run["body"]
        history = [{"update_time": at(3), "state": "PENDING"}]
        values = body["runtime_config"].get("parameters", {})
        spec = body.get("pipeline_spec", {}).get("pipeline_spec") or self.uploaded
        driver = Driver(match[1], "alexnet-x7k2p", spec, values, self.root, self.metadata)
        workflow = Workflow(driver, self.retried).run(tasks)
        workflow.packed, workflow.terminated = self.packed, self.terminated
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
        run = self._run(match, "Failed to get a v1beta1 run")
        if not self.has_v1:
            raise Problem(404, "Not Found")
        phases = {"SUCCEEDED": "Succeeded", "FAILED": "Failed"}
        seen = run["workflow"] and run["workflow"].nodes
        manifest = run["workflow"].manifest(phases.get(run["state"], "Running")) if seen else ""
        runtime = {"pipeline_manifest": "{}"} | ({"workflow_manifest": manifest} if manifest else {})
        return {"run": {"id": match[1], "name": run["body"]["display_name"]}, "pipeline_runtime": runtime}

    def list_runs(self, _match, query, _body):
        if self.users is not None:
            refusals.check_namespace("run", query.get("namespace", ""), self.asking, self.users)
        found = [{"run_id": run_id, **run["body"], "created_at": at(0)} for run_id, run in self.runs.items()]
        return {"runs": found[::-1], "total_size": len(found)} if found else {}

    def _log(self, run_id, pod):
        workflow = self.runs[run_id]["workflow"]
        return (workflow.driver_logs | self.logs).get(pod)

    def log(self, match, *_):
        if match[1] not in self.runs:
            missing = f"Failed to fetch run {match[1]}: ResourceNotFoundError: Run {match[1]} not found"
            return refusals.no_log(match[1], f"due to run fetching error: {missing}")
        text = self._log(match[1], match[2])
        return refusals.no_log(match[1], f'pods "{match[2]}" not found') if text is None else text.encode()

    def pod_log(self, _match, query, _body):
        """Answer as the UI server does; read in its source: handlers/pod-logs.ts."""
        text = self._log(query["runid"], query["podname"])
        if text is None or query["podnamespace"] != "kubeflow":
            why = "Error: Unable to retrieve workflow status: [object Object]."
            raise refusals.Upload(500, f"Could not get main container logs: {why}")
        return text.encode()

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
        ("GET", r"/k8s/pod/logs", pod_log),
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
            other = "/apis/v1alpha1" if self.through_ui else "/k8s"
            if verb == method and not path.startswith(other) and (match := re.fullmatch(pattern, path)):
                return action(self, match, query, body)
        if self.through_ui and not path.startswith(("/apis/v1beta1", "/apis/v2beta1")):
            raise refusals.NotForwarded(404, f"Cannot {method} {path}")
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
            self.api.asking = self.headers.get("Authorization", "").removeprefix("Bearer ")
            answer = self.api.answer(self.command, unquote(path), query, body)
            if isinstance(answer, bytes):
                self.reply(200, answer, "text/plain")
            else:
                self.reply(200, json.dumps(answer).encode())
        except refusals.NotForwarded as problem:
            self.reply(problem.status, problem.page(), "text/html")
        except Problem as problem:
            self.reply(problem.status, json.dumps(problem.body()).encode())

    do_GET = do_POST = perform

    def log_message(self, *_):
        pass
