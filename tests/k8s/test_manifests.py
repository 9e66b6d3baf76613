"""The rendered objects are valid, and grant no more than what a run needs."""

import json
import subprocess
import sys

import boto3
import kubernetes_validate
import pytest
import yaml
from manifests import FOLDERS, K8S_DIR, OVERLAYS, named, render
from moto.server import ThreadedMotoServer

from pipeline.spec import ir

KEYS = {"accessKeyKey": "access_key", "secretKeyKey": "secret_key", "secretName": "alexnet-storage"}
UNITS = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def validate(document):
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.slow
def test_every_object_is_valid_and_in_the_namespace(folder):
    for document in render(folder):
        validate(document)
        if document["kind"] not in ("Namespace", "PriorityClass"):
            assert document["metadata"]["namespace"] == "alexnet"


def test_the_validator_sees_a_field_that_is_not_one():
    policy = named(render("base"), "NetworkPolicy", "default-deny")
    with pytest.raises(kubernetes_validate.ValidationError, match="egres"):
        validate({**policy, "spec": {**policy["spec"], "egres": []}})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_admits_restricted_pods_only(overlay):
    labels = named(render(overlay), "Namespace", "alexnet")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_secret_is_rendered(folder):
    assert [d["metadata"]["name"] for d in render(folder) if d["kind"] == "Secret"] == []


