"""What a person may type after --param."""

import re

import pytest

from components.shared.errors import UsageError
from pipeline.spec import ir, parameters

PIPELINE = ir.load()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["num_networks=3"], {"seeds": [0, 1, 2]}),
        (["seeds=4"], {"seeds": [4]}),
        (["seeds=4,2"], {"seeds": [4, 2]}),
        (["seeds=[4, 2]"], {"seeds": [4, 2]}),
        (["seeds=[4, 2]", "num_networks=2"], {"seeds": [4, 2]}),
        (["num_networks=1", "split=validation"], {"seeds": [0], "split": "validation"}),
        (
            ['node_selector={"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}'],
            {"node_selector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}},
        ),
        (["node_selector={}", "tolerations=[]"], {"node_selector": {}, "tolerations": []}),
        (["num_epochs=3", "gpus=0"], {"num_epochs": 3, "gpus": "0"}),
    ],
)
def test_values(given, expected):
    assert PIPELINE.parse(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["num_networks=0"], "num_networks=0: expected a number of networks, at least 1"),
        (["num_networks=two"], "expected a number of networks"),
        (["num_networks=3", "seeds=0,1"], "num_networks=3: seeds says 2 networks"),
        (["seeds="], "seeds: expected a number of type int, got ''"),
        (["seeds=[]"], "seeds: expected a number of type int"),
        (["seeds=1,-1"], "seeds: expected at least 0, got -1"),
        (["seeds=1.5"], "seeds: expected a number of type int"),
        (["seeds=2,1,2"], "seeds: expected no seed twice"),
        (["node_selector=[]"], "node_selector: expected a JSON object"),
        (["node_selector=a=b"], "node_selector: expected a JSON object, got 'a=b'"),
        (["tolerations={}"], "tolerations: expected a JSON list"),
        (["seed=1"], "with one of these names: .*num_networks.*seeds"),
        (["recipe=vgg"], "recipe: expected one of alexnet-2012"),
        (["order_seed=-1"], "order_seed: expected at least 0, got -1"),
        (["gpus=two"], "gpus: expected a number of type int"),
        (["evaluate_gpus=2"], "evaluate_gpus: expected at most 1, got 2"),
        (["evaluate_batch_size=0"], "evaluate_batch_size: expected at least 1"),
        (["checkpoint_minutes=inf"], "checkpoint_minutes: Kubeflow carries no number exactly beyond 2.53, got inf"),
        (["order_seed=9007199254740993"], "order_seed: Kubeflow carries no number exactly beyond 2.53"),
        (['node_selector={"nvidia.com/gpu.count": 2}'], 'node_selector: expected a text .*Write "2"'),
        (['tolerations=["nvidia.com/gpu"]'], "tolerations: expected objects with effect, key, operator, value"),
        (['tolerations=[{"key": "a", "operator": "In"}]'], "the operator is none of Exists, Equal"),
        (['tolerations=[{"key": "a", "effect": "Never"}]'], "the effect is none of NoSchedule"),
        (['tolerations=[{"operator": "Exists", "value": "x"}]'], "with Exists there is no value"),
        (['tolerations=[{"value": "x"}]'], "without a key the operator is Exists"),
        (['tolerations=[{"key": "a", "tolerationSeconds": 5}]'], "goes with NoExecute only"),
    ],
)
def test_refusals(given, message):
    with pytest.raises(UsageError, match=f"^--param {message}" if message[0] in "ns" and ":" in message else message):
        PIPELINE.parse(given)


def test_a_task_has_no_number_of_networks():
    (train,) = [task for task in PIPELINE.tasks if task.name == "train"]
    with pytest.raises(UsageError, match="num_networks=2: expected NAME=VALUE"):
        train.parse(["num_networks=2"])


# What a genuine Kubeflow 2.17.0 answered to these, after "Failed to create a new run: ...: ".
RECORDED = [
    (
        {"release_uri": "s3://a/b"},
        "parameter root_uri is not optional, yet has neither default value nor user provided",
    ),
    ({"nonsense": 1}, "parameter(s) provided are not required by pipeline: nonsense"),
    ({"num_epochs": "many"}, "input parameter num_epochs requires type double or integer, but the parameter value is"),
    ({"subset": None}, "input parameter subset requires type string, but the input parameter is not of string value"),
    ({"seeds": "[0,1]"}, "input parameter seeds requires type list, but the input parameter is not of list value type"),
]


@pytest.mark.parametrize(("values", "message"), RECORDED)
def test_a_run_is_refused_as_by_the_server(values, message):
    places = {} if "release_uri" in values else {"release_uri": "s3://a/r", "root_uri": "s3://a/b"}
    with pytest.raises(UsageError, match=re.escape(message)):
        parameters.check_run(PIPELINE.types, PIPELINE.defaults, places | values)


def test_what_the_server_takes_is_taken():
    values = {"release_uri": "s3://a/r", "root_uri": "s3://a/b", "num_epochs": 1.5}
    parameters.check_run(PIPELINE.types, PIPELINE.defaults, values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (0.5, "0.5"),
        (1e-7, "1e-07"),
        (True, "true"),
        ([0, 1], "[0,1]"),
        ({"b": 1, "a": "x"}, '{"a":"x","b":1}'),
    ],
)
def test_a_value_is_written_into_a_command_as_by_the_driver(value, text):
    assert parameters.text_of(value) == text
