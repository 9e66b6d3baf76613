"""The tasks of a run as an Argo workflow shows them: attempts, messages, pods, inputs, outputs.

Kubeflow runs a pipeline as such a workflow, and its v1beta1 API returns it whole; the v2beta1 API returns states
and times only. A task `train` appears as `train-driver`, a pod that decides whether to run, and `train`, which
contains the executor: one pod per attempt, or a skipped node on a cache hit. If the driver fails, `train` is omitted,
and with it every task behind it; a loop or graph that is omitted has no nodes for its tasks.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pipeline.kubeflow.workflow import NEVER_RAN, Node, Nodes, order, parameter
from pipeline.spec import nested

LOGS = "executor-logs"  # the output that Kubeflow adds to every task
EXECUTOR, DRIVER, GRAPH_DRIVER = "system-container-executor", "system-container-driver", "system-dag-driver"
BROKEN = ("Failed", "Error")


@dataclass(frozen=True)
class Artifact:
    """One output of a task, on a cluster or here."""

    task: str
    name: str
    uri: str
    kind: str  # schema title, like system.HTML
    metadata: dict[str, Any] | None  # None: not known


@dataclass
class TaskRun:
    """One task of a run."""

    name: str  # with a number behind it where the graph has several of that name
    state: str  # pending, running, succeeded, cached, failed, cancelled or skipped
    started: float = 0.0  # seconds since the epoch; 0: not yet
    ended: float = 0.0
    attempts: int = 0
    message: str = ""  # of the last failure, what a pending task waits for, or why it was skipped
    pods: list[str] = field(default_factory=list)  # in the order of the attempts
    only_driver: bool = False  # the pods are those of its driver: its executor never started
    artifacts: list[Artifact] = field(default_factory=list)
    log_uris: list[str] = field(default_factory=list)  # where the log may be, the likeliest first
    record: dict[str, Any] = field(default_factory=dict)  # what a rerun needs


def seconds(text: str | None) -> float:
    """Read a timestamp of the server; 0 stands for none, for which the server also writes 1970 or the year 1."""
    return max(0.0, datetime.fromisoformat(text).timestamp()) if text else 0.0


def own_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of an artifact, without the keys that Kubeflow adds."""
    return {k: v for k, v in metadata.items() if k not in ("display_name", "store_session_info")}


def _executor_input(patch: dict[str, Any]) -> dict[str, Any]:
    command = patch["containers"][0]["command"]
    return json.loads(command[command.index("--executor_input") + 1])


# ---- one task ----


def _running(pods: list[Node]) -> str:
    """Return the state of a node that Argo calls running: pending before its pod runs, and between two attempts."""
    return "pending" if pods and all(pod["phase"] in ("Pending", *BROKEN) for pod in pods) else "running"


def _state(task: Node | None, driver: Node | None, driver_pods: list[Node], inside: list[Node]) -> str:
    """Return the state of a task, from its node where there is one that ran, else from its driver."""
    if not task or task["phase"] in NEVER_RAN:
        phase = (driver or {}).get("phase", "Pending")
        if phase in BROKEN:
            return "failed"
        if task:
            return "skipped"
        return _running(driver_pods) if phase == "Running" else "pending"
    phase = task["phase"]
    if phase == "Succeeded" and inside and all(node["phase"] in NEVER_RAN for node in inside):
        return "cached"
    if phase == "Running":
        return _running(inside)
    return "failed" if phase in BROKEN else phase.lower()


def _message(state: str, nodes: list[Node | None]) -> str:
    """Return the message of the last of some nodes that has one; none of an attempt that no longer matters."""
    messages = [node["message"] for node in nodes if node and node.get("message")]
    return messages[-1] if messages and state in ("pending", "failed", "skipped") else ""


def _record(nodes: list[Node]) -> dict[str, Any]:
    """Return the container and the component of a task, which are input parameters of its driver's nodes."""
    found = {key: [value for n in nodes if (value := parameter(n, key))] for key in ("container", "component")}
    return {key: values[0] for key, values in found.items() if values}


