"""The Dask clusters: their pods as the operator would make them, held to what holds for every pod of ours."""

import kubernetes_validate
import pytest
import yaml
from manifests import K8S_DIR
from test_pod_security import violations

from pipeline import images
from pipeline.graph.resources import CONFIG_KEYS, SECRET_KEYS, STORAGE_NAME

CLUSTERS = {
    cluster["metadata"]["name"]: cluster
    for cluster in yaml.safe_load_all((K8S_DIR / "dask" / "clusters.yaml").read_text())
}
POLICIES = list(yaml.safe_load_all((K8S_DIR / "dask" / "network-policy.yaml").read_text()))


def validate(document):
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def pods(cluster):
    return {part: cluster["spec"][part]["spec"] for part in ("scheduler", "worker")}


@pytest.mark.parametrize("name", CLUSTERS)
def test_pods_and_service_are_valid(name):
    for part, pod in pods(CLUSTERS[name]).items():
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": part}, "spec": pod})
    service = CLUSTERS[name]["spec"]["scheduler"]["service"]
    validate({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service})
    assert service["selector"] == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}


@pytest.mark.parametrize("name", CLUSTERS)
def test_pods_are_restricted_and_bounded(name):
    for pod in pods(CLUSTERS[name]).values():
        assert violations(pod) == []
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["command"][:3] == ["python", "-m", "dask"], "the working folder holds the component's code"
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


def test_scheduler_and_workers_run_their_component():
    found = {name: {pod["containers"][0]["image"] for pod in pods(c).values()} for name, c in CLUSTERS.items()}
    assert found == {f"alexnet-{c}": {images.tag(c)} for c in ("ingest", "statistics")}


@pytest.mark.parametrize("name", CLUSTERS)
def test_workers_know_the_stores_that_tasks_know(name):
    env = pods(CLUSTERS[name])["worker"]["containers"][0]["env"]
    named = {e["name"]: e["valueFrom"] for e in env if "valueFrom" in e}
    for kind, keys in (("secretKeyRef", SECRET_KEYS), ("configMapKeyRef", CONFIG_KEYS)):
        for key, variable in keys.items():
            assert named[variable] == {kind: {"name": STORAGE_NAME, "key": key, "optional": True}}


def test_policies_name_the_clusters_and_open_no_other_port():
    for policy in POLICIES:
        validate(policy)
        assert policy["metadata"]["namespace"] == "alexnet"
    (own,) = (p["spec"] for p in POLICIES if p["metadata"]["name"] == "dask-pods")
    assert own["podSelector"]["matchExpressions"][0]["values"] == list(CLUSTERS)
    assert {port["port"] for rule in own["ingress"] for port in rule["ports"]} == {8786, 8787, 8788}
    for rule in own["ingress"]:
        assert all(peer.keys() <= {"podSelector", "namespaceSelector"} for peer in rule["from"])
