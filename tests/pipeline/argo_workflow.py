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

    def uri(self, task, name):
        return f"{self.root}/alexnet/{self.run_id}/{task}/0f1e2d3c-{zlib.crc32(task.encode()):012d}/{name}"

    def _resolve(self, sources, component):
        defined = component.get("inputDefinitions", {}).get("parameters", {})
        values = {name: entry["defaultValue"] for name, entry in defined.items() if "defaultValue" in entry}
        roots = self.spec["root"]["inputDefinitions"]["parameters"]
        for name, source in sources.items():
            if "runtimeValue" in source:
                values[name] = source["runtimeValue"]["constant"]
            else:
                key = source["componentInputParameter"]
                values[name] = self.values.get(key, roots[key].get("defaultValue"))
        return values

    def executor_input(self, task, metadata):
        entry = self.spec["root"]["dag"]["tasks"][task]
        component = self.spec["components"][entry["componentRef"]["name"]]
        inputs = {
            name: {
                "artifacts": [
                    {
                        "name": str(100 + index),
                        "uri": self.uri(
                            source["taskOutputArtifact"]["producerTask"],
                            source["taskOutputArtifact"]["outputArtifactKey"],
                        ),
                        "type": {"schemaTitle": "system.Artifact"},
                        "metadata": {"display_name": name, "store_session_info": "{}", **metadata.get(name, {})},
                    }
                ]
            }
            for index, (name, source) in enumerate(entry.get("inputs", {}).get("artifacts", {}).items())
            if "taskOutputArtifact" in source
        }
        outputs = {n: e["artifactType"] for n, e in component.get("outputDefinitions", {}).get("artifacts", {}).items()}
        outputs["executor-logs"] = {"schemaTitle": "system.Artifact"}
        return {
            "inputs": {
                "parameterValues": self._resolve(entry.get("inputs", {}).get("parameters", {}), component),
                "artifacts": inputs,
            },
            "outputs": {
                "artifacts": {
                    n: {"artifacts": [{"name": n, "uri": self.uri(task, n), "type": kind}]}
                    for n, kind in outputs.items()
                },
                "outputFile": "/tmp/kfp_outputs/output_metadata.json",
            },
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
        entry = self.spec["root"]["dag"]["tasks"][name]
        component = self.spec["components"][entry["componentRef"]["name"]]
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        given = [("component", component), ("task", entry), ("container", container), ("parent-dag-id", 7)]
        inputs = [(k, json.dumps(v)) for k, v in given] + [("task-name", name), ("iteration-index", "-1")]
        failed, _, message = phases.partition(": ") if isinstance(phases, str) else ("", "", "")
        phase = "Failed" if failed == "driver" else "Succeeded"
        self._add(f".root.{name}-driver", "Pod", "system-container-driver", phase, inputs, message, clock)
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
        self._add(f".root.{name}", "DAG", "retry-system-container-executor", outer, flags, "", clock)
        if phases == "cached":
            why = "when 'true != true' evaluated false"
            self._add(f".root.{name}.executor", "Skipped", "retry-system-container-impl", "Skipped", (), why, clock)
            return
        message = attempts[-1][2] if outer == "Failed" else ""
        self._add(f".root.{name}.executor", "Retry", "retry-system-container-impl", outer, patch, message, clock)
        for index, (phase, _, message) in enumerate(attempts):
            path = f".root.{name}.executor({index})"
            self._add(path, "Pod", "retry-system-container-impl", phase, patch, message, clock)

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
        number = zlib.crc32(f"{self.name}.root.{task}.executor({attempt})".encode())
        return f"{self.name}-retry-system-container-impl-{number}"
