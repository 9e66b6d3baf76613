"""The nodes of an Argo workflow: what a retry strategy, a DAG and a dependency make of them."""

import re
from dataclasses import dataclass

MARKS = ("wait", "stopped")  # after the last attempt: the pause before the next one, and its end by a stop
DISPLAYED = re.compile(r"[^.]+(\.onExit(\(\d+\))?)?$")
EPOCH = "2026-11-20T10:{:02d}:{:02d}Z"


def at(seconds):
    return EPOCH.format(*divmod(seconds, 60))


def fnv(text):
    """Hash a name as Argo does for ids."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


@dataclass
class Ended:
    """A node as its dependents see it."""

    node: str
    outbound: list[str]  # the nodes whose children the dependents become
    phase: str


class Nodes:
    """The nodes of a workflow.

    Args:
        name: of the workflow.
        retried: the configuration of 2.17: a retry strategy for every template.
    """

    def __init__(self, name, retried):
        self.name, self.retried, self.nodes, self.clock = name, retried, {}, (0, 50)

    def _add(self, name, kind, template, phase, boundary, inputs=(), message=""):
        node = {
            "id": self.id_of(name),
            "name": name,
            "displayName": DISPLAYED.search(name)[0],
            "type": kind,
            "templateName": template,
            "templateScope": f"local/{self.name}",
            "phase": phase,
            "startedAt": at(self.clock[0]),
            "finishedAt": at(self.clock[1]) if phase not in ("Pending", "Running") else None,
            "children": [],
        }
        node |= {"boundaryID": boundary} if boundary else {}
        node |= {"message": message} if message else {}
        node |= {"inputs": {"parameters": [{"name": k, "value": v} for k, v in inputs]}} if inputs else {}
        self.nodes[node["id"]] = node
        return node["id"]

    def id_of(self, name):
        return name if name == self.name else f"{self.name}-{fnv(name)}"

    def _pods(self, name, template, boundary, inputs, attempts, own_retries=False):
        """Add a pod, or a Retry node with one for each attempt: (phase, message)."""
        if not (self.retried or own_retries):
            phase, message = attempts[-1]
            pod = self._add(name, "Pod", template, phase, boundary, inputs, message)
            return Ended(pod, [pod], phase)
        phase, message = attempts[-1]
        outer = {"Pending": "Running", "wait": "Running", "stopped": "Failed"}.get(phase, phase)
        retry = self._add(name, "Retry", template, outer, boundary, inputs, message if outer == "Failed" else "")
        for index, (phase, message) in enumerate(a for a in attempts if a[0] not in MARKS):
            pod = self._add(f"{name}({index})", "Pod", template, phase, boundary, inputs, message)
            self.nodes[retry]["children"].append(pod)
        return Ended(retry, [pod], outer)

    def _dag(self, name, template, boundary, inputs, tasks):
        """Add a DAG; `tasks` makes its tasks from the name and the id that they are in."""
        outer = self._add(name, "Retry" if self.retried else "DAG", template, "Running", boundary, inputs)
        inner = outer
        if self.retried:
            inner = self._add(f"{name}(0)", "DAG", template, "Running", boundary, inputs)
            self.nodes[outer]["children"].append(inner)
        ended, phase = self._chain(inner, tasks(self.nodes[inner]["name"], inner))
        for node in {outer, inner}:
            self.nodes[node] |= {"phase": phase, "finishedAt": None if phase == "Running" else at(self.clock[1])}
        return Ended(outer, [inner] if self.retried else ended, phase)

    def _chain(self, dag, tasks):
        """Run the tasks of a DAG: (key, keys before it, template, what starts it).

        Returns:
            The outbound nodes of its last tasks, and its phase.
        """
        ended = {}
        for key, before, template, start in tasks:
            waited = [ended.get(name) for name in before]
            if None in waited or any(end.phase in ("Running", "Pending") for end in waited):
                ended[key] = None
            elif any(end.phase not in ("Succeeded", "Skipped") for end in waited):
                message = "omitted: depends condition not met"
                name = f"{self.nodes[dag]['name']}.{key}"
                node = self._add(name, "Skipped", template, "Omitted", dag, (), message)
                ended[key] = Ended(node, [node], "Omitted")
            else:
                ended[key] = start()
            if ended[key]:
                parents = [node for end in waited for node in end.outbound] or [dag]
                for node in dict.fromkeys(parents):
                    self.nodes[node]["children"].append(ended[key].node)
        used = {name for _, before, _, _ in tasks for name in before}
        outbound = [node for key, end in ended.items() if end and key not in used for node in end.outbound]
        phases = {end.phase if end and end.phase != "Pending" else "Running" for end in ended.values()}
        return outbound, next((phase for phase in ("Running", "Failed") if phase in phases), "Succeeded")

    def pod_name(self, node):
        template = self.nodes[node]["templateName"]
        return f"{self.name}-{template}-{node.rpartition('-')[2]}"
