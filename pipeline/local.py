"""Runs the committed pipeline.yaml on this machine, one process or container per task, without a cluster.

A run folder `<root>/runs/<run_id>/` holds run.json and, for each task, a folder with its output artifacts,
log.jsonl (everything the task printed) and task.json (command, parameters, inputs, outputs, exit code).
"""

import json
import secrets
import signal
import time
from dataclasses import asdict, dataclass
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
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    run_dir = home / "runs" / run_id
    storage.make_parent(run_dir / "run.json")
    return Run(run_id, run_dir, values, {})


@dataclass(frozen=True)
class Step:
    """A task with everything resolved that it needs to run."""

    run_id: str
    task: Task
    folder: Path
    parameters: dict[str, Value]
    inputs: dict[str, Output]

    @property
    def log_path(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def paths(self) -> dict[str, Path]:
        """Where each output artifact goes."""
        return {n: self.folder / f"{n}{SUFFIXES.get(kind, '.json')}" for n, kind in self.task.outputs.items()}

    @property
    def gpus(self) -> int:
        return int(self.parameters.get("gpus", 0))

    def executor_input(self) -> dict[str, Any]:
        """Build what Kubeflow would pass as `{{$}}`."""

        def artifact(name: str, uri: str, kind: str, metadata: dict[str, Any]) -> dict[str, Any]:
            return {"artifacts": [{"name": name, "uri": uri, "type": {"schemaTitle": kind}, "metadata": metadata}]}

        inputs = {name: artifact(name, o["path"], "system.Artifact", o["metadata"]) for name, o in self.inputs.items()}
        outputs = {name: artifact(name, str(self.paths[name]), kind, {}) for name, kind in self.task.outputs.items()}
        return {
            "inputs": {"parameterValues": self.parameters, "artifacts": inputs},
            "outputs": {"artifacts": outputs, "outputFile": str(self.folder / "executor_output.json")},
        }

    def command(self) -> list[str]:
        """Return the command line with every placeholder replaced."""
        paths = {("inputs", name): output["path"] for name, output in self.inputs.items()}
        paths |= {("outputs", name): str(path) for name, path in self.paths.items()}
        return ir.render(self.task, self.parameters, paths, self.executor_input())

    def collect(self, code: int, last_error: str) -> dict[str, Output]:
        """Describe the outputs after the command ended, or say why it failed.

        Raises:
            TaskFailed: the exit code is not 0, or an output is not there.
        """
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            last_error = "killed, perhaps for want of memory"
        if code != 0:
            reason = last_error or "see its log"
            raise TaskFailed(f"{self.task.name} failed with exit code {code}: {reason}\nlog: {self.log_path}")
        missing = [name for name, path in self.paths.items() if not path.is_file()]
        if missing:
            raise TaskFailed(
                f"{self.task.name} ended with 0 but did not write {', '.join(missing)}\nlog: {self.log_path}"
            )
        metadata = {}
        if (self.folder / "executor_output.json").is_file():
            artifacts = json.loads(storage.read_bytes(str(self.folder / "executor_output.json")))["artifacts"]
            metadata = {name: entry["artifacts"][0].get("metadata", {}) for name, entry in artifacts.items()}
        return {name: describe(path, metadata.get(name, {})) for name, path in self.paths.items()}


def perform(step: Step, engine: Engine, cache: Cache | None, console: Console) -> dict[str, Output]:
    """Run a step, or take its outputs from the cache, and record it in task.json.

    Raises:
        TaskFailed: the task failed; the message names its log.
        Interrupted: SIGINT or SIGTERM came.
    """
    start, task = time.time(), step.task
    code_identity = engine.identity(task)
    key = step_key(task, code_identity, step.parameters, step.inputs)
    hit = cache.find(key) if cache and task.enable_cache else None
    record: dict[str, Any] = {
        "run_id": step.run_id,
        "task": asdict(task),
        "code": code_identity,
        "command": step.command(),
        "parameters": step.parameters,
        "inputs": step.inputs,
        "outputs": {},
        "cache_key": key,
        "cached_from": hit["run_id"] if hit else "",
        "exit_code": 0 if hit else None,
        "started": start,
    }
    try:
        if hit:
            outputs = adopt(hit, step.paths)
        else:
            console.status(task.name, "starting")
            record["exit_code"], last_error = engine.execute(task, record["command"], step.log_path, console, step.gpus)
            outputs = step.collect(record["exit_code"], last_error)
            if cache:
                cache.put(key, CacheEntry(run_id=step.run_id, outputs=outputs))
        record["outputs"] = outputs
    finally:
        record["seconds"] = round(time.time() - start, 3)
        storage.write_text(step.folder / "task.json", json.dumps(record, indent=1))
    took = f"cached, from run {hit['run_id']}" if hit else f"done in {runlog.format_seconds(record['seconds'])}"
    console.line(f"{task.name:<11} {took}")
    return outputs


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
            inputs = {name: run.outputs[producer][key] for name, (producer, key) in task.artifacts.items()}
            step = Step(run.run_id, task, run.run_dir / task.name, ir.resolve(task, run.values), inputs)
            run.outputs[task.name] = perform(step, engine, cache, console)
        status = "succeeded"
    except Interrupted:
        status = "cancelled"
        raise
    finally:
        storage.write_text(run.run_dir / "run.json", json.dumps({**record, "status": status}, indent=1))
