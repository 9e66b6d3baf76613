"""Checks of everything that a run needs: this machine, the storage, the server and its cluster."""

import importlib.metadata
import os
import platform
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.shared import storage
from components.shared.errors import AlexNetError
from pipeline import images, pods, submission
from pipeline.client import Client, Refused, Unreachable

NAMESPACE = "kubeflow"
GPU = "nvidia.com/gpu"
SERVICE_ACCOUNT = "pipeline-runner"  # what the server takes where a run names none
LAUNCHER = "kfp-launcher"  # the config map that says where Kubeflow keeps small artifacts


@dataclass(frozen=True)
class Check:
    """One line of the doctor."""

    name: str
    status: Literal["ok", "failed", "skipped"]
    text: str
    unreachable: bool = False


def versions() -> Iterator[Check]:
    """Check the interpreter and name the client."""
    version = platform.python_version()
    fits = (3, 11) <= tuple(int(part) for part in version.split(".")[:2]) < (3, 14)
    yield Check("python", "ok" if fits else "failed", version if fits else f"{version}: expected 3.11 to 3.13")
    yield Check(
        "kfp",
        "ok",
        f"{importlib.metadata.version('kfp')} compiles, kfp-server-api "
        f"{importlib.metadata.version('kfp-server-api')} talks to the server",
    )


def engine() -> Iterator[Check]:
    """Check that a docker engine answers."""
    try:
        version = images.client().version()["Version"]
        yield Check("docker", "ok", f"engine {version}")
    except AlexNetError as error:
        yield Check("docker", "failed", f"{error}; needed for `--runner docker`, `images` and reruns of cluster tasks")


def root(uri: str) -> Iterator[Check]:
    """Write, read and delete a small object under the root."""
    if not uri:
        yield Check("root", "skipped", "no --root")
        return
    probe, data = storage.join(storage.absolute(uri), f"probe-{secrets.token_hex(4)}"), secrets.token_bytes(64)
    try:
        storage.publish_bytes(data, probe)
        try:
            same = storage.read_bytes(probe) == data
        finally:
            storage.delete(probe)
        left = storage.exists(probe)
        good = same and not left
        text = f"{uri}: wrote, read and deleted a probe" if good else f"{uri}: read other bytes, or could not delete"
        yield Check("root", "ok" if good else "failed", text)
    except (AlexNetError, OSError) as error:
        failure = error if isinstance(error, AlexNetError) else storage.explain(error, uri)
        yield Check("root", "failed", f"{failure}. Check the bucket, its region and the credentials here")


def release(uri: str) -> Iterator[Check]:
    """Look for the release."""
    if not uri:
        yield Check("release", "skipped", "no --release")
        return
    try:
        names = [entry.name for entry in storage.list_files(storage.absolute(uri))]
        tars = [name for name in names if name.startswith("ILSVRC2010_")]
        text = f"{uri}: {len(tars)} files ILSVRC2010_*" + ("" if tars else "; expected the tars and the devkit")
        yield Check("release", "ok" if tars else "failed", text)
    except (AlexNetError, OSError) as error:
        yield Check("release", "failed", str(error))


def compiled() -> Iterator[Check]:
    """Check that pipeline.yaml is what the graph says, and its pods such as clusters take."""
    from pipeline import graph

    fresh = graph.documents(graph.compiled()) == submission.documents()
    text = "is what the graph says" if fresh else "is not what the graph says. Run `alexnet compile`"
    yield Check("pipeline.yaml", "ok" if fresh else "failed", text)
    found = pods.findings(submission.documents(), require_digests=True)
    yield Check("pods", "failed" if found else "ok", "; ".join(found) or "images by digest, nothing that is refused")


def server(client: Client | None) -> Iterator[Check]:
    """Check that the server answers, and lets us see runs."""
    if not client:
        yield Check("server", "skipped", "no --endpoint")
        return
    try:
        found = client.healthz()
        shared = ", shared by namespaces" if found.get("multi_user") else ""
        yield Check("server", "ok", f"{client.endpoint}: Kubeflow Pipelines {found.get('tag_name', 'unknown')}{shared}")
        next(client.pages("/apis/v2beta1/runs", "runs", namespace=client.namespace, page_size=1), None)
        yield Check("access", "ok", "may list runs")
    except Unreachable as error:
        yield Check("server", "failed", str(error), unreachable=True)
    except Refused as error:
        yield Check("access", "failed", str(error))


