"""A run, wherever it went: its state and tasks, from a server or from a run folder of this machine."""

import contextlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import DataError, StorageError, UsageError
from pipeline.kubeflow import argo, submission, tasks_v2
from pipeline.kubeflow.argo import Artifact, TaskRun, seconds
from pipeline.kubeflow.client import PATIENCE_SECONDS, Client, Refused
from pipeline.kubeflow.workflow import was_terminated

FINAL = {"succeeded": 0, "failed": 1, "cancelled": 4}  # state: exit code
FATAL = re.compile(r"F\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] (.*)")  # the line with which a program of Kubeflow's ends
STATES = {"CANCELED": "cancelled", "CANCELING": "cancelling", "RUNTIME_STATE_UNSPECIFIED": "pending", "": "pending"}


@dataclass
class RunView:
    """A run as `status`, `logs` and `artifacts` show it."""

    run_id: str
    place: str  # link to its page, or its folder
    state: str
    tasks: list[TaskRun]
    message: str = ""
    namespace: str = ""  # of its pods
    created: str = ""  # timestamp
    parameters: dict[str, Any] = field(default_factory=dict)  # as they were sent

    def task(self, name: str) -> TaskRun:
        """Return a task by its name.

        Raises:
            UsageError: there is none.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        known = ", ".join(task.name for task in self.tasks) or "none yet"
        raise UsageError(f"run {self.run_id}, task {name}: not found; its tasks are {known}")


def read_json(path: Path) -> Any:
    """Read a file of a run folder.

    Raises:
        DataError: it is no JSON.
    """
    try:
        return storage.read_json(str(path))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from error


def error_in(log: str) -> str:
    """Return the last error in a log: the component's own, else that with which Kubeflow's program ended."""
    fatal = ""
    for line in reversed(log.splitlines()):
        with contextlib.suppress(ValueError, AttributeError, KeyError):
            if (entry := json.loads(line)).get("level") == "error":
                return str(entry["message"])
        if not fatal and (found := FATAL.match(line)):
            fatal = found[1].rpartition(") failed: ")[2]  # without the arguments of the driver
    return fatal


def _last_error(log_path: Path) -> str:
    """Return the message of the last error in a task's log."""
    return error_in(storage.read_text(str(log_path))) if log_path.is_file() else ""


def _local_task(folder: Path) -> TaskRun:
    record = read_json(folder / "task.json")
    succeeded = record["exit_code"] == 0 and (record["outputs"] or not record["task"]["outputs"])
    state = ("cached" if record["cached_from"] else "succeeded") if succeeded else "failed"
    kinds = record["task"]["outputs"]
    artifacts = [
        Artifact(folder.name, name, output["path"], kinds[name], output["metadata"])
        for name, found in record["outputs"].items()
        for output in (found if isinstance(found, list) else [found])
    ]
    message = f"from run {record['cached_from']}" if record["cached_from"] else ""
    if state == "failed":
        code = record["exit_code"]
        message = (
            "stopped" if code is None else f"exit code {code}: {_last_error(folder / 'log.jsonl') or 'see its log'}"
        )
    ended = record["started"] + record["seconds"]
    logs = [str(folder / "log.jsonl")]
    return TaskRun(folder.name, state, record["started"], ended, 1, message, artifacts=artifacts, log_uris=logs)


def local(run_dir: Path) -> RunView:
    """Read a run folder."""
    tasks = [_local_task(path.parent) for path in sorted(run_dir.glob("*/task.json"))]
    path = run_dir / "run.json"
    # The record of the run is written when it ends, however it ends.
    state = read_json(path)["status"] if path.is_file() else "running or killed"
    return RunView(run_dir.name, str(run_dir), state, sorted(tasks, key=lambda task: task.started))


def run_id_of(text: str) -> str:
    """Return the id of a run from the address of its page."""
    return text.rpartition("/runs/details/")[2].partition("?")[0].strip("/")


