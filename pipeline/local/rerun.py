"""One task of a past run again, on this machine: same inputs by digest, same image, a new output folder.

Works from the task's task.json alone. The rerun keeps its bulk data under its own folder, so that nothing of the
past run is reused or touched, and ends by saying what differs from the original.
"""

import secrets
import time
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import DataError, UsageError
from pipeline.local.cache import Input, base_uri, describe, listed, lost_files
from pipeline.local.runner import Step
from pipeline.spec.ir import Task


def find(run: str, task: str, home: Path) -> dict[str, Any]:
    """Read the record of a task of a past run.

    Args:
        run: run id, the path of a run folder, or the path of a task.json.
        task: name of the task; it may be empty with a task.json.
        home: local folder that holds `runs/`.

    Raises:
        DataError: the file is no record of a task.
        UsageError: there is no such run or task.
    """
    run_dir = Path(run) if Path(run).is_dir() else home / "runs" / run
    path = Path(run) if Path(run).is_file() else run_dir / task / "task.json"
    if not path.is_file():
        known = sorted(p.parent.name for p in run_dir.glob("*/task.json"))
        what = f"its tasks are {', '.join(known)}" if known else f"no run folder {run_dir}"
        raise UsageError(
            f"run {run}, task {task}: not found; {what}. Name a run with --root, its folder, or a task.json"
        )
    record = read(path)
    if task and record["task"]["name"] != task:
        raise UsageError(f"{path}: is of task {record['task']['name']}, not {task}")
    return record


def read(path: Path) -> dict[str, Any]:
    """Read a task.json.

    Raises:
        DataError: the file is something else.
    """
    try:
        record = storage.read_json(str(path))
        Task(**record["task"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the record of a task ({error!r}). Expected the task.json of a run") from error
    return record


def check_inputs(inputs: dict[str, Input]) -> None:
    """Verify that the inputs are the very artifacts of the past run; the task itself checks the bytes of their files.

    Raises:
        DataError: one is missing or was changed; names it.
    """
    for name, recorded in ((name, output) for name, given in inputs.items() for output in listed(given)):
        path = Path(recorded["path"])
        if not path.is_file():
            raise DataError(f"input {name}: {path} is gone. Rerun the task that made it first")
        if describe(path, {})["digest"] != recorded["digest"]:
            raise DataError(f"input {name}: {path} is not what the run used (digest differs). Restore it, or run again")
        if lost := lost_files(path):
            raise DataError(f"input {name}: {lost[0]} is gone or of another size. Rerun the task that made it first")


def places(step: Step) -> dict[str, bool]:
    """List the URIs that a rerun needs, and whether it writes there: its folder and root, its inputs, its release."""
    paths = [Path(recorded["path"]) for given in step.inputs.values() for recorded in listed(given)]
    needed = {str(path.parent): False for path in paths}
    needed |= {uri: False for path in paths if (uri := base_uri(path))}
    if "release_uri" in step.parameters:
        needed[str(step.parameters["release_uri"])] = False
    if "root_uri" in step.parameters:
        needed[str(step.parameters["root_uri"])] = True
    return needed | {str(step.folder): True}


def _label(code: str) -> str:
    return f"image {code[:19]}" if code.startswith("sha256:") else f"sources {code[:12]}"


def differences(record: dict[str, Any], again: dict[str, Any]) -> list[str]:
    """Say, a line each, how two records of a task differ: parameters, code, outputs and their numbers.

    Numbers that the record of the original does not have are unknown, not different.
    """
    lines = [
        f"parameter {name}: {record['parameters'].get(name, 'not recorded')} -> {value}"
        for name, value in again["parameters"].items()
        if name != "root_uri" and record["parameters"].get(name) != value
    ] or ["parameters: the same"]
    before, after = _label(record["code"]), _label(again["code"])
    lines.append(f"code: {before} -> {after}" if record["code"] != again["code"] else f"code: the same, {after}")
    for name, output in again["outputs"].items():
        original = record["outputs"].get(name)
        if not original:
            lines.append(f"output {name}: nothing to compare with")
            continue
        lines.append(f"output {name}: {'the same' if original['digest'] == output['digest'] else 'differs'}")
        numbers = {k: v for k, v in (output["metadata"] or {}).items() if isinstance(v, int | float)}
        if original["metadata"] is None:
            lines += [f"  {', '.join(numbers)}: unknown of the original, nothing to compare with"] if numbers else []
            continue
        lines += [
            f"  {key}: {original['metadata'].get(key, 'not recorded')} -> {value}"
            for key, value in numbers.items()
            if original["metadata"].get(key) != value
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
    # A task that ran in docker recorded its image by digest; that very image runs again.
    recorded = record["code"] if record["code"].startswith("sha256:") else record["task"]["image"]
    task = Task(**{**record["task"], "image": image or recorded})
    folder = home / "reruns" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}-{task.name}"
    root = {"root_uri": str(folder / "root")} if "root_uri" in task.types else {}
    parameters = record["parameters"] | root | task.parse(given)
    check_inputs(record["inputs"])
    return Step(f"{record['run_id']} rerun", task, folder, parameters, record["inputs"])
