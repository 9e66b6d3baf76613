"""A run, wherever it went: its state and tasks, from a server or from a run folder of this machine."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import DataError, StorageError, UsageError
from pipeline import argo, submission, tasks_v2
from pipeline.argo import Artifact, TaskRun, seconds
from pipeline.client import PATIENCE_SECONDS, Client, Refused
from pipeline.nested import all_tasks

FINAL = {"succeeded": 0, "failed": 1, "cancelled": 4}  # state: exit code
STATES = {"CANCELED": "cancelled", "CANCELING": "cancelling", "RUNTIME_STATE_UNSPECIFIED": "pending", "": "pending"}


@dataclass
class RunView:
    """A run as `status`, `logs` and `artifacts` show it."""

    run_id: str
    place: str  # link to its page, or its folder
    state: str
    tasks: list[TaskRun]
    message: str = ""

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
        return json.loads(storage.read_bytes(str(path)))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from error


def _last_error(log_path: Path) -> str:
    """Return the message of the last error in a task's log."""
    lines = storage.read_bytes(str(log_path)).decode(errors="replace").splitlines() if log_path.is_file() else []
    for line in reversed(lines):
        with contextlib.suppress(ValueError, AttributeError):
            if (entry := json.loads(line)).get("level") == "error":
                return str(entry["message"])
    return ""


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


def _names(run: dict[str, Any]) -> set[str]:
    """Return the names of the tasks that are containers; a run of an uploaded version has no pipeline with it."""
    sent = run.get("pipeline_spec") or submission.documents()[0]
    spec = sent.get("pipeline_spec", sent)
    components = spec["components"]
    return {name for name, task in all_tasks(spec) if "executorLabel" in components[task["componentRef"]["name"]]}


def _plain_tasks(run: dict[str, Any]) -> list[TaskRun]:
    """Read the tasks from the newer API alone: states and times."""
    names = _names(run)
    details = [d for d in run.get("run_details", {}).get("task_details", []) if d.get("display_name") in names]
    details.sort(key=lambda d: (d.get("start_time", ""), d["task_id"]))
    tasks = []
    for detail in details:
        state: str = detail.get("state", "")
        task = TaskRun(detail["display_name"], STATES.get(state, state.lower()), seconds(detail.get("start_time")))
        task.ended = seconds(detail.get("end_time"))
        task.message = detail.get("error", {}).get("message", "")
        tasks.append(task)
    argo.number(tasks)
    return tasks


def state_of(run: dict[str, Any], workflow: dict[str, Any]) -> str:
    """Return the state of a run; one that was stopped ends as FAILED on the server and as cancelled here."""
    state = run.get("state", "")
    past = {entry.get("state") for entry in run.get("state_history", [])}
    if state == "FAILED" and ("CANCELING" in past or argo.was_terminated(workflow)):
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
    told = argo.tasks_of(workflow)
    tasks = tasks_v2.tasks_of(client, found, told, patience_seconds) or told or _plain_tasks(found)
    message = found.get("error", {}).get("message", "") or workflow.get("status", {}).get("message", "")
    return RunView(run_id, client.link(run_id), state_of(found, workflow), tasks, message)


def find(run: str, home: Path, client: Callable[[], Client] | None) -> RunView:
    """Find a run here or on a server.

    Args:
        run: id, run folder, or the address of a run's page.
        home: local folder that holds `runs/`.
        client: makes the client of the server; None where no server was named.

    Raises:
        UsageError: it is nowhere.
    """
    for folder in (Path(run), home / "runs" / run):
        if folder.is_dir():
            return local(folder)
    if client is None:
        known = sorted(path.name for path in (home / "runs").glob("*"))[-5:]
        raise UsageError(
            f"run {run}: no such folder, and none of the runs under {home} ({', '.join(known) or 'there are none'}). "
            "Name its --root, or the --endpoint of the server that ran it"
        )
    return remote(client(), run)


def readable(uri: str) -> str:
    """Return a URI that storage knows: Kubeflow calls its own S3 store minio."""
    return uri.replace("minio://", "s3://", 1)


def log_text(run: RunView, task: TaskRun, client: Client | None) -> str:
    """Return the log of the last attempt of a task: from its pod, or from where it was kept.

    Raises:
        StorageError: it is nowhere; says where it was looked for.
    """
    tried = []
    if client and task.pods:
        text = client.fetch("GET", f"/apis/v1alpha1/runs/{run.run_id}/nodes/{task.pods[-1]}/log").decode(
            errors="replace"
        )
        # This answer is 200 whatever happens; a failure is an object at its end.
        head, mark, error = text.rpartition('{"error_message"')
        if not mark:
            return text
        if head:
            return head
        tried.append(f"pod {task.pods[-1]} is gone")
    if task.log_uris:
        folder = readable(task.log_uris[0].rpartition("/")[0])
        try:
            there = {entry.name for entry in storage.list_files(folder)}
            for uri in task.log_uris:
                if uri.rpartition("/")[2] in there:
                    return storage.read_bytes(readable(uri)).decode(errors="replace")
            tried.append(f"there is none in {folder}")
        except StorageError as error:
            tried.append(str(error))
    raise StorageError(f"{task.name}: no log to be had: {'; '.join(tried) or 'it has not started'}")
