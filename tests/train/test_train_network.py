"""The recipes and the network as plain data. Numbers in names: the assertions of the fidelity specification."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from components.train.net import network
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.alexnet_2012_paper import ALEXNET_2012_PAPER
from components.train.recipes.known import RECIPES
from components.train.recipes.smoke import SMOKE

FULL = {layer["name"]: layer for layer in network.build(ALEXNET_2012, 1000)}


def test_t01_kernels_of_the_two_towers():
    expected = {
        "conv1": [11, 11, 3, 48],
        "conv2": [5, 5, 48, 128],
        "conv3": [3, 3, 256, 192],
        "conv4": [3, 3, 192, 192],
        "conv5": [3, 3, 192, 128],
    }
    for name, kernel in expected.items():
        assert FULL[f"{name}a"]["kernel"] == FULL[f"{name}b"]["kernel"] == kernel
    assert FULL["fc6"]["kernel"] == [9216, 4096]
    assert FULL["conv1a"]["padding"] == [[0, 3], [0, 3]]


def test_t02_parameters_per_layer():
    found: dict[str, int] = {}
    for layer in FULL.values():
        base = network.base_name(layer["name"])
        found[base] = found.get(base, 0) + network.num_parameters(layer)
    counts = [found[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")]
    assert counts == [34944, 307456, 885120, 663936, 442624, 37752832, 16781312, 4097000]
    assert sum(counts) == 60965224


@pytest.mark.parametrize(
    ("filters", "expected"), [((48, 128, 192, 192, 256), 59798312), ((96, 256, 384, 384, 256), 62378344)]
)
def test_t02_one_tower(filters, expected):
    convs = tuple(replace(conv, filters=f) for conv, f in zip(ALEXNET_2012.convs, filters, strict=True))
    layers = network.build(replace(ALEXNET_2012, towers=1, convs=convs), 1000)
    assert network.totals(layers)["num_parameters"] == expected
    assert {layer["name"] for layer in layers}.isdisjoint({"conv1a", "concat2", "concat5"})


def test_t03_sizes_and_units():
    sizes = [FULL[f"{name}a"]["shape"][0] for name in ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5")]
    assert [*sizes, FULL["pool5a"]["shape"][0]] == [55, 27, 27, 13, 13, 13, 13, 6]
    assert {54, 56}.isdisjoint(layer["shape"][0] for layer in FULL.values())
    totals = network.totals(list(FULL.values()))
    assert totals == {"num_parameters": 60965224, "num_neurons": 659272, "num_macs": 724406816}


def order(recipe, number):
    return [layer["op"] for layer in network.build(recipe, 10) if layer["name"].endswith(f"{number}a")]


def test_order_of_the_code_and_of_the_paper():
    assert order(ALEXNET_2012, 1) == ["conv", "lrn", "max_pool", "relu"]
    assert order(ALEXNET_2012, 2) == ["conv", "relu", "lrn", "spatial_norm", "max_pool"]
    assert order(ALEXNET_2012, 5) == ["conv", "max_pool", "relu"]
    assert order(ALEXNET_2012_PAPER, 1) == order(ALEXNET_2012_PAPER, 2) == ["conv", "relu", "lrn", "max_pool"]
    assert order(ALEXNET_2012_PAPER, 5) == ["conv", "relu", "max_pool"]
    assert [order(SMOKE, n) for n in range(1, 6)] == [order(ALEXNET_2012, n) for n in range(1, 6)]


def test_layers_are_in_topological_order_and_end_in_logits():
    for recipe in RECIPES.values():
        seen: set[str] = set()
        layers = network.build(recipe, 7)
        for layer in layers:
            assert seen.issuperset(layer["inputs"])
            seen.add(layer["name"])
        assert (layers[-1]["name"], layers[-1]["shape"]) == ("fc8", [7])
        assert [layer["name"] for layer in layers if layer["op"] == "dropout"] == ["fc6_dropout", "fc7_dropout"]


def test_schedule_of_2012():
    def rates(epoch):
        phase = ALEXNET_2012.phase(epoch, 93)
        return phase.learning_rate, phase.conv1_learning_rate, phase.color_noise

    assert rates(1) == rates(22) == (0.01, 0.01, 0.1)
    assert rates(23) == rates(50) == (0.001, 0.001, 0.1)
    assert rates(51) == rates(67) == (0.0001, 0.0001, 0.1)
    assert rates(68) == rates(71) == (0.0001, 0.00001, 0.0)
    assert rates(72) == rates(77) == (0.0001, 0.0, 0.0)
    assert rates(78) == rates(93) == (0.00001, 0.0, 0.0)
    assert {ALEXNET_2012.phase(e, 93).bias_learning_rate for e in range(1, 94)} == {0.002}
    # 22, 28, 27 and 16 epochs of 9855 batches at each rate, as the original notes count them.
    assert [sum(rates(e)[0] == r for e in range(1, 94)) for r in (0.01, 0.001, 0.0001, 0.00001)] == [22, 28, 27, 16]


@pytest.mark.parametrize("num_epochs", [1, 2, 10, 93, 500])
def test_schedule_stretches(num_epochs):
    phases = [ALEXNET_2012.phase(epoch, num_epochs) for epoch in range(1, num_epochs + 1)]
    assert phases[0] == ALEXNET_2012.phases[0]
    firsts = [phase.first_epoch for phase in phases]
    assert firsts == sorted(firsts)
    if num_epochs >= 93:
        assert phases[-1] == ALEXNET_2012.phases[-1]


def test_describe_prints_json_and_a_table_without_tensorflow():
    code = "import sys; from components.train import describe; describe.main(); assert 'numpy' not in sys.modules"
    command = [sys.executable, "-c", code, "--recipe", "alexnet-2012"]
    output = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout
    described = json.loads(output)
    assert described["num_parameters"] == 60965224
    assert sum(layer["num_macs"] for layer in described["layers"]) == described["num_macs"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert text.splitlines()[-1].split() == ["total", "60,965,224", "659,272", "724,406,816"]
