"""pipeline.yaml as data: its tasks, parameters and placeholders.

What is read here is the intermediate representation that Kubeflow runs. Anything that this module does not
know is refused by name, never guessed; and so is what Kubeflow's API server and driver refuse, for their reasons
(backend/src/apiserver/template/v2_template.go, backend/src/v2/driver/{resolve,util}.go of kubeflow/pipelines 2.17.0).
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from components.shared import storage
from components.shared.contract.field import Field
from components.shared.errors import UsageError
from pipeline.components import SOURCE_DIR
from pipeline.spec.nested import Leaf, check, flatten, refuse
from pipeline.spec.parameters import TYPES, Value, field_of, parse_parameters, passed, text_of, typed

PIPELINE_PATH = SOURCE_DIR / "pipeline.yaml"
# What Kubeflow puts in the place of these constants: the run's id, its name and the name of its resource.
RUN_NAMES = ("{{$.pipeline_job_uuid}}", "{{$.pipeline_job_name}}", "{{$.pipeline_job_resource_name}}")
SPEC_KEYS = {
    "components",
    "defaultPipelineRoot",
    "deploymentSpec",
    "pipelineInfo",
    "root",
    "schemaVersion",
    "sdkVersion",
}
# Inputs that kfp's compiler adds to a task whose resources are parameters.
POD_RESOURCES = {"accelerator_count", "accelerator_type", "cpu_limit", "cpu_request", "memory_limit", "memory_request"}
SCHEMA_VERSION = "2.1.0"  # the only one that Kubeflow takes
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
    types: dict[str, str]  # of every component parameter: STRING, NUMBER_INTEGER, ...
    artifacts: dict[str, tuple[str, str]]  # input artifact: (producer task, its output)
    outputs: dict[str, str]  # output artifact: schema title, like system.HTML
    lists: list[str] = field(default_factory=list)  # input artifacts that are lists: of all instances of the producer
    loop: str = ""  # pipeline parameter with a list, for each of whose items the task runs once

    def parse(self, given: list[str]) -> dict[str, Value]:
        """Read `k=v` parameters of the task itself; raises as `Pipeline.parse`."""
        fields = {name: [field] for name in self.types if (field := field_of(self.component, name))}
        return parse_parameters(self.types, fields, given)


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline: its tasks in an order in which they can run, its parameters, and what runs at the end."""

    tasks: list[Task]
    types: dict[str, str]
    defaults: dict[str, Value]
    exit_task: Task | None

    def parse(self, given: list[str]) -> dict[str, Value]:
        """Read `k=v` parameters of a run and check them as the components that get them will.

        Raises:
            UsageError: a parameter is unknown, ill-typed or out of range.
        """
        tasks = [*self.tasks, *([self.exit_task] if self.exit_task else [])]
        fields: dict[str, list[Field]] = {}
        for task in tasks:
            for name, source in task.parameters.items():
                if field := field_of(task.component, name):
                    fields.setdefault(source.get("componentInputParameter", ""), []).append(field)
        return parse_parameters(self.types, fields, given)


def _parameters(where: str, definitions: dict[str, Any]) -> tuple[dict[str, str], dict[str, Value]]:
    for name, entry in definitions.items():
        check(f"{where}parameter {name}", entry, {"parameterType", "defaultValue", "isOptional", "description"})
        if entry["parameterType"] not in TYPES:
            raise refuse(f"{where}parameter {name}", f"type {entry['parameterType']}")
    types = {name: entry["parameterType"] for name, entry in definitions.items()}
    defaults = {n: typed(types[n], e["defaultValue"]) for n, e in definitions.items() if "defaultValue" in e}
    return types, defaults


def _container(leaf: Leaf, executors: dict[str, Any]) -> dict[str, Any]:
    executor = executors[leaf.component["executorLabel"]]
    if "container" not in executor:
        raise refuse(f"task {leaf.name}", f"an executor of kind {' '.join(executor)}")
    check(f"task {leaf.name}, container", executor["container"], {"image", "command", "args", "env", "resources"})
    return executor["container"]


def _check_flags(task: Task) -> None:
    """Refuse a command with a placeholder that no input or output of the task fills, as Kubeflow's driver does.

    Raises:
        UsageError: names the placeholder.
    """
    for index, word in enumerate((*task.command, *task.args)):
        for direction, kind, name, _ in PLACEHOLDER.findall(word):
            filled = (
                task.parameters if kind == "parameters" else task.artifacts if direction == "inputs" else task.outputs
            )
            if direction == "inputs" and kind == "parameters" and name not in filled:
                raise UsageError(
                    f"pipeline.yaml, task {task.name}: failed to resolve container args: failed to resolve input "
                    f'parameters: parameter "{name}" not found in executor input. A component\'s default does not '
                    "count; pass the parameter to the task in pipeline/graph/graph.py"
                )
            if direction and name not in filled:
                raise UsageError(
                    f"pipeline.yaml, task {task.name}: {word} is filled by no {direction.removesuffix('s')} of the "
                    "task. Declare it in the component's contract"
                )
            if index == 0 and kind == "artifacts":
                raise UsageError(
                    f"pipeline.yaml, task {task.name}: Kubeflow's launcher leaves {word} in the name of the program "
                    "as it is. Make it an argument"
                )


