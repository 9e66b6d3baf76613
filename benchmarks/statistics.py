"""Statistics per image over decoding alone, on the same cores, in one interleaved run; only the ratio means anything.

    python -m benchmarks.statistics DATASET_MANIFEST [ROUNDS]

Decoding alone is: verify and read the training shards and decode each image, one thread a core. Statistics runs once
on one shard and once on all of them `REPEATS` times; the slope is its cost per image, the rest is the start-up of Beam
and TF Transform, stated apart.
"""

import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.shared import beam, engines, manifest
from components.shared.records import decode_example, read_records
from components.shared.runlog import Progress, RunLog, hold_stderr
from components.statistics import sums

with hold_stderr():
    from components.statistics import preprocessing

REPEATS = 3


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Print the ratio of each round and their median."""
    dataset = manifest.load(sys.argv[1], "dataset")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    shards = dataset.content["splits"]["train"]["shards"]
    names = [shard["name"] for shard in shards]
    num_few, num_all = shards[0]["num_examples"], REPEATS * sum(shard["num_examples"] for shard in shards)
    num_cores = engines.num_cores()
    engine = engines.check("FnApiRunner", "")

    def decode(name: str) -> None:
        for record in read_records(dataset.stage(name)):
            sums.decode_image(decode_example(record)["image/encoded"], name)

    def decode_alone() -> None:
        with ThreadPoolExecutor(num_cores) as pool:
            list(pool.map(decode, names * REPEATS))

    def analyze(repeats: int, shard_names: list[str]) -> None:
        with tempfile.TemporaryDirectory() as scratch, Path(os.devnull).open("w") as quiet:
            log = RunLog("benchmark", quiet)
            for k in range(repeats):
                folder = f"{scratch}/{k}"
                groups = sums.groups(dataset, shard_names)
                work = functools.partial(sums.sum_group, base_uri=dataset.base_uri, folder=folder)
                beam.run(engine, "sum images", groups, work, Progress(log, num_all, "images"), log)
            preprocessing.analyze(folder, len(groups), Path(scratch) / "work")

    analyze(1, names[:1])  # what TensorFlow does only once
    print(f"{num_cores} cores, {num_all} images a round")
    ratios = []
    for _ in range(rounds):
        floor = seconds(decode_alone) / num_all
        few, many = seconds(lambda: analyze(1, names[:1])), seconds(lambda: analyze(REPEATS, names))
        per_image = (many - few) / (num_all - num_few)
        ratios.append(per_image / floor)
        print(f"statistics / decoding {ratios[-1]:.2f}   start-up {few - num_few * per_image:.1f} s")
    print(f"median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
