"""The update rule. Numbers in names: the assertions of the fidelity specification."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.train.net.optimizer import PaperSGD, paper_update, rate_index, rates
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.run.step import cross_entropy, num_larger

STEPS = [(0.2, 0.01), (-0.1, 0.01), (0.05, 0.001)]


def run(weight, steps, decay):
    velocity, trace = np.float64(0), []
    for gradient, rate in steps:
        weight, velocity = (
            x.numpy() for x in paper_update(tf.constant(weight, tf.float64), velocity, gradient, rate, decay, 0.9)
        )
        trace.append((float(weight), float(velocity)))
    return np.array(trace)


def test_t14_rate_and_decay_are_inside_the_velocity():
    trace = run(0.5, STEPS, 0.0005)
    np.testing.assert_allclose(trace[:, 0], [0.4979975000, 0.4971927600, 0.4964182454], rtol=0, atol=5e-11)
    np.testing.assert_allclose(trace[:, 1], [-0.0020025000, -0.0008047400, -0.0007745146], rtol=0, atol=5e-11)


def test_t15_biases_do_not_decay():
    np.testing.assert_allclose(run(0.5, STEPS, 0)[:, 0], [0.498, 0.4972, 0.49643], rtol=0, atol=1e-12)
    code = [(gradient, 0.002) for gradient, _ in STEPS]
    np.testing.assert_allclose(run(1.0, code, 0)[:, 0], [0.9996, 0.99944, 0.999196], rtol=0, atol=1e-12)


@pytest.mark.slow
def test_t16_zero_gradient_decays_and_zero_rate_freezes():
    assert run(1.0, [(0.0, 0.01)] * 1000, 0.0005)[-1, 0] == pytest.approx(0.951635, abs=1e-6)
    weight, velocity = paper_update(tf.constant(1.0), tf.constant(0.3), 5.0, tf.constant(0.0), 0.0005, 0.9)
    assert (float(weight), float(velocity)) == (1.0, np.float32(0.3))


@pytest.mark.parametrize("size", [128, 94])
def test_t17_loss_is_a_mean_over_the_actual_batch(size):
    logits, bias = tf.zeros((size, 1000)), tf.Variable(tf.zeros(1000))
    labels = tf.zeros(size, tf.int32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(cross_entropy(labels, logits + bias)) / size
    gradient = tape.gradient(loss, bias).numpy()
    assert float(loss) == pytest.approx(6.907755, abs=1e-6)
    np.testing.assert_allclose(gradient[:3], [-0.999, 0.001, 0.001], rtol=1e-5)


def test_num_larger_ranks_the_label():
    logits = tf.constant([[1.0, 3, 2], [1, 3, 2], [1, 3, 2], [2, 2, 2]])
    assert num_larger(tf.constant([1, 2, 0, 0]), logits).numpy().tolist() == [0, 1, 2, 0]


def test_each_parameter_has_its_rate():
    frozen = ALEXNET_2012.phase(72, 93)
    assert rates(frozen) == [0.0001, 0.002, 0.0, 0.0]
    index = {name: rate_index(name) for name in ("fc6/kernel", "conv2a/bias", "conv1a/kernel", "conv1/bias")}
    assert index == {"fc6/kernel": 0, "conv2a/bias": 1, "conv1a/kernel": 2, "conv1/bias": 3}
    names = ["conv1a/kernel", "conv1a/bias", "fc6/kernel", "fc6/bias"]
    variables = {name: keras.Variable(np.ones(2, np.float32)) for name in names}
    optimizer = PaperSGD(variables, replace(ALEXNET_2012, weight_decay=0.5))
    for _ in range(2):
        optimizer.apply([tf.constant([1.0, 0.0])] * 4, tf.constant(rates(frozen)))
    after = {name: variable.numpy().tolist() for name, variable in variables.items()}
    assert after["conv1a/kernel"] == after["conv1a/bias"] == [1, 1]
    assert after["fc6/kernel"][0] < after["fc6/kernel"][1] < 1  # decays where the gradient is zero
    assert after["fc6/bias"][1] == 1 and after["fc6/bias"][0] == pytest.approx(1 - 0.002 * (1 + 1.9))


TWO_DEVICES = """
import sys; sys.path[:0] = [sys.argv[1]]
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from tiny_dataset import tiny
from components.train.net import network
from components.train.net.model import AlexNet
from components.train.net.optimizer import PaperSGD
from components.train.net.placement import OneDevice
from components.train.run.step import make_train_step, make_validation_step
recipe = tiny()
layers = network.build(recipe, 3)

def train(strategy):
    with strategy.scope():
        model = AlexNet(layers, recipe, 0)
        optimizer = PaperSGD(model.parameters(), recipe)
    step = make_train_step(OneDevice(model), optimizer, np.full((224, 224, 3), 120, np.float32), strategy)
    losses = []
    for size in (8, 7, 8):
        rng = np.random.default_rng(size)
        batch = {
            "crops": rng.integers(0, 256, (size, 224, 224, 3)).astype(np.uint8), "flips": rng.random(size) < 0.5,
            "noise": rng.normal(0, 7, (size, 3)).astype(np.float32),
            "labels": rng.integers(0, 3, size).astype(np.int32),
            "fc6_dropout": rng.random((size, 8)) < 0.5, "fc7_dropout": rng.random((size, 8)) < 0.5}
        batch = {name: tf.constant(value) for name, value in batch.items()}
        losses.append(step(batch, np.array([1e-3, 1e-3, 1e-3, 1e-3], np.float32), 1.1))
    for variable in model.parameters().values():  # as resuming does
        variable.assign(variable.numpy())
    validation = make_validation_step(OneDevice(model), np.full((224, 224, 3), 120, np.float32))
    losses.append(validation({name: batch[name] for name in ("crops", "labels")})[:2])
    return losses, {name: value.numpy() for name, value in model.parameters().items()}

one, two = train(tf.distribute.get_strategy()), train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
moved = 0.0
for name, value in one[1].items():
    np.testing.assert_allclose(two[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    moved = max(moved, float(np.abs(value - AlexNet(layers, recipe, 0).parameters()[name].numpy()).max()))
assert moved > 1e-4, moved
print("equal")
"""


@pytest.mark.slow
def test_two_devices_step_as_one(request):
    command = [sys.executable, "-c", TWO_DEVICES, str(request.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=request.config.rootpath)
    assert done.stdout.strip().endswith("equal"), done.stderr[-3000:]
