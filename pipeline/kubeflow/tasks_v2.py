"""The tasks of a run as a server without ML Metadata lists them, at `/apis/v2beta1/runs/{run_id}/tasks`.

Written from the source of kubeflow/pipelines, pull request 13986 at 6585b514 (`backend/api/v2beta1/run.proto`,
`artifact.proto`; `backend/src/v2/driver/container.go`; `backend/src/v2/component/launcher_v2.go`); not seen on a
running server. No server up to 2.17 has this route.

A row is a task of the graph, `RUNTIME` where it has a container. Its driver makes the row, each attempt of its
executor adds its pod and says how it ended. Metrics are one artifact per value there, without a file.
"""

from dataclasses import replace
from typing import Any

from pipeline.kubeflow.argo import LOGS, Artifact, TaskRun, number, own_metadata, seconds
from pipeline.kubeflow.client import Client, Refused
from pipeline.spec.nested import all_tasks

NOT_THERE = (404, 405, 501)  # what servers and proxies answer to a route that they do not have
SCHEMA_TITLE = "_kfp_schema_title"  # where the launcher keeps the kind of an artifact
KINDS = {
    "Metric": "system.Metrics",
    "ClassificationMetric": "system.ClassificationMetrics",
    "SlicedClassificationMetric": "system.SlicedClassificationMetrics",
}


def _rows(client: Client, run_id: str, patience_seconds: float) -> list[dict[str, Any]]:
    """Ask for all rows; none where the server lacks the route."""
    try:
        return list(client.pages(f"/apis/v2beta1/runs/{run_id}/tasks", "tasks", patience_seconds))
    except Refused as error:
        if error.status in NOT_THERE:
            return []
        raise


def _specification(client: Client, run: dict[str, Any]) -> dict[str, Any]:
    """Return the pipeline of a run; that of an uploaded version is fetched."""
    sent = run.get("pipeline_spec")
    if not sent and (reference := run.get("pipeline_version_reference")):
        path = f"/apis/v2beta1/pipelines/{reference['pipeline_id']}/versions/{reference['pipeline_version_id']}"
        sent = client.call("GET", path).get("pipeline_spec")
    return (sent or {}).get("pipeline_spec", sent or {})


def _iteration(row: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> int:
    """Return the item of the loop that a task is in, its own or that of a graph around it; -1: no loop."""
    found: dict[str, Any] | None = row
    while found:
        if (index := found.get("type_attributes", {}).get("iteration_index")) is not None:
            return int(index)  # a text in JSON
        found = by_id.get(found.get("parent_task_id", ""))
    return -1


def _kind(artifact: dict[str, Any]) -> str:
    kind = artifact.get("type", "Artifact")
    return artifact.get("metadata", {}).get(SCHEMA_TITLE) or KINDS.get(kind, f"system.{kind}")


def _metadata(artifacts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metadata of an artifact, or of metrics, where each value is an artifact."""
    found: dict[str, Any] = {}
    for artifact in artifacts:
        found |= own_metadata(artifact.get("metadata", {}))
        if "number_value" in artifact:
            found[artifact["name"]] = artifact["number_value"]
    return {key: value for key, value in found.items() if key != SCHEMA_TITLE}


def _artifacts(row: dict[str, Any], side: str) -> dict[str, list[dict[str, Any]]]:
    """Return the artifacts that went into a task or came out, by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in row.get(side, {}).get("artifacts", []):
        found.setdefault(entry["artifact_key"], []).extend(entry.get("artifacts", []))
    return found


def _outputs(row: dict[str, Any], task: TaskRun) -> None:
    """Add the outputs of a task, and where its logs are, the last attempt first."""
    for name, found in _artifacts(row, "outputs").items():
        if name == LOGS:
            task.log_uris = [artifact["uri"] for artifact in reversed(found)]
        elif all(artifact.get("type") == "Metric" for artifact in found):
            task.artifacts.append(Artifact(task.name, name, "", KINDS["Metric"], _metadata(found)))
        else:
            task.artifacts += [
                Artifact(task.name, name, artifact.get("uri", ""), _kind(artifact), _metadata([artifact]))
                for artifact in found
            ]


def _executor_input(row: dict[str, Any]) -> dict[str, Any]:
    """Build the executor input of a task, as far as a rerun needs it."""
    given = row.get("inputs", {}).get("parameters", [])
    artifacts = {
        name: {
            "artifacts": [
                {"name": artifact.get("name", ""), "uri": artifact.get("uri", ""), "metadata": _metadata([artifact])}
                | {"type": {"schemaTitle": _kind(artifact)}}
                for artifact in found
            ]
        }
        for name, found in _artifacts(row, "inputs").items()
    }
    values = {parameter["parameter_key"]: parameter.get("value") for parameter in given}
    return {"inputs": {"parameterValues": values, "artifacts": artifacts}}


def _record(row: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Build what a rerun needs; empty where the pipeline is unknown."""
    components = spec.get("components", {})
    names = {name: task["componentRef"]["name"] for name, task in all_tasks(spec)} if components else {}
    component = components.get(names.get(row["name"], ""), {})
    if "executorLabel" not in component:
        return {}
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    return {
        "image": container["image"],
        "container": container,
        "component": component,
        "executor_input": _executor_input(row),
    }


def _task(row: dict[str, Any], spec: dict[str, Any]) -> TaskRun:
    pods = {kind: [] for kind in ("DRIVER", "EXECUTOR")}
    for pod in row.get("pods", []):
        known = pods.setdefault(pod.get("type", ""), [])
        known += [] if pod["name"] in known else [pod["name"]]
    state = row.get("state", "RUNNING").lower()
    if state == "running" and not pods["EXECUTOR"]:
        state = "pending"  # its driver is done, or not yet; no executor has started
    task = TaskRun(
        name=row["name"],
        state=state,
        started=seconds(row.get("create_time")),
        ended=seconds(row.get("end_time")),
        attempts=len(pods["EXECUTOR"]),
        message=row.get("status_metadata", {}).get("message", "") if state == "failed" else "",
        pods=pods["EXECUTOR"] or pods["DRIVER"],
        record=_record(row, spec) if pods["EXECUTOR"] else {},  # before that its inputs may be missing from the row
    )
    _outputs(row, task)
    return task


def tasks_of(client: Client, run: dict[str, Any], told: list[TaskRun], patience_seconds: float) -> list[TaskRun]:
    """Ask a server for the tasks of a run, in the order in which they started.

    Args:
        client: the server.
        run: as the v2beta1 API describes it.
        told: the tasks as its workflow has them, where the server still shows one: what a pending task waits for is
            in no row.
        patience_seconds: how long to repeat requests that the server cannot answer.

    Returns:
        The tasks; none where the server does not have this list, or not of this run.
    """
    rows = _rows(client, run["run_id"], patience_seconds)
    if not rows:
        return []
    spec, by_id = _specification(client, run), {row["task_id"]: row for row in rows}
    rows = [row for row in rows if row.get("type") == "RUNTIME"]
    rows.sort(key=lambda row: (row.get("scope_path", ""), _iteration(row, by_id), row.get("create_time", "")))
    tasks = [_task(row, spec) for row in rows]
    number(tasks)
    waiting = {task.name: task.message for task in told if task.state == "pending"}
    for task in tasks:
        task.artifacts = [replace(artifact, task=task.name) for artifact in task.artifacts]
        if task.state == "pending":
            task.message = waiting.get(task.name, "")
    return sorted(tasks, key=lambda task: task.started or float("inf"))
