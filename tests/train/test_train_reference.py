"""The Keras model, its gradients and ten of its steps against a second implementation in plain NumPy."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import numpy_reference
import pytest
import tensorflow as tf

from components.train.net import network
from components.train.net.model import AlexNet
from components.train.net.optimizer import PaperSGD
from components.train.net.placement import OneDevice
from components.train.recipes.switches import named
from components.train.run.step import cross_entropy, make_train_step

NUM_CLASSES, BATCH, UNITS = 3, 4, 16
FILTERS = (12, 12, 8, 8, 8, 8)
TOLERANCE = 1e-4
CLEAR = 2e-6
MEAN = np.full((224, 224, 3), 120, np.float32)


def small(name):
    """Shrink a recipe; its weights grow, so that signals and gradients stay of a size that a test can see."""
    recipe = named(name)
    stds = [recipe.convs[0].weight_std] + [4 * conv.weight_std for conv in recipe.convs[1:]]
    return replace(
        recipe,
        convs=tuple(
            replace(conv, filters=filters, weight_std=std)
            for conv, filters, std in zip(recipe.convs, FILTERS, stds, strict=False)
        ),
        denses=tuple(replace(dense, units=UNITS, weight_std=0.1) for dense in recipe.denses),
    )


NETS = {name: small(name) for name in ("alexnet-2012", "alexnet-2012-paper", "smoke")}
NETS |= {name: small(name) for name in ("smoke+plain-pool+conv6+tanh", "smoke+one-tower+no-dropout+drop-conv4")}
# With a hundred times the alpha, a wrong window or power is an error of per cents.
NETS["strong norms"] = replace(NETS["alexnet-2012"], lrn_alpha=2e-3, spatial_norm_alpha=4e-3)


def draw(step, layers, attempt=0):
    """Draw a batch as `TrainingBatches` makes them, without images of a dataset."""
    rng = np.random.default_rng([step, attempt])
    smooth = rng.integers(0, 256, (BATCH, 28, 28, 3)).repeat(8, 1).repeat(8, 2)
    masks = {layer["name"]: rng.random((BATCH, UNITS)) < 0.5 for layer in layers if layer["op"] == "dropout"}
    return {
        "crops": np.clip(smooth + rng.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8),
        "flips": rng.random(BATCH) < 0.5,
        "noise": rng.normal(0, 7, (BATCH, 3)).astype(np.float32),
        "labels": rng.integers(0, NUM_CLASSES, BATCH).astype(np.int32),
        **masks,
    }


def reference_values(layers, weights, batch, rescale=1.1):
    masks = {layer["name"]: batch[layer["name"]] for layer in layers if layer["op"] == "dropout"}
    images = numpy_reference.prepare(batch["crops"], batch["flips"], batch["noise"], MEAN, rescale)
    return images, masks, numpy_reference.forward(layers, weights, images, masks)


def reference_gradients(layers, weights, batch, rescale=1.1):
    images, masks, values = reference_values(layers, weights, batch, rescale)
    loss, to_logits = numpy_reference.cross_entropy(values["fc8"], batch["labels"])
    return images, masks, values, loss, numpy_reference.backward(layers, weights, values, masks, to_logits)


def draw_clear(step, layers, weights, rescale=1.1):
    """Draw a batch on which no ReLU and no maximum hangs on the last bits of a float32: there the gradient jumps."""
    for attempt in range(20):
        batch = draw(step, layers, attempt)
        if numpy_reference.margin(layers, reference_values(layers, weights, batch, rescale)[2]) > CLEAR:
            return batch
    raise AssertionError("no batch without near ties")


def check(found, expected, name, tolerance=TOLERANCE):
    """Compare by norms: the error of a tensor relative to the whole of it."""
    size = np.linalg.norm(expected)
    assert size > 0, f"{name}: nothing to compare"
    assert np.linalg.norm(np.asarray(found, np.float64) - expected) <= tolerance * size, name


def check_ten_steps(recipe, layers, weights, take):
    """Take ten steps, the last five at a tenth of the rate, the last two with conv1 frozen, as in the schedule of 2012.

    `take` steps on a batch with rates and rescale, and returns the loss; the weights and velocities there should be at
    the end are returned.
    """
    velocities = {key: np.zeros_like(value) for key, value in weights.items()}
    for step in range(10):
        rate, conv1 = (0.01, 1.0) if step < 5 else (0.001, float(step < 8))
        rescale = 1.1 if step < 8 else 1.0
        batch = draw_clear(step, layers, weights, rescale)
        found_loss = take(batch, np.array([rate, 0.002, conv1 * rate, conv1 * 0.002], np.float32), rescale)
        *_, loss, gradients = reference_gradients(layers, weights, batch, rescale)
        assert found_loss == pytest.approx(loss, rel=TOLERANCE)
        own = {
            key: (0.002 if key.endswith("/bias") else rate) * (conv1 if key.startswith("conv1") else 1.0)
            for key in weights
        }
        numpy_reference.update(weights, velocities, gradients, own, recipe.momentum, recipe.weight_decay)
    return weights, velocities


def check_state(weights, velocities, expected_weights, expected_velocities):
    """Compare; one float32 rounding of a weight is 6e-8 of it, so the change is seen through the velocities."""
    for key, expected in expected_weights.items():
        check(velocities[key], expected_velocities[key], f"velocity of {key}")
        check(weights[key], expected, key, 1e-6 if np.linalg.norm(expected) > 0.1 else TOLERANCE)


def made(recipe):
    layers = network.build(recipe, NUM_CLASSES)
    model = AlexNet(layers, recipe, 0)
    return layers, model, {name: np.asarray(value, np.float64) for name, value in model.parameters().items()}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.slow
def test_logits_and_every_gradient(name):
    layers, model, weights = made(NETS[name])
    batch = draw_clear(0, layers, weights)
    images, masks, values, loss, gradients = reference_gradients(layers, weights, batch)
    variables = model.parameters()
    with tf.GradientTape() as tape:
        tensors = {key: tf.constant(mask, tf.float32) for key, mask in masks.items()}
        found = model.activations(tf.constant(images, tf.float32), tensors)
        found_loss = tf.reduce_mean(cross_entropy(batch["labels"], found["fc8"]))
    for layer in layers:
        check(found[layer["name"]], values[layer["name"]], layer["name"])
    assert float(found_loss) == pytest.approx(loss, rel=1e-5)
    found_gradients = tape.gradient(found_loss, [variable.value for variable in variables.values()])
    assert set(gradients) == set(variables)
    for key, gradient in zip(variables, found_gradients, strict=True):
        check(gradient, gradients[key], key)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETS if "+" not in name])
def test_ten_steps(name):
    recipe = NETS[name]
    layers, model, weights = made(recipe)
    optimizer = PaperSGD(model.parameters(), recipe)
    train_step = make_train_step(OneDevice(model), optimizer, MEAN, tf.distribute.get_strategy())

    def take(batch, rates, rescale):
        return train_step({key: tf.constant(value) for key, value in batch.items()}, rates, rescale)[0]

    check_state(model.parameters(), optimizer.velocities, *check_ten_steps(recipe, layers, weights, take))


ON_JAX = """
import sys; sys.path[:0] = [sys.argv[1]]
import jax, keras
import test_train_reference as test
from benchmarks.gpu_step import initial_state, jax_step, loss_and_gradients
assert keras.backend.backend() == "jax"
recipe = test.NETS["alexnet-2012"]
layers, model, weights = test.made(recipe)

batch = test.draw_clear(0, layers, weights)
_, _, values, loss, expected = test.reference_gradients(layers, weights, batch)
state = [initial_state(model)]
(found_loss, logits), gradients = jax.jit(loss_and_gradients(model, test.MEAN))(state[0][0], batch, 1.1)
test.check(found_loss, loss, "loss")
test.check(logits, values["fc8"], "logits")
assert set(gradients) == set(expected)
for name, gradient in gradients.items():
    test.check(gradient, expected[name], name)

step = jax_step(model, recipe, test.MEAN)
def take(batch, rates, rescale):
    state[0], loss, wrong = step(state[0], batch, rates, rescale)
    assert 0 <= int(wrong) <= test.BATCH
    return float(loss)
expected = test.check_ten_steps(recipe, layers, weights, take)
test.check_state(*state[0], *expected)
print("equal")
"""


@pytest.mark.slow
def test_the_jax_backend_agrees_too(request):
    """Logits, every gradient and ten steps, compared in another process: Keras has one backend in each."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", ON_JAX, str(request.path.parent)],
        capture_output=True,
        text=True,
        cwd=request.config.rootpath,
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(request.config.rootpath)},
    )
    assert done.stdout.strip().endswith("equal"), done.stderr[-3000:]
