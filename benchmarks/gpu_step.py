"""The training step on one GPU, on the JAX backend over PyTorch, both compiled: only ratios and shares count.

    [TORCH_PYTHON=PATH] python -m benchmarks.gpu_step BATCH_SIZE ROUNDS PRECISION[:PEAK]...

PRECISION is fp32, tf32 or bf16; PEAK, in TFLOP/s, is the device's published rate for it. Both take alexnet-2012 with
1000 classes; ours makes flip, mean and noise in the step as well. PyTorch (`torch_alexnet.py`: torch.compile,
channels_last) runs in a process of its own, by TORCH_PYTHON where this interpreter has none, and steps when told. Of
ROUNDS rounds of ten steps the shortest counts. Runs on whatever devices JAX and PyTorch find; a GPU needs jax[cuda12].

    python -m benchmarks.gpu_step 128 5 fp32:67 tf32:495 bf16:989      # an H100 or H200
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory of the same device

import jax
import keras
import numpy as np
from keras import ops

from benchmarks.steps import gflop_per_image, random_batch, shortest, torch_step
from components.train.net import network
from components.train.net.model import AlexNet, prepare_training
from components.train.net.optimizer import paper_update, rate_index, weight_decay
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.recipe import Recipe
from components.train.run.step import cross_entropy, num_larger

Arrays = dict[str, Any]
STEPS = 10
PRECISIONS = {"fp32": "float32", "tf32": "tensorfloat32", "bf16": "bfloat16"}  # of matrix products, in JAX's words


def loss_and_gradients(model: AlexNet, mean_HWC: np.ndarray) -> Callable[[Arrays, Arrays, float], tuple]:
    """Make the function of weights, batch and rescale that returns ((loss, logits), gradients)."""
    parameters = model.parameters()
    dropouts = [layer["name"] for layer in model.network if layer["op"] == "dropout"]

    def loss(weights: Arrays, batch: Arrays, rescale: float) -> tuple[Any, Any]:
        images = prepare_training(batch["crops"], batch["flips"], batch["noise"], mean_HWC, rescale)
        with keras.StatelessScope([(parameters[name], value) for name, value in weights.items()]):
            logits = model(images, {name: batch[name] for name in dropouts})
        return ops.mean(cross_entropy(batch["labels"], logits)), logits

    return jax.value_and_grad(loss, has_aux=True)


def jax_step(model: AlexNet, recipe: Recipe, mean_HWC: np.ndarray) -> Callable[..., tuple]:
    """Make the step as a pure function of (weights, velocities), batch, rates and rescale.

    Returns:
        The function, compiled; it returns the new (weights, velocities), the loss and the number of wrong images.
    """
    compute = loss_and_gradients(model, mean_HWC)

    def step(state: tuple[Arrays, Arrays], batch: Arrays, rates: Any, rescale: float) -> tuple:
        weights, velocities = state
        (loss, logits), gradients = compute(weights, batch, rescale)
        new = {
            name: paper_update(
                weights[name],
                velocities[name],
                gradient,
                rates[rate_index(name)],
                weight_decay(name, recipe),
                recipe.momentum,
            )
            for name, gradient in gradients.items()
        }
        moved = {name: pair[0] for name, pair in new.items()}, {name: pair[1] for name, pair in new.items()}
        return moved, loss, ops.count_nonzero(num_larger(batch["labels"], logits))

    return jax.jit(step, donate_argnums=0)


def initial_state(model: AlexNet) -> tuple[Arrays, Arrays]:
    """Copy the weights of a model, with velocities of zero."""
    weights = {name: ops.copy(variable.value) for name, variable in model.parameters().items()}
    return weights, {name: ops.zeros_like(value) for name, value in weights.items()}


def our_steps(batch_size: int, precision: str) -> Callable[[], object]:
    """Make ten steps of this project."""
    recipe = replace(ALEXNET_2012, precision="bfloat16" if precision == "bf16" else "float32")
    model = AlexNet(network.build(recipe, 1000), recipe, 0)
    step = jax_step(model, recipe, np.full((224, 224, 3), 120, np.float32))
    batch = jax.device_put(random_batch(batch_size))
    state, rates = [initial_state(model)], np.full(4, 1e-4, np.float32)

    def run() -> None:
        with jax.default_matmul_precision(PRECISIONS[precision]):
            for _ in range(STEPS):
                state[0], loss, _ = step(state[0], batch, rates, 1.1)
        loss.block_until_ready()

    return run


def main() -> None:
    """Print images/s, ratio and share for each precision."""
    batch_size, rounds = int(sys.argv[1]), int(sys.argv[2])
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, Keras {keras.__version__}, batch {batch_size}")
    gflop = gflop_per_image(network.build(ALEXNET_2012, 1000))
    for precision, _, peak in (word.partition(":") for word in sys.argv[3:]):
        variants = {"ours": our_steps(batch_size, precision)}
        if step := torch_step(str(batch_size), precision, "compile", str(STEPS)):
            variants["PyTorch"] = step
        seconds = shortest(variants, rounds)
        for name, found in seconds.items():
            rate = STEPS * batch_size / found
            share = f", {rate * gflop / 1000 / float(peak):.2f} of {peak} TFLOP/s" if peak else ""
            print(f"{precision} {name}: {rate:.1f} images/s, {rate * gflop / 1000:.2f} TFLOP/s{share}")
        if "PyTorch" in seconds:
            print(f"{precision} ours over PyTorch: {seconds['PyTorch'] / seconds['ours']:.2f}")


if __name__ == "__main__":
    main()
