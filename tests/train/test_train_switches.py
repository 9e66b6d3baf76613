"""Switches on recipes and the schedules. Numbers in names: the assertions of the fidelity specification."""

import numpy as np
import pytest
import tensorflow as tf
from tiny_dataset import NUM_CLASSES, PUBLISHED, tiny, write_inputs
from tiny_run import config_of, digest, stop_after

from components.shared import manifest, runlog
from components.shared.errors import UsageError
from components.train import job
from components.train.input.draws import TrainingBatches
from components.train.input.loader import iterate
from components.train.input.split import Split
from components.train.net import network
from components.train.net.model import AlexNet
from components.train.net.optimizer import PaperSGD, rates
from components.train.net.placement import OneDevice
from components.train.recipes import schedule
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.alexnet_2012_paper import ALEXNET_2012_PAPER
from components.train.recipes.known import RECIPES
from components.train.recipes.switches import SWITCHES, described, named
from components.train.run.step import make_train_step


def layers_of(name):
    return {layer["name"]: layer for layer in network.build(named(name), 1000)}


def test_one_recipe_has_one_name():
    assert named("smoke") == RECIPES["smoke"]
    assert named("smoke+tanh+no-lrn") == named("smoke+no-lrn+tanh")
    assert named("smoke+tanh+no-lrn").name == "smoke+no-lrn+tanh"
    assert described("smoke") == ""
    assert described("smoke+tanh").startswith("tanh: ")
    with pytest.raises(UsageError, match=r"expected one schedule, got .* with two"):
        named("smoke+plateau+exponential")


def test_t04_sizes_without_overlapping_pools():
    layers = layers_of("alexnet-2012+plain-pool")
    names = ("conv1a", "pool1a", "conv2a", "pool2a", "conv3a", "conv4a", "conv5a", "pool5a")
    assert [layers[name]["shape"][0] for name in names] == [55, 28, 26, 13, 13, 13, 11, 6]
    assert [layers[name].get("padding") for name in names if name.startswith("pool")] == [
        [[0, 1], [0, 1]],
        None,
        [[0, 1], [0, 1]],
    ]


@pytest.mark.parametrize("switch", SWITCHES)
def test_parameters_of_every_switch(switch):
    changed = {
        "one-tower": 59798312,
        "drop-conv3": 60965224 - 885120 - 663936 + 885120,  # conv4 takes the place at which the towers meet
        "drop-conv4": 60965224 - 663936,
        "drop-conv5": 60965224 - 442624 + 36 * (384 - 256) * 4096,  # fc6 sees the 384 maps of conv4
        "conv6": 60965224 + 3 * 3 * 256 * 256 + 256,  # both towers see both
    }
    layers = list(layers_of(f"alexnet-2012+{switch}").values())
    assert network.totals(layers)["num_parameters"] == changed.get(switch, 60965224)
    assert network.totals(network.build(named(f"smoke+{switch}"), 10))["num_parameters"] > 0


def test_what_is_left_in_the_network():
    ops = {name: {layer["op"] for layer in layers_of(f"smoke+{name}").values()} for name in ("no-lrn", "tanh")}
    assert ops["no-lrn"].isdisjoint({"lrn", "spatial_norm"})
    assert "relu" not in ops["tanh"] and "tanh" in ops["tanh"]
    assert not any(layer["op"] == "dropout" for layer in layers_of("smoke+no-dropout").values())
    short = layers_of("smoke+drop-conv3+drop-conv4+drop-conv5")
    assert short["pool5b"]["inputs"] == ["concat2"] and short["flatten"]["shape"] == [6 * 6 * 2 * 64]
    for name, sources in (("conv6", ["relu5a", "relu5b"]), ("drop-conv5+conv6", ["pool5a", "pool5b"])):
        layers = layers_of(f"alexnet-2012+{name}")
        assert layers["concat5"]["inputs"] == sources
        assert layers["conv6a"]["inputs"] == layers["conv6b"]["inputs"] == ["concat5"]
        assert layers["conv6a"]["kernel"][-1] == 128 and layers["conv6a"]["shape"] == [6, 6, 128]
        assert layers["concat6"]["inputs"] == ["relu6a", "relu6b"] and layers["fc6"]["kernel"] == [9216, 4096]
    assert layers_of("alexnet-2012+plain-pool+conv6")["conv6b"]["shape"] == [6, 6, 128]
    conv6 = named("alexnet-2012+conv6").convs[5]
    assert (conv6.filters, conv6.weight_std, conv6.bias) == (256, 0.03, 1)  # [C] layers-146-2009.cfg
    crossing = layers_of("smoke+drop-conv3")
    assert crossing["conv4a"]["inputs"] == crossing["conv4b"]["inputs"] == ["concat2"]


