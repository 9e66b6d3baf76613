"""`alexnet runs`: list the runs of a root, with their errors and reports."""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.shared import runlog, storage
from pipeline.commands.options import DEFAULT_ROOT
from pipeline.kubeflow import runs
from pipeline.kubeflow.argo import TaskRun


@dataclass
class Row:
    """One run, as it is listed. What is not known is None or empty."""

    run_id: str
    state: str
    started: float | None = None  # seconds since 1970
    seconds: float | None = None
    recipe: str = ""
    top1_error: float | None = None  # fractions, ten crops
    top5_error: float | None = None
    report: str = ""


def _of_folder(run_dir: Path) -> Row:
    """Read a run folder of this machine."""
    view = runs.local(run_dir)
    path = run_dir / "run.json"
    parameters = runs.read_json(path).get("parameters", {}) if path.is_file() else {}
    row = Row(view.run_id, view.state, recipe=parameters.get("recipe", ""))
    started = [task.started for task in view.tasks if task.started]
    if started:
        row.started = min(started)
        row.seconds = max(task.ended or task.started for task in view.tasks) - row.started
    for task in view.tasks:
        if task.name == "evaluate":
            _add_errors(row, task)
    return row


def _add_errors(row: Row, task: TaskRun) -> None:
    places = {artifact.name: Path(artifact.uri) for artifact in task.artifacts}
    if places.get("metrics") and places["metrics"].is_file():
        metrics = runs.read_json(places["metrics"])
        row.top1_error, row.top5_error = metrics["top1_error"], metrics["top5_error"]
    if places.get("report"):
        row.report = str(places["report"])


def _of_outcome(record: dict[str, Any], modified: float) -> Row:
    """Read the record of a run's end, which every run of any machine leaves under its root."""
    recipe = record.get("parameters", {}).get("recipe", "")
    return Row(record["run_id"], record["state"].lower(), started=modified, recipe=recipe)


def found(root_uri: str) -> list[Row]:
    """List the runs of a root, the newest first.

    Raises:
        DataError: a record is damaged.
        StorageError: the root cannot be read.
    """
    rows = {}
    folder = storage.join(root_uri, "outcomes")
    for entry in storage.list_files(folder):
        if entry.name.endswith(".json"):
            row = _of_outcome(storage.read_json(storage.join(folder, entry.name)), entry.modified)
            rows[row.run_id] = row
    if storage.is_local(root_uri):
        for run_dir in (storage.local_path(root_uri) / "runs").glob("*/"):
            row = _of_folder(run_dir)
            rows[row.run_id] = row
    return sorted(rows.values(), key=lambda row: row.started or 0, reverse=True)


def _line(row: Row) -> str:
    errors = "-"
    if row.top1_error is not None and row.top5_error is not None:
        errors = f"{100 * row.top1_error:.1f} / {100 * row.top5_error:.1f} %"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.started)) if row.started else "-"
    length = runlog.format_seconds(row.seconds) if row.seconds is not None else "-"
    return f"{row.run_id:<26} {row.state:<10} {when:<16} {length:>8}  {errors:>14}  {row.recipe}"


def runs_command(arguments: argparse.Namespace) -> int:
    """Print the runs of a root."""
    root_uri = storage.absolute(arguments.root)
    rows = found(root_uri)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
    elif not rows:
        print(f"no runs under {root_uri}")
    else:
        print(f"{'run':<26} {'state':<10} {'started':<16} {'time':>8}  {'top-1 / top-5':>14}  recipe")
        for row in rows:
            print(_line(row))
            if row.report:
                print(f"  {row.report}")
    return 0


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--root", default=DEFAULT_ROOT, help="folder or URI of the runs (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.set_defaults(action=runs_command)
