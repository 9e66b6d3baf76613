"""One task of a past run again, on this machine: same inputs by digest, same image, a new output folder.

Works from the task's task.json alone. The rerun keeps its bulk data under its own folder, so that nothing of the
past run is reused or touched, and ends by saying what differs from the original.
"""

import json
import secrets
import time
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import DataError, UsageError
from pipeline import ir
from pipeline.cache import Output, describe
from pipeline.ir import Task
from pipeline.local import Step


def find(run: str, task: str, home: Path) -> dict[str, Any]:
    """Read the record of a task of a past run.

    Args:
        run: run id, or the path of a run folder.
        task: name of the task.
        home: local folder that holds `runs/`.

    Raises:
        UsageError: there is no such run or task.
    """
    run_dir = Path(run) if Path(run).is_dir() else home / "runs" / run
    path = run_dir / task / "task.json"
    if not path.is_file():
        known = sorted(p.parent.name for p in run_dir.glob("*/task.json"))
        what = f"its tasks are {', '.join(known)}" if known else f"no run folder {run_dir}"
        raise UsageError(f"run {run}, task {task}: not found; {what}. Name a run with --root, or its folder")
    return read(path.parent)


def read(folder: Path) -> dict[str, Any]:
    """Read the task.json of a folder."""
    return json.loads(storage.read_bytes(str(folder / "task.json")))


def check_inputs(inputs: dict[str, Output]) -> None:
    """Verify that the inputs are the very files of the past run.

    Raises:
        DataError: one is missing or was changed; names it.
    """
    for name, recorded in inputs.items():
        path = Path(recorded["path"])
        if not path.is_file():
            raise DataError(f"input {name}: {path} is gone. Rerun the task that made it first")
        if describe(path, {})["digest"] != recorded["digest"]:
            raise DataError(f"input {name}: {path} is not what the run used (digest differs). Restore it, or run again")


def differences(record: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """Say, a line each, what differs between two records of a task: parameters, code, outputs and their numbers."""
    lines = [
        f"parameter {name}: {record['parameters'].get(name)} -> {value}"
        for name, value in again["parameters"].items()
        if name != "root_uri" and record["parameters"].get(name) != value
    ]
    if again["code"] != record["code"]:
        lines.append(f"code: {record['code'][:19]} -> {again['code'][:19]}")
    for name, output in again["outputs"].items():
        before = record["outputs"].get(name, {"digest": "", "metadata": {}})
        lines.append(f"output {name}: {'the same' if before['digest'] == output['digest'] else 'differs'}")
        lines += [
            f"  {key}: {before['metadata'].get(key)} -> {value}"
            for key, value in output["metadata"].items()
            if before["metadata"].get(key) != value and isinstance(value, int | float)
        ]
    return lines


def prepare(record: dict[str, Any], given: list[str], image: str, home: Path) -> Step:
    """Build the step of a rerun.

    Args:
        record: of the past task.
        given: `k=v` parameters that replace the recorded ones.
        image: image reference that replaces the recorded one, or empty.
        home: local folder under which the rerun gets its own.

    Raises:
        DataError: an input is missing or was changed.
        UsageError: a parameter is unknown, ill-typed or out of range.
    """
    check_inputs(record["inputs"])
    task = Task(**{**record["task"], "image": image or record["task"]["image"]})
    folder = home / "reruns" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}-{task.name}"
    parameters = record["parameters"] | {"root_uri": str(folder / "root")} | ir.parse_parameters(task.types, given)
    return Step(f"{record['run_id']} rerun", task, folder, parameters, record["inputs"])
