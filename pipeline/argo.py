"""What a workflow of Argo says about the tasks of a run: attempts, messages, pods, inputs and outputs.

Kubeflow runs a pipeline as such a workflow, and its v1beta1 API returns it whole; the v2beta1 API returns states
and times only. A task `train` has a pod `train-driver`, which decides, and a node `train` with the executor in it:
one pod, or with retries one per attempt, or a skipped one where the cache had the outputs.
"""

import base64
import gzip
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

LOGS = "executor-logs"  # the output that Kubeflow adds to every task


@dataclass(frozen=True)
class Artifact:
    """One output of a task, on a cluster or here."""

    task: str
    name: str
    uri: str
    kind: str  # schema title, like system.HTML
    metadata: dict[str, Any]


@dataclass
class TaskRun:
    """One task of a run."""

    name: str  # with a number behind it where the graph has several of that name
    state: str  # pending, running, succeeded, cached, failed, cancelled or skipped
    started: float = 0.0  # seconds since the epoch; 0: not yet
    ended: float = 0.0
    attempts: int = 0
    message: str = ""  # of the last failure, or what a pending task waits for
    pods: list[str] = field(default_factory=list)  # in the order of the attempts
    artifacts: list[Artifact] = field(default_factory=list)
    log_uris: list[str] = field(default_factory=list)  # where the log may be, the likeliest first
    record: dict[str, Any] = field(default_factory=dict)  # what a rerun needs


def seconds(text: str | None) -> float:
    """Read a timestamp of the server; 0 stands for none, as the server writes 1970 for it."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def nodes_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a workflow, unpacked where it was too large for its database."""
    status = workflow.get("status", {})
    nodes = status.get("nodes") or {}
    if not nodes and (packed := status.get("compressedNodes")):
        nodes = json.loads(gzip.decompress(base64.b64decode(packed)))
    return list(nodes.values())


def was_terminated(workflow: dict[str, Any]) -> bool:
    """Tell whether someone stopped the run: the server sets its deadline to nothing and then calls it failed."""
    spec = workflow.get("spec", {})
    return spec.get("activeDeadlineSeconds") == 0 or spec.get("shutdown") in ("Terminate", "Stop")


def pod_name(workflow: dict[str, Any], node: dict[str, Any]) -> str:
    """Return the name of a node's pod, which differs from the node's id since Argo 3.4."""
    metadata = workflow["metadata"]
    if metadata.get("annotations", {}).get("workflows.argoproj.io/pod-name-format") == "v1":
        return node["id"]
    return f"{metadata['name']}-{node['templateName']}-{node['id'].rpartition('-')[2]}"


def _value(node: dict[str, Any], name: str) -> Any:
    """Return an input parameter of a node, decoded; None where it is not there."""
    for parameter in node.get("inputs", {}).get("parameters", []):
        if parameter["name"] == name and parameter.get("value"):
            return json.loads(parameter["value"])
    return None


def _order(path: str) -> list[Any]:
    """Sort key of a node's path in which iteration 10 comes after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def own_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return what a step said about an artifact, without what Kubeflow adds when it hands it on."""
    return {k: v for k, v in metadata.items() if k not in ("display_name", "store_session_info")}


def _executor_input(patch: dict[str, Any]) -> dict[str, Any]:
    command = patch["containers"][0]["command"]
    return json.loads(command[command.index("--executor_input") + 1])


def _state(task: dict[str, Any] | None, driver: dict[str, Any] | None, inside: list[dict[str, Any]]) -> str:
    phase = (task or {}).get("phase", "")
    if not task:
        return {"Failed": "failed", "Error": "failed", "Running": "running"}.get(
            (driver or {}).get("phase", ""), "pending"
        )
    skipped = [node for node in inside if node["phase"] in ("Skipped", "Omitted")]
    if phase == "Succeeded" and skipped and len(skipped) == len(inside):
        return "cached"
    if phase == "Running" and inside and all(node["phase"] in ("Pending", "Failed", "Error") for node in inside):
        return "pending"  # of a pod that no node has room for, or between two attempts
    named = {"Error": "failed", "Omitted": "skipped"}
    return named.get(phase, phase.lower() or "pending")


