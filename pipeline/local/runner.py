"""Runs the committed pipeline.yaml on this machine, one process or container per task, without a cluster.

A run folder `<root>/runs/<run_id>/` holds run.json and, for each task, a folder with its output artifacts,
log.jsonl (everything the task printed) and task.json (command, parameters, inputs, outputs, exit code). What Kubeflow
runs side by side, one task for each item of a list, runs here one after the other.
"""

import json
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.shared import runlog, storage
from components.shared.errors import AlexNetError, DataError, Interrupted
from pipeline.console import Console
from pipeline.local import executor_output
from pipeline.local.cache import Cache, CacheEntry, Input, Output, adopt, describe, listed, step_key
from pipeline.local.engine import Engine
from pipeline.spec import ir
from pipeline.spec.ir import Pipeline, Task, Value
from pipeline.spec.parameters import check_run

SUFFIXES = {"system.HTML": ".html", "system.Markdown": ".md"}  # anything else is JSON

ENDS = (AlexNetError, KeyboardInterrupt)  # what may end a run, bugs apart
Failure = AlexNetError | KeyboardInterrupt


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
    storage.make_folder(run_dir)
    return Run(run_id, run_dir, values, {})


@dataclass(frozen=True)
class Step:
    """A task with everything resolved that it needs to run."""

    run_id: str
    task: Task
    folder: Path
    parameters: dict[str, Value]
    inputs: dict[str, Input]

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
            return {"name": name, "uri": uri, "type": {"schemaTitle": kind}, "metadata": metadata}

        inputs = {
            name: {
                "artifacts": [artifact(name, o["path"], "system.Artifact", o["metadata"] or {}) for o in listed(given)]
            }
            for name, given in self.inputs.items()
        }
        outputs = {
            name: {"artifacts": [artifact(name, str(self.paths[name]), kind, {})]}
            for name, kind in self.task.outputs.items()
        }
        return {
            "inputs": {"parameterValues": self.parameters, "artifacts": inputs},
            "outputs": {"artifacts": outputs, "outputFile": str(self.folder / "executor_output.json")},
        }

    def command(self) -> list[str]:
        """Return the command line with every placeholder replaced."""
        paths = {("inputs", name): ",".join(o["path"] for o in listed(given)) for name, given in self.inputs.items()}
        paths |= {("outputs", name): str(path) for name, path in self.paths.items()}
        return ir.render(self.task, self.parameters, paths, self.executor_input())

    def collect(self, code: int, last_error: str) -> dict[str, Output]:
        """Describe the outputs after the command ended, or say why it failed.

        Raises:
            TaskFailed: the exit code is not 0, an output is not there, or Kubeflow would refuse the metadata.
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
        try:
            metadata = executor_output.read(self.folder / "executor_output.json")
        except DataError as error:
            raise TaskFailed(f"{self.task.name} ended with 0 but Kubeflow would fail it: {error}") from error
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
        console.finish(task.name)
        record["seconds"] = round(time.time() - start, 3)
        storage.write_text(step.folder / "task.json", json.dumps(record, indent=1))
    took = f"cached, from run {hit['run_id']}" if hit else f"done in {runlog.format_seconds(record['seconds'])}"
    console.line(f"{task.name:<12} {took}")
    return outputs


def _steps(pipeline: Pipeline, run: Run) -> Iterator[Step]:
    """Yield the steps of a run in order; each finds its inputs among what those before it have made."""
    instances: dict[str, list[Task]] = {}
    for task in pipeline.tasks:
        instances[task.name] = ir.instances(task, run.values)
        for index, instance in enumerate(instances[task.name]):
            inputs: dict[str, Input] = {}
            for name, (producer, key) in task.artifacts.items():
                outputs = [run.outputs[made.name][key] for made in instances[producer]]
                # In the same loop it is that of the same item; outside of it there is but one, or all are asked for.
                inputs[name] = outputs if name in task.lists else outputs[index if len(outputs) > 1 else 0]
            values = ir.resolve(instance, run.values, run.run_id)
            yield Step(run.run_id, instance, run.run_dir / instance.name, values, inputs)


def _state(failure: Failure | None) -> str:
    """Name the state of a run as Kubeflow does."""
    stopped = isinstance(failure, Interrupted | KeyboardInterrupt)
    return "SUCCEEDED" if failure is None else "CANCELLED" if stopped else "FAILED"


def _end(task: Task, run: Run, last: str, failure: Failure | None, engine: Engine, console: Console) -> Failure | None:
    """Run the exit task and tell it, as Kubeflow would, how the run ended and with which task.

    Returns:
        The failure of the run, if it failed; its own only where nothing else did.
    """
    message = str(failure).partition("\n")[0] or "stopped" if failure else ""
    status = {
        "state": _state(failure),
        "pipelineTaskName": last,
        "pipelineJobResourceName": run.run_id,
        "error": {"message": message},
    }
    values = ir.resolve(ir.bind(task, "taskFinalStatus", status), run.values, run.run_id)
    try:
        step = Step(run.run_id, task, run.run_dir / task.name, values, {})
        run.outputs[task.name] = perform(step, engine, None, console)
    except ENDS as error:
        if failure is None:
            return error
        console.line(f"{task.name:<12} failed too: {error}")
    return failure


def run_pipeline(pipeline: Pipeline, run: Run, engine: Engine, cache: Cache | None, console: Console) -> None:
    """Run every task of a pipeline in order, then its exit task whatever came, and record the run in run.json.

    Raises:
        TaskFailed: a task failed; those after it do not run.
        UsageError: Kubeflow's API server would refuse the parameters.
        Interrupted: SIGINT or SIGTERM came.
    """
    check_run(pipeline.types, pipeline.defaults, run.values)
    names = [instance.name for task in pipeline.tasks for instance in ir.instances(task, run.values)]
    record: dict[str, Any] = {"run_id": run.run_id, "parameters": run.values, "tasks": names, "status": "failed"}
    failure: Failure | None = None
    last = ""
    try:
        try:
            for step in _steps(pipeline, run):
                last = step.task.name
                run.outputs[last] = perform(step, engine, cache, console)
        except ENDS as error:
            failure = error
        if pipeline.exit_task:
            failure = _end(pipeline.exit_task, run, last, failure, engine, console)
        record["status"] = _state(failure).lower()
    finally:
        storage.write_text(run.run_dir / "run.json", json.dumps(record, indent=1))
    if failure:
        raise failure
