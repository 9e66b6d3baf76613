"""The log of a task: from its pod through the API server or the UI server, or from the copy that Kubeflow kept."""

import contextlib
import json

from components.shared import storage
from components.shared.errors import StorageError
from pipeline.kubeflow.argo import TaskRun
from pipeline.kubeflow.client import PATIENCE_SECONDS, Client, Refused, Unreachable
from pipeline.kubeflow.runs import RunView, error_in, readable


def _without_error(text: str) -> tuple[str, str]:
    """Split the answer of the API server, whose status is 200 whatever happens: a failure is an object at its end.

    Returns:
        The log, and the reason of the failure.
    """
    log, mark, rest = text.rpartition('{"error_message"')
    try:
        return (log, json.loads(mark + rest)["error_message"]) if mark else (text, "")
    except ValueError:
        return text, ""  # the log itself has such a line


def _from_pod(run: RunView, pod: str, client: Client, tried: list[str]) -> str | None:
    """Ask for the log of a pod; each failure is added to `tried`.

    The UI server forwards only v1beta1 and v2beta1 of the API, and reads pods on a path of its own.
    """
    place = {"podname": pod, "runid": run.run_id, "podnamespace": run.namespace, "createdat": run.created[:10]}
    routes = [
        (f"/apis/v1alpha1/runs/{run.run_id}/nodes/{pod}/log", [], PATIENCE_SECONDS),
        ("/k8s/pod/logs", [(key, value) for key, value in place.items() if value], 0.0),  # 500: it cannot, ever
    ]
    for path, query, patience in routes:
        try:
            answer = client.fetch("GET", path, patience, query_params=query).decode(errors="replace")
        except (Refused, Unreachable) as error:
            tried.append(str(error))
            continue
        text, problem = _without_error(answer)
        if text.lstrip()[:9].lower() == "<!doctype":
            tried.append(f"{client.endpoint}{path}: answers with a web page")
        elif text or not problem:
            return text
        else:
            tried.append(f"pod {pod} is gone ({problem})")
    return None


def _kept(task: TaskRun, tried: list[str]) -> str | None:
    """Read the copy that Kubeflow kept of a log; each failure is added to `tried`."""
    if not task.log_uris:
        return None
    folder = readable(task.log_uris[0].rpartition("/")[0])
    try:
        there = {entry.name for entry in storage.list_files(folder)}
        for uri in task.log_uris:
            if uri.rpartition("/")[2] in there:
                return storage.read_text(readable(uri))
        tried.append(f"there is none in {folder}")
    except StorageError as error:
        tried.append(str(error))
    return None


def log_text(run: RunView, task: TaskRun, client: Client | None) -> str:
    """Return the log of the last attempt of a task, or of its driver where that failed.

    Args:
        run: of which it is a task.
        task: the task.
        client: the server that ran it; None for a run of this machine.

    Raises:
        StorageError: it is nowhere; says where it was looked for.
    """
    tried: list[str] = []
    text = _from_pod(run, task.pods[-1], client, tried) if client and task.pods else None
    if text is None:
        text = _kept(task, tried)
    if text is None:
        raise StorageError(f"{task.name}: no log to be had: {'; '.join(tried) or task.message or 'it has not started'}")
    return text


def explain(run: RunView, client: Client | None) -> None:
    """Add to the message of each failed task why: Kubeflow says `Error (exit code 1)`, the reason is in the log."""
    for task in run.tasks:
        if client and task.state == "failed":
            with contextlib.suppress(StorageError):
                if reason := error_in(log_text(run, task, client)):
                    task.message = f"{task.message or task.state}: {reason}"