def workflow_of(client: Client, run_id: str, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
    """Ask the older API for the workflow of a run; empty where the server has none of it (yet)."""
    try:
        answer = client.call("GET", f"/apis/v1beta1/runs/{run_id}", patience_seconds)
    except Refused:
        return {}
    manifest = answer.get("pipeline_runtime", {}).get("workflow_manifest", "")
    return json.loads(manifest) if manifest else {}


def spec_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of a run; that of an uploaded version is not in the answer, so ours stands for it."""
    sent = run.get("pipeline_spec") or submission.documents()[0]
    return sent.get("pipeline_spec", sent)


def _plain_tasks(run: dict[str, Any]) -> list[TaskRun]:
    """Read the tasks from the newer API alone: states and times, without attempts and pods.

    Other rows are of attempts, graphs and drivers, or have only the id of an execution. What was omitted has a row
    without a state.
    """
    spec = spec_of(run)
    names = list(argo.containers(spec))
    rows = [d for d in run.get("run_details", {}).get("task_details", []) if d.get("display_name")]
    omitted = [row for row in rows if not row.get("state") and seconds(row.get("end_time"))]
    rows += [row | {"display_name": name} for row in omitted for name in argo.containers(spec, row["display_name"])]
    drivers = {d["display_name"].removesuffix("-driver"): d for d in rows if d["display_name"].endswith("-driver")}
    broken = {
        name: driver | {"display_name": name} for name, driver in drivers.items() if driver.get("state") == "FAILED"
    }
    rows = [
        row for row in rows if row["display_name"] in names and (row.get("state") or row["display_name"] not in broken)
    ]
    there = {row["display_name"] for row in rows}
    rows += [driver for name, driver in broken.items() if name not in there]
    rows.sort(
        key=lambda d: (d.get("start_time", ""), [*names, d["display_name"]].index(d["display_name"]), d["task_id"])
    )
    tasks = []
    for row in rows:
        name: str = row["display_name"]
        state: str = row.get("state", "")
        task = TaskRun(
            name, STATES.get(state, state.lower()), seconds(row.get("start_time")), seconds(row.get("end_time"))
        )
        task.message = row.get("error", {}).get("message", "")
        if row is broken.get(name):
            task.message, task.only_driver = task.message or "driver: failed", True
        elif not state and task.ended:
            task.state, task.message = "skipped", "omitted"
        tasks.append(task)
    argo.number(tasks)
    return tasks


def state_of(run: dict[str, Any], workflow: dict[str, Any]) -> str:
    """Return the state of a run; one that was stopped ends as FAILED on the server and as cancelled here."""
    state = run.get("state", "")
    past = {entry.get("state") for entry in run.get("state_history", [])}
    if state == "FAILED" and ("CANCELING" in past or was_terminated(workflow)):
        return "cancelled"
    return STATES.get(state, state.lower())


def remote(client: Client, run: str, patience_seconds: float = PATIENCE_SECONDS) -> RunView:
    """Ask a server about a run.

    Args:
        client: the server.
        run: its id, or the address of its page.
        patience_seconds: how long to repeat requests that the server cannot answer.

    Raises:
        UsageError: there is no such run.
        Unreachable: no answer.
        Refused: the server does not let us see it.
    """
    run_id = run_id_of(run)
    try:
        found = client.call("GET", f"/apis/v2beta1/runs/{run_id}", patience_seconds)
    except Refused as error:
        if error.status not in (400, 404):
            raise
        raise UsageError(f"run {run_id}: not on {client.endpoint} ({error})") from None
    workflow = workflow_of(client, run_id, patience_seconds)
    by_workflow = argo.tasks_of(workflow, spec_of(found))
    tasks = tasks_v2.tasks_of(client, found, by_workflow, patience_seconds) or by_workflow or _plain_tasks(found)
    message = found.get("error", {}).get("message", "") or workflow.get("status", {}).get("message", "")
    namespace, created = workflow.get("metadata", {}).get("namespace", ""), found.get("created_at", "")
    parameters = found.get("runtime_config", {}).get("parameters", {})
    state = state_of(found, workflow)
    return RunView(run_id, client.link(run_id), state, tasks, message, namespace, created, parameters)


def folder_of(run: str, home: Path) -> Path | None:
    """Return the folder of a run on this machine, by its path or id."""
    return next((path for path in (Path(run), home / "runs" / run) if path.is_dir()), None)


def find(run: str, home: Path) -> RunView:
    """Find a run on this machine.

    Args:
        run: id or run folder.
        home: local folder that holds `runs/`.

    Raises:
        UsageError: it is not here.
    """
    if folder := folder_of(run, home):
        return local(folder)
    known = sorted(path.name for path in (home / "runs").glob("*"))[-5:]
    raise UsageError(
        f"run {run}: no such folder, and none of the runs under {home} "
        f"({', '.join(known) or 'there are none'}). "
        "Name its --root, or the --endpoint of the server that ran it"
    )


def readable(uri: str) -> str:
    """Return a URI that storage knows: Kubeflow calls its own S3 store minio."""
    return uri.replace("minio://", "s3://", 1)


def metadata_of(artifact: Artifact) -> dict[str, Any] | None:
    """Return the metadata of an artifact, where it is known; that of metrics is also the content of their file."""
    if artifact.metadata is not None or artifact.kind != "system.Metrics":
        return artifact.metadata
    try:
        content = storage.read_json(readable(artifact.uri))
    except (StorageError, ValueError):
        return None
    return content if isinstance(content, dict) else None
