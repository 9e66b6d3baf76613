"""Figure 1 of the paper again: training error of a four-layer network on CIFAR-10, ReLU against tanh.

    python -m benchmarks.figure1 CIFAR_DIR OUT_DIR

CIFAR_DIR holds `data_batch_1.bin` ... `data_batch_5.bin` (the binary version as published) or `cifar10_jpeg.npz`. The
network has no regularisation of any kind. For each nonlinearity a short sweep chooses the rate that is fastest; both
then train until their training error is below the target. OUT_DIR gets `figure1.json` and `figure1.png`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np

from components.shared.runlog import hold_stderr

with hold_stderr():
    import keras
    import tensorflow as tf

    from components.train.net.model import initial_seed
    from components.train.net.optimizer import PaperSGD
    from components.train.run.step import cross_entropy, num_larger

mpl.use("Agg")
from matplotlib import pyplot as plt

IMAGE_SHAPE = (32, 32, 3)


@dataclass(frozen=True, kw_only=True)
class Cifar:
    """A network of three convolutions and one dense layer, and how to train it."""

    nonlinearity: Literal["relu", "tanh"]
    filters: tuple[int, int, int] = (32, 32, 64)  # all 5x5, padded by 2
    pools: tuple[str, str, str] = ("max", "average", "average")  # all 3x3 every 2, the last one cut at the border
    weight_stds: tuple[float, float, float, float] = (0.0001, 0.01, 0.01, 0.01)
    learning_rate: float
    bias_rate_ratio: float = 2.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 128
    max_epochs: int
    seed: int = 0


# Source: the paper, section 3.1, names "a four-layer convolutional network" and no more. This is the one of the
# original code's examples with four layers that learn, layers-19pct.cfg, without its weight decay and its rate.
# Command: python -m benchmarks.figure1 CIFAR_DIR OUT_DIR
# Cost: 89,578 parameters, 12.3 million multiply-accumulates an image forward; 17 s of a core an epoch, some 60 epochs.
# Expected: the paper's curves pass 25 % after about 6 epochs (ReLU) and 36 (tanh), read off its figure.
RELU = Cifar(nonlinearity="relu", learning_rate=0.001, max_epochs=40)
TANH = replace(RELU, nonlinearity="tanh")

TARGET_ERROR = 0.25
PAPER_EPOCHS = {"relu": 6, "tanh": 36}
# Around the example's 0.001; a sweep runs each this long and takes the lowest training error.
SWEEP_RATES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
SWEEP_EPOCHS = 2
REPORTED_ERRORS = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25)


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Load the 50,000 training images, uint8 [N, 32, 32, 3], and their labels, int32 [N], in the official order."""
    packed = folder / "cifar10_jpeg.npz"
    if packed.exists():
        arrays = np.load(packed)
        data, ends = arrays["train_jpeg"].tobytes(), arrays["train_offsets"]
        decode = [tf.io.decode_jpeg(data[a:b], 3, dct_method="INTEGER_ACCURATE").numpy() for a, b in pairwise(ends)]
        return np.stack(decode), arrays["train_labels"].astype(np.int32)
    rows = np.concatenate(
        [np.fromfile(folder / f"data_batch_{i}.bin", np.uint8).reshape(-1, 1 + 3 * 32 * 32) for i in range(1, 6)]
    )
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, 0].astype(np.int32)


def build(config: Cifar) -> tuple[keras.Model, dict[str, keras.Variable]]:
    """Build the network and name its parameters.

    `same` pools of 3 every 2 start at the border and are cut at the other one, as the original code's: means are over
    what lies inside.
    """
    layers: list[keras.layers.Layer] = [keras.layers.Input(IMAGE_SHAPE)]
    draws = [
        keras.initializers.RandomNormal(0.0, std, seed=initial_seed(config.seed, index))
        for index, std in enumerate(config.weight_stds)
    ]
    for number, (filters, pool) in enumerate(zip(config.filters, config.pools, strict=True)):
        conv = keras.layers.Conv2D(
            filters, 5, padding="same", kernel_initializer=draws[number], name=f"conv{number + 1}"
        )
        pooling = keras.layers.MaxPooling2D if pool == "max" else keras.layers.AveragePooling2D
        after = keras.layers.Activation(config.nonlinearity)
        # The first pool comes before the nonlinearity: the same values, for max and any rising function commute.
        layers += [conv, pooling(3, 2, "same"), after] if pool == "max" else [conv, after, pooling(3, 2, "same")]
    layers += [keras.layers.Flatten(), keras.layers.Dense(10, kernel_initializer=draws[-1], name="fc10")]
    model = keras.Sequential(layers)
    named = [layer for layer in model.layers if layer.weights]
    return model, {f"{layer.name}/{kind}": getattr(layer, kind) for layer in named for kind in ("kernel", "bias")}


