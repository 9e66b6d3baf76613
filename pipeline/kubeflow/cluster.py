"""Checks of the cluster behind the server: nodes, the objects that a run names, and how the server sets up pods."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from components.shared import settings
from pipeline.kubeflow import submission
from pipeline.kubeflow.doctor import Check

NAMESPACE = "kubeflow"  # of the server; of its runs too, where it has no several users
GPU = "nvidia.com/gpu"
SERVICE_ACCOUNT = "pipeline-runner"  # what the server takes where a run names none
LAUNCHER = "kfp-launcher"  # the config map that says where Kubeflow keeps small artifacts
CONTROLLER = "workflow-controller-configmap"  # Argo's settings
SERVER = "ml-pipeline"  # the deployment of the API server
HOST_USERS = "DEFAULT_SECURITY_CONTEXT_HOST_USERS"  # its variable since 2.17: hostUsers of every task's pod
FALSE = ("0", "f", "F", "false", "FALSE", "False")  # as Go's strconv.ParseBool reads it
# What Argo's policy means for a task with set_retry, whose template names none (RetryPolicyActual of its controller).
POLICIES = {
    "OnFailure": "a container that fails is tried again, a pod that is deleted (preemption) is not",
    "OnError": "a pod that is deleted (preemption) is tried again, a container that fails is not",
    "Always": "a container that fails and a pod that is deleted are tried again",
    "OnTransientError": "only what Argo takes for a passing error is tried again",
}


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
        The GPUs that its largest task asks for by default; the secrets and config maps that it names, and which are
        optional.
    """
    spec, *rest = submission.documents()
    executors = spec["deploymentSpec"]["executors"].values()
    limits = [e.get("container", {}).get("resources", {}).get("accelerator", {}) for e in executors]
    defaults = {
        f"{{{{$.inputs.parameters['pipelinechannel--{name}']}}}}": entry.get("defaultValue")
        for name, entry in spec["root"]["inputDefinitions"]["parameters"].items()
    }
    counts = [limit.get("resourceCount", limit.get("count", "0")) for limit in limits]
    counts = [defaults.get(count, count) for count in counts]
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

    paths = settings.KUBECONFIG.get() or str(Path("~/.kube/config").expanduser())
    if any(Path(path).is_file() for path in paths.split(os.pathsep)):
        config.load_kube_config(paths)
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


def retry_text(settings: dict[str, str]) -> str:
    """Say what Argo tries again, from its config map.

    Argo merges `templateDefaults` into every template, so a policy there holds for tasks with set_retry too: Kubeflow
    sets a limit and a backoff, but no policy.

    Args:
        settings: data of the config map: a key a setting, or all of them under `config`.

    Raises:
        ValueError: a setting is not what it should be.
    """
    try:
        every = yaml.safe_load(settings.get("config", "")) or {}
        defaults = yaml.safe_load(settings.get("workflowDefaults", "")) or every.get("workflowDefaults") or {}
        strategy = defaults.get("spec", {}).get("templateDefaults", {}).get("retryStrategy") or {}
        expression = strategy.get("expression", "")
        policy = str(strategy.get("retryPolicy") or ("Always" if expression else "OnFailure"))
    except (yaml.YAMLError, AttributeError) as error:
        raise ValueError(f"workflowDefaults: cannot be read ({' '.join(str(error).split())})") from error
    if policy not in POLICIES:
        raise ValueError(f"retryPolicy {policy}: Argo knows {', '.join(POLICIES)}")
    text = f"policy {policy}: {POLICIES[policy]}"
    if expression:
        text += f", where {expression}"
    return text if policy == "Always" else f"{text}. k8s/README.md has the setting for both"


def _host_users(api: Any, space: str, gpus: int) -> Check:
    """Check that pods with GPUs stay in the user namespace of their node, without which NVIDIA's runtime fails."""
    from kubernetes.client import AppsV1Api

    apps: Any = AppsV1Api(api.api_client)
    containers = apps.read_namespaced_deployment(SERVER, space, _request_timeout=20).spec.template.spec.containers
    found = next((e for c in containers for e in c.env or [] if e.name == HOST_USERS), None)
    value = found.value if found else ""
    if found and found.value_from and (reference := found.value_from.config_map_key_ref):
        data = api.read_namespaced_config_map(reference.name, space, _request_timeout=20).data or {}
        value = data.get(reference.key, "")
    if (value or "").strip() not in FALSE:
        return Check("host users", "ok", f"{SERVER} in {space} does not set hostUsers: false on pods")
    text = f"{SERVER} in {space} sets hostUsers: false on every pod ({HOST_USERS})"
    if not gpus:
        return Check("host users", "ok", f"{text}; no task asks for a GPU")
    return Check("host users", "failed", f"{text}, which NVIDIA does not support for pods with GPUs. Set it to ''")


def _retries(api: Any, space: str) -> Check:
    data = api.read_namespaced_config_map(CONTROLLER, space, _request_timeout=20).data or {}
    try:
        return Check("retries", "ok", retry_text(data))
    except ValueError as error:
        return Check("retries", "failed", f"{CONTROLLER} in {space}: {error}")


def _of_server(name: str, check: Callable[[], Check], what: str) -> Check:
    """Check something that belongs to the server, which who runs pipelines often may not see."""
    from kubernetes.client import ApiException

    try:
        return check()
    except ApiException as error:
        hint = ". Is the server in another --server-namespace?" if error.status == 404 else ""
        return Check(name, "skipped", f"{what}: {error.status} {error.reason}{hint}")


def cluster(namespace: str, service_account: str, server_namespace: str) -> Iterator[Check]:
    """Look into the cluster itself, where a kubeconfig leads to one.

    Args:
        namespace: of the runs; empty: that of the server.
        service_account: of their pods; empty: the server's default.
        server_namespace: of the server.
    """
    import urllib3
    from kubernetes import config

    space = namespace or server_namespace
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
        where = f"in {server_namespace}"
        yield _of_server("retries", lambda: _retries(api, server_namespace), f"{CONTROLLER} {where}")
        yield _of_server("host users", lambda: _host_users(api, server_namespace, gpus), f"{SERVER} {where}")
    except urllib3.exceptions.HTTPError as error:
        yield Check("cluster", "failed", f"the cluster of the kubeconfig does not answer ({error})")
