"""What the benchmarks of the training step share: a batch, the count of operations, PyTorch's step, the clock."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from components.train.net import network


def gflop_per_image(layers: list[network.Layer]) -> float:
    """Count the operations of a training step: forward, and the gradients by weights and, but for conv1's, inputs."""
    macs = {layer["name"]: network.num_macs(layer) for layer in layers}
    first = sum(count for name, count in macs.items() if network.base_name(name) == "conv1")
    return (6 * sum(macs.values()) - 2 * first) / 1e9


def random_batch(batch_size: int) -> dict[str, np.ndarray]:
    """Draw a batch of alexnet-2012 as `TrainingBatches` makes them."""
    rng = np.random.default_rng(0)
    return {
        "crops": rng.integers(0, 256, (batch_size, 224, 224, 3)).astype(np.uint8),
        "flips": rng.random(batch_size) < 0.5,
        "noise": rng.normal(0, 7, (batch_size, 3)).astype(np.float32),
        "labels": rng.integers(0, 1000, batch_size).astype(np.int32),
        **{name: rng.random((batch_size, 4096)) < 0.5 for name in ("fc6_dropout", "fc7_dropout")},
    }


def torch_step(*arguments: str) -> Callable[[], object] | None:
    """Start PyTorch in a process of its own, which steps when told; None where it is not installed.

    Args:
        arguments: of `benchmarks.torch_alexnet`.
    """
    command = [os.environ.get("TORCH_PYTHON", sys.executable), "-m", "benchmarks.torch_alexnet", *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    version = process.stdout.readline().strip()
    if not version:
        return None
    print(f"PyTorch {version}")

    def step() -> None:
        process.stdin.write("step\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise RuntimeError("PyTorch's process ended. Run its command by hand to see why: " + " ".join(command))

    return step


def shortest(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run the variants in turn, once unmeasured, and return the shortest time of each in seconds."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 1):
        for name, call in variants.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: min(found[1:]) for name, found in times.items()}