@pytest.mark.slow
def test_the_example_of_a_secret_has_the_keys_and_no_value():
    (example,) = yaml.safe_load_all((K8S_DIR / "alexnet-storage.example.yaml").read_text())
    validate(example)
    assert example["metadata"] == {"name": "alexnet-storage", "namespace": "alexnet"}
    assert example["stringData"] == {"access_key": "REPLACE", "secret_key": "REPLACE"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_account_of_runs_has_rights_and_no_right_is_a_wildcard(overlay):
    documents = render(overlay)
    assert {d["kind"] for d in documents}.isdisjoint({"ClusterRole", "ClusterRoleBinding"})
    (role,) = (d for d in documents if d["kind"] == "Role")
    (binding,) = (d for d in documents if d["kind"] == "RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "pipeline-runner", "namespace": "alexnet"}]
    assert named(documents, "ServiceAccount", "default")["automountServiceAccountToken"] is False
    for rule in role["rules"]:
        words = [word for values in rule.values() for word in values]
        assert not any("*" in word for word in words)
        assert set(rule["verbs"]) <= {"get", "create", "patch"}
        if {"secrets", "configmaps"} & set(rule["resources"]):
            assert rule["resourceNames"] and rule["verbs"] == ["get"]


def provider(documents):
    """The default of the one provider in kfp-launcher, which must be that of the pipeline root."""
    data = named(documents, "ConfigMap", "kfp-launcher")["data"]
    ((scheme, settings),) = yaml.safe_load(data["providers"]).items()
    assert data["defaultPipelineRoot"].startswith(f"{scheme}://")
    return settings["default"]


@pytest.mark.parametrize("overlay", ["overlays/local", "overlays/s3"])
def test_launcher_tasks_and_argo_use_the_same_store_and_keys(overlay):
    documents = render(overlay)
    launcher = provider(documents)
    assert launcher["credentials"] == {"fromEnv": False, "secretRef": KEYS}
    tasks = named(documents, "ConfigMap", "alexnet-storage")["data"]
    scheme = "http" if launcher["disableSSL"] else "https"
    assert tasks == {"endpoint_url": f"{scheme}://{launcher['endpoint']}", "region": launcher["region"]}
    logs = yaml.safe_load(named(documents, "ConfigMap", "artifact-repositories")["data"]["default"])
    assert logs["s3"]["endpoint"] == launcher["endpoint"]
    assert logs["s3"]["accessKeySecret"] == {"name": "alexnet-storage", "key": "access_key"}
    assert logs["s3"]["secretKeySecret"] == {"name": "alexnet-storage", "key": "secret_key"}
    granted = {n for r in named(documents, "Role", "pipeline-runner")["rules"] for n in r.get("resourceNames", [])}
    assert granted == {"kfp-launcher", "alexnet-storage"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_tasks_take_from_the_namespace_is_there_or_optional(overlay):
    tasks = list(yaml.safe_load_all(ir.PIPELINE_PATH.read_text()))[1]["platforms"]["kubernetes"]["deploymentSpec"]
    settings = {d["metadata"]["name"]: d["data"] for d in render(overlay) if d["kind"] == "ConfigMap"}
    for executor in tasks["executors"].values():
        for source in executor.get("configMapAsEnv", []):
            keys = {entry["configMapKey"] for entry in source["keyToEnv"]}
            assert source["optional"] or source["configMapName"] in settings
            assert keys == settings.get(source["configMapName"], dict.fromkeys(keys)).keys()
        for source in executor.get("secretAsEnv", []):
            keys = {entry["secretKey"] for entry in source["keyToEnv"]}
            assert (source["secretName"], keys) == ("alexnet-storage", {"access_key", "secret_key"})
            assert source["optional"]


def test_on_google_cloud_the_account_is_the_credential():
    documents = render("overlays/gke")
    assert provider(documents) == {"credentials": {"fromEnv": True}}
    annotations = named(documents, "ServiceAccount", "pipeline-runner")["metadata"]["annotations"]
    assert annotations == {"iam.gke.io/gcp-service-account": "alexnet@PROJECT.iam.gserviceaccount.com"}


def amount(text):
    """The number that a quantity of Kubernetes stands for."""
    return int(text[:-2]) * UNITS[text[-2:]] if text[-2:] in UNITS else float(text)


def test_two_trainings_fit_the_quota_and_nobody_limits_their_cpu():
    documents = render("base")
    hard = named(documents, "ResourceQuota", "alexnet")["spec"]["hard"]
    spec = next(yaml.safe_load_all(ir.PIPELINE_PATH.read_text()))
    resources = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]
    assert 2 * amount(resources["resourceCpuRequest"]) <= amount(hard["requests.cpu"])
    assert 2 * amount(resources["resourceMemoryLimit"]) <= amount(hard["limits.memory"])
    assert 2 * amount(ir.load().defaults["gpus"]) <= amount(hard["requests.nvidia.com/gpu"])
    (limits,) = named(documents, "LimitRange", "alexnet")["spec"]["limits"]
    # a container that says nothing is refused under a quota unless each of these has a default
    assert limits["defaultRequest"].keys() == {"cpu", "memory"}
    assert limits["default"].keys() == {"memory"}


def test_a_lifecycle_rule_deletes_only_what_kubeflow_keeps():
    google = json.loads((K8S_DIR / "lifecycle/gs.json").read_text())["rule"]
    deletions = [rule["condition"] for rule in google if rule["action"]["type"] == "Delete"]
    assert [rule["matchesPrefix"] for rule in deletions] == [["kubeflow/"]]
    rules = json.loads((K8S_DIR / "lifecycle/s3.json").read_text())
    assert [r["Filter"]["Prefix"] for r in rules["Rules"] if "Expiration" in r] == ["kubeflow/"]
    for overlay in ("overlays/gke", "overlays/s3"):
        data = named(render(overlay), "ConfigMap", "kfp-launcher")["data"]
        assert data["defaultPipelineRoot"].partition("://")[2] == "BUCKET/kubeflow"


@pytest.mark.slow
def test_an_s3_server_takes_the_lifecycle_rules():
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
        client.create_bucket(Bucket="alexnet")
        rules = json.loads((K8S_DIR / "lifecycle/s3.json").read_text())
        client.put_bucket_lifecycle_configuration(Bucket="alexnet", LifecycleConfiguration=rules)
        kept = client.get_bucket_lifecycle_configuration(Bucket="alexnet")["Rules"]
    finally:
        server.stop()
    assert {rule["ID"]: rule["Filter"] for rule in kept} == {rule["ID"]: rule["Filter"] for rule in rules["Rules"]}


def smoke_pod():
    return named(render("smoke"), "Job", "gpu-smoke")["spec"]["template"]["spec"]


def test_the_smoke_pod_asks_for_two_gpus_and_for_a_priority_that_there_is():
    pod = smoke_pod()
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert named(render("base"), "PriorityClass", pod["priorityClassName"])["preemptionPolicy"] == "Never"


@pytest.mark.slow
def test_the_smoke_pod_fails_where_there_are_no_gpus(tmp_path):
    (container,) = smoke_pod()["containers"]
    assert container["command"] == ["python", "-c"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-c", *container["args"]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("expected 2 GPUs, found 0")
