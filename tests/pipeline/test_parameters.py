"""What a person may type after --param."""

import pytest

from components.shared.errors import UsageError
from pipeline import ir

TYPES = ir.load().types


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
        (["num_epochs=3", "gpus=0"], {"num_epochs": 3, "gpus": 0}),
    ],
)
def test_values(given, expected):
    assert ir.parse_parameters(TYPES, given) == expected


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
    ],
)
def test_refusals(given, message):
    with pytest.raises(UsageError, match=f"^--param {message}" if message[0] in "ns" and ":" in message else message):
        ir.parse_parameters(TYPES, given)


def test_a_task_has_no_number_of_networks():
    types = {task.name: task.types for task in ir.load().tasks}["train"]
    with pytest.raises(UsageError, match="num_networks=2: expected NAME=VALUE"):
        ir.parse_parameters(types, ["num_networks=2"])
