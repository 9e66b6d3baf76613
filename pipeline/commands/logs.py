"""`alexnet logs`: print the logs of the tasks of a run."""

import argparse
import sys

from components.shared.errors import StorageError
from pipeline.commands import options
from pipeline.kubeflow import logs

NOTHING_RAN = {"cached": "the cache had its outputs", "skipped": "skipped"}


def logs_command(arguments: argparse.Namespace) -> int:
    """Print the log of a task, or of every task.

    Returns:
        The exit code: 1 when one could not be had.
    """
    view, server = options.find_run(arguments)
    code = 0
    for task in options.tasks_of(arguments, view):
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


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_run(parser, task_help="default: all")
    parser.set_defaults(action=logs_command)
