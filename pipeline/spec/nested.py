"""The nested graphs of pipeline.yaml made flat: every container task seen from the whole pipeline.

Kubeflow's compiler puts what an exit handler or a loop covers into graphs of their own, and hands parameters and
artifacts down and up through their interfaces. Here these paths are followed to their ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.shared.errors import UsageError

Source = dict[str, Any]  # where a value comes from, as the file puts it
TASK_KEYS = {"cachingOptions", "componentRef", "dependentTasks", "inputs", "retryPolicy", "taskInfo"}
EXIT_POLICY = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


@dataclass(frozen=True)
class Leaf:
    """One container task: the entry in its graph, and its inputs followed to where they come from."""

    name: str
    entry: dict[str, Any]
    component: dict[str, Any]
    parameters: dict[str, Source]  # componentInputParameter (of the pipeline), runtimeValue, loopItem, taskFinalStatus
    artifacts: dict[str, tuple[str, str]]  # (producer leaf, its output)
    loop: str  # pipeline parameter over whose items it is repeated; empty: it runs once


@dataclass(frozen=True)
class Scope:
    """A graph, and what its interface stands for outside of it."""

    dag: dict[str, Any]
    parameters: dict[str, Source]
    artifacts: dict[str, tuple[str, str]]
    loop: str = ""


def refuse(where: str, what: str) -> UsageError:
    """Make the error about something that only Kubeflow does."""
    return UsageError(
        f"pipeline.yaml, {where}: {what} is not something the local runner does. Run it on Kubeflow instead"
    )


def all_tasks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and entry of every task of a specification, whichever graph it is in."""
    for holder in (spec["root"], *spec["components"].values()):
        yield from holder.get("dag", {}).get("tasks", {}).items()


def check(where: str, entry: dict[str, Any], known: set[str]) -> None:
    """Refuse an object of the file that has fields which are not known here.

    Raises:
        UsageError: names them.
    """
    if unknown := set(entry) - known:
        raise refuse(where, " and ".join(sorted(unknown)))


