"""The pods that Kubeflow would make from the committed pipeline.yaml, and what is found in worse ones."""

import copy

import pytest
import yaml
from kfp.kubernetes import kubernetes_executor_config_pb2

from pipeline import images
from pipeline.graph import policy
from pipeline.spec import ir

COMMITTED = list(yaml.safe_load_all(ir.PIPELINE_PATH.read_text()))
LABELS = [label for label, e in COMMITTED[0]["deploymentSpec"]["executors"].items() if "container" in e]
RAW_DIGEST = "sha256:" + 64 * "0"


def test_nothing_is_found_in_the_committed_file():
    assert policy.findings(COMMITTED, require_digests=False) == []


def test_digests_are_asked_for_where_they_are_required():
    documents = copy.deepcopy(COMMITTED)
    containers = [documents[0]["deploymentSpec"]["executors"][label]["container"] for label in LABELS]
    for container in containers:
        container["image"] = f"registry.example/me/train:{images.version()}"
    assert len(policy.findings(documents, require_digests=True)) == len(LABELS)
    for container in containers:
        container["image"] = f"registry.example/me/train@{RAW_DIGEST}"
    assert policy.findings(documents, require_digests=True) == []


def set_image(image):
    return lambda container, settings: container.update(image=image)


def set_env(name, value):
    return lambda container, settings: container.update(env=[{"name": name, "value": value}])


def drop_resource(name):
    return lambda container, settings: container["resources"].pop(name)


def set_security(**values):
    return lambda container, settings: settings["securityContext"].update(values)


NO_ROOT = "may run as root. Call kubernetes.set_security_context(task, run_as_user=..., run_as_non_root=True)"
NO_TAG = "has no tag of a version. Name one, or a digest"
NOT_ALLOWED = "is nothing that a pod of this pipeline may have. Remove it, or allow it in pipeline/graph/policy.py"
READABLE = "can be read in the file. Use kubernetes.use_secret_as_env()"
MUTATIONS = {
    "no security context": (lambda c, s: s.pop("securityContext"), NO_ROOT),
    "user 0": (set_security(runAsUser="0"), NO_ROOT),
    "not said to be no root": (set_security(runAsNonRoot=False), NO_ROOT),
    "privileged": (set_security(privileged=True), f"privileged {NOT_ALLOWED}"),
    "host path": (lambda c, s: s.update(hostPathMounts=[{"path": "/"}]), f"hostPathMounts {NOT_ALLOWED}"),
    "init container": (lambda c, s: s.update(initContainers=[{"name": "x"}]), f"initContainers {NOT_ALLOWED}"),
    "latest": (set_image("me/train:latest"), f"image me/train:latest {NO_TAG}"),
    "no tag": (set_image("registry.example:5000/train"), f"image registry.example:5000/train {NO_TAG}"),
    "no CPU request": (
        drop_resource("resourceCpuRequest"),
        "no resourceCpuRequest. Call task.set_cpu_request() in pipeline/graph/resources.py",
    ),
    "no memory request": (
        drop_resource("resourceMemoryRequest"),
        "no resourceMemoryRequest. Call task.set_memory_request() in pipeline/graph/resources.py",
    ),
    "no memory limit": (
        drop_resource("resourceMemoryLimit"),
        "no resourceMemoryLimit. Call task.set_memory_limit() in pipeline/graph/resources.py",
    ),
    "a key": (set_env("AWS_SECRET_ACCESS_KEY", "abc"), f"the value of AWS_SECRET_ACCESS_KEY {READABLE}"),
    "a token": (set_env("api_token", "abc"), f"the value of api_token {READABLE}"),
    "no timeout": (
        lambda c, s: s.pop("activeDeadlineSeconds"),
        "no timeout. Call kubernetes.set_timeout() in pipeline/graph/resources.py",
    ),
}


@pytest.mark.parametrize(("change", "expected"), MUTATIONS.values(), ids=MUTATIONS)
@pytest.mark.parametrize("label", LABELS)
def test_each_fault_is_found_and_nothing_else(label, change, expected):
    spec, platform = copy.deepcopy(COMMITTED)
    change(
        spec["deploymentSpec"]["executors"][label]["container"],
        platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label],
    )
    found = policy.findings([spec, platform], require_digests=False)
    assert found == [f"{label.removeprefix('exec-')}: {expected}"]


def test_retries_must_outlive_the_timeout_in_nested_graphs_too():
    spec, platform = copy.deepcopy(COMMITTED)
    late = {"maxRetryCount": 3, "backoffMaxDuration": "3600s"}
    spec["components"]["comp-nested"] = {
        "dag": {"tasks": {"again": {"componentRef": {"name": "comp-train"}, "retryPolicy": late}}}
    }
    seconds = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]["activeDeadlineSeconds"]
    assert policy.findings([spec, platform], require_digests=False) == [
        f"train: task again is not retried later than 3600 s after its first start, but may run {seconds} s. "
        "Give set_retry() a longer backoff_max_duration"
    ]


@pytest.mark.parametrize(
    "change", [set_env("LOG_LEVEL", "info"), set_env("AWS_SESSION_TOKEN", ""), set_image("me/train:1.2-gpu")]
)
def test_what_is_right_is_not_found(change):
    spec, platform = copy.deepcopy(COMMITTED)
    change(spec["deploymentSpec"]["executors"]["exec-train"]["container"], {})
    assert policy.findings([spec, platform], require_digests=False) == []


def test_what_may_be_set_are_settings_that_kubeflow_knows():
    known = {f.camelcase_name for f in kubernetes_executor_config_pb2.KubernetesExecutorConfig.DESCRIPTOR.fields}
    assert known >= policy.PLATFORM_KEYS
    assert {f.camelcase_name for f in kubernetes_executor_config_pb2.SecurityContext.DESCRIPTOR.fields} >= (
        policy.SECURITY_KEYS
    )
