"""The nodes of an Argo workflow, in both shapes that Kubeflow's configuration of Argo makes.

Kubeflow 2.17 gives every template a retry strategy, so every node `x` is a Retry node with attempts `x(0)`, `x(1)`:
`W(0).root(0).exit-handler-1(0).ingest(0).executor(0)`. Without this setting, as before 2.17, only executors have
attempts: `W.root.exit-handler-1.ingest.executor(0)`. A path is a name without attempts, the same in both shapes.
"""

import base64
import gzip
import json
import re
from typing import Any

ATTEMPT = re.compile(r"\((\d+)\)(?=\.|$)")  # not the (0:0) of a loop's iteration
NEVER_RAN = ("Skipped", "Omitted")

Node = dict[str, Any]


def path_of(node: Node) -> str:
    """Return the name of a node without the numbers of attempts."""
    return ATTEMPT.sub("", node["name"])


def _attempts(node: Node) -> list[int]:
    return [int(number) for number in ATTEMPT.findall(node["name"])]


def order(path: str) -> list[Any]:
    """Sort key of a path in which iteration 10 comes after 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def was_terminated(workflow: dict[str, Any]) -> bool:
    """Tell whether someone stopped the run: the server sets its deadline to nothing and then calls it failed."""
    spec = workflow.get("spec", {})
    return spec.get("activeDeadlineSeconds") == 0 or spec.get("shutdown") in ("Terminate", "Stop")


def parameter(node: Node | None, name: str) -> Any:
    """Return an input parameter of a node, decoded; None where it is missing or empty."""
    for entry in (node or {}).get("inputs", {}).get("parameters", []):
        if entry["name"] == name and entry.get("value"):
            return json.loads(entry["value"])
    return None


class Nodes:
    """The nodes of a workflow by path; empty where the server has no workflow (yet)."""

    def __init__(self, workflow: dict[str, Any]) -> None:
        self._metadata = workflow.get("metadata", {})
        self._by_path: dict[str, list[Node]] = {}
        status = workflow.get("status", {})
        nodes = status.get("nodes") or {}
        if not nodes and (packed := status.get("compressedNodes")):  # too large for its database
            nodes = json.loads(gzip.decompress(base64.b64decode(packed)))
        for node in sorted(nodes.values(), key=_attempts):
            self._by_path.setdefault(path_of(node), []).append(node)

    def paths(self) -> list[str]:
        """Return all paths, in the order of the graph's names and iterations."""
        return sorted(self._by_path, key=order)

    def latest(self, path: str) -> Node | None:
        """Return the node that stands for all attempts at a path, in the last attempt of the graph around it."""
        nodes = self._by_path.get(path, [])
        whole = [node for node in nodes if not re.search(r"\(\d+\)$", node["name"])]
        return (whole or nodes or [None])[-1]

    def pods(self, path: str) -> list[Node]:
        """Return the pods at a path in the order of the attempts."""
        return [node for node in self._by_path.get(path, []) if node.get("type") == "Pod"]

    def pod_name(self, node: Node) -> str:
        """Return the name of a node's pod, which differs from the node's id since Argo 3.4."""
        if self._metadata.get("annotations", {}).get("workflows.argoproj.io/pod-name-format") == "v1":
            return node["id"]
        return f"{self._metadata['name']}-{node['templateName']}-{node['id'].rpartition('-')[2]}"