def _add_outputs(task: TaskRun, patch: dict[str, Any]) -> None:
    """Read image, executor input, outputs and logs of a task from its pod-spec-patch, the driver's result."""
    executor_input = _executor_input(patch)
    task.record |= {"image": patch["containers"][0]["image"], "executor_input": executor_input}
    for name, entry in executor_input.get("outputs", {}).get("artifacts", {}).items():
        found = entry["artifacts"][0]
        task.artifacts.append(Artifact(task.name, name, found["uri"], found["type"]["schemaTitle"], None))
    logs = [artifact.uri for artifact in task.artifacts if artifact.name == LOGS]
    # Since 2.17 each attempt has a log of its own; before, the last one overwrote the others.
    task.log_uris = [f"{uri}-{n}" for uri in logs for n in reversed(range(task.attempts))] + logs
    task.artifacts = [artifact for artifact in task.artifacts if artifact.name != LOGS]


def _task(nodes: Nodes, path: str) -> TaskRun:
    """Collect what the nodes of one task say."""
    task, driver, executor = (nodes.latest(path + end) for end in ("", "-driver", ".executor"))
    attempts, driver_pods = nodes.pods(f"{path}.executor"), nodes.pods(f"{path}-driver")
    state = _state(task, driver, driver_pods, attempts or ([executor] if executor else []))
    driver_failed = state == "failed" and bool(driver and driver["phase"] in BROKEN)
    by_driver = driver_failed or not task  # else the task's own nodes say more
    message = _message(state, [driver, *driver_pods[-1:]] if by_driver else [task, executor, *attempts[-1:]])
    result = TaskRun(
        name=path.rpartition(".")[2],
        state=state,
        started=seconds((driver or task or {}).get("startedAt")),
        ended=seconds(((driver if by_driver else task) or {}).get("finishedAt")),
        attempts=len(attempts),
        message=f"driver: {message or 'failed'}" if driver_failed else message,
        pods=[nodes.pod_name(pod) for pod in attempts or driver_pods],
        only_driver=not attempts,
        record=_record([node for node in (driver, *driver_pods) if node]),
    )
    if patch := parameter(task, "pod-spec-patch") or parameter(executor, "pod-spec-patch"):
        _add_outputs(result, patch)
    return result


# ---- graphs: their drivers, and the tasks in those that never started ----


def containers(spec: dict[str, Any], graph: str = "root") -> Iterator[str]:
    """Yield the names of the container tasks of a graph and of those in it, in an order in which they can run."""
    components = spec.get("components", {})
    entries = {name: components[entry["componentRef"]["name"]] for name, entry in nested.all_tasks(spec)}
    holder = spec["root"] if graph == "root" else entries.get(graph, {})
    for name, _ in nested.in_order(holder.get("dag", {}).get("tasks", {})):
        if "dag" in entries[name]:
            yield from containers(spec, name)
        else:
            yield name


def _graph_name(path: str) -> str:
    """Return the name of the graph at a path; what Kubeflow adds for a loop's iterations belongs to the loop."""
    return next(part for part in reversed(path.split(".")) if not part.startswith("iteration"))


def _graph_driver(nodes: Nodes, path: str) -> TaskRun:
    """Describe a graph whose driver failed, before any of its tasks started."""
    driver, pods = nodes.latest(path) or {}, nodes.pods(path)
    return TaskRun(
        name=_graph_name(path.removesuffix("-driver")),
        state="failed",
        started=seconds(driver.get("startedAt")),
        ended=seconds(driver.get("finishedAt")),
        message=f"driver: {_message('failed', [driver, *pods[-1:]]) or 'failed'}",
        pods=[nodes.pod_name(pod) for pod in pods],
        only_driver=True,
    )


