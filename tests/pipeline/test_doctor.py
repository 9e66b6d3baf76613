"""`alexnet doctor` against servers over HTTP: Kubeflow Pipelines and a Kubernetes API."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from conftest import alexnet
from kfp_server import KfpServer


class Kubernetes(ThreadingHTTPServer):
    """The part of a Kubernetes API that the doctor reads."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), KubernetesHandler)
        self.gpus = {"cpu-1": None, "gpu-1": "2"}
        self.objects = {"serviceaccounts/pipeline-runner", "configmaps/kfp-launcher"}
        self.forbidden = ()

    def answer(self, path):
        kind, name = path.rpartition("/api/v1/")[2].removeprefix("namespaces/kubeflow/").partition("/")[::2]
        if kind in self.forbidden:
            return 403, self.status(403, "Forbidden", f"{kind} is forbidden")
        if kind == "nodes":
            return 200, {
                "kind": "NodeList",
                "apiVersion": "v1",
                "items": [self.node(*item) for item in self.gpus.items()],
            }
        if f"{kind}/{name}" in self.objects:
            return 200, {"apiVersion": "v1", "metadata": {"name": name, "namespace": "kubeflow"}}
        return 404, self.status(404, "NotFound", f'{kind} "{name}" not found')

    @staticmethod
    def node(name, gpus):
        allocatable = {"cpu": "8", "memory": "32Gi"} | ({"nvidia.com/gpu": gpus} if gpus else {})
        return {"metadata": {"name": name}, "status": {"allocatable": allocatable, "capacity": allocatable}}

    @staticmethod
    def status(code, reason, message):
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": code,
        }


class KubernetesHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, content = self.server.answer(self.path.partition("?")[0])
        data = json.dumps(content).encode()
        self.send_response(status, content.get("reason", "OK"))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def kubernetes(tmp_path, monkeypatch):
    with Kubernetes() as api:
        threading.Thread(target=api.serve_forever, args=(0.02,), daemon=True).start()
        write_kubeconfig(tmp_path, monkeypatch, api.server_port)
        yield api
        api.shutdown()


def write_kubeconfig(folder, monkeypatch, port):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))


def lines(done):
    """Return each check's status and text by its name; of objects of the cluster with the object's name."""
    rows = [(line[:8].strip(), line[9:23].strip(), line[24:]) for line in done.stdout.splitlines()]
    named = ("account", "secret", "config map")
    return {f"{name} {text.split()[0]}" if name in named else name: (status, text) for status, name, text in rows}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_everything_that_can_be_seen_from_here_is_checked(kubernetes, bucket, sample_release):
    with KfpServer() as server:
        done = alexnet("doctor", "--endpoint", server.url, "--root", f"{bucket}/root", "--release", sample_release)
    found = lines(done)
    assert done.returncode == 1, done.stderr  # pipeline.yaml in this repository names images by tag
    failed = [name for name, (status, _) in found.items() if status == "failed"]
    assert [name for name in failed if name != "docker"] == ["pods"]
    assert "`alexnet images digests`" in found["pods"][1]
    assert found["root"][1].endswith("wrote, read and deleted a probe")
    assert "2.17.0" in found["server"][1]
    assert found["gpu nodes"] == ("ok", "1 of 2 nodes have 2 nvidia.com/gpu: gpu-1")
    assert (
        found["config map kfp-launcher"][0] == found["account pipeline-runner"][0] == found["pipeline.yaml"][0] == "ok"
    )
    assert found["secret alexnet-storage"] == ("ok", "alexnet-storage in kubeflow: not there, and optional")


def test_what_is_missing_is_named_with_the_remedy(kubernetes, tmp_path):
    kubernetes.gpus = {"gpu-1": "1"}
    kubernetes.objects = {"configmaps/kfp-launcher"}
    (tmp_path / "file").write_text("")
    done = alexnet("doctor", "--root", tmp_path / "file" / "root", "--release", tmp_path)
    found = lines(done)
    assert done.returncode == 1
    assert "largest: 1" in found["gpu nodes"][1]
    assert "k8s/" in found["account pipeline-runner"][1]
    assert {found[name][0] for name in ("gpu nodes", "account pipeline-runner", "root", "release")} == {"failed"}
    assert found["server"][0] == "skipped"


def test_what_one_may_not_see_is_skipped(kubernetes):
    kubernetes.forbidden = ("nodes", "serviceaccounts")
    found = lines(alexnet("doctor"))
    assert found["gpu nodes"][0] == found["account pipeline-runner"][0] == "skipped"
    assert found["config map kfp-launcher"][0] == "ok"


def test_a_server_that_is_not_there_is_3_and_one_that_refuses_is_1(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    done = alexnet("doctor", "--endpoint", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 3
    assert lines(done)["server"][0] == "failed"
    assert lines(done)["cluster"] == ("skipped", "no kubeconfig")
    with KfpServer() as server:
        server.faults = [("v2beta1/runs", 401, 9)]
        done = alexnet("doctor", "--endpoint", server.url)
    assert done.returncode == 1
    assert "--existing-token" in lines(done)["access"][1]


def test_a_cluster_that_does_not_answer_is_told(tmp_path, monkeypatch):
    write_kubeconfig(tmp_path, monkeypatch, free_port())
    done = alexnet("doctor")
    assert done.returncode == 1
    assert "does not answer" in lines(done)["cluster"][1]
    assert "Traceback" not in done.stderr