def in_order(tasks: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tasks of a graph so that each comes after those that it depends on.

    Raises:
        UsageError: some wait for each other.
    """
    waiting, done = dict(tasks), set()
    while waiting:
        ready = sorted(n for n, entry in waiting.items() if done.issuperset(entry.get("dependentTasks", [])))
        if not ready:
            raise UsageError(
                f"pipeline.yaml: tasks {', '.join(waiting)} wait for each other. Compile the pipeline again"
            )
        yield from ((name, waiting.pop(name)) for name in ready)
        done.update(ready)


class Flattener:
    """Walks the graphs of one pipeline specification."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._components = spec.get("components", {})

    def _component(self, entry: dict[str, Any]) -> dict[str, Any]:
        return self._components[entry["componentRef"]["name"]]

    def _parameters(self, name: str, entry: dict[str, Any], scope: Scope) -> dict[str, Source]:
        found = {}
        for parameter, source in entry.get("inputs", {}).get("parameters", {}).items():
            where = f"task {name}, parameter {parameter}"
            check(where, source, {"componentInputParameter", "runtimeValue", "taskFinalStatus"})
            outer = source.get("componentInputParameter")
            if outer is not None and outer not in scope.parameters:
                raise UsageError(f"pipeline.yaml, {where}: parent DAG does not have input parameter {outer}")
            found[parameter] = source if outer is None else scope.parameters[outer]
        return found

    def _producer(self, dag: dict[str, Any], task: str, output: str) -> tuple[str, str]:
        """Follow an output of a task of a graph to the container task that writes it."""
        component = self._component(dag["tasks"][task])
        if "dag" not in component:
            return task, output
        selectors = component["dag"]["outputs"]["artifacts"][output]["artifactSelectors"]
        if len(selectors) != 1:
            raise refuse(f"task {task}, output {output}", "a choice between outputs")
        return self._producer(component["dag"], selectors[0]["producerSubtask"], selectors[0]["outputArtifactKey"])

    def _artifacts(self, name: str, entry: dict[str, Any], scope: Scope) -> dict[str, tuple[str, str]]:
        found = {}
        for artifact, source in entry.get("inputs", {}).get("artifacts", {}).items():
            check(f"task {name}, input {artifact}", source, {"taskOutputArtifact", "componentInputArtifact"})
            if "componentInputArtifact" in source:
                found[artifact] = scope.artifacts[source["componentInputArtifact"]]
            else:
                output = source["taskOutputArtifact"]
                found[artifact] = self._producer(scope.dag, output["producerTask"], output["outputArtifactKey"])
        return found

    def _loop(self, name: str, entry: dict[str, Any], parameters: dict[str, Source]) -> tuple[str, dict[str, Source]]:
        """Read what a nested graph is repeated over.

        Returns:
            The pipeline parameter, and the source that stands for one item of it, by the graph's own parameter.
        """
        iterator = entry["parameterIterator"]
        items, item = iterator["items"].get("inputParameter"), iterator["itemInput"]
        source = parameters.get(items, {})
        if "componentInputParameter" not in source:
            raise refuse(f"task {name}", "a loop over anything but a pipeline parameter")
        kind = self._component(entry)["inputDefinitions"]["parameters"][item]["parameterType"]
        if kind != "NUMBER_INTEGER":
            raise refuse(f"task {name}", f"a loop over items of type {kind}")
        return source["componentInputParameter"], {item: {"loopItem": source["componentInputParameter"]}}

    def leaves(self, scope: Scope) -> Iterator[Leaf]:
        """Yield the container tasks of a graph and of those in it, in an order in which they can run.

        Raises:
            UsageError: the graph has something that the local runner does not do.
        """
        for name, entry in in_order(scope.dag["tasks"]):
            component = self._component(entry)
            check(
                f"task {name}", entry, TASK_KEYS | ({"parameterIterator"} if "dag" in component else {"triggerPolicy"})
            )
            if entry.get("triggerPolicy", EXIT_POLICY) != EXIT_POLICY:
                raise refuse(f"task {name}", "triggerPolicy")
            parameters, artifacts = self._parameters(name, entry, scope), self._artifacts(name, entry, scope)
            if "dag" not in component:
                yield Leaf(name, entry, component, parameters, artifacts, scope.loop)
                continue
            # A nested graph, unlike a container, is given the defaults of its parameters by the driver.
            for parameter, declared in component.get("inputDefinitions", {}).get("parameters", {}).items():
                if "defaultValue" in declared:
                    parameters.setdefault(parameter, {"runtimeValue": {"constant": declared["defaultValue"]}})
            loop = scope.loop
            if "parameterIterator" in entry:
                if loop:
                    raise refuse(f"task {name}", "a loop in a loop")
                loop, item = self._loop(name, entry, parameters)
                parameters |= item
            yield from self.leaves(Scope(component["dag"], parameters, artifacts, loop))


def flatten(spec: dict[str, Any]) -> tuple[list[Leaf], list[Leaf]]:
    """List the container tasks of a pipeline, and apart from them its exit task, if it has one.

    Raises:
        UsageError: the pipeline has something that the local runner does not do.
    """
    root = spec["root"]
    names = root.get("inputDefinitions", {}).get("parameters", {})
    found = list(Flattener(spec).leaves(Scope(root["dag"], {n: {"componentInputParameter": n} for n in names}, {})))
    if len({leaf.name for leaf in found}) < len(found):
        raise refuse("its tasks", "one name for two of them")
    exits = [leaf for leaf in found if "triggerPolicy" in leaf.entry]
    covered = set(root["dag"]["tasks"]) - {leaf.name for leaf in exits}
    if exits and (len(exits) > 1 or covered != set(exits[0].entry["dependentTasks"])):
        raise refuse(f"task {exits[0].name}", "an exit task that is not the only one, or not of the whole pipeline")
    return [leaf for leaf in found if leaf not in exits], exits
