"""From a component's contract to its Kubeflow component."""

import inspect
from collections.abc import Callable
from typing import Any, get_origin

from kfp import dsl

from components.shared.contract import Contract, Field, fields
from components.shared.contract.field import FinalStatus

ARTIFACTS: dict[str, type[dsl.Artifact]] = {
    "Artifact": dsl.Artifact,
    "ClassificationMetrics": dsl.ClassificationMetrics,
    "Dataset": dsl.Dataset,
    "HTML": dsl.HTML,
    "Markdown": dsl.Markdown,
    "Metrics": dsl.Metrics,
    "Model": dsl.Model,
}
# The parameter that is also a resource of the pod: Kubeflow's driver takes those from texts only, and would read a
# number as nothing at all.
GPUS = "gpus"


def command(contract: type[Contract]) -> list[Any]:
    """Return the command that every image and every runner starts a component with."""
    return ["python", "-m", f"components.{contract.NAME}"]


def _annotation(f: Field) -> Any:
    if f.type is FinalStatus:
        return dsl.PipelineTaskFinalStatus
    if f.name == GPUS:
        return str
    if f.role == "parameter":
        return str if get_origin(f.type) else f.type
    artifact = ARTIFACTS[f.artifact_type]
    if f.is_list:
        return dsl.Input[list[artifact]]
    return dsl.Input[artifact] if f.role == "input" else dsl.Output[artifact]


def container_component(contract: type[Contract], image: str) -> Callable[..., Any]:
    """Build the `dsl.container_component` of a contract.

    Every field is a readable flag; `--executor-input` comes last, so that the component can tell Kubeflow the
    metadata of its outputs. No parameter has a default here: Kubeflow's driver fills a flag only from what the task
    passes, so the compiler must refuse a task that leaves one out. The defaults are those of the pipeline.

    Args:
        contract: the component's contract.
        image: image reference, on a cluster one with a digest.
    """
    declared = fields(contract)

    def build(*placeholders: Any) -> dsl.ContainerSpec:
        values = {f.name: placeholder for f, placeholder in zip(declared, placeholders, strict=True)}
        args = []
        for f in declared:
            # A list has no paths for a command line; the component takes them from the executor input.
            args += [f.flag, values[f.name] if f.role == "parameter" or f.is_list else values[f.name].path]
        args += ["--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
        return dsl.ContainerSpec(image=image, command=command(contract), args=args)

    build.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(f.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=_annotation(f))
            for f in declared
        ],
        return_annotation=dsl.ContainerSpec,
    )
    build.__annotations__ = {f.name: _annotation(f) for f in declared} | {"return": dsl.ContainerSpec}
    build.__name__ = contract.NAME
    help_lines = "\n".join(f"    {f.name}: {f.help}" for f in declared)
    build.__doc__ = f"{contract.__doc__}\n\nArgs:\n{help_lines}\n"
    return dsl.container_component(build)
