"""Every pod template keeps the rules of Pod Security `restricted`, as the admission controller would see them."""

import copy

import pytest
from manifests import FOLDERS, named, render

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def pod_specs(documents):
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Pod":
            yield spec
        elif document["kind"] == "CronJob":
            yield spec["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in spec:
            yield spec["template"]["spec"]


def violations(pod):
    """Name the fields of a pod that `restricted` does not admit."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    found += [f"volume {v['name']}" for v in pod.get("volumes", []) if not VOLUMES & v.keys()]
    shared = pod.get("securityContext", {})
    for container in (*pod["containers"], *pod.get("initContainers", [])):
        own = container.get("securityContext", {})
        both = {**shared, **own}
        if own.get("privileged"):
            found.append("privileged")
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation")
        capabilities = own.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            found.append("capabilities")
        if both.get("runAsNonRoot") is not True:
            found.append("runAsNonRoot")
        if both.get("runAsUser") == 0:
            found.append("runAsUser")
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append("seccompProfile")
        if any("hostPort" in port for port in container.get("ports", [])):
            found.append("hostPort")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_restricted(folder):
    assert [violations(pod) for pod in pod_specs(render(folder)) if violations(pod)] == []


def test_the_smoke_job_is_looked_at():
    (pod,) = pod_specs(render("smoke"))
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False


def privilege(pod):
    pod["containers"][0]["securityContext"]["privileged"] = True


def host_volume(pod):
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def root(pod):
    pod["containers"][0]["securityContext"]["runAsUser"] = 0


def no_context(pod):
    del pod["containers"][0]["securityContext"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (privilege, ["privileged"]),
        (host_volume, ["volume host"]),
        (root, ["runAsUser"]),
        (no_context, ["allowPrivilegeEscalation", "capabilities"]),
        (lambda pod: pod.update(hostNetwork=True), ["hostNetwork"]),
        (lambda pod: pod.pop("securityContext"), ["runAsNonRoot", "seccompProfile"]),
    ],
)
def test_the_rules_see(change, expected):
    pod = copy.deepcopy(named(render("smoke"), "Job", "gpu-smoke")["spec"]["template"]["spec"])
    change(pod)
    assert violations(pod) == expected
