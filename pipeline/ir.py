"""pipeline.yaml as data: its tasks, parameters and placeholders.

What is read here is the intermediate representation that Kubeflow runs. Anything that this module does not
know is refused by name, never guessed.
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from components.shared import storage
from pipeline.nested import Leaf, flatten, refuse
from pipeline.parameters import TYPES, Value, parse_parameters, typed

__all__ = ["parse_parameters"]  # of parameters; the rest is below
PIPELINE_PATH = Path(__file__).parents[1] / "pipeline.yaml"
# What Kubeflow puts in the place of these constants: the run's id, its name and the name of its resource.
RUN_NAMES = ("{{$.pipeline_job_uuid}}", "{{$.pipeline_job_name}}", "{{$.pipeline_job_resource_name}}")
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
    lists: list[str] = field(default_factory=list)  # input artifacts that are lists: of all instances of the producer
    loop: str = ""  # pipeline parameter with a list, for each of whose items the task runs once


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline: its tasks in an order in which they can run, its parameters, and what runs at the end."""

    tasks: list[Task]
    types: dict[str, str]
    defaults: dict[str, Value]
    exit_task: Task | None


def _parameters(definitions: dict[str, Any]) -> tuple[dict[str, str], dict[str, Value]]:
    types = {name: entry["parameterType"] for name, entry in definitions.items()}
    for name, kind in types.items():
        if kind not in TYPES:
            raise refuse(f"parameter {name}", f"type {kind}")
    defaults = {n: typed(types[n], e["defaultValue"]) for n, e in definitions.items() if "defaultValue" in e}
    return types, defaults


def _container(leaf: Leaf, executors: dict[str, Any]) -> dict[str, Any]:
    executor = executors[leaf.component["executorLabel"]]
    if "container" not in executor:
        raise refuse(f"task {leaf.name}", f"an executor of kind {' '.join(executor)}")
    return executor["container"]


def task_of(leaf: Leaf, container: dict[str, Any]) -> Task:
    """Resolve a task: its component's interface, and the container that runs it.

    Raises:
        UsageError: it has what the local runner does not know.
    """
    inputs = leaf.component.get("inputDefinitions", {})
    types, defaults = _parameters(inputs.get("parameters", {}))
    outputs = leaf.component.get("outputDefinitions", {})
    if outputs.get("parameters"):
        raise refuse(f"task {leaf.name}", "an output parameter")
    return Task(
        name=leaf.name,
        component=container["command"][-1].removeprefix("components."),
        image=container["image"],
        command=container["command"],
        args=container["args"],
        enable_cache=leaf.entry.get("cachingOptions", {}).get("enableCache", False),
        parameters=leaf.parameters,
        defaults=defaults,
        types=types,
        artifacts=leaf.artifacts,
        outputs={n: e["artifactType"]["schemaTitle"] for n, e in outputs.get("artifacts", {}).items()},
        lists=[name for name, entry in inputs.get("artifacts", {}).items() if entry.get("isArtifactList")],
        loop=leaf.loop,
    )


def load(path: Path = PIPELINE_PATH) -> Pipeline:
    """Read a compiled pipeline.

    Raises:
        UsageError: it asks for something that the local runner does not do.
    """
    spec = next(iter(yaml.safe_load_all(storage.read_bytes(str(path)))))
    types, defaults = _parameters(spec["root"].get("inputDefinitions", {}).get("parameters", {}))
    leaves, exits = flatten(spec)
    executors = spec["deploymentSpec"]["executors"]
    tasks, ends = ([task_of(leaf, _container(leaf, executors)) for leaf in group] for group in (leaves, exits))
    return Pipeline(tasks, types, defaults, next(iter(ends), None))


def bind(task: Task, kind: str, value: Value) -> Task:
    """Return a task whose parameters of one kind of source, `loopItem` or `taskFinalStatus`, have a value."""
    constant = {"runtimeValue": {"constant": value}}
    return replace(task, parameters={n: constant if kind in s else s for n, s in task.parameters.items()})


def instances(task: Task, values: dict[str, Value]) -> list[Task]:
    """Return what a task is run as: itself, or for each item of a list once.

    Each of several instances is named after the task, the parameter that tells them apart and its value, like
    `train-seed-3`; a single one keeps the task's name.
    """
    if not task.loop:
        return [task]
    items: Any = values[task.loop]
    told_apart = next((name for name, source in task.parameters.items() if "loopItem" in source), "item")
    names = [f"{task.name}-{told_apart}-{item}" if len(items) > 1 else task.name for item in items]
    return [replace(bind(task, "loopItem", item), name=name) for name, item in zip(names, items, strict=True)]


def resolve(task: Task, values: dict[str, Value], run_id: str = "") -> dict[str, Value]:
    """Return the value of every parameter of a task, given those of the pipeline and the id of the run."""
    resolved = dict(task.defaults)
    for name, source in task.parameters.items():
        if "componentInputParameter" in source:
            resolved[name] = values[source["componentInputParameter"]]
        elif "runtimeValue" in source:
            constant = source["runtimeValue"]["constant"]
            if isinstance(constant, str) and "{{$" in constant and constant not in RUN_NAMES:
                raise refuse(f"task {task.name}, parameter {name}", constant)
            resolved[name] = run_id if constant in RUN_NAMES else typed(task.types[name], constant)
        else:
            raise refuse(f"task {task.name}, parameter {name}", " ".join(source))
    return resolved


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)


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
        raise refuse(f"task {task.name}", match.group())

    words = [PLACEHOLDER.sub(replace, word) for word in (*task.command, *task.args)]
    for source, word in zip((*task.command, *task.args), words, strict=True):
        if source == word and ("{{$" in word or word.startswith(('{"IfPresent"', '{"Concat"'))):
            raise refuse(f"task {task.name}", word)
    return words
