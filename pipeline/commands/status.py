"""`alexnet status`: show the state of a run and its tasks."""

import argparse
import json

from pipeline.commands import options
from pipeline.kubeflow import logs, runs
from pipeline.kubeflow.watch import elapsed


def status_command(arguments: argparse.Namespace) -> int:
    """Print the tasks of a run.

    Returns:
        The exit code: 1 for a run that failed, 4 for one that was cancelled, else 0.
    """
    view, server = options.find_run(arguments)
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


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_run(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(action=status_command)
