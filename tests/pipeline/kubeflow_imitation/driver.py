"""The driver of a task, as backend/src/v2/driver of kubeflow/pipelines 2.17: its inputs, outputs and pod."""

import json
import re
import uuid

PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")
STORES = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
SESSION = json.dumps({"Provider": "minio", "Params": {"fromEnv": "false"}})
SERVERS = {
    "ml_pipeline_server_address": "ml-pipeline.kubeflow.svc.cluster.local",
    "ml_pipeline_server_port": "8887",
    "mlmd_server_address": "metadata-grpc-service.kubeflow.svc.cluster.local",
    "mlmd_server_port": "8080",
}


class DriverFailed(Exception):
    """The driver ends with 1; this is in its log, and nowhere in the workflow."""


def whole(value):
    """Return a number of protobuf's JSON as it comes out of the driver."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def text_of(value):
    if isinstance(value, str):
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(whole(value)) if number else json.dumps(value, separators=(",", ":"))


def resolve(words, values):
    """Fill the parameters in a command line from the inputs that the task passes; outputs are the launcher's."""
    filled = []
    for word in words:
        names = [] if "$.outputs" in word else PLACEHOLDER.findall(word)
        if lost := [name for name in names if name not in values]:
            reason = f'failed to resolve input parameters: parameter "{lost[0]}" not found in executor input'
            raise DriverFailed(f"failed to resolve container args: {reason}")
        filled.append(PLACEHOLDER.sub(lambda match: text_of(values[match[1]]), word) if names else word)
    return filled


class Driver:
    """Resolves the tasks of a run.

    Args:
        run_id: of the run.
        name: of its workflow.
        spec: the pipeline.
        values: parameters of the run.
        pipeline_root: URI under which the outputs go.
        metadata: of artifacts, by name.
    """

    def __init__(self, run_id, name, spec, values, pipeline_root, metadata):
        self.run_id, self.name, self.spec, self.root, self.metadata = run_id, name, spec, pipeline_root, metadata
        defined = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        self.values = {n: whole(e["defaultValue"]) for n, e in defined.items() if "defaultValue" in e} | values
        self.final_state = "COMPLETE"  # of the graph before the exit task, by the metadata store

    def entry(self, task):
        """Find a task in whatever graph it is.

        Returns:
            The task and its component.
        """
        for holder in (self.spec["root"], *self.spec["components"].values()):
            if found := holder.get("dag", {}).get("tasks", {}).get(task):
                return found, self.spec["components"][found["componentRef"]["name"]]
        raise KeyError(task)

    def items(self, task):
        """Return what a loop goes over."""
        return self.values[self.entry(task)[0]["parameterIterator"]["items"]["inputParameter"].split("--")[-1]]

    def uri(self, task, output):
        """Return where an output goes; `train#1` is the second item of the loop around train."""
        salt = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.run_id} {task.removesuffix('#0')}")
        return f"{self.root}/alexnet/{self.run_id}/{task.partition('#')[0]}/{salt}/{output}"

    def _value(self, source, item):
        if "runtimeValue" in source:
            names = {"{{$.pipeline_job_uuid}}": self.run_id, "{{$.pipeline_job_name}}": "a run"}
            constant = whole(source["runtimeValue"]["constant"])
            return names.get(constant, constant) if isinstance(constant, str) else constant
        if "taskFinalStatus" in source:
            status = {"error": {}, "pipelineJobResourceName": self.name, "pipelineTaskName": "exit-handler-1"}
            return status | {"state": self.final_state}
        key = source["componentInputParameter"].removeprefix("pipelinechannel--")
        name = key.removesuffix("-loop-item")
        return self.values[name][item] if name != key else self.values[name]

    def _producers(self, source):
        """Return the tasks and the output that an input comes from; several where a loop made it."""
        found = source.get("taskOutputArtifact", {})
        key = source.get("componentInputArtifact") or found["outputArtifactKey"]
        if not key.startswith("pipelinechannel--"):
            return [(found["producerTask"], key)]
        task, output = key.removeprefix("pipelinechannel--").split("-")
        loop = found and "parameterIterator" in self.entry(found["producerTask"])[0]
        return [(f"{task}#{i}", output) for i in range(len(self.items(found["producerTask"])) if loop else 1)]

    def _input(self, name, source):
        told = {"display_name": name, "store_session_info": SESSION, **self.metadata.get(name, {})}
        uris = [self.uri(*producer) for producer in self._producers(source)]
        return {"artifacts": [{"name": str(4 + i), "uri": uri, "metadata": told} for i, uri in enumerate(uris)]}

    def executor_input(self, name):
        task, _, item = name.partition("#")
        entry, component = self.entry(task)
        given = entry.get("inputs", {})
        values = {n: self._value(source, int(item or 0)) for n, source in given.get("parameters", {}).items()}
        artifacts = {n: self._input(n, source) for n, source in given.get("artifacts", {}).items()}
        inputs = {"parameterValues": values} | ({"artifacts": artifacts} if artifacts else {})
        kinds = {n: e["artifactType"] for n, e in component.get("outputDefinitions", {}).get("artifacts", {}).items()}
        kinds["executor-logs"] = {"schemaTitle": "system.Artifact"}
        outputs = {n: {"artifacts": [{"name": n, "type": kind, "uri": self.uri(name, n)}]} for n, kind in kinds.items()}
        place = self.uri(name, "output_metadata.json")
        local = [path + place.removeprefix(scheme) for scheme, path in STORES.items() if place.startswith(scheme)]
        output_file = local[0] if local else "/tmp/kfp_outputs/output_metadata.json"
        return {"inputs": inputs, "outputs": {"artifacts": outputs, "outputFile": output_file}}

    def patch(self, name):
        """Return the pod-spec-patch of a task.

        Raises:
            DriverFailed: its command cannot be filled.
        """
        executor_input = self.executor_input(name)
        _, component = self.entry(name.partition("#")[0])
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        flags = {"pipeline_name": "alexnet", "run_id": self.run_id, "execution_id": "12"}
        flags |= {"executor_input": json.dumps(executor_input), "component_spec": json.dumps(component)}
        flags |= {"pod_name": "$(KFP_POD_NAME)", "pod_uid": "$(KFP_POD_UID)", **SERVERS}
        words = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
        main = {
            "name": "main",
            "image": container["image"],
            "command": ["/kfp-launcher/launch", *words, *["--publish_logs", "true"] * 2, "--"],
            "args": resolve([*container["command"], *container["args"]], executor_input["inputs"]["parameterValues"]),
            "resources": {},
        }
        return {"containers": [main]}