def _task(workflow: dict[str, Any], path: str, nodes: dict[str, dict[str, Any]]) -> TaskRun:
    """Collect what the nodes of one task say."""
    task, driver = nodes.get(path), nodes.get(f"{path}-driver")
    within = [node for name, node in nodes.items() if name.startswith(f"{path}.executor")]
    leaves = [node for node in within if node.get("type") in ("Pod", "Skipped")]
    attempts = sorted((n for n in leaves if n.get("type") == "Pod"), key=lambda n: _order(n["name"]))
    troubled = [n for n in (*within, *attempts[-1:], *([driver] if driver and not task else [])) if n.get("message")]
    first = task or driver or {}
    result = TaskRun(
        name=path.rpartition(".")[2],
        state=_state(task, driver, leaves),
        started=seconds((driver or first).get("startedAt")),
        ended=seconds(first.get("finishedAt")),
        attempts=len(attempts),
        message=troubled[-1]["message"] if troubled else "",
        pods=[pod_name(workflow, node) for node in attempts or ([driver] if driver else [])],
    )
    if result.state in ("succeeded", "cached", "running"):
        result.message = ""  # of an attempt that no longer matters
    patch = next((value for n in (*within, *([task] if task else [])) if (value := _value(n, "pod-spec-patch"))), None)
    if patch:
        executor_input = _executor_input(patch)
        outputs = executor_input.get("outputs", {}).get("artifacts", {})
        for name, entry in outputs.items():
            found = entry["artifacts"][0]
            kind, metadata = found["type"]["schemaTitle"], found.get("metadata", {})
            result.artifacts.append(Artifact(result.name, name, found["uri"], kind, metadata))
        logs = [artifact.uri for artifact in result.artifacts if artifact.name == LOGS]
        # Since 2.17 each attempt has a log of its own; before, the last one overwrote the others.
        result.log_uris = [f"{uri}-{n}" for uri in logs for n in reversed(range(len(attempts)))] + logs
        result.artifacts = [artifact for artifact in result.artifacts if artifact.name != LOGS]
        result.record = {
            "image": patch["containers"][0]["image"],
            "container": _value(driver or {}, "container"),
            "component": _value(driver or {}, "component"),
            "executor_input": executor_input,
        }
    return result


def tasks_of(workflow: dict[str, Any]) -> list[TaskRun]:
    """Return the tasks of a workflow in the order in which they started."""
    nodes = {node["name"]: node for node in nodes_of(workflow)}
    paths = {n for n, node in nodes.items() if node.get("templateName", "").endswith("system-container-executor")}
    drivers = (n for n, node in nodes.items() if node.get("templateName", "").endswith("system-container-driver"))
    paths |= {name.removesuffix("-driver") for name in drivers}
    tasks = [_task(workflow, path, nodes) for path in sorted(paths, key=_order)]
    number(tasks)
    known = _metadata_by_uri(tasks)
    for task in tasks:
        task.artifacts = [
            Artifact(task.name, a.name, a.uri, a.kind, a.metadata | known.get(a.uri, {})) for a in task.artifacts
        ]
    return sorted(tasks, key=lambda task: task.started or float("inf"))


def number(tasks: list[TaskRun]) -> None:
    """Number the tasks that share a name, as those of a loop do: train-0, train-1."""
    names = [task.name for task in tasks]
    for index, (task, name) in enumerate(zip(tasks, names, strict=True)):
        if names.count(name) > 1:
            task.name = f"{name}-{names[:index].count(name)}"


def _metadata_by_uri(tasks: list[TaskRun]) -> dict[str, dict[str, Any]]:
    """Return what the steps said about their outputs, as the steps after them were told it."""
    return {
        artifact["uri"]: own_metadata(artifact.get("metadata", {}))
        for task in tasks
        for entry in task.record.get("executor_input", {}).get("inputs", {}).get("artifacts", {}).values()
        for artifact in entry["artifacts"]
    }
