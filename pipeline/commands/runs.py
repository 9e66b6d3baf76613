"""`alexnet runs`: the runs of a root, newest first, with their errors.

Shown are the run folders of this machine, and under the root the records of how runs ended
(`outcomes/*.json`), which those on a cluster leave too.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.shared import runlog, storage
from components.shared.errors import DataError, StorageError
from pipeline.commands.options import DEFAULT_ROOT, home_of
from pipeline.kubeflow import runs


@dataclass
class Summary:
    """One run in a line; a field that is not known is None or empty."""

    run_id: str
    state: str
    started: float | None = None  # seconds since the epoch
    ended: float | None = None
    recipe: str = ""
    top1_error: float | None = None
    top5_error: float | None = None
    report: str = ""


def _of_folder(folder: Path) -> Summary:
    """Read a run folder; its name starts with the time at which the run began."""
    result = Summary(folder.name, "damaged")
    try:
        result.started = datetime.strptime(folder.name[:15], "%Y%m%d-%H%M%S").timestamp()
    except ValueError:
        result.started = folder.stat().st_mtime
    try:
        view = runs.local(folder)
        record = folder / "run.json"
        parameters = runs.read_json(record)["parameters"] if record.is_file() else {}
    except (DataError, KeyError):
        return result
    result.state, result.recipe = view.state, str(parameters.get("recipe", ""))
    if view.state in runs.FINAL and view.tasks:
        result.ended = max(task.ended for task in view.tasks)
    for artifact in (artifact for task in view.tasks for artifact in task.artifacts):
        if (artifact.task, artifact.name) == ("evaluate", "report"):
            result.report = artifact.uri
        if (artifact.task, artifact.name) == ("evaluate", "metrics"):
            metrics = runs.metadata_of(artifact) or {}
            result.top1_error = metrics.get("top1_error")
            result.top5_error = metrics.get("top5_error")
    return result


def _of_outcomes(root_uri: str) -> dict[str, Summary]:
    """Read the records under a root; of a run that ended more than once, the last one.

    Raises:
        StorageError: the root cannot be read.
    """
    place = storage.join(root_uri, "outcomes")
    found: dict[str, Summary] = {}
    for entry in sorted(storage.list_files(place), key=lambda entry: entry.modified):
        try:
            record = storage.read_json(storage.join(place, entry.name))
            recipe = str(record["parameters"].get("recipe", ""))
            run_id, state = record["run_id"], record["state"].lower()
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # no record of ours
        found[run_id] = Summary(run_id, state, ended=entry.modified, recipe=recipe)
    return found


def _is_of(folder: Path, root_uri: str) -> bool:
    """Tell whether a run used a root: remote ones share the local folder for runs."""
    if storage.is_local(root_uri):
        return True
    try:
        return runs.read_json(folder / "run.json")["parameters"].get("root_uri") == root_uri
    except (DataError, StorageError, KeyError):
        return False


def _line(run: Summary) -> str:
    when = run.started or run.ended
    shown = time.strftime("%Y-%m-%d %H:%M", time.localtime(when)) if when else "-"
    took = runlog.format_seconds(run.ended - run.started) if run.started and run.ended else "-"
    errors = ["-" if error is None else f"{100 * error:.1f} %" for error in (run.top1_error, run.top5_error)]
    return (
        f"{run.run_id:<24}  {run.state:<9}  {shown:<16}  {took:>8}  {run.recipe or '-':<12}  "
        f"{errors[0]:>7}  {errors[1]:>7}  {run.report or '-'}"
    )


def runs_command(arguments: argparse.Namespace) -> int:
    """List the runs of a root.

    Returns:
        The exit code: 1 when the records under the root could not be read.
    """
    root_uri, code = storage.absolute(arguments.root), 0
    home = home_of(root_uri)
    found: dict[str, Summary] = {}
    try:
        found = _of_outcomes(root_uri)
    except StorageError as error:
        sys.stderr.write(f"alexnet: {error}\n")
        code = 1
    # A folder says more than a record.
    folders = [path for path in (home / "runs").glob("*") if path.is_dir()]
    found |= {folder.name: _of_folder(folder) for folder in folders if _is_of(folder, root_uri)}
    newest = sorted(found.values(), key=lambda run: run.started or run.ended or 0, reverse=True)
    if arguments.json:
        listed: list[dict[str, Any]] = [asdict(run) for run in newest]
        print(json.dumps(listed))
    elif not newest:
        print(f"no runs under {root_uri}")
    else:
        print(
            f"{'run':<24}  {'state':<9}  {'when':<16}  {'duration':>8}  {'recipe':<12}  "
            f"{'top-1':>7}  {'top-5':>7}  report"
        )
        for run in newest:
            print(_line(run))
    return code


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--root", default=DEFAULT_ROOT, help="folder or URI that the runs used (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.set_defaults(action=runs_command)
