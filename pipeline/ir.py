"""pipeline.yaml as data: its tasks, parameters and placeholders.

What is read here is the intermediate representation that Kubeflow runs. Anything that this module does not
know is refused by name, never guessed.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.evaluate.contract import Evaluate
from components.ingest.contract import Ingest
from components.shared import contract, storage
from components.shared.errors import UsageError
from components.statistics.contract import Statistics
from components.train.contract import Train

Value = str | int | float | bool
PIPELINE_PATH = Path(__file__).parents[1] / "pipeline.yaml"
TASK_KEYS = {"cachingOptions", "componentRef", "dependentTasks", "inputs", "retryPolicy", "taskInfo"}
PARAMETER_TYPES = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": float, "BOOLEAN": bool}
PLACEHOLDER = re.compile(r"\{\{\$(?:\.(inputs|outputs)\.(parameters|artifacts)\['([^']+)'\](?:\.(path|uri))?)?\}\}")


@dataclass(frozen=True)
class Task:
    """One task of the graph, with its component and executor resolved."""

    name: str
    component: str  # name of the room: what `python -m components.<component>` runs
    image: str
    command: list[str]
    args: list[str]
    enable_cache: bool
    parameters: dict[str, dict[str, Any]]  # component parameter: where its value comes from
    defaults: dict[str, Value]  # of component parameters that the task does not set
    types: dict[str, str]  # of every component parameter: STRING, NUMBER_INTEGER, ...
    artifacts: dict[str, tuple[str, str]]  # input artifact: (producer task, its output)
    outputs: dict[str, str]  # output artifact: schema title, like system.HTML


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline: its tasks in an order in which they can run, and its parameters."""

    tasks: list[Task]
    types: dict[str, str]
    defaults: dict[str, Value]


def _refuse(where: str, what: str) -> UsageError:
    return UsageError(
        f"pipeline.yaml, {where}: {what} is not something the local runner does. Run it on Kubeflow instead"
    )


def _typed(kind: str, value: Any) -> Value:
    """Bring a YAML number to the declared type: integers are stored as 2.0."""
    return PARAMETER_TYPES[kind](value)


def _parameters(definitions: dict[str, Any]) -> tuple[dict[str, str], dict[str, Value]]:
    types = {name: entry["parameterType"] for name, entry in definitions.items()}
    for name, kind in types.items():
        if kind not in PARAMETER_TYPES:
            raise _refuse(f"parameter {name}", f"type {kind}")
    defaults = {n: _typed(types[n], e["defaultValue"]) for n, e in definitions.items() if "defaultValue" in e}
    return types, defaults


def _task(name: str, entry: dict[str, Any], spec: dict[str, Any]) -> Task:
    if unknown := set(entry) - TASK_KEYS:
        raise _refuse(f"task {name}", " and ".join(sorted(unknown)))
    component = spec["components"][entry["componentRef"]["name"]]
    if "executorLabel" not in component:
        raise _refuse(f"task {name}", "a nested graph")
    executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
    if "container" not in executor:
        raise _refuse(f"task {name}", f"an executor of kind {' '.join(executor)}")
    container = executor["container"]
    types, defaults = _parameters(component.get("inputDefinitions", {}).get("parameters", {}))
    artifacts = {}
    for artifact, source in entry.get("inputs", {}).get("artifacts", {}).items():
        if "taskOutputArtifact" not in source:
            raise _refuse(f"task {name}, input {artifact}", " ".join(source))
        output = source["taskOutputArtifact"]
        artifacts[artifact] = (output["producerTask"], output["outputArtifactKey"])
    outputs = component.get("outputDefinitions", {})
    if outputs.get("parameters"):
        raise _refuse(f"task {name}", "an output parameter")
    return Task(
        name=name,
        component=container["command"][-1].removeprefix("components."),
        image=container["image"],
        command=container["command"],
        args=container["args"],
        enable_cache=entry.get("cachingOptions", {}).get("enableCache", False),
        parameters=entry.get("inputs", {}).get("parameters", {}),
        defaults=defaults,
        types=types,
        artifacts=artifacts,
        outputs={n: e["artifactType"]["schemaTitle"] for n, e in outputs.get("artifacts", {}).items()},
    )