def errors(config: Cifar, images_NHWC: np.ndarray, labels_N: np.ndarray) -> Iterator[float]:
    """Train, and yield the training error of each epoch: over its batches, each before its step."""
    model, parameters = build(config)
    optimizer = PaperSGD(parameters, config)
    variables = [variable.value for variable in parameters.values()]
    mean = tf.constant(images_NHWC.mean(axis=0, dtype=np.float64).astype(np.float32))
    rate = config.learning_rate
    rates = tf.constant([rate, config.bias_rate_ratio * rate] * 2)

    @tf.function(input_signature=[tf.TensorSpec([None, *IMAGE_SHAPE], tf.uint8), tf.TensorSpec([None], tf.int32)])
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(tf.cast(images, tf.float32) - mean)
            loss = tf.reduce_mean(cross_entropy(labels, logits))
        optimizer.apply(tape.gradient(loss, variables), rates)
        # Logits that are not numbers are larger than nothing: a network that diverged is wrong everywhere.
        return tf.reduce_sum(tf.where(tf.math.is_finite(loss), tf.minimum(num_larger(labels, logits), 1), 1))

    for _ in range(config.max_epochs):
        starts = range(0, len(labels_N), config.batch_size)
        wrong = [step(images_NHWC[i : i + config.batch_size], labels_N[i : i + config.batch_size]) for i in starts]
        yield int(sum(wrong)) / len(labels_N)


def sweep(config: Cifar, train: Callable[[Cifar], Iterator[float]]) -> tuple[Cifar, dict[str, list[float]]]:
    """Find the fastest rate; the errors of each that was tried are returned with it."""
    tried = {rate: list(islice(train(replace(config, learning_rate=rate)), SWEEP_EPOCHS)) for rate in SWEEP_RATES}
    print(f"{config.nonlinearity}, training error by rate: {tried}", flush=True)
    best = min(tried, key=lambda rate: tried[rate][-1])
    return replace(config, learning_rate=best), {str(rate): found for rate, found in tried.items()}


def epochs_until(curve: list[float], error: float) -> float | None:
    """Find after how many epochs a curve passes an error, between epochs by a straight line; None: it does not."""
    for epoch, found in enumerate(curve, start=1):
        if found <= error:
            before = curve[epoch - 2] if epoch > 1 else 0.9
            return epoch - 1 + (before - error) / (before - found)
    return None


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Draw the curves as the paper has them: tanh dashed, ReLU solid."""
    figure, axes = plt.subplots(figsize=(5, 4))
    for name, style in (("relu", "k-"), ("tanh", "k--")):
        label = {"relu": "ReLU", "tanh": "tanh"}[name]
        axes.plot(range(1, len(curves[name]) + 1), curves[name], style, label=f"{label}, measured here")
        axes.plot(PAPER_EPOCHS[name], TARGET_ERROR, "o" if name == "relu" else "s", mfc="none", color="C3",
                  label=f"{label}, read off the paper's figure")  # fmt: skip
    axes.axhline(TARGET_ERROR, color="0.7", linestyle=":")
    axes.set(xlabel="epochs", ylabel="training error rate", xlim=(0, 40), ylim=(0, 0.75))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def write(networks: dict[str, dict[str, Any]], out: Path) -> None:
    """Write numbers and figure.

    Args:
        networks: by nonlinearity, with `training_error` after each epoch.
        out: folder of the two files.
    """
    curves = {name: network["training_error"] for name, network in networks.items()}
    passed: dict[str, dict[str, float | None]] = {}
    for error in REPORTED_ERRORS:
        found = passed[f"{error:.2f}"] = {name: epochs_until(curve, error) for name, curve in curves.items()}
        found["ratio"] = found["tanh"] / found["relu"] if all(found.values()) else None
    result = {"networks": networks, "epochs_until_error": passed, f"paper_epochs_until_{TARGET_ERROR}": PAPER_EPOCHS}
    out.mkdir(parents=True, exist_ok=True)
    (out / "figure1.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(curves, out / "figure1.png")
    print(json.dumps(passed, indent=1))


def main() -> None:
    """Sweep and train both networks."""
    images_NHWC, labels_N = load(Path(sys.argv[1]))

    def train(config: Cifar) -> Iterator[float]:
        return errors(config, images_NHWC, labels_N)

    networks: dict[str, dict[str, Any]] = {}
    for base in (RELU, TANH):
        config, tried = sweep(base, train)
        curve: list[float] = []
        for error in train(config):
            curve.append(error)
            print(f"{config.nonlinearity}, rate {config.learning_rate}, epoch {len(curve)}: {error:.5f}", flush=True)
            if error < TARGET_ERROR:
                break
        networks[config.nonlinearity] = {**asdict(config), "sweep": tried, "training_error": curve}
    write(networks, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
