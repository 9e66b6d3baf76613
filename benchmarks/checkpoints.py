"""What a checkpoint costs the training, in the background and in the foreground.

    python -m benchmarks.checkpoints FOLDER [RECIPE] [BATCH_SIZE] [STEPS] [ROUNDS]

Three variants run in turn: STEPS steps alone; the same with a checkpoint that is written beside them; the same after a
checkpoint that they wait for. The cost is what a variant takes longer than the steps alone of the same round; of ROUNDS
rounds the median counts. A write that is longer than the steps counts whole, so STEPS should be enough of them.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.steps import random_batch
from components.shared.runlog import RunLog, hold_stderr
from components.train.net import network
from components.train.recipes.switches import named
from components.train.run.saver import MAX_SHARE

with hold_stderr():
    import tensorflow as tf

    from components.train.net.model import AlexNet
    from components.train.net.optimizer import PaperSGD
    from components.train.net.placement import OneDevice
    from components.train.run.checkpoint import Checkpoints
    from components.train.run.saver import Saver
    from components.train.run.step import make_train_step

MINUTES = 2.0  # the default of --checkpoint-minutes


def main() -> None:
    """Print the costs, and their share of two minutes."""
    arguments = dict(enumerate(sys.argv[1:]))
    recipe = named(arguments.get(1, "alexnet-2012"))
    batch_size, num_steps, rounds = (int(arguments.get(n, value)) for n, value in ((2, 128), (3, 10), (4, 5)))
    layers = network.build(recipe, 1000)
    model = OneDevice(AlexNet(layers, recipe, 0))
    optimizer = PaperSGD(model.parameters(), recipe)
    mean = np.full((224, 224, 3), 120, np.float32)
    train_step = make_train_step(model, optimizer, mean, tf.distribute.get_strategy())
    masks = {
        layer["name"]: np.random.default_rng(0).random((batch_size, layer["shape"][0])) < 0.5
        for layer in layers
        if layer["op"] == "dropout"
    }
    batch = {name: tf.constant(value) for name, value in (random_batch(batch_size) | masks).items()}
    log = RunLog("benchmark", Path(os.devnull).open("w"))  # noqa: SIM115 - open until the process ends
    checkpoints, saver, count = Checkpoints(arguments[0], "benchmark", log), Saver(MINUTES, log), iter(range(10**6))

    def snapshot() -> Callable[[], None]:
        arrays = {f"weights/{name}": array for name, array in model.export(optimizer.parameters).items()}
        arrays |= {f"velocities/{name}": array for name, array in model.export(optimizer.velocities).items()}
        return lambda: checkpoints.save(next(count), arrays, {})

    def run(kind: str) -> float:
        start = time.perf_counter()
        if kind != "alone":
            saver.start(0, snapshot)
        if kind == "foreground":
            saver.finish()
        for _ in range(num_steps):
            train_step(batch, np.full(4, 1e-6, np.float32), 1.1)
        saver.finish()
        return time.perf_counter() - start

    times = [{kind: run(kind) for kind in ("alone", "background", "foreground")} for _ in range(rounds + 1)][1:]
    num_bytes = 8 * network.totals(layers)["num_parameters"]
    print(f"{len(os.sched_getaffinity(0))} cores, {recipe.name}, {num_bytes / 1e6:.0f} MB, medians of {rounds} rounds")
    print(f"step of {batch_size}: {median(entry['alone'] for entry in times) / num_steps:.3f} s alone")
    for kind in ("background", "foreground"):
        costs = sorted(entry[kind] - entry["alone"] for entry in times)
        share = median(costs) / (60 * MINUTES)
        print(
            f"{kind}: {median(costs):.2f} s a checkpoint ({costs[0]:.2f} to {costs[-1]:.2f}), {100 * share:.2f} % "
            f"of {MINUTES:g} minutes; at most {100 * MAX_SHARE:g} % are allowed"
        )
    print(f"the last snapshot: {1000 * saver.snapshot_seconds:.0f} ms, its write {saver.write_seconds:.2f} s")


if __name__ == "__main__":
    main()
