"""`alexnet status`, `logs` and `artifacts`: runs of this machine and of a server."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import StorageError
from pipeline import cached, client, logs, runs
from pipeline.argo import Artifact, TaskRun
from pipeline.cli_run import DEFAULT_ROOT, home_of
from pipeline.local import SUFFIXES
from pipeline.watch import elapsed

UNKNOWN_PLACE = (
    "and their place is not known: no task that ran here was given one of them, and no earlier run with the same "
    "parameters shows them"
)
NOTHING_RAN = {"cached": "the cache had its outputs", "skipped": "skipped"}


def find(arguments: argparse.Namespace) -> tuple[runs.RunView, client.Client | None]:
    """Find the run that is asked for, and the server that has it."""
    used: list[client.Client] = []

    def connected() -> client.Client:
        used.append(client.connect(arguments))
        return used[0]

    home = home_of(storage.absolute(arguments.root))
    view = runs.find(arguments.run, home, connected if arguments.endpoint else None)
    return view, used[0] if used else None


def _tasks(arguments: argparse.Namespace, view: runs.RunView) -> list[TaskRun]:
    return [view.task(arguments.task)] if arguments.task else view.tasks


def status_command(arguments: argparse.Namespace) -> int:
    """Print the tasks of a run.

    Returns:
        The exit code: 1 for a run that failed, 4 for one that was cancelled, else 0.
    """
    view, server = find(arguments)
    logs.explain(view, server)
    if arguments.json:
        tasks = [
            {"name": t.name, "state": t.state, "attempts": t.attempts, "message": t.message, "pods": t.pods}
            | {"started": t.started, "ended": t.ended}
            for t in view.tasks
        ]
        print(json.dumps({"run_id": view.run_id, "place": view.place, "state": view.state, "tasks": tasks}))
        return runs.FINAL.get(view.state, 0)
    print(f"{view.place}\nrun {view.run_id} {view.state}{': ' if view.message else ''}{view.message}")
    for task in view.tasks:
        tries = f"{task.attempts}" if task.attempts else "-"
        print(f"  {task.name:<14} {task.state:<10} {elapsed(task):>9}  tries {tries:<3} {task.message}".rstrip())
    return runs.FINAL.get(view.state, 0)


def logs_command(arguments: argparse.Namespace) -> int:
    """Print the log of a task, or of every task.

    Returns:
        The exit code: 1 when one could not be had.
    """
    view, server = find(arguments)
    code = 0
    for task in _tasks(arguments, view):
        if not arguments.task:
            print(f"==> {task.name} <==")
        if task.state in NOTHING_RAN and not arguments.task:
            print(f"{NOTHING_RAN[task.state]}; nothing ran")
            continue
        try:
            text = logs.log_text(view, task, server)
            if task.only_driver:
                sys.stderr.write(f"alexnet: {task.name} is {task.state} and has no log: this is that of its driver\n")
            sys.stdout.write(text)
        except StorageError as error:
            sys.stderr.write(f"alexnet: {error}\n")
            code = 1
    return code


def _save(artifact: Artifact, folder: Path) -> list[Path]:
    """Copy an artifact, a file or a folder, under a local folder."""
    uri = runs.readable(artifact.uri)
    if storage.exists(uri):
        suffix = Path(uri).suffix or SUFFIXES.get(artifact.kind, "")
        pairs = [(uri, folder / artifact.task / f"{artifact.name}{suffix}")]
    else:
        found = storage.list_files(uri)
        pairs = [(storage.join(uri, f.name), folder / artifact.task / artifact.name / f.name) for f in found]
    if not pairs:
        raise StorageError(f"{uri}: nothing there. Did the task fail, or was the bucket cleaned?")
    for source, target in pairs:
        with storage.open_read(source) as reading, storage.create(str(target)) as writing:
            shutil.copyfileobj(reading, writing)
    return [target for _, target in pairs]


def artifacts_command(arguments: argparse.Namespace) -> int:
    """List the artifacts of a run, and copy them when asked to.

    Returns:
        The exit code: 1 when one could not be had.
    """
    view, server = find(arguments)
    if server:
        cached.find(server, view)
    code = 0
    for task in _tasks(arguments, view):
        if task.state == "cached" and server and (task.message or not task.artifacts):
            sys.stderr.write(f"alexnet: {task.name}: its outputs are the cache's, {task.message or UNKNOWN_PLACE}\n")
        for artifact in task.artifacts if task.state in ("succeeded", "cached") else []:
            known = runs.metadata_of(artifact)
            metadata = json.dumps(known) if known else ""
            name = f"{artifact.task}/{artifact.name}"
            print(f"{name:<24} {artifact.kind.removeprefix('system.'):<22} {artifact.uri} {metadata}".rstrip())
            if not arguments.out or not artifact.uri:  # metrics may be values without a file
                continue
            try:
                for path in _save(artifact, Path(arguments.out)):
                    print(f"  -> {path}")
            except StorageError as error:
                sys.stderr.write(f"alexnet: {name}: {error}\n")
                code = 1
    return code


def register(commands: Any) -> None:
    """Add the commands."""
    for name, action, text in (
        ("status", status_command, "the tasks of a run, here or on a server"),
        ("logs", logs_command, "what the tasks of a run printed"),
        ("artifacts", artifacts_command, "list or download what a run made"),
    ):
        parser = commands.add_parser(name, help=text, allow_abbrev=False)
        parser.add_argument("run", metavar="RUN", help="run id, run folder, or the address of a run's page")
        if name != "status":
            parser.add_argument("task", metavar="TASK", nargs="?", default="", help="default: all")
        parser.add_argument("--root", default=DEFAULT_ROOT, help="the root of a local run (default %(default)s)")
        client.add_arguments(parser, "server that ran it; without one, runs of this machine")
        if name == "status":
            parser.add_argument("--json", action="store_true", help="print one JSON object")
        if name == "artifacts":
            parser.add_argument("--out", default="", metavar="DIR", help="download into this folder")
        parser.set_defaults(action=action)
