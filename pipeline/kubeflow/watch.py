"""Follows a run on a server until it ends."""

import time

from components.shared import runlog
from components.shared.errors import AlexNetError
from pipeline.console import Console
from pipeline.kubeflow.argo import TaskRun
from pipeline.kubeflow.client import Client
from pipeline.kubeflow.runs import FINAL, RunView, remote

# Reasons of a pod that waits for an image. Kubernetes goes on trying, and Kubeflow never fails the run for it.
NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


class TimedOut(AlexNetError):
    """A run did not end in the time that its watcher has; it goes on without one."""

    exit_code = 4


def elapsed(task: TaskRun) -> str:
    """Return how long a task has run, or ran."""
    return runlog.format_seconds(max(0.0, (task.ended or time.time()) - task.started)) if task.started else ""


def lacks_image(task: TaskRun) -> bool:
    """Tell whether a task's pod waits for an image that cannot be had."""
    return task.state == "pending" and task.message.startswith(NO_IMAGE)


def sentence(task: TaskRun) -> str:
    """Say in words what a task is doing, or how it ended."""
    attempt = f", attempt {task.attempts}" if task.attempts > 1 else ""
    after = f" after {elapsed(task)}" if task.ended and task.state not in ("cached", "skipped") else ""
    said = f"{task.state}{after}{attempt}{': ' if task.message else ''}{task.message}"
    if lacks_image(task):
        said += ". The run waits until the image can be had: check its name, that it was pushed, and the pull secret"
    return said


def watch(client: Client, run_id: str, interval: float, timeout: float, patience: float, console: Console) -> RunView:
    """Report each change of a task until the run ends.

    Args:
        client: the server.
        run_id: which run.
        interval: seconds between two looks.
        timeout: seconds to watch; 0: as long as it takes.
        patience: seconds for which the server may be gone.
        console: where to report.

    Returns:
        The run as it ended.

    Raises:
        TimedOut: it goes on, and the time is over.
        Unreachable: the server is gone for longer than patience allows.
    """
    deadline = time.monotonic() + timeout if timeout else float("inf")
    said: dict[str, str] = {}
    stopped_here = False
    while True:
        view = remote(client, run_id, patience)
        for task in view.tasks:
            # Between two tries to pull, Kubernetes calls it by one name and then by another: said once.
            now = "no image" if lacks_image(task) else sentence(task)
            if said.get(task.name) != now:
                console.finish(task.name, sentence(task))
                said[task.name] = now
        stopped_here = stopped_here or view.state == "cancelling"
        if view.state == "failed" and stopped_here:
            view.state = "cancelled"  # what the server calls it once the pods are gone
        if view.state in FINAL:
            return view
        if time.monotonic() > deadline:
            raise TimedOut(
                f"run {run_id}: still {view.state} after {timeout:g} s; it goes on. Watch it at {view.place}"
            )
        running = [task for task in reversed(view.tasks) if task.state == "running"]
        for task in running:
            console.status(task.name, f"{view.state} {elapsed(task)}".strip())
        if running:
            console.finish("run")
        else:
            console.status("run", view.state)
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))
