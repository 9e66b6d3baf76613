"""Mixed precision: what is computed in bfloat16, what never is, and how far the results are from float32's."""

import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from tiny_dataset import NUM_CLASSES, tiny, write_inputs
from tiny_run import config_of, digest, stop_after

from components.shared import manifest
from components.train import job
from components.train.net import network
from components.train.net.model import AlexNet, run_layer
from components.train.net.optimizer import PaperSGD
from components.train.net.placement import OneDevice
from components.train.recipes.known import RECIPES
from components.train.recipes.switches import named
from components.train.run.step import cross_entropy, make_train_step


def test_layers_are_bfloat16_and_what_is_kept_is_float32():
    recipe = tiny(precision="bfloat16")
    layers = network.build(recipe, NUM_CLASSES)
    assert layers == network.build(tiny(), NUM_CLASSES)  # evaluate runs it in float32
    model = AlexNet(layers, recipe, 0)
    values = model.activations(tf.zeros((2, 224, 224, 3)))
    dtypes = {name: value.dtype.name for name, value in values.items()}
    assert {name for name, dtype in dtypes.items() if dtype != "bfloat16"} == {"input", "fc8"}
    optimizer = PaperSGD(model.parameters(), recipe)
    kept = [*optimizer.parameters.values(), *optimizer.velocities.values()]
    assert {np.asarray(variable).dtype.name for variable in kept} == {"float32"}
    assert {values["fc8"].dtype.name, cross_entropy(np.zeros(2, np.int32), values["fc8"]).dtype.name} == {"float32"}


def test_normalisation_is_as_exact_as_its_input():
    """Sums of squares in bfloat16 would be off by up to 2^-8; here only input and output are rounded."""
    x = tf.constant(np.random.default_rng(0).normal(0, 200, (2, 55, 55, 4)), tf.bfloat16)
    strong = tiny(precision="bfloat16", lrn_alpha=2e-2, spatial_norm_alpha=4e-2)
    layers = {layer["name"]: layer for layer in network.build(strong, NUM_CLASSES)}
    for name in ("lrn1a", "spatial_norm2a"):
        expected = run_layer(layers[name], [tf.cast(x, tf.float32)], {}, None)
        found = run_layer(layers[name], [x], {}, None)
        assert found.dtype == tf.bfloat16
        np.testing.assert_array_equal(found, tf.cast(expected, tf.bfloat16))


def start(precision):
    recipe = tiny(precision=precision)
    return OneDevice(AlexNet(network.build(recipe, NUM_CLASSES), recipe, 0))


def steps(model, num_steps):
    """Take steps on drawn batches; returns the losses and the weights."""
    mean = np.full((224, 224, 3), 120, np.float32)
    step = make_train_step(model, PaperSGD(model.parameters(), tiny()), mean, tf.distribute.get_strategy())
    losses = []
    for index in range(num_steps):
        rng = np.random.default_rng(index)
        batch = {
            "crops": rng.integers(0, 256, (8, 224, 224, 3)).astype(np.uint8),
            "flips": rng.random(8) < 0.5,
            "noise": rng.normal(0, 7, (8, 3)).astype(np.float32),
            "labels": rng.integers(0, NUM_CLASSES, 8).astype(np.int32),
            **{name: rng.random((8, 8)) < 0.5 for name in ("fc6_dropout", "fc7_dropout")},
        }
        batch = {name: tf.constant(value) for name, value in batch.items()}
        losses.append(step(batch, np.full(4, 1e-3, np.float32), 1.1)[0])
    return np.array(losses), model.export(model.parameters())


def apart(first, second):
    """Find the distance of two sets of weights, relative to that of the first from where both began."""
    begin = start("float32")
    begin = begin.export(begin.parameters())
    far, near = (np.sqrt(sum(np.sum((first[name] - other[name]) ** 2) for name in first)) for other in (begin, second))
    return near / far


@pytest.mark.slow
def test_ten_steps_stay_near_those_of_float32():
    (losses, weights), (losses16, weights16) = (steps(start(precision), 10) for precision in ("float32", "bfloat16"))
    np.testing.assert_allclose(losses16, losses, rtol=0.02)
    assert 0 < apart(weights, weights16) < 0.05


@pytest.mark.slow
def test_a_run_resumes_and_ends_in_float32_weights(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "smoke", tiny(name="smoke"))
    write_inputs(tmp_path)
    whole, parts, other = (
        config_of(tmp_path, tmp_path / name, recipe=f"smoke{switch}", num_epochs=2, checkpoint_minutes=0.0)
        for name, switch in (("whole", "+bfloat16"), ("parts", "+bfloat16"), ("other", ""))
    )
    job.run(whole)
    job.run(other)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 3)
        job.run(parts)
    job.run(parts)
    assert digest(tmp_path / "whole") == digest(tmp_path / "parts") != digest(tmp_path / "other")
    model = manifest.load(str(tmp_path / "whole" / "model.json"), "model")
    weights = safetensors.numpy.load_file(model.stage("weights.safetensors"))
    assert {array.dtype.name for array in weights.values()} == {"float32"}
    assert model.content["recipe"]["precision"] == named("smoke+bfloat16").precision == "bfloat16"
    assert "bfloat16: layers compute in bfloat16" in (tmp_path / "whole" / "report.html").read_text()


THREE_DEVICES = """
import sys; sys.path[:0] = [sys.argv[1]]
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 3)
import test_train_bfloat16 as test
from components.train.net import towers
one = test.steps(test.start("bfloat16"), 4)
halves = test.steps(towers.TwoDevices(test.start("bfloat16").model, ("/device:CPU:1", "/device:CPU:2")), 4)
with tf.distribute.MirroredStrategy(["CPU:1", "CPU:2"]).scope():
    parts = test.steps(test.start("bfloat16"), 4)
for losses, weights in (halves, parts):
    np.testing.assert_allclose(losses, one[0], rtol=5e-3)
    assert test.apart(one[1], weights) < 0.02, test.apart(one[1], weights)
print("equal")
"""


@pytest.mark.slow
def test_two_devices_step_as_one(request):
    command = [sys.executable, "-c", THREE_DEVICES, str(request.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=request.config.rootpath)
    assert done.stdout.strip().endswith("equal"), done.stderr[-3000:]
