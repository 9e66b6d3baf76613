"""What the network policies let through, found out by asking them about addresses and ports."""

import ipaddress

import pytest
from manifests import FOLDERS, OVERLAYS, render

METADATA_SERVER, INTERNET, GOOGLE, API_SERVER = "169.254.169.254", "8.8.8.8", "199.36.153.9", "10.0.0.1"
RUNS = {"matchLabels": {"pipelines.kubeflow.org/v2_component": "true"}}


def policies(folder):
    return [d["spec"] for d in render(folder) if d["kind"] == "NetworkPolicy"]


def within(peer, address):
    block = peer.get("ipBlock", {"cidr": "0.0.0.0/32"})
    inside = ipaddress.ip_address(address) in ipaddress.ip_network(block["cidr"])
    return inside and not any(
        ipaddress.ip_address(address) in ipaddress.ip_network(hole) for hole in block.get("except", [])
    )


def reaches(folder, address, port, protocol="TCP"):
    """Whether a run's pod may call an address outside the cluster's pods."""
    return any(
        any(within(peer, address) for peer in rule["to"])
        and any((entry["protocol"], entry["port"]) == (protocol, port) for entry in rule["ports"])
        for policy in policies(folder)
        for rule in policy.get("egress", [])
    )


@pytest.mark.parametrize("overlay", ["base", *OVERLAYS])
def test_all_pods_are_denied_everything_first(overlay):
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies(overlay)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_may_call_a_pod_and_only_runs_may_call_out_to_named_places_and_ports(folder):
    for policy in policies(folder):
        assert "ingress" not in policy
        for rule in policy.get("egress", []):
            assert policy["podSelector"] == RUNS
            assert rule["to"] and rule["ports"]
            for peer in rule["to"]:
                assert "ipBlock" in peer or "namespaceSelector" in peer


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("base", set()),
        ("overlays/local", set()),
        ("overlays/gke", {(METADATA_SERVER, 80), (GOOGLE, 443)}),
        ("overlays/s3", {(INTERNET, 443), (GOOGLE, 443)}),
    ],
)
def test_who_reaches_what_outside(folder, expected):
    questions = [(a, p) for a in (METADATA_SERVER, INTERNET, GOOGLE) for p in (22, 80, 443)]
    assert {question for question in questions if reaches(folder, *question)} == expected
    assert reaches(folder, API_SERVER, 443)
    assert not reaches(folder, API_SERVER, 5432)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_runs_reach_kubeflow_and_dns(overlay):
    inside = {
        (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], entry["port"])
        for policy in policies(overlay)
        for rule in policy.get("egress", [])
        for peer in rule["to"]
        if "namespaceSelector" in peer
        for entry in rule["ports"]
    }
    store = {("kubeflow", 8333), ("kubeflow", 9000)} if overlay == "overlays/local" else set()
    assert inside == {("kube-system", 53), ("kubeflow", 8080), ("kubeflow", 8887), ("kubeflow", 8888)} | store
