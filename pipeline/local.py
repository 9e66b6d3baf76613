"""Runs the committed pipeline.yaml on this machine, one process or container per task, without a cluster.

A run folder `<root>/runs/<run_id>/` holds run.json and, for each task, a folder with its output artifacts,
log.jsonl (everything the task printed) and task.json (command, parameters, inputs, outputs, exit code).
"""

import json
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared import runlog, storage
from components.shared.errors import AlexNetError, Interrupted
from pipeline import ir
from pipeline.cache import Cache, CacheEntry, Output, adopt, describe, step_key
from pipeline.console import Console
from pipeline.engine import Engine
from pipeline.ir import Pipeline, Task, Value

SUFFIXES = {"system.HTML": ".html", "system.Markdown": ".md"}  # anything else is JSON


class TaskFailed(AlexNetError):
    """A task ended with another code than 0, or without one of its outputs."""


@dataclass
class Run:
    """One run of a pipeline. `outputs` is filled as tasks end, by task and artifact."""

    run_id: str
    run_dir: Path
    values: dict[str, Value]
    outputs: dict[str, dict[str, Output]]


def new_run(home: Path, values: dict[str, Value]) -> Run:
    """Make the folder of a new run under `home`; its name sorts by time."""
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    run_dir = home / "runs" / run_id
    storage.make_parent(run_dir / "run.json")
    return Run(run_id, run_dir, values, {})


def _executor_input(task: Task, run: Run, parameters: dict[str, Value], paths: dict[str, Path]) -> dict[str, Any]:
    """Build what Kubeflow would pass as `{{$}}`."""

    def artifact(name: str, uri: str, kind: str, metadata: dict[str, Any]) -> dict[str, Any]:
        return {"artifacts": [{"name": name, "uri": uri, "type": {"schemaTitle": kind}, "metadata": metadata}]}

    inputs = {
        name: artifact(name, run.outputs[producer][key]["path"], "", run.outputs[producer][key]["metadata"])
        for name, (producer, key) in task.artifacts.items()
    }
    return {
        "inputs": {"parameterValues": parameters, "artifacts": inputs},
        "outputs": {
            "artifacts": {name: artifact(name, str(paths[name]), kind, {}) for name, kind in task.outputs.items()},
            "outputFile": str(run.run_dir / task.name / "executor_output.json"),
        },
    }


def _metadata(executor_output: Path) -> dict[str, dict[str, Any]]:
    if not executor_output.is_file():
        return {}
    artifacts = json.loads(storage.read_bytes(str(executor_output)))["artifacts"]
    return {name: entry["artifacts"][0].get("metadata", {}) for name, entry in artifacts.items()}


def _finish(task: Task, task_dir: Path, paths: dict[str, Path], code: int, last_error: str) -> dict[str, Output]:
    """Collect the outputs of a task, or say why it failed."""
    log = task_dir / "log.jsonl"
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        last_error = "killed, perhaps for want of memory"
    if code != 0:
        raise TaskFailed(f"{task.name} failed with exit code {code}: {last_error or 'see its log'}\nlog: {log}")
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise TaskFailed(f"{task.name} ended with 0 but did not write {', '.join(missing)}\nlog: {log}")
    metadata = _metadata(task_dir / "executor_output.json")
    return {name: describe(path, metadata.get(name, {})) for name, path in paths.items()}


def run_task(task: Task, run: Run, engine: Engine, cache: Cache | None, console: Console) -> None:
    """Run one task, or take its outputs from the cache, and record it in task.json.

    Raises:
        TaskFailed: the task failed; the message names its log.
        Interrupted: SIGINT or SIGTERM came.
    """
    start = time.time()
    task_dir = run.run_dir / task.name
    paths = {name: task_dir / f"{name}{SUFFIXES.get(kind, '.json')}" for name, kind in task.outputs.items()}
    parameters = ir.resolve(task, run.values)
    inputs = {name: run.outputs[producer][key] for name, (producer, key) in task.artifacts.items()}
    executor_input = _executor_input(task, run, parameters, paths)
    artifact_paths = {("inputs", name): output["path"] for name, output in inputs.items()}
    artifact_paths |= {("outputs", name): str(path) for name, path in paths.items()}
    words = ir.render(task, parameters, artifact_paths, executor_input)
    identity = engine.identity(task)
    key = step_key(task, identity, parameters, inputs)
    record: dict[str, Any] = {
        "run_id": run.run_id,
        "task": task.name,
        "image": task.image,
        "code": identity,
        "command": words,
        "parameters": parameters,
        "inputs": inputs,
        "outputs": {},
        "cache_key": key,
        "cached_from": "",
        "exit_code": None,
        "started": start,
    }
    hit = cache.find(key) if cache and task.enable_cache else None
    try:
        if hit:
            record["cached_from"], code = hit["run_id"], 0
            run.outputs[task.name] = adopt(hit, paths)
        else:
            console.status(task.name, "starting")
            code, last_error = engine.execute(task, words, task_dir / "log.jsonl", console)
            record["exit_code"] = code
            run.outputs[task.name] = _finish(task, task_dir, paths, code, last_error)
            if cache:
                cache.put(key, CacheEntry(run_id=run.run_id, outputs=run.outputs[task.name]))
        record["exit_code"], record["outputs"] = code, run.outputs[task.name]
    finally:
        record["seconds"] = round(time.time() - start, 3)
        storage.write_text(task_dir / "task.json", json.dumps(record, indent=1))
    took = f"cached, from run {hit['run_id']}" if hit else f"done in {runlog.format_seconds(record['seconds'])}"
    console.line(f"{task.name:<11} {took}")


def run_pipeline(pipeline: Pipeline, run: Run, engine: Engine, cache: Cache | None, console: Console) -> None:
    """Run every task of a pipeline in order and record the run in run.json.

    Raises:
        TaskFailed: a task failed; those after it do not run.
        Interrupted: SIGINT or SIGTERM came.
    """
    status = "failed"
    record = {"run_id": run.run_id, "parameters": run.values, "tasks": [task.name for task in pipeline.tasks]}
    try:
        for task in pipeline.tasks:
            run_task(task, run, engine, cache, console)
        status = "succeeded"
    except Interrupted:
        status = "cancelled"
        raise
    finally:
        storage.write_text(run.run_dir / "run.json", json.dumps({**record, "status": status}, indent=1))
