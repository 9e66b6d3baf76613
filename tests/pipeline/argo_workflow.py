"""Builds the workflow that Argo has for a run, node by node, as Kubeflow 2.17's compiler, driver and launcher shape it.

Shapes: backend/src/v2/compiler/argocompiler (templates, node inputs), backend/src/v2/driver/driver.go
(pod-spec-patch, executor input) and backend/src/common/util/workflow.go (states, pod names) of kubeflow/pipelines.
"""

import json
import zlib

EPOCH = "2026-11-20T10:{:02d}:{:02d}Z"
PHASES = {
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Skipped": "SKIPPED",
    "Failed": "FAILED",
}
PHASES |= {"Error": "FAILED"}  # any other, such as Omitted, is unspecified: the field is left out


def at(seconds):
    return EPOCH.format(*divmod(seconds, 60))


class Workflow:
    """A workflow named `alexnet-x7k2p`.

    Args:
        run_id: of the run.
        spec: the pipeline, both documents, as it was submitted.
        values: its parameters.
        pipeline_root: URI under which the outputs go.
    """

    def __init__(self, run_id, spec, values, pipeline_root):
        self.name, self.run_id, self.values, self.root = "alexnet-x7k2p", run_id, values, pipeline_root
        self.spec, self.nodes, self.arguments = spec["pipeline_spec"], {}, {}
        self.terminated = self.packed = False

    def _add(self, path, kind, template, phase, inputs=(), message="", clock=(0, 0)):
        name = self.name + path
        node = {
            "id": self.name if not path else f"{self.name}-{zlib.crc32(name.encode())}",
            "name": name,
            "displayName": path.rpartition(".")[2] or self.name,
            "type": kind,
            "templateName": template,
            "templateScope": f"local/{self.name}",
            "phase": phase,
            "startedAt": at(clock[0]),
            "finishedAt": at(clock[1]) if phase not in ("Pending", "Running") else None,
        }
        if message:
            node["message"] = message
        if inputs:
            node["inputs"] = {"parameters": [{"name": k, "value": v} for k, v in inputs]}
        self.nodes[node["id"]] = node

    def _entry(self, name):
        """Find a task in whatever graph it is.

        Returns:
            The path of that graph, the task and its component.
        """
        graphs = {"": self.spec["root"]["dag"]}
        graphs |= {f".{n.removeprefix('comp-')}": c["dag"] for n, c in self.spec["components"].items() if "dag" in c}
        for graph, dag in graphs.items():
            if name in dag["tasks"]:
                entry = dag["tasks"][name]
                return graph, entry, self.spec["components"][entry["componentRef"]["name"]]
        raise KeyError(name)

    def path(self, name):
        """Return the path of a task's node; `train#1` is that of the second item of its loop."""
        task, _, item = name.partition("#")
        graph, entry, _ = self._entry(task)
        if "for-loop" in graph:
            return f".root.exit-handler-1{graph}.iteration-iterations({item or 0}:{item or 0}).iteration-item.{task}"
        hook = ".exit-handler-1.onExit" if "triggerPolicy" in entry else graph
        return f".root{hook}.{task}"

    def uri(self, task, name):
        kind = task.partition("#")[0]
        return f"{self.root}/alexnet/{self.run_id}/{kind}/0f1e2d3c-{zlib.crc32(task.encode()):012d}/{name}"

    def _value(self, source, item):
        if "runtimeValue" in source:
            return str(source["runtimeValue"]["constant"]).replace("{{$.pipeline_job_uuid}}", self.run_id)
        if "taskFinalStatus" in source:
            return {"state": "SUCCEEDED", "pipelineTaskName": "exit-handler-1"}
        key = source["componentInputParameter"].removeprefix("pipelinechannel--")
        name = key.removesuffix("-loop-item")
        value = self.values.get(name, self.spec["root"]["inputDefinitions"]["parameters"][name].get("defaultValue"))
        return value[item] if name != key else value

    def _sources(self, source):
        """Return the tasks and the output that an input comes from; several where a loop made it."""
        found = source.get("taskOutputArtifact", {})
        key = source.get("componentInputArtifact") or found["outputArtifactKey"]
        if key.startswith("pipelinechannel--"):
            task, output = key.removeprefix("pipelinechannel--").split("-")
            seeds = self.values.get("seeds", [0])
            return [(f"{task}#{i}" if task == "train" else task, output) for i in range(len(seeds) if found else 1)]
        return [(found["producerTask"], key)]

    def executor_input(self, name, metadata):
        task, _, item = name.partition("#")
        _, entry, component = self._entry(task)
        defined = component.get("inputDefinitions", {}).get("parameters", {})
        values = {n: e["defaultValue"] for n, e in defined.items() if "defaultValue" in e}
        given = entry.get("inputs", {})
        values |= {n: self._value(source, int(item or 0)) for n, source in given.get("parameters", {}).items()}
        inputs = {}
        for artifact, source in given.get("artifacts", {}).items():
            told = {"display_name": artifact, "store_session_info": "{}", **metadata.get(artifact, {})}
            inputs[artifact] = {
                "artifacts": [
                    {
                        "name": str(100 + i),
                        "uri": self.uri(*made),
                        "type": {"schemaTitle": "system.Artifact"},
                        "metadata": told,
                    }
                    for i, made in enumerate(self._sources(source))
                ]
            }
        kinds = {n: e["artifactType"] for n, e in component.get("outputDefinitions", {}).get("artifacts", {}).items()}
        kinds["executor-logs"] = {"schemaTitle": "system.Artifact"}
        mine = name if task == "train" and item else "train#0" if task == "train" else task
        outputs = {n: {"artifacts": [{"name": n, "uri": self.uri(mine, n), "type": kind}]} for n, kind in kinds.items()}
        return {
            "inputs": {"parameterValues": values, "artifacts": inputs},
            "outputs": {"artifacts": outputs, "outputFile": "/tmp/kfp_outputs/output_metadata.json"},
        }

    def task(self, name, phases, clock, metadata=()):
        """Add the nodes of a task.

        Args:
            name: of the task.
            phases: "cached", "driver: MESSAGE", or a list of attempts such as "Failed: OOMKilled (exit code 137)";
                a last "wait" is the pause before the next one.
            clock: seconds at which it started and ended.
            metadata: of its inputs, by name.
        """
        path, (_, entry, component) = self.path(name), self._entry(name.partition("#")[0])
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        given = [("component", component), ("task", entry), ("container", container), ("parent-dag-id", 7)]
        inputs = [(k, json.dumps(v)) for k, v in given] + [("task-name", name), ("iteration-index", "-1")]
        failed, _, message = phases.partition(": ") if isinstance(phases, str) else ("", "", "")
        phase = "Failed" if failed == "driver" else "Succeeded"
        self._add(f"{path}-driver", "Pod", "system-container-driver", phase, inputs, message, clock)
        if failed == "driver":
            return
        executor_input = self.executor_input(name, dict(metadata))
        launcher = [
            "/kfp-launcher/launch",
            "--pipeline_name",
            "alexnet",
            "--run_id",
            self.run_id,
            "--execution_id",
            "12",
        ]
        launcher += ["--executor_input", json.dumps(executor_input), "--component_spec", json.dumps(component), "--"]
        main = {
            "name": "main",
            "image": container["image"],
            "command": launcher,
            "args": container["command"] + container["args"],
            "resources": {},
        }
        patch = [] if phases == "cached" else [("pod-spec-patch", json.dumps({"containers": [main]}))]
        flags = [*patch, ("cached-decision", "true" if phases == "cached" else "false")]
        attempts = [] if phases == "cached" else [phase.partition(": ") for phase in phases if phase != "wait"]
        waiting = "wait" in phases or (attempts and attempts[-1][0] == "Pending")
        outer = "Running" if waiting else attempts[-1][0] if attempts else "Succeeded"
        self._add(path, "DAG", "retry-system-container-executor", outer, flags, "", clock)
        if phases == "cached":
            why = "when 'true != true' evaluated false"
            self._add(f"{path}.executor", "Skipped", "retry-system-container-impl", "Skipped", (), why, clock)
            return
        message = attempts[-1][2] if outer == "Failed" else ""
        self._add(f"{path}.executor", "Retry", "retry-system-container-impl", outer, patch, message, clock)
        for index, (phase, _, message) in enumerate(attempts):
            self._add(f"{path}.executor({index})", "Pod", "retry-system-container-impl", phase, patch, message, clock)

    def manifest(self, phase):
        """Return the workflow as the v1beta1 API gives it: a text of JSON."""
        status = {"phase": phase, "startedAt": at(0)}
        if self.packed:
            import base64
            import gzip

            status["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(self.nodes).encode())).decode()
        else:
            status["nodes"] = self.nodes
        metadata = {"name": self.name, "namespace": "kubeflow", "labels": {"pipeline/runid": self.run_id}}
        metadata["annotations"] = {"workflows.argoproj.io/pod-name-format": "v2"}
        spec = {"entrypoint": "entrypoint"} | ({"activeDeadlineSeconds": 0} if self.terminated else {})
        kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow"}
        return json.dumps({**kind, "metadata": metadata, "spec": spec, "status": status})

    def details(self):
        """Return the task details of the v2beta1 API: one for each node, without messages and without pod names."""
        result = []
        for node in self.nodes.values():
            detail = {"run_id": self.run_id, "task_id": f"uuid-{node['id']}", "display_name": node["displayName"]}
            detail |= {"create_time": at(0), "start_time": node["startedAt"]}
            detail["end_time"] = node["finishedAt"] or "1970-01-01T00:00:00Z"
            if node["phase"] in PHASES:
                detail["state"] = PHASES[node["phase"]]
            result.append(detail)
        return result

    def pod(self, task, attempt=0):
        """Return the name of the pod of an attempt."""
        number = zlib.crc32(f"{self.name}{self.path(task)}.executor({attempt})".encode())
        return f"{self.name}-retry-system-container-impl-{number}"