def load(path: Path = PIPELINE_PATH) -> Pipeline:
    """Read a compiled pipeline.

    Raises:
        UsageError: it asks for something that the local runner does not do.
    """
    spec = next(iter(yaml.safe_load_all(storage.read_bytes(str(path)))))
    dag = spec["root"]["dag"]
    types, defaults = _parameters(spec["root"].get("inputDefinitions", {}).get("parameters", {}))
    waiting = dict(dag["tasks"])
    tasks: list[Task] = []
    while waiting:
        done = {task.name for task in tasks}
        ready = sorted(n for n, e in waiting.items() if done.issuperset(e.get("dependentTasks", [])))
        if not ready:
            raise UsageError(f"{path}: tasks {', '.join(waiting)} wait for each other. Compile the pipeline again")
        tasks += [_task(name, waiting.pop(name), spec) for name in ready]
    return Pipeline(tasks, types, defaults)


def parse_parameters(types: dict[str, str], given: list[str]) -> dict[str, Value]:
    """Read `k=v` parameters and check them as the components will.

    Args:
        types: the type of each parameter that there is.
        given: what a person typed.

    Raises:
        UsageError: a parameter is unknown, ill-typed or out of range.
    """
    values: dict[str, Value] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or name not in types:
            raise UsageError(f"--param {item}: expected NAME=VALUE with one of these names: {', '.join(sorted(types))}")
        values[name] = _check_parameter(name, text, types[name])
    return values


def _check_parameter(name: str, text: str, kind: str) -> Value:
    """Parse a pipeline parameter by the field of that name in the contracts: type, choices and range."""
    for component in (Ingest, Statistics, Train, Evaluate):
        for field in contract.fields(component):
            if field.name == name and field.role == "parameter":
                try:
                    return field.parse(text)
                except UsageError as error:
                    raise UsageError(f"--param {name}{str(error).removeprefix(field.flag)}") from None
    return _typed(kind, text)


def resolve(task: Task, values: dict[str, Value]) -> dict[str, Value]:
    """Return the value of every parameter of a task, given those of the pipeline."""
    resolved = dict(task.defaults)
    for name, source in task.parameters.items():
        if "componentInputParameter" in source:
            resolved[name] = values[source["componentInputParameter"]]
        elif "runtimeValue" in source:
            resolved[name] = _typed(task.types[name], source["runtimeValue"]["constant"])
        else:
            raise _refuse(f"task {task.name}, parameter {name}", " ".join(source))
    return resolved


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def render(
    task: Task, parameters: dict[str, Value], paths: dict[tuple[str, str], str], executor_input: Any
) -> list[str]:
    """Return a task's command line with every placeholder replaced.

    Args:
        task: the task.
        parameters: its parameter values.
        paths: path of each artifact, by ("inputs" or "outputs", name).
        executor_input: what `{{$}}` stands for.

    Raises:
        UsageError: the command has a placeholder of another kind.
    """

    def replace(match: re.Match[str]) -> str:
        direction, kind, name, _ = match.groups()
        if direction is None:
            return json.dumps(executor_input)
        if kind == "artifacts":
            return paths[direction, name]
        if direction == "inputs":
            return _text(parameters[name])
        raise _refuse(f"task {task.name}", match.group())

    words = [PLACEHOLDER.sub(replace, word) for word in (*task.command, *task.args)]
    for source, word in zip((*task.command, *task.args), words, strict=True):
        if source == word and ("{{$" in word or word.startswith(('{"IfPresent"', '{"Concat"'))):
            raise _refuse(f"task {task.name}", word)
    return words