def task_of(leaf: Leaf, container: dict[str, Any]) -> Task:
    """Resolve a task: its component's interface, and the container that runs it.

    Raises:
        UsageError: it has what the local runner does not know, or what Kubeflow refuses.
    """
    where = f"task {leaf.name}, "
    inputs = leaf.component.get("inputDefinitions", {})
    types, defaults = _parameters(where, inputs.get("parameters", {}))
    outputs = leaf.component.get("outputDefinitions", {})
    if outputs.get("parameters"):
        raise refuse(f"task {leaf.name}", "an output parameter")
    for name in types:
        if name not in leaf.parameters and name not in defaults and not inputs["parameters"][name].get("isOptional"):
            raise UsageError(
                f"pipeline.yaml, {where}neither value nor default value provided for non-optional parameter "
                f'"{name}". Pass it in pipeline/graph/graph.py'
            )
    task = Task(
        name=leaf.name,
        component=container["command"][-1].removeprefix("components."),
        image=container["image"],
        command=container["command"],
        args=container.get("args", []),
        enable_cache=leaf.entry.get("cachingOptions", {}).get("enableCache", False),
        # What a pod's resources are read from comes along as inputs that the component does not declare.
        parameters={n: source for n, source in leaf.parameters.items() if n in types or not _of_pod(where, n)},
        types=types,
        artifacts=leaf.artifacts,
        outputs={n: e["artifactType"]["schemaTitle"] for n, e in outputs.get("artifacts", {}).items()},
        lists=[name for name, entry in inputs.get("artifacts", {}).items() if entry.get("isArtifactList")],
        loop=leaf.loop,
    )
    _check_flags(task)
    return task


def _of_pod(where: str, name: str) -> bool:
    """Tell whether a parameter that the component does not declare is there for the resources of its pod.

    Raises:
        UsageError: it is not.
    """
    if not name.startswith("pipelinechannel--") and name not in POD_RESOURCES:
        raise refuse(f"{where}parameter {name}", "a parameter that the component does not have")
    return True


def documents(text: str) -> list[dict[str, Any]]:
    """Parse a compiled pipeline: its specification, and what it asks of Kubernetes. Comments are left out."""
    return [document for document in yaml.safe_load_all(text) if document]


def load(path: Path = PIPELINE_PATH) -> Pipeline:
    """Read a compiled pipeline.

    Raises:
        UsageError: it asks for something that the local runner does not do, or that Kubeflow refuses.
    """
    return read(storage.read_text(str(path)))


def read(text: str) -> Pipeline:
    """Read the text of a compiled pipeline; raises as `load`."""
    spec = documents(text)[0]
    check("the first document", spec, SPEC_KEYS)
    if spec["schemaVersion"] != SCHEMA_VERSION:
        raise UsageError(
            f"pipeline.yaml: schema version {spec['schemaVersion']}; Kubeflow takes {SCHEMA_VERSION} only. "
            "Compile it with kfp 2"
        )
    parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    types, defaults = _parameters("", parameters)
    for name, entry in parameters.items():
        if entry.get("isOptional") and name not in defaults:
            raise refuse(f"parameter {name}", "an optional parameter without a default")
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
    """Return the value of every parameter that a task passes, given those of the pipeline and the id of the run.

    Raises:
        UsageError: a value is not of the type that the component declares, which Kubeflow's driver refuses.
    """
    resolved = {}
    for name, source in task.parameters.items():
        where = f"task {task.name}, parameter {name}"
        if "componentInputParameter" in source:
            value = values[source["componentInputParameter"]]
        elif "runtimeValue" in source:
            value = source["runtimeValue"]["constant"]
            if isinstance(value, str) and "{{$" in value and value not in RUN_NAMES:
                raise refuse(where, value)
            value = run_id if value in RUN_NAMES else typed(task.types[name], value)
        else:
            raise refuse(where, " ".join(source))
        resolved[name] = passed(where, task.types[name], value)
    return resolved


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
            return text_of(parameters[name])
        raise refuse(f"task {task.name}", match.group())

    words = [PLACEHOLDER.sub(replace, word) for word in (*task.command, *task.args)]
    for source, word in zip((*task.command, *task.args), words, strict=True):
        if source == word and ("{{$" in word or word.startswith(('{"IfPresent"', '{"Concat"'))):
            raise refuse(f"task {task.name}", word)
    return words
