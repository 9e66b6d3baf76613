"""Training over PyTorch, over the machine's matrix products, and its input over bare decoding: only ratios count.

    [TORCH_PYTHON=PATH] python -m benchmarks.train DATASET_MANIFEST STATISTICS_MANIFEST [BATCH_SIZE] [ROUNDS]

The step is alexnet-2012 with 1000 classes as `train` runs it: flip, mean and noise, forward, backward, update. PyTorch,
where this interpreter or TORCH_PYTHON has it, runs the same layers as people write them there (`torch_alexnet.py`), in
its own process: the two cannot be loaded into one. Every variant runs once before any runs again, and of ROUNDS times
the shortest counts. The input is measured in time of the processor, all threads together, of which the median counts:
what else runs on the machine changes it little.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import process_time

import numpy as np

from benchmarks.steps import gflop_per_image, random_batch, shortest, torch_step
from components.shared import manifest
from components.shared.runlog import RunLog, hold_stderr
from components.train.net import network
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.recipe import Recipe
from components.train.recipes.switches import named

with hold_stderr():
    import tensorflow as tf

    from components.train.input.draws import TrainingBatches
    from components.train.input.loader import iterate
    from components.train.input.split import Split
    from components.train.net.model import AlexNet
    from components.train.net.optimizer import PaperSGD
    from components.train.net.placement import OneDevice
    from components.train.run.step import make_train_step

MATMUL_SIZE = 3072
INPUT_IMAGES = 2048
FAST_GPU = 10_000  # images/s
MASKS = {"fc6_dropout": 4096, "fc7_dropout": 4096}


def our_step(recipe: Recipe, batch_size: int) -> Callable[[], object]:
    """Make a step of this project."""
    model = AlexNet(network.build(recipe, 1000), recipe, 0)
    optimizer = PaperSGD(model.parameters(), recipe)
    mean = np.full((224, 224, 3), 120, np.float32)
    step = make_train_step(OneDevice(model), optimizer, mean, tf.distribute.get_strategy())
    batch = {name: tf.constant(value) for name, value in random_batch(batch_size).items()}
    return lambda: step(batch, np.full(4, 1e-4, np.float32), 1.1)


def matrix_product() -> Callable[[], object]:
    """Make the product of two square float32 matrices, the machine's ceiling."""
    a, b = (tf.random.normal((MATMUL_SIZE, MATMUL_SIZE)) for _ in range(2))
    product = tf.function(lambda: tf.linalg.matmul(a, b))
    return lambda: [product() for _ in range(4)]


def measure_step(batch_size: int, rounds: int) -> None:
    """Print what a step reaches of the ceiling, and how it compares with bfloat16 and with PyTorch."""
    variants = {
        "ours": our_step(ALEXNET_2012, batch_size),
        "bfloat16": our_step(named("alexnet-2012+bfloat16"), batch_size),
        "matmul": matrix_product(),
    }
    if step := torch_step(str(batch_size)):
        variants["torch"] = step
    seconds = shortest(variants, rounds)
    gflop = gflop_per_image(network.build(ALEXNET_2012, 1000)) * batch_size
    ceiling = 4 * 2 * MATMUL_SIZE**3 / 1e9 / seconds["matmul"]
    print(f"step of {batch_size}: {batch_size / seconds['ours']:.1f} images/s, {gflop / batch_size:.2f} GFLOP an image")
    print(f"share of the float32 matrix product ({ceiling:.0f} GFLOP/s): {gflop / seconds['ours'] / ceiling:.2f}")
    print(f"+bfloat16 over float32: {seconds['ours'] / seconds['bfloat16']:.2f}")
    if "torch" in seconds:
        print(f"over PyTorch ({batch_size / seconds['torch']:.1f} images/s): {seconds['torch'] / seconds['ours']:.2f}")
    else:
        print("PyTorch is not installed here: no comparison")


def processor_seconds(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run the variants in turn, once unmeasured, and return the times of the processor that each took, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, call in variants.items():
            start = process_time()
            call()
            times[name].append(process_time() - start)
    return {name: found[1:] for name, found in times.items()}


def measure_input(dataset_path: str, statistics_path: str, rounds: int) -> None:
    """Print the rate of training batches over that of decoding the same JPEGs and nothing else."""
    content = manifest.load(statistics_path, "statistics").content
    split = Split(manifest.load(dataset_path, "dataset"), "train", RunLog("benchmark"))
    stored = TrainingBatches(split, ALEXNET_2012, content, 0, 1, MASKS)
    shuffled = TrainingBatches(split, replace(ALEXNET_2012, reshuffle=True), content, 0, 1, MASKS)
    num_steps = min(INPUT_IMAGES, len(split)) // ALEXNET_2012.batch_size
    num_images = num_steps * ALEXNET_2012.batch_size
    jpegs = split.read(np.arange(num_images))
    options = tf.data.Options()
    options.autotune.enabled = False
    bare = (
        tf.data.Dataset.from_tensor_slices(jpegs)
        .map(lambda jpeg: tf.io.decode_jpeg(jpeg, 3, dct_method="INTEGER_ACCURATE"), num_parallel_calls=2)
        .batch(ALEXNET_2012.batch_size)
        .with_options(options)
    )
    variants = {
        "bare": lambda: sum(1 for _ in bare),
        "stored order": lambda: sum(1 for _ in iterate(stored, 0, num_steps)),
        "reshuffled": lambda: sum(1 for _ in iterate(shuffled, 0, num_steps)),
    }
    seconds = processor_seconds(variants, rounds)
    bare_rate = num_images / median(seconds["bare"])
    print(f"bare decoding: {bare_rate:.0f} images in a second of one core")
    for name in ("stored order", "reshuffled"):
        ratios = sorted(b / ours for b, ours in zip(seconds["bare"], seconds[name], strict=True))
        rate = num_images / median(seconds[name])
        print(
            f"input, {name}: {rate:.0f}, {median(ratios):.2f} of bare decoding "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {rounds} rounds); "
            f"a GPU of {FAST_GPU:,} images/s needs {FAST_GPU / rate:.1f} such cores"
        )


def main() -> None:
    """Print the ratios."""
    dataset_path, statistics_path = sys.argv[1:3]
    batch_size = int(sys.argv[3]) if len(sys.argv) > 3 else ALEXNET_2012.batch_size
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    print(f"{len(os.sched_getaffinity(0))} cores, shortest of {rounds} rounds")
    measure_input(dataset_path, statistics_path, rounds)
    measure_step(batch_size, rounds)


if __name__ == "__main__":
    main()
