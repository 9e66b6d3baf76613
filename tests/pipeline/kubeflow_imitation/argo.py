"""The workflow that Argo has for a run, node by node, as Kubeflow 2.17's compiler and both configurations shape it.

Ids, types, phases, messages, inputs, children and boundaries follow the recorded workflows (test_imitation.py).
"""

import base64
import gzip
import json
from functools import partial

from kubeflow_imitation.driver import Driver, DriverFailed
from kubeflow_imitation.nodes import Ended, Nodes, at

STATES = {"Pending": "PENDING", "Running": "RUNNING", "Succeeded": "SUCCEEDED", "Skipped": "SKIPPED"}
STATES |= {"Failed": "FAILED", "Error": "FAILED"}  # any other, such as Omitted, is unspecified: the field is left out
RETRIES = ("retry-max-count", "retry-backoff-duration", "retry-backoff-factor", "retry-backoff-max-duration")
PARENT = (("parent-dag-id", "7"),)
BROKEN = "main: Error (exit code 1)"


class Workflow(Nodes):
    """A workflow.

    Args:
        driver: of the run's tasks.
        retried: the configuration of 2.17: a retry strategy for every template.
    """

    def __init__(self, driver: Driver, retried: bool = True):
        super().__init__(driver.name, retried)
        self.driver, self.run_id, self.spec = driver, driver.run_id, driver.spec
        self.driver_logs, self.executions = {}, []
        self.terminated = self.packed = False

    # ---- templates ----

    def run(self, script):
        """Build the nodes from what becomes of each task.

        Args:
            script: by task, or by `task#iteration`: "cached", "waiting" for its driver, "driver: MESSAGE" of the
                driver's log where it fails (of a graph too), or a list of attempts
                such as "Failed: OOMKilled (exit code 137)"; a last "wait" is the pause before the next one,
                which "stopped: MESSAGE" ends. A task
                before one that is here succeeded; any other has not started, or is omitted.
        """
        order = [n for n in self._names(self.spec["root"]) if "triggerPolicy" not in self.driver.entry(n)[0]]
        given = {name.partition("#")[0] for name in script}
        before = next((order[:i] for i in reversed(range(len(order))) if order[i] in given), [])
        self.script = {name: ["Succeeded"] for name in before if name not in given} | script
        clocks = [*before, *(name for name in script if name not in before)]
        self.clocks = {name: (60 * i + 5, 60 * i + 50) for i, name in enumerate(clocks)}
        self.clock = (0, 50)
        if script:
            self._dag(self.name, "entrypoint", "", (), self._entrypoint)
        return self

    def _names(self, holder):
        """Yield the container tasks of a graph, in an order in which they can run."""
        for task, entry in self._sorted(holder["dag"]["tasks"]):
            component = self.spec["components"][entry["componentRef"]["name"]]
            yield from self._names(component) if "dag" in component else [task]

    def _sorted(self, tasks):
        waiting, done = dict(tasks), set()
        while waiting:
            for task in sorted(n for n, e in waiting.items() if done >= set(e.get("dependentTasks", []))):
                yield task, waiting.pop(task)
                done.add(task)

    def _entrypoint(self, name, dag):
        def root():
            return self._dag(f"{name}.root", "root", dag, PARENT, partial(self._tasks, self.spec["root"], ""))

        first = ("root-driver", [], "system-dag-driver", partial(self._graph_driver, f"{name}.root-driver", dag))
        return [first, ("root", ["root-driver"], "root", root)]

    def _tasks(self, holder, item, name, dag):
        """Return the tasks of a graph for `_chain`; an exit task is a hook of the graph before it."""
        tasks = holder["dag"]["tasks"]
        exits = {n: e for n, e in tasks.items() if "triggerPolicy" in e}
        found = [self._task(n, e, item, name, dag, exits) for n, e in self._sorted(tasks) if n not in exits]
        return [task for pair in found for task in pair]

    def _task(self, task, entry, item, name, dag, exits):
        component_name = entry["componentRef"]["name"]
        component, before = self.spec["components"][component_name], entry.get("dependentTasks", [])
        if "executorLabel" in component:
            return self._container(task, entry, item, before, name, dag)
        given = {key.partition("#")[0] for key in self.script}
        there = given & {task, *self._names(component)}  # else it has not started
        if "parameterIterator" in entry:
            template, loop = f"{component_name}-{task}-iterator", partial(self._loop, task, component_name)
            start = partial(self._dag, f"{name}.{task}", template, dag, PARENT, loop) if there else lambda: None
            return [(task, before, template, start)]
        driver = partial(self._graph_driver, f"{name}.{task}-driver", dag) if there else lambda: None
        inside = partial(self._tasks, component, item)
        graph = partial(self._graph, f"{name}.{task}", component_name, dag, inside, exits)
        pair = (f"{task}-driver", before, "system-dag-driver", driver)
        return [pair, (task, [f"{task}-driver"], component_name, graph)]

    def _graph(self, name, template, dag, inside, exits):
        ended = self._dag(name, template, dag, PARENT, inside)
        for task, entry in exits.items():
            if ended.phase == "Running" or task not in self.script:
                continue
            pods = [n["phase"] for n in self.nodes.values() if n["type"] == "Pod" and "impl" in n["templateName"]]
            # Settled by launchers as they end: nobody settles it where only drivers ran.
            self.driver.final_state = "FAILED" if "Failed" in pods else "COMPLETE" if pods else "RUNNING"
            inside = partial(self._container, task, entry, "", [])
            hook = self._dag(f"{name}.onExit", f"exit-hook-root-{task}", dag, PARENT, inside)
            self.nodes[ended.node]["children"].append(hook.node)
            ended.phase = hook.phase if hook.phase == "Running" else ended.phase
        return ended

    def _loop(self, task, component_name, name, dag):
        driver = partial(self._graph_driver, f"{name}.iteration-driver", dag)
        group = partial(self._group, task, component_name, f"{name}.iteration-iterations", dag)
        before = ["iteration-driver"]
        pair = ("iteration-driver", [], "system-dag-driver", driver)
        return [pair, ("iteration-iterations", before, f"{component_name}-iteration", group)]

    def _group(self, task, component_name, name, dag):
        template, component = f"{component_name}-iteration", self.spec["components"][component_name]
        group = self._add(name, "TaskGroup", template, "Running", dag)
        ended = []
        for index in range(len(self.driver.items(task))):
            inside = partial(self._iteration, component_name, component, str(index))
            inputs = (*PARENT, ("iteration-index", str(index)))
            ended.append(self._dag(f"{name}({index}:{index})", template, dag, inputs, inside))
        phases = [end.phase for end in ended]
        phase = next((phase for phase in ("Running", "Failed") if phase in phases), "Succeeded")
        self.nodes[group] |= {"phase": phase, "children": [end.node for end in ended]}
        self.nodes[group]["finishedAt"] = None if phase == "Running" else at(self.clock[1])
        return Ended(group, [node for end in ended for node in end.outbound], phase)

    def _iteration(self, component_name, component, item, name, dag):
        def graph():
            inside = partial(self._tasks, component, item)
            return self._dag(f"{name}.iteration-item", component_name, dag, PARENT, inside)

        driver = partial(self._graph_driver, f"{name}.iteration-item-driver", dag)
        pair = ("iteration-item-driver", [], "system-dag-driver", driver)
        return [pair, ("iteration-item", ["iteration-item-driver"], component_name, graph)]

    # ---- drivers and executors ----

    def _graph_driver(self, name, boundary):
        keys = ("component", "runtime-config", "task", "task-name", "parent-dag-id", "iteration-index", "driver-type")
        scripted = self.script.get(name.rpartition(".")[2].removesuffix("-driver"), "")
        attempts = [("Failed", BROKEN) if scripted.startswith("driver: ") else ("Succeeded", "")]
        ended = self._pods(name, "system-dag-driver", boundary, [(key, "{}") for key in keys], attempts)
        return self._logged(ended, scripted)

    def _logged(self, ended, text):
        if ended.phase == "Failed":
            self.driver_logs[self.pod_name(ended.outbound[0])] = text.removeprefix("driver: ") + "\n"
        return ended

    def _container(self, task, entry, item, before, name, dag):
        key, retry = f"{task}#{item}" if item else task, "retry-" if "retryPolicy" in entry else ""
        scripted = self.script.get(key, self.script.get(task))
        self.clocks.setdefault(key, self.clocks.get(task))
        template = f"{retry}system-container-executor"
        driver = partial(self._driver, f"{name}.{task}-driver", dag, key, scripted)
        executor = partial(self._executor, f"{name}.{task}", dag, key, scripted, template)
        pair = (f"{task}-driver", before, "system-container-driver", driver)
        return [pair, (task, [f"{task}-driver"], template, executor)]

    def _driver(self, name, dag, key, scripted):
        if scripted is None:
            return None
        self.clock = self.clocks[key]
        entry, component = self.driver.entry(key.partition("#")[0])
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        told = {"component": json.dumps(component), "task": json.dumps(entry), "container": json.dumps(container)}
        told |= {"task-name": key.partition("#")[0], "parent-dag-id": "7", "iteration-index": "-1"}
        failure = scripted if str(scripted).startswith("driver: ") else ""
        try:
            self.driver.patch(key)
        except DriverFailed as error:
            failure = str(error)
        attempts = [("Failed", BROKEN) if failure else ("Pending" if scripted == "waiting" else "Succeeded", "")]
        inputs = [*told.items(), ("kubernetes-config", "{}")]
        return self._logged(self._pods(name, "system-container-driver", dag, inputs, attempts), failure)

    def _executor(self, name, dag, key, scripted, template):
        self.clock = self.clocks[key]
        patch = "" if scripted == "cached" else json.dumps(self.driver.patch(key))
        retries = [(name, "3") for name in RETRIES]
        flags = [("pod-spec-patch", patch), ("cached-decision", json.dumps(scripted == "cached")), *retries]
        impl = template.replace("-executor", "-impl")

        def executor(name, dag):
            if scripted == "cached":
                why = "when 'true != true' evaluated false"
                node = self._add(f"{name}.executor", "Skipped", impl, "Skipped", dag, (), why)
                return Ended(node, [node], "Skipped")
            attempts = [(phase, message) for phase, _, message in (text.partition(": ") for text in scripted)]
            inputs = [("pod-spec-patch", patch), *retries]
            ended = self._pods(f"{name}.executor", impl, dag, inputs, attempts, template.startswith("retry"))
            if ended.phase == "Succeeded" and self.driver.entry(key.partition("#")[0])[0]["cachingOptions"]:
                self.executions.append(self.clock)
            return ended

        return self._dag(name, template, dag, flags, lambda n, d: [("executor", [], impl, partial(executor, n, d))])

    # ---- what the API returns ----

    def manifest(self, phase):
        """Return the workflow as the v1beta1 API gives it: a text of JSON."""
        status = {"phase": phase, "startedAt": at(0)}
        if self.packed:
            status["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(self.nodes).encode())).decode()
        else:
            status["nodes"] = self.nodes
        metadata = {"name": self.name, "namespace": "kubeflow", "labels": {"pipeline/runid": self.run_id}}
        metadata["annotations"] = {"workflows.argoproj.io/pod-name-format": "v2"}
        spec = {"entrypoint": "entrypoint"} | ({"activeDeadlineSeconds": 0} if self.terminated else {})
        kind = {"apiVersion": None, "kind": None}
        return json.dumps({**kind, "metadata": metadata, "spec": spec, "status": status})

    def details(self):
        """Return the task details of the v2beta1 API: a row for each node, and one for each execution to be cached."""
        result = []
        for node in self.nodes.values():
            detail = {"run_id": self.run_id, "task_id": f"uuid-{node['id']}", "display_name": node["displayName"]}
            detail |= {"create_time": at(0), "start_time": node["startedAt"]}
            detail["end_time"] = node["finishedAt"] or "0001-01-01T00:00:00Z"
            state = {"state": STATES[node["phase"]]} if node["phase"] in STATES else {}
            detail |= state | {"state_history": [{"update_time": at(0), **state}]}
            if node["children"]:
                detail["child_tasks"] = [{"pod_name": child} for child in node["children"]]
            result.append(detail)
        for index, (start, end) in enumerate(self.executions):
            row = {"run_id": self.run_id, "task_id": f"uuid-{index}", "create_time": at(start), "start_time": at(start)}
            result.append(row | {"end_time": at(end), "execution_id": str(8 + index)})
        return result

    def pod(self, task, attempt=0):
        """Return the name of the pod of an attempt; of a driver by `task-driver`."""
        name = task if task.endswith("-driver") else f"{task}.executor"
        ended = (f".{name}({attempt})", f".{task}(0).executor({attempt})", *([f".{task}"] if name == task else []))
        [node] = [n for n in self.nodes.values() if n["type"] == "Pod" and (n["name"].endswith(ended))]
        return self.pod_name(node["id"])
