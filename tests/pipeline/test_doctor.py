"""`alexnet doctor` against servers over HTTP: Kubeflow Pipelines and a Kubernetes API."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from conftest import alexnet
from kfp_server import KfpServer
from next_servers import Pages

from pipeline.kubeflow import client, cluster, doctor


class Kubernetes(ThreadingHTTPServer):
    """The part of a Kubernetes API that the doctor reads."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), KubernetesHandler)
        self.gpus = {"cpu-1": None, "gpu-1": "2"}
        self.objects = {"serviceaccounts/pipeline-runner", "configmaps/kfp-launcher"}
        self.forbidden = ()
        self.data = {}  # of config maps, by name
        self.host_users = None  # of the API server's deployment: None: there is no such variable

    def answer(self, path):
        kind, name = path.partition("/v1/")[2].removeprefix("namespaces/kubeflow/").partition("/")[::2]
        if kind in self.forbidden:
            return 403, self.status(403, "Forbidden", f"{kind} is forbidden")
        if kind == "nodes":
            return 200, {
                "kind": "NodeList",
                "apiVersion": "v1",
                "items": [self.node(*item) for item in self.gpus.items()],
            }
        if f"{kind}/{name}" == "deployments/ml-pipeline":
            return 200, self.deployment()
        if kind == "configmaps" and name in self.data:
            return 200, {"apiVersion": "v1", "metadata": {"name": name}, "data": self.data[name]}
        if f"{kind}/{name}" in self.objects:
            return 200, {"apiVersion": "v1", "metadata": {"name": name, "namespace": "kubeflow"}}
        return 404, self.status(404, "NotFound", f'{kind} "{name}" not found')

    def deployment(self):
        """The API server of Kubeflow Pipelines, which takes the value from a config map since 2.17."""
        reference = {"name": "pipeline-install-config", "key": "defaultSecurityContextHostUsers", "optional": True}
        env = [{"name": "LOG_LEVEL", "value": "info"}]
        if self.host_users is not None:
            self.data["pipeline-install-config"] = {"defaultSecurityContextHostUsers": self.host_users}
            env += [{"name": "DEFAULT_SECURITY_CONTEXT_HOST_USERS", "valueFrom": {"configMapKeyRef": reference}}]
        pod = {"spec": {"containers": [{"name": "proxy"}, {"name": "ml-pipeline-api-server", "env": env}]}}
        spec = {"selector": {"matchLabels": {"app": "ml-pipeline"}}, "template": pod}
        return {"apiVersion": "apps/v1", "metadata": {"name": "ml-pipeline"}, "spec": spec}

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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_one_may_not_see_is_skipped(kubernetes):
    kubernetes.forbidden = ("nodes", "serviceaccounts")
    found = lines(alexnet("doctor"))
    assert found["gpu nodes"][0] == found["account pipeline-runner"][0] == "skipped"
    assert found["config map kfp-launcher"][0] == "ok"


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_told(tmp_path, monkeypatch):
    write_kubeconfig(tmp_path, monkeypatch, free_port())
    done = alexnet("doctor")
    assert done.returncode == 1
    assert "does not answer" in lines(done)["cluster"][1]
    assert "Traceback" not in done.stderr


# ---- the server, at either address ----


def rows(checks):
    return {check.name: (check.status, check.text) for check in checks}


def seen(server, namespace=""):
    """Return what the doctor says of a server."""
    return rows(doctor.server(client.Client(server.url, namespace=namespace)))


@pytest.mark.slow
def test_the_version_is_known_through_the_web_pages_too():
    with Pages() as pages:
        found = seen(pages)
    assert found == {"server": ("ok", f"{pages.url}: Kubeflow Pipelines 2.17.0"), "access": ("ok", "may list runs")}


@pytest.mark.slow
@pytest.mark.parametrize("was_up", [False, True])  # the pages keep the version of a server that was once there
def test_pages_without_their_api_server_are_3(tmp_path, monkeypatch, was_up):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with Pages() as pages:
        if was_up:
            assert seen(pages)["server"][0] == "ok"
        pages.api_is_up = False
        with pytest.raises(client.Unreachable, match="ml-pipeline"):
            client.Client(pages.url).healthz()
        done = alexnet("doctor", "--endpoint", pages.url)
        assert (done.returncode, lines(done)["server"][0]) == (3, "failed")
        assert "access" not in lines(done)


