"""Answers recorded from a genuine Kubeflow Pipelines 2.17.0, and a server that gives them again.

The recordings lie in ../shared/data/kubeflow-2.17.0 where there are any; long texts in them are replaced by their
length, like "(5360 characters)", and are filled in here from pipeline.yaml and from the recorded pod-spec-patches.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from conftest import PROJECT_DIR, SHARED_DATA

from pipeline import images

RECORDED_DIR = SHARED_DATA / "kubeflow-2.17.0"
RETRIED = ["run-succeeded", "run-cached", "run-failed-not-retried", "run-driver-failed"]
PLAIN = ["run-cancelled", "run-terminating", "run-driver-failed-without-template-defaults"]
PLAIN += ["run-two-seeds-evaluate-running"]
HEALTHZ = {"commit_sha": "2.17.0", "tag_name": "2.17.0", "multi_user": False, "pipeline_store": "database"}


def recording(name):
    if not RECORDED_DIR.is_dir():
        pytest.skip("no ../shared/data/kubeflow-2.17.0 beside this checkout")
    return json.loads((RECORDED_DIR / f"{name}.json").read_text())


def recorded_workflow(name):
    return recording(f"{name}-workflow")


def documents():
    spec, platform = yaml.safe_load_all((PROJECT_DIR / "pipeline.yaml").read_text())
    return {"pipeline_spec": spec, "platform_spec": platform}


def _patch(task):
    """Return the pod-spec-patch of a task, put together again."""
    if task == "ingest":
        words = next(c for c in recording("pod-ingest")["spec"]["containers"] if c["name"] == "main")["command"]
        words = words[words.index("--") + 1 :]
        return {"containers": [{"name": "main", "image": images.tag("ingest"), "command": words}]}
    try:
        found = recording(f"pod-spec-patch-{task}")
    except FileNotFoundError:
        return None
    patch = found["pod-spec-patch"]
    patch = json.loads(patch) if isinstance(patch, str) else patch
    words = patch["containers"][0]["command"]
    words[words.index("--executor_input") + 1] = json.dumps(found["decoded --executor_input"])
    return patch


def _filled(task, name, spec):
    entries = {n: e for holder in (spec["root"], *spec["components"].values()) for n, e in _tasks(holder)}
    component = spec["components"].get(f"comp-{task}", {})
    if name == "pod-spec-patch":
        return _patch(task)
    if name == "component":
        return component
    if name == "container":
        return spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    return entries.get(task, {}) if name == "task" else {}


def _tasks(holder):
    return holder.get("dag", {}).get("tasks", {}).items()


def filled(workflow):
    """Put texts in the place of those that were shortened."""
    spec = documents()["pipeline_spec"]
    for node in workflow["status"]["nodes"].values():
        parts = re.sub(r"\(\d+\)", "", node["name"]).split(".")
        task = parts[-2] if parts[-1] == "executor" else parts[-1].removesuffix("-driver")
        for parameter in node.get("inputs", {}).get("parameters", []):
            if re.fullmatch(r"\(\d+ characters\)", parameter.get("value", "")):
                value = _filled(task, parameter["name"], spec)
                parameter["value"] = json.dumps(value) if value else ""
    return workflow


class Replay:
    """A server that answers with what was recorded. Use as a context manager.

    Args:
        answers: status and JSON or text, by path.
    """

    def __init__(self, answers):
        self.answers, self.requests = {"/apis/v2beta1/healthz": (200, HEALTHZ)} | answers, []
        handler = type("ReplayHandler", (_Handler,), {"replay": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    replay: Replay

    def do_GET(self):
        self.replay.requests.append(self.path)
        missing = (404, {"code": 5, "message": "Not Found"})
        answers = self.replay.answers
        status, answer = answers.get(self.path, answers.get(self.path.partition("?")[0], missing))
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def run_answers(name, has_v1=True):
    """Return the id of a recorded run, and what both APIs answered about it."""
    found = recording(f"{name}-v2beta1" if name != "run-pending" else name)
    found = found.get("answer", found)
    if isinstance(found.get("pipeline_spec"), str):
        found["pipeline_spec"] = documents()
    answers = {f"/apis/v2beta1/runs/{found['run_id']}": (200, found)}
    if has_v1 and (RECORDED_DIR / f"{name}-workflow.json").is_file():
        outer = recording(f"{name}-v1beta1-outer")
        outer["pipeline_runtime"]["workflow_manifest"] = json.dumps(filled(recorded_workflow(name)))
        answers[f"/apis/v1beta1/runs/{found['run_id']}"] = (200, outer)
    return found["run_id"], answers
