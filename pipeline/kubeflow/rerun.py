"""The record of a task that ran on a cluster, in the form of a task.json, so that it runs again on this machine.

It comes from the server, which keeps the workflow of every run, or from what the step itself left under its root
(`components/shared/contract/task_record.py`), for which no server is needed. Inputs are small manifests and are
downloaded; the bytes that they name stay where they are.
"""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import AlexNetError, UsageError
from pipeline import images
from pipeline.kubeflow import runs
from pipeline.kubeflow.argo import LOGS, Artifact, own_metadata
from pipeline.kubeflow.client import Client
from pipeline.local.cache import Input, Output, describe
from pipeline.spec import ir
from pipeline.spec.ir import Task
from pipeline.spec.nested import Leaf
from pipeline.spec.parameters import typed


def _download(uri: str, path: Path, metadata: dict[str, Any] | None) -> Output:
    with storage.open_read(runs.readable(uri)) as source, storage.create(str(path)) as target:
        shutil.copyfileobj(source, target)
    return describe(path, metadata)


def _inputs(executor_input: dict[str, Any], task: Task, folder: Path) -> dict[str, Input]:
    inputs: dict[str, Input] = {}
    for name, entry in executor_input.get("inputs", {}).get("artifacts", {}).items():
        found = [
            _download(
                artifact["uri"],
                folder / "inputs" / f"{name}-{index}.json",
                own_metadata(artifact.get("metadata", {})),
            )
            for index, artifact in enumerate(entry["artifacts"])
        ]
        inputs[name] = found if name in task.lists else found[0]
    return inputs


def _outputs(artifacts: list[Artifact], folder: Path) -> dict[str, Output]:
    """Fetch what the task made, to compare with; what is not there (any more) is left out."""
    outputs = {}
    for artifact in artifacts:
        try:
            metadata = runs.metadata_of(artifact)
            outputs[artifact.name] = _download(artifact.uri, folder / "outputs" / artifact.name, metadata)
        except AlexNetError:
            continue
    return outputs


def image_id(reference: str) -> str:
    """Return the id of an image, pulled if it is not here.

    Raises:
        AlexNetError: it can be had nowhere.
    """
    from docker.errors import ImageNotFound

    engine = images.client()
    with images.engine_errors(reference):
        try:
            return str(engine.images.get(reference).id)
        except ImageNotFound:
            return str(engine.images.pull(reference).id)


def _record(
    run_id: str, task: Task, executor_input: dict[str, Any], artifacts: list[Artifact], home: Path, name: str
) -> dict[str, Any]:
    """Build the record that `rerun.prepare` takes; `code` is left to the caller."""
    folder = home / "cluster" / run_id / name
    values = executor_input.get("inputs", {}).get("parameterValues", {})
    if missing := [n for n in task.parameters if n in task.types and n not in values]:
        raise UsageError(
            f"run {run_id}, task {name}: its record has no {', '.join(missing)}, so it ran with another pipeline.yaml. "
            "Rerun it with the version of this project that was submitted"
        )
    return {
        "run_id": run_id,
        "task": asdict(task),
        "code": "",
        "parameters": {n: typed(task.types[n], value) for n, value in values.items() if n in task.types},
        "inputs": _inputs(executor_input, task, folder),
        "outputs": _outputs(artifacts, folder),
    }


def from_server(client: Client, run: str, name: str, home: Path) -> dict[str, Any]:
    """Ask a server for a task of a run.

    Args:
        client: the server.
        run: id of the run, or the address of its page.
        name: of the task.
        home: local folder for its inputs.

    Raises:
        UsageError: there is no such run or task, or the server does not say what the task was given.
    """
    view = runs.remote(client, run)
    found = view.task(name)
    record = found.record
    if found.state == "cached":
        raise UsageError(
            f"run {view.run_id}, task {name}: nothing ran, the cache had it. Rerun it in the run that made it"
        )
    if not {"container", "component", "executor_input"} <= set(record):
        raise UsageError(
            f"run {view.run_id}, task {name}: the server does not say what it was given (no v1beta1 API, or its driver "
            "failed). Pass the --root of the run instead of --endpoint: the step left a record there"
        )
    given: dict[str, Any] = record["executor_input"].get("inputs", {})
    parameters = {n: {"runtimeValue": {"constant": value}} for n, value in given.get("parameterValues", {}).items()}
    leaf = Leaf(name, {}, record["component"], parameters, dict.fromkeys(given.get("artifacts", {}), ("", "")), "")
    task = ir.task_of(leaf, record["container"] | {"image": record["image"]})
    made = [artifact for artifact in found.artifacts if artifact.uri] if found.state == "succeeded" else []
    return _record(view.run_id, task, record["executor_input"], made, home, name)


def _names(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name the last attempt of each task; of several in a loop also after what they differ in, like train-seed-3."""
    tasks: dict[str, dict[str, dict[str, Any]]] = {}
    for record in sorted(records, key=lambda record: record["started"]):
        outputs = record["executor_input"]["outputs"]["artifacts"]
        shared = {n: entry["artifacts"][0]["uri"] for n, entry in outputs.items() if n != LOGS}  # by all attempts
        tasks.setdefault(record["task"], {})[json.dumps(shared, sort_keys=True)] = record
    named = {}
    for name, found in tasks.items():
        values = [record["executor_input"]["inputs"].get("parameterValues", {}) for record in found.values()]
        apart = next((n for n in values[0] if len({str(v.get(n)) for v in values}) == len(values)), "")
        for record, value in zip(found.values(), values, strict=True):
            named[name if len(found) == 1 else f"{name}-{apart}-{value.get(apart)}"] = record
    return named


def from_root(root_uri: str, run: str, name: str, home: Path) -> dict[str, Any]:
    """Look under a root for what a task of a run left there.

    Args:
        root_uri: the run's root.
        run: id of the run.
        name: of the task.
        home: local folder for its inputs.

    Raises:
        UsageError: there is no record of such a task.
    """
    place = storage.join(root_uri, "tasks", run)
    records = [storage.read_json(storage.join(place, e.name)) for e in storage.list_files(place)]
    named = _names(records)
    if name not in named:
        raise UsageError(
            f"run {run}, task {name}: no record under {place}; there are {', '.join(sorted(named)) or 'none'}"
        )
    last = named[name]
    pipeline = ir.load()
    tasks = [*pipeline.tasks, *([pipeline.exit_task] if pipeline.exit_task else [])]
    task = next((task for task in tasks if task.component == last["component"]), None)
    if not task:
        raise UsageError(f"run {run}, task {name}: pipeline.yaml has no component {last['component']}")
    artifacts = [
        Artifact(name, output, entry["artifacts"][0]["uri"], entry["artifacts"][0]["type"]["schemaTitle"], None)
        for output, entry in last["executor_input"].get("outputs", {}).get("artifacts", {}).items()
        if output != LOGS
    ]
    task = replace(task, image=last["image"] or task.image)
    return _record(run, task, last["executor_input"], artifacts, home, name)