KINDS = {  # of an executor of pipeline.yaml: what it names, and the key of the name
    "secretAsEnv": ("secret", "secretName"),
    "secretAsVolume": ("secret", "secretName"),
    "imagePullSecret": ("secret", "secretName"),
    "configMapAsEnv": ("config map", "configMapName"),
    "configMapAsVolume": ("config map", "configMapName"),
}


def needs() -> tuple[int, dict[tuple[str, str], bool]]:
    """Read pipeline.yaml for what it takes from the cluster.

    Returns:
        The GPUs that its largest task asks for; the secrets and config maps that it names, and which are optional.
    """
    spec, *rest = submission.documents()
    executors = spec["deploymentSpec"]["executors"].values()
    limits = [e.get("container", {}).get("resources", {}).get("accelerator", {}) for e in executors]
    counts = [limit.get("resourceCount", limit.get("count", "0")) for limit in limits]
    wanted = rest[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if rest else {}
    names: dict[tuple[str, str], bool] = {}
    for executor in wanted.values():
        for key, (kind, field) in KINDS.items():
            for entry in executor.get(key, []):
                constant = entry.get(f"{field}Parameter", {}).get("runtimeValue", {}).get("constant")
                if name := constant or entry.get(field):
                    names[kind, name] = names.get((kind, name), True) and entry.get("optional", False)
    return max((int(count) for count in counts if str(count).isdigit()), default=0), names


def _kubernetes() -> Any:
    """Return the cluster's API, or None where nothing says which cluster."""
    from kubernetes import client, config

    paths = os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    if any(Path(path).is_file() for path in paths.split(os.pathsep)):
        config.load_kube_config()
    else:
        try:
            config.load_incluster_config()
        except config.ConfigException:
            return None
    return client.CoreV1Api()


def _present(name: str, what: str, read: Any, remedy: str, optional: bool = False) -> Check:
    """Check that an object of the cluster is there."""
    from kubernetes.client import ApiException

    try:
        read()
        return Check(name, "ok", what)
    except ApiException as error:
        if error.status == 404 and optional:
            return Check(name, "ok", f"{what}: not there, and optional")
        text = f"{what}: not there. {remedy}" if error.status == 404 else f"{what}: {error.status} {error.reason}"
        return Check(name, "skipped" if error.status == 403 else "failed", text)


def _nodes(api: Any, gpus: int) -> Check:
    from kubernetes.client import ApiException

    try:
        nodes = api.list_node(_request_timeout=20).items
    except ApiException as error:
        return Check("gpu nodes", "skipped", f"may not list nodes: {error.status} {error.reason}")
    counts = {n.metadata.name: int((n.status.allocatable or {}).get(GPU, 0)) for n in nodes}
    fit = sorted(name for name, count in counts.items() if count >= gpus)
    if fit:
        return Check("gpu nodes", "ok", f"{len(fit)} of {len(nodes)} nodes have {gpus} {GPU}: {', '.join(fit[:5])}")
    text = f"no node of {len(nodes)} has {gpus} {GPU} (largest: {max(counts.values(), default=0)})"
    return Check(
        "gpu nodes", "failed", f"{text}. A pool that grows from zero shows none until it is used; else add one"
    )


def cluster(namespace: str, service_account: str) -> Iterator[Check]:
    """Look into the cluster itself, where a kubeconfig leads to one."""
    import urllib3
    from kubernetes import config

    space = namespace or NAMESPACE
    gpus, names = needs()
    try:
        api = _kubernetes()
    except config.ConfigException as error:
        yield Check("cluster", "failed", f"kubeconfig: {error}")
        return
    if not api:
        yield Check("cluster", "skipped", "no kubeconfig")
        return
    api.api_client.rest_client.pool_manager.connection_pool_kw["retries"] = False
    try:
        yield _nodes(api, gpus)
        account = service_account or SERVICE_ACCOUNT
        apply = f"Apply k8s/ or pass another --namespace (now {space})"
        readers = {
            "account": api.read_namespaced_service_account,
            "secret": api.read_namespaced_secret,
            "config map": api.read_namespaced_config_map,
        }
        for (kind, name), optional in {("account", account): False, ("config map", LAUNCHER): False, **names}.items():
            yield _present(kind, f"{name} in {space}", lambda k=kind, n=name: readers[k](n, space), apply, optional)
    except urllib3.exceptions.HTTPError as error:
        yield Check("cluster", "failed", f"the cluster of the kubeconfig does not answer ({error})")
