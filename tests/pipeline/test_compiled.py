"""The committed pipeline.yaml: what it asks of Kubeflow and of the cluster, and that the contracts say the same."""

import re

import pytest
import yaml

from components.evaluate.contract import Evaluate
from components.ingest.contract import Ingest
from components.outcome.contract import Outcome
from components.shared import contract
from components.shared.contract import command_line
from components.statistics.contract import Statistics
from components.train.contract import Train
from pipeline import components
from pipeline.graph import graph
from pipeline.spec import ir

TEXT = ir.PIPELINE_PATH.read_text()
SPEC, PLATFORM = yaml.safe_load_all(TEXT)
CONTRACTS = (Ingest, Statistics, Train, Evaluate, Outcome)
TASKS = [declared.NAME for declared in CONTRACTS]
STEPS = TASKS[:-1]
COMPONENTS = SPEC["components"]
ROOT = SPEC["root"]["dag"]["tasks"]
BODY = COMPONENTS["comp-exit-handler-1"]["dag"]["tasks"]  # what the exit task waits for
LOOP = COMPONENTS["comp-for-loop-2"]["dag"]["tasks"]  # what is done for each seed
PARAMETERS = SPEC["root"]["inputDefinitions"]["parameters"]
ENTRIES = {name: entry for tasks in (ROOT, BODY, LOOP) for name, entry in tasks.items() if name in TASKS}
CONTAINERS = {name: SPEC["deploymentSpec"]["executors"][f"exec-{name}"]["container"] for name in TASKS}
PODS = {name: PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"] for name in TASKS}


def seconds(text):
    return int(text.removesuffix("s"))


def mounts(task):
    return {mount["mountPath"]: mount for mount in PODS[task].get("emptyDirMounts", [])}


def accelerator(task):
    """The resource that a pod asks for and the pipeline parameter that says how many."""
    found = CONTAINERS[task]["resources"].get("accelerator")
    if not found:
        return None
    channel = re.fullmatch(r"\{\{\$\.inputs\.parameters\['(pipelinechannel--.+)'\]\}\}", found["resourceCount"])[1]
    assert ENTRIES[task]["inputs"]["parameters"][channel] == {"componentInputParameter": channel}
    return found["resourceType"], channel.removeprefix("pipelinechannel--")


def retries_outlive(task):
    return seconds(ENTRIES[task]["retryPolicy"]["backoffMaxDuration"]) > int(PODS[task]["activeDeadlineSeconds"])


def references(task, kind, name_key, key_of):
    """The names and keys that a task's environment refers to, all optional."""
    (source,) = PODS[task][kind]
    assert source["optional"] is True
    return source[name_key], {entry[key_of]: entry["envVar"] for entry in source["keyToEnv"]}


FACTS = {
    # ---- the graph ----
    "every flag is filled from what its task passes, as Kubeflow's driver wants it": lambda: all(
        set(re.findall(r"\{\{\$\.inputs\.parameters\['(.+?)'\]\}\}", " ".join(CONTAINERS[name]["args"])))
        <= set(ENTRIES[name]["inputs"]["parameters"])
        for name in TASKS
    ),
    "no component has a default, which Kubeflow's driver would not use": lambda: (
        not any(
            "defaultValue" in entry
            for name in TASKS
            for entry in COMPONENTS[f"comp-{name}"]["inputDefinitions"]["parameters"].values()
        )
    ),
    "tasks are named as the rooms": lambda: sorted(ENTRIES) == sorted(TASKS),
    "there are no other containers": lambda: (
        sorted(SPEC["deploymentSpec"]["executors"]) == sorted(f"exec-{name}" for name in TASKS)
    ),
    "every parameter is described": lambda: all(entry.get("description") for entry in PARAMETERS.values()),
    "only the two places have no default": lambda: (
        [name for name, entry in PARAMETERS.items() if "defaultValue" not in entry] == ["release_uri", "root_uri"]
    ),
    "every parameter is used": lambda: all(TEXT.count(f"componentInputParameter: {n}\n") for n in PARAMETERS),
    # ---- networks in parallel ----
    "one network by default": lambda: PARAMETERS["seeds"]["defaultValue"] == [0],
    "a network is trained for each seed, side by side": lambda: (
        list(LOOP) == ["train"]
        and BODY["for-loop-2"]["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--seeds"}
        and "iteratorPolicy" not in BODY["for-loop-2"]
    ),
    "the seed is the item": lambda: (
        LOOP["train"]["inputs"]["parameters"]["seed"]["componentInputParameter"]
        == BODY["for-loop-2"]["parameterIterator"]["itemInput"]
    ),
    "evaluate takes the models of all of them": lambda: (
        BODY["evaluate"]["inputs"]["artifacts"]["models"]["taskOutputArtifact"]
        == {"outputArtifactKey": "pipelinechannel--train-model", "producerTask": "for-loop-2"}
        and COMPONENTS["comp-evaluate"]["inputDefinitions"]["artifacts"]["models"]["isArtifactList"] is True
    ),
    # ---- the exit task ----
    "outcome runs whatever happened": lambda: (
        ROOT["outcome"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    ),
    "outcome waits for everything else": lambda: (
        set(ROOT) == {"outcome", "exit-handler-1"} and ROOT["outcome"]["dependentTasks"] == ["exit-handler-1"]
    ),
    "outcome is told how the run ended": lambda: (
        ROOT["outcome"]["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    ),
    "outcome is told which run": lambda: (
        ROOT["outcome"]["inputs"]["parameters"]["run_id"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
    ),
    # ---- the node pool ----
    "training and evaluate ask for the GPUs that they are told to use, and nobody else does": lambda: (
        {name: accelerator(name) for name in TASKS if accelerator(name)}
        == {"train": ("nvidia.com/gpu", "gpus"), "evaluate": ("nvidia.com/gpu", "evaluate_gpus")}
    ),
    "a number of GPUs is a text: the driver reads a number as nothing": lambda: all(
        PARAMETERS[name]["parameterType"] == "STRING" for name in ("gpus", "evaluate_gpus")
    ),
    "training has two GPUs on one node by default": lambda: PARAMETERS["gpus"]["defaultValue"] == "2",
    "the node selector is a parameter that fits every cluster by default": lambda: (
        PODS["train"]["nodeSelector"]["nodeSelectorJson"]["componentInputParameter"] == "pipelinechannel--node_selector"
        and PARAMETERS["node_selector"]["parameterType"] == "STRUCT"
        and PARAMETERS["node_selector"]["defaultValue"] == {}
    ),
    "the tolerations are a parameter with the taint of GPU nodes": lambda: (
        PODS["train"]["tolerations"]
        == PODS["evaluate"]["tolerations"]
        == [{"tolerationJson": {"componentInputParameter": "pipelinechannel--tolerations"}}]
        and PARAMETERS["tolerations"]["parameterType"] == "LIST"
        and PARAMETERS["tolerations"]["defaultValue"]
        == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    ),
    "both reach the graph in the loop": lambda: (
        {"pipelinechannel--node_selector", "pipelinechannel--tolerations"}
        <= set(BODY["for-loop-2"]["inputs"]["parameters"])
    ),
    "training has shared memory for NCCL": lambda: (
        mounts("train")["/dev/shm"] == {**mounts("train")["/dev/shm"], "medium": "Memory", "sizeLimit": "8Gi"}
    ),
    # ---- resources of all ----
    "every task has a bounded scratch volume on disk": lambda: all(
        mounts(name)["/tmp"].get("sizeLimit") and "medium" not in mounts(name)["/tmp"] for name in TASKS
    ),
    "every task says what CPU and memory it wants": lambda: all(
        {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(CONTAINERS[name]["resources"])
        for name in TASKS
    ),
    "every task has a timeout": lambda: all(int(PODS[name]["activeDeadlineSeconds"]) >= 86_400 for name in TASKS),
    "every task is retried, and its retries outlive it": lambda: all(
        ENTRIES[name]["retryPolicy"]["maxRetryCount"] == 3 and retries_outlive(name) for name in TASKS
    ),
    "no task runs as root": lambda: all(
        PODS[name]["securityContext"] == {"runAsGroup": "10001", "runAsNonRoot": True, "runAsUser": "10001"}
        for name in TASKS
    ),
    # ---- caching ----
    "what is made of its inputs alone is cached": lambda: all(
        ENTRIES[name]["cachingOptions"] == {"enableCache": True} for name in STEPS
    ),
    "what has an effect outside is not": lambda: not ENTRIES["outcome"].get("cachingOptions", {}).get("enableCache"),
    "images are named by digest or version, which the cache key holds": lambda: all(
        re.search(r"@sha256:[0-9a-f]{64}$|:[0-9]+\.[0-9]+\.[0-9]+$", CONTAINERS[name]["image"]) for name in TASKS
    ),
    "no PVC name is in a cache key": lambda: all("pvcMount" not in PODS[name] for name in TASKS),
    # ---- by reference only ----
    "credentials come from an optional Secret": lambda: all(
        references(name, "secretAsEnv", "secretName", "secretKey")
        == ("alexnet-storage", {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"})
        for name in TASKS
    ),
    "the store's settings come from an optional ConfigMap": lambda: all(
        references(name, "configMapAsEnv", "configMapName", "configMapKey")
        == ("alexnet-storage", {"endpoint_url": "AWS_ENDPOINT_URL", "region": "AWS_REGION"})
        for name in TASKS
    ),
    "of the environment only its own image is written down, for the record that a rerun needs": lambda: all(
        CONTAINERS[name]["env"] == [{"name": "ALEXNET_IMAGE", "value": CONTAINERS[name]["image"]}] for name in TASKS
    ),
    "no service account, pipeline root or address is written down": lambda: (
        not re.search(r"serviceAccount|pipelineRoot|pipeline_root|https?://|gs://|s3://", TEXT)
    ),
    "no host is reached into": lambda: not re.search(r"hostPath|hostNetwork|privileged", TEXT),
}


@pytest.mark.parametrize("fact", FACTS)
def test_fact(fact):
    assert FACTS[fact]()


@pytest.mark.slow
def test_the_file_is_the_same_at_every_compile():
    first = graph.compiled()
    assert graph.compiled() == first
    assert [line for line in first.splitlines() if line.startswith("#")] == [graph.HEADER.rstrip()]


@pytest.mark.parametrize("component", CONTRACTS)
def test_every_field_is_a_flag_and_reads_back(component):
    pipeline = ir.load()
    values = pipeline.defaults | {"release_uri": "/data/a b", "root_uri": "gs://bucket/x", "seeds": [3]}
    (task,) = [task for task in (*pipeline.tasks, pipeline.exit_task) if task.name == component.NAME]
    (task,) = ir.instances(ir.bind(task, "taskFinalStatus", {"state": "FAILED"}), values)
    paths = {("inputs", name): f"/in/{name}" for name in task.artifacts}
    paths |= {("outputs", name): f"/out/{name}" for name in task.outputs}
    words = ir.render(task, ir.resolve(task, values, "run-1"), paths, {"outputs": {"outputFile": "/x"}})
    assert words[:3] == ["python", "-m", f"components.{component.NAME}"]
    config, executor_input = command_line.parse(component, words[3:])
    assert executor_input == {"outputs": {"outputFile": "/x"}}
    assert config.root_uri == "gs://bucket/x"
    for field in contract.fields(component):
        if field.role == "output":
            assert getattr(config, field.name) == f"/out/{field.name}"
    assert len(contract.fields(component)) <= 12
    if component is Train:
        assert config.seed == 3
    if component is Outcome:
        assert (config.status, config.run_id, config.seeds) == ({"state": "FAILED"}, "run-1", [3])


def test_a_parameter_is_the_same_in_the_pipeline_and_in_its_component():
    pipeline = ir.load()
    checked = 0
    for task in (*pipeline.tasks, pipeline.exit_task):
        defaults = {
            f.name: f.default for f in contract.fields(components.COMPONENTS[task.component].contract) if not f.required
        }
        for name, source in task.parameters.items():
            given = source.get("componentInputParameter")
            if name in task.types and given:
                assert pipeline.types[given] == task.types[name]
                if task is not pipeline.exit_task and name != "gpus":  # a laptop has none
                    assert pipeline.defaults.get(given) == defaults.get(name), given
                checked += 1
    assert checked == 30