def _by_path(nodes: Nodes, spec: dict[str, Any]) -> dict[str, TaskRun]:
    """Read the tasks that have nodes, the graphs whose drivers failed, and the tasks in graphs that never started."""
    tasks: dict[str, TaskRun] = {}
    unreached: dict[str, TaskRun] = {}
    for path in nodes.paths():
        node = nodes.latest(path) or {}
        template = node.get("templateName", "")
        if template.endswith((EXECUTOR, DRIVER)):
            tasks[path.removesuffix("-driver")] = _task(nodes, path.removesuffix("-driver"))
        elif template.endswith(GRAPH_DRIVER):
            if node["phase"] in BROKEN:
                tasks[path] = _graph_driver(nodes, path)
        elif node["phase"] in NEVER_RAN:
            at = seconds(node.get("startedAt"))
            for name in containers(spec, _graph_name(path)):
                unreached[f"{path}.{name}"] = TaskRun(name, "skipped", at, at, message=node.get("message", ""))
    return unreached | tasks


# ---- all tasks of a run ----


def tasks_of(workflow: dict[str, Any], spec: dict[str, Any]) -> list[TaskRun]:
    """Return the tasks of a workflow in the order in which they started.

    Args:
        workflow: of Argo; empty where the server has none.
        spec: the specification that was submitted.
    """
    found = _by_path(Nodes(workflow), spec)
    tasks = [found[path] for path in sorted(found, key=order)]
    ranks = {name: rank for rank, name in enumerate(containers(spec))}
    rank_of = {id(task): ranks.get(task.name, -1) for task in tasks}
    _find_cached(tasks)
    known = _metadata_by_uri(tasks)
    number(tasks)
    for task in tasks:
        task.artifacts = [replace(a, task=task.name, metadata=known.get(a.uri)) for a in task.artifacts]
    failed = ", ".join(task.name for task in tasks if task.state == "failed")
    for task in tasks:
        if failed and task.message.startswith("omitted"):
            task.message += f" ({failed} failed)"
    return sorted(tasks, key=lambda task: (task.started or float("inf"), rank_of[id(task)]))


def number(tasks: list[TaskRun]) -> None:
    """Number the tasks that share a name, as those of a loop do: train-0, train-1."""
    names = [task.name for task in tasks]
    for index, (task, name) in enumerate(zip(tasks, names, strict=True)):
        if names.count(name) > 1:
            task.name = f"{name}-{names[:index].count(name)}"


def _inputs(tasks: list[TaskRun]) -> list[list[dict[str, Any]]]:
    """Return the lists of artifacts that are inputs of the tasks of a run."""
    inputs = [task.record.get("executor_input", {}).get("inputs", {}).get("artifacts", {}) for task in tasks]
    return [entry["artifacts"] for artifacts in inputs for entry in artifacts.values()]


def _metadata_by_uri(tasks: list[TaskRun]) -> dict[str, dict[str, Any]]:
    """Return the outputs of the steps, from the inputs of later steps."""
    return {a["uri"]: own_metadata(a.get("metadata", {})) for artifacts in _inputs(tasks) for a in artifacts}


def _find_cached(tasks: list[TaskRun]) -> None:
    """Add the outputs that the cache had, where one of them is an input of a task that ran.

    The workflow shows no outputs of a cached task itself. All outputs of one execution share a folder,
    `<task>/<uuid>`, and a list of artifacts has the order of the loop that made them.
    """
    for name in {task.name for task in tasks if task.state == "cached"}:
        instances = [task for task in tasks if task.name == name]
        for artifacts in _inputs(tasks):
            folders = [a["uri"].rpartition("/")[0] for a in artifacts if a["uri"].split("/")[-3] == name]
            if len(folders) != len(instances):
                continue
            for task, folder in zip(instances, folders, strict=True):
                outputs = task.record.get("component", {}).get("outputDefinitions", {}).get("artifacts", {})
                if task.state == "cached" and not task.artifacts:
                    task.artifacts = [
                        Artifact(name, n, f"{folder}/{n}", entry["artifactType"]["schemaTitle"], None)
                        for n, entry in outputs.items()
                    ]