class Answers(KfpServer):
    """A server that answers healthz with what it is given."""

    def __init__(self, answer):
        super().__init__()
        self.given = answer

    ROUTES = (("GET", r"/apis/v2beta1/healthz", lambda self, *_: self.given), *KfpServer.ROUTES)


@pytest.mark.parametrize("answer", [{"status": "UP"}, {}, [], "ok", None])
def test_the_answer_of_another_service_is_not_health(answer):
    with Answers(answer) as other:
        found = seen(other)
    assert found["access"][0] == "failed"
    assert "not that of Kubeflow Pipelines" in found["access"][1]
    assert "server" not in found


def test_several_users_need_a_namespace():
    with Pages() as pages:
        pages.multi_user = True
        found = seen(pages)
        assert found["access"] == ("failed", "this server has several users: pass --namespace, the user's own")
        assert "a namespace for each user" in found["server"][1]
        assert seen(pages, "ada")["access"][0] == "ok"
    assert pages.requests[-1][2]["namespace"] == "ada"


@pytest.mark.parametrize(
    ("version", "status"),
    [("2.14.3", "failed"), ("2.15.0", "failed"), ("2.16.0", "ok"), ("2.21.0-rc.1", "ok"), ("dev", "ok"), ("", "ok")],
)
def test_a_server_that_refuses_the_file_is_told_beforehand(version, status):
    with Answers({"tag_name": version}) as server:
        found = seen(server)["server"]
    assert found[0] == status
    assert ("2.16 or later" in found[1]) == (status == "failed")


# ---- what the server's settings mean for pods ----


def examined(server_namespace="kubeflow"):
    return rows(cluster.cluster("", "", server_namespace))


def defaults(text):
    return {"workflowDefaults": f"spec: {{templateDefaults: {{retryStrategy: {{{text}}}}}}}"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "policy OnFailure: a container that fails is tried again, a pod that is deleted (preemption) is not"),
        (defaults("limit: '2', retryPolicy: OnError"), "a container that fails is not"),  # of Kubeflow 2.17
        ({"config": f"workflowDefaults: {{{defaults('limit: 2')['workflowDefaults']}}}"}, "OnFailure"),
        (defaults("retryPolicy: Always"), "a container that fails and a pod that is deleted are tried again"),
        (defaults("expression: lastRetry.status == 'Error'"), "where lastRetry.status == 'Error'"),
        (defaults("retryPolicy: OnTransientError"), "passing error"),
    ],
)
def test_what_is_tried_again_is_read_from_the_settings_of_argo(kubernetes, settings, expected):
    kubernetes.data["workflow-controller-configmap"] = settings
    status, text = examined()["retries"]
    assert (status, expected in text) == ("ok", True), text
    assert ("k8s/README.md" in text) == ("Always" not in text)


@pytest.mark.parametrize("text", ["spec: [", "spec: 3", "3", defaults("retryPolicy: Never")["workflowDefaults"]])
def test_settings_that_argo_could_not_read_either_are_told(kubernetes, text):
    kubernetes.data["workflow-controller-configmap"] = {"workflowDefaults": text}
    status, text = examined()["retries"]
    assert (status, "workflow-controller-configmap" in text) == ("failed", True)


def test_settings_that_one_may_not_see_are_skipped(kubernetes):
    kubernetes.forbidden = ("configmaps", "deployments")
    found = examined()
    assert found["retries"][0] == found["host users"][0] == "skipped"
    assert "403" in found["retries"][1]
    kubernetes.forbidden = ()
    assert "--server-namespace" in examined("elsewhere")["retries"][1]


@pytest.mark.parametrize(
    ("value", "status"), [(None, "ok"), ("", "ok"), ("true", "ok"), ("false", "failed"), ("F", "failed")]
)
def test_host_users_that_gpus_do_not_work_with_fail(kubernetes, value, status):
    kubernetes.host_users = value
    found = examined()["host users"]
    assert found[0] == status
    assert ("NVIDIA" in found[1]) == (status == "failed")
