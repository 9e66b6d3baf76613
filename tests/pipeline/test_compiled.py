"""The committed pipeline.yaml says what the contracts say."""

import pytest
import yaml

from components.evaluate.contract import Evaluate
from components.ingest.contract import Ingest
from components.shared import contract
from components.statistics.contract import Statistics
from components.train.contract import Train
from pipeline import ir

SPEC, PLATFORM = yaml.safe_load_all(ir.PIPELINE_PATH.read_text())
CONTRACTS = (Ingest, Statistics, Train, Evaluate)


def test_tasks_are_named_as_the_rooms_and_run_in_order():
    assert [task.name for task in ir.load().tasks] == ["ingest", "statistics", "train", "evaluate"]


@pytest.mark.parametrize("component", CONTRACTS)
def test_every_field_is_a_flag_and_reads_back(component):
    task = next(task for task in ir.load().tasks if task.name == component.NAME)
    pipeline = ir.load()
    values = pipeline.defaults | {"release_uri": "/data/a b", "root_uri": "gs://bucket/x"}
    paths = {("inputs", name): f"/in/{name}" for name in task.artifacts}
    paths |= {("outputs", name): f"/out/{name}" for name in task.outputs}
    words = ir.render(task, ir.resolve(task, values), paths, {"outputs": {"outputFile": "/x"}})
    assert words[:3] == ["python", "-m", f"components.{component.NAME}"]
    config, executor_input = contract.parse(component, words[3:])
    assert executor_input == {"outputs": {"outputFile": "/x"}}
    assert config.root_uri == "gs://bucket/x"
    for field in contract.fields(component):
        if field.role == "output":
            assert getattr(config, field.name) == f"/out/{field.name}"
    assert len(contract.fields(component)) <= 12


def test_training_asks_for_two_gpus_and_its_retries_outlive_it():
    train = SPEC["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert train["resources"]["accelerator"] == {
        "count": "2",
        "resourceCount": "2",
        "resourceType": "nvidia.com/gpu",
        "type": "nvidia.com/gpu",
    }
    for task in SPEC["root"]["dag"]["tasks"].values():
        timeout = PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"][
            f"exec-{task['taskInfo']['name']}"
        ]["activeDeadlineSeconds"]
        assert int(task["retryPolicy"]["backoffMaxDuration"].removesuffix("s")) > int(timeout)


def test_no_task_runs_as_root():
    executors = PLATFORM["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for component in CONTRACTS:
        context = executors[f"exec-{component.NAME}"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert int(context["runAsUser"]) == 10001


def test_a_parameter_is_the_same_in_the_pipeline_and_in_its_component():
    pipeline = ir.load()
    for task in pipeline.tasks:
        for name, source in task.parameters.items():
            assert pipeline.types[source["componentInputParameter"]] == task.types[name]