def test_no_crops_leaves_noise_and_masks_as_they_were():
    class Numbered:
        def __len__(self):
            return 64

    masks = {"fc6_dropout": 8}
    base, center = (
        TrainingBatches(Numbered(), named(name), PUBLISHED, 0, 3, masks).draw(1, 8)
        for name in ("smoke", "smoke+no-crops")
    )
    assert np.all(center["origins"] == 16) and not np.any(center["flips"])
    assert np.any(base["origins"] != 16) and np.any(base["flips"])
    for name in ("noise", "fc6_dropout"):
        np.testing.assert_array_equal(base[name], center[name])
    assert not np.any(
        TrainingBatches(Numbered(), named("smoke+no-color-noise"), PUBLISHED, 0, 3, masks).draw(1, 8)["noise"]
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, 16, 4)
    return folder


@pytest.fixture
def _base(monkeypatch):
    monkeypatch.setitem(RECIPES, "smoke", tiny(name="smoke", reshuffle=False, crop_group=8))


def two_steps(inputs, name):
    """Train two steps, without a trace for each of the networks; returns the losses and the bytes of the weights."""
    recipe = named(name)
    layers = network.build(recipe, NUM_CLASSES)
    model = AlexNet(layers, recipe, 0)
    split = Split(manifest.load(str(inputs / "dataset.json"), "dataset"), "train", runlog.RunLog("train"))
    masks = {layer["name"]: layer["shape"][0] for layer in layers if layer["op"] == "dropout"}
    training = TrainingBatches(split, recipe, PUBLISHED, 0, 3, masks)
    optimizer = PaperSGD(model.parameters(), recipe)
    mean = np.full((224, 224, 3), 120, np.float32)
    step = make_train_step(OneDevice(model), optimizer, mean, tf.distribute.get_strategy())
    batches = list(iterate(training, 0, 2))
    phase = schedule.current_phase(recipe, 1, 3, [])
    rescale = 1 + phase.color_noise if recipe.color_noise_rescale else 1.0
    tf.config.run_functions_eagerly(True)
    try:
        losses = [step(batch, np.array(rates(phase), np.float32), rescale)[0] for batch in batches]
    finally:
        tf.config.run_functions_eagerly(False)
    return losses, b"".join(variable.numpy().tobytes() for variable in model.parameters().values())


@pytest.mark.slow
@pytest.mark.usefixtures("_base")
def test_every_switch_trains_and_is_not_the_base(inputs):
    found = {switch: two_steps(inputs, f"smoke+{switch}") for switch in SWITCHES}
    _, base = two_steps(inputs, "smoke")
    assert all(np.all(np.isfinite(losses)) for losses, _ in found.values())
    same = [switch for switch, (_, weights) in found.items() if weights == base]
    assert same == ["plateau"]  # which differs only after epochs without progress


def test_drops_by_the_validation_error():
    assert schedule.num_drops([], 2) == 0
    assert [schedule.num_drops([5, 4, 4, 4, 3][:n], 2) for n in range(6)] == [0, 0, 0, 0, 1, 1]
    assert schedule.num_drops([5] + [5, 6] * 10, 2) == 3  # and no more
    assert schedule.num_drops(np.linspace(1, 0, 50), 1) == 0


def test_rates_on_a_plateau():
    flat = [0.5] * 40
    recipe = named("alexnet-2012+plateau")
    phases = {n: schedule.current_phase(recipe, n + 1, 93, flat[:n]) for n in (0, 5, 6, 11, 39)}
    assert [phase.learning_rate for phase in phases.values()] == pytest.approx([0.01, 0.01, 0.001, 1e-4, 1e-5])
    assert {phase.bias_learning_rate for phase in phases.values()} == {0.002}
    paper = schedule.current_phase(named("alexnet-2012-paper+plateau"), 7, 90, flat[:6])
    assert rates(paper) == pytest.approx([0.001] * 4)
    late = schedule.current_phase(recipe, 80, 93, flat[:4])
    assert (late.conv1_learning_rate, late.color_noise) == (0.01, 0.0)
    assert schedule.current_phase(ALEXNET_2012, 7, 93, flat[:6]) == ALEXNET_2012.phase(7, 93)


def test_the_exponential_schedule_of_config_170():
    recipe = named("alexnet-2012+exponential")
    phases = [recipe.phase(epoch, 93) for epoch in range(1, 94)]
    found = list(dict.fromkeys(phase.learning_rate for phase in phases))
    assert found == pytest.approx([0.01, 0.001587401, 0.000251984, 0.00004], rel=1e-6)
    assert [sum(phase.learning_rate == rate for phase in phases) for rate in found] == [24, 23, 23, 23]
    assert [phase.bias_learning_rate for phase in phases[::46]] == pytest.approx([0.02, 0.02, 0.002])
    assert [phase.color_noise for phase in phases[66:68]] == [0.1, 0.0]
    assert schedule.exponential_phases(ALEXNET_2012_PAPER)[0].bias_learning_rate == 0.02


@pytest.mark.slow
def test_a_plateau_is_the_same_after_a_resume(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "smoke", tiny(name="smoke", plateau_patience=1, batch_size=16))
    whole, parts = (config_of(inputs, tmp_path / name, num_epochs=6, checkpoint_minutes=0.0) for name in "ab")
    job.run(whole)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 4)
        job.run(parts)
    job.run(parts)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    history = manifest.load(str(tmp_path / "a" / "model.json"), "model").stage("history.jsonl").read_text()
    assert history.count('"learning_rate": 0.001,') < 6
