"""`alexnet artifacts`: list or download the artifacts of a run."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from components.shared import storage
from components.shared.errors import StorageError
from pipeline.commands import options
from pipeline.kubeflow import cached, runs
from pipeline.kubeflow.argo import Artifact
from pipeline.local.runner import SUFFIXES

UNKNOWN_PLACE = (
    "and their place is not known: no task that ran here was given one of them, and no earlier run with the same "
    "parameters shows them"
)


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
    """List the artifacts of a run; `--out` copies them.

    Returns:
        The exit code: 1 when one could not be had.
    """
    view, server = options.find_run(arguments)
    if server:
        cached.find(server, view)
    code = 0
    for task in options.tasks_of(arguments, view):
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


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    options.add_run(parser, task_help="default: all")
    parser.add_argument("--out", default="", metavar="DIR", help="download into this folder")
    parser.set_defaults(action=artifacts_command)
