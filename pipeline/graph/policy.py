"""What is wrong with the pods that Kubeflow would make from pipeline.yaml, read off its two documents.

Tools that check manifests do not understand this file, and a cluster says it only when a pod is refused. The rest of
Pod Security `restricted` (dropped capabilities, no escalation, seccomp) Kubeflow 2.16 adds to every pod itself.
"""

import re
from collections.abc import Iterator
from typing import Any

from pipeline.spec.nested import all_tasks

SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", re.IGNORECASE)
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
TAG = re.compile(r":(?!latest$)[\w.-]+$")
RESOURCES = {
    "resourceCpuRequest": "set_cpu_request",
    "resourceMemoryRequest": "set_memory_request",
    "resourceMemoryLimit": "set_memory_limit",
}
# What a pod may be given on Kubernetes: volumes that come and go with it, claims, references, placement.
PLATFORM_KEYS = {
    "activeDeadlineSeconds",
    "configMapAsEnv",
    "configMapAsVolume",
    "emptyDirMounts",
    "enabledSharedMemory",
    "fieldPathAsEnv",
    "genericEphemeralVolume",
    "imagePullPolicy",
    "imagePullSecret",
    "nodeAffinity",
    "nodeSelector",
    "podAffinity",
    "podMetadata",
    "pvcMount",
    "secretAsEnv",
    "secretAsVolume",
    "securityContext",
    "tolerations",
}
SECURITY_KEYS = {"runAsGroup", "runAsNonRoot", "runAsUser"}


def findings(documents: list[Any], require_digests: bool) -> list[str]:
    """Check the pods of a compiled pipeline.

    Args:
        documents: the two documents of pipeline.yaml, pipeline and platform.
        require_digests: whether every image must be named by its digest; otherwise a tag will do, but not `latest`.

    Returns:
        A line for each thing found: the task, what is wrong, and what to do.
    """
    spec, platform = documents
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found = []
    for label, executor in sorted(spec["deploymentSpec"]["executors"].items()):
        if "container" in executor:
            own = settings.get(label, {})
            problems = [*_image(executor["container"], require_digests), *_resources(executor["container"])]
            problems += [*_secrets(executor["container"]), *_platform(own), *_timeouts(label, own, spec)]
            found += [f"{label.removeprefix('exec-')}: {problem}" for problem in problems]
    return found


def _image(container: dict[str, Any], require_digest: bool) -> Iterator[str]:
    image = container["image"]
    if DIGEST.search(image):
        return
    if require_digest:
        yield f"image {image} has no digest. Run `alexnet images push`, `alexnet images digests`, `alexnet compile`"
    elif not TAG.search(image):
        yield f"image {image} has no tag of a version. Name one, or a digest"


def _resources(container: dict[str, Any]) -> Iterator[str]:
    for key, setter in RESOURCES.items():
        if key not in container.get("resources", {}):
            yield f"no {key}. Call task.{setter}() in pipeline/graph/resources.py"


def _secrets(container: dict[str, Any]) -> Iterator[str]:
    for entry in container.get("env", []):
        if SECRET_NAME.search(entry["name"]) and entry.get("value"):
            yield f"the value of {entry['name']} can be read in the file. Use kubernetes.use_secret_as_env()"


def _platform(settings: dict[str, Any]) -> Iterator[str]:
    context = settings.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or int(context.get("runAsUser", 0)) == 0:
        yield "may run as root. Call kubernetes.set_security_context(task, run_as_user=..., run_as_non_root=True)"
    for key in sorted(settings.keys() - PLATFORM_KEYS) + sorted(context.keys() - SECURITY_KEYS):
        yield (
            f"{key} is nothing that a pod of this pipeline may have. Remove it, or allow it in pipeline/graph/policy.py"
        )


def _timeouts(label: str, settings: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    timeout = int(settings.get("activeDeadlineSeconds", 0))
    if not timeout:
        yield "no timeout. Call kubernetes.set_timeout() in pipeline/graph/resources.py"
    for name, task in _tasks(label, spec):
        retry = task.get("retryPolicy", {})
        window = int(retry.get("backoffMaxDuration", "0s").removesuffix("s"))
        if retry.get("maxRetryCount") and window <= timeout:
            yield (
                f"task {name} is not retried later than {window} s after its first start, but may run {timeout} s. "
                "Give set_retry() a longer backoff_max_duration"
            )


def _tasks(label: str, spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tasks that an executor runs for, in whatever graph they are."""
    for name, task in all_tasks(spec):
        if spec["components"][task["componentRef"]["name"]].get("executorLabel") == label:
            yield name, task
