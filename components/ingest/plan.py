"""Which image goes into which shard: a permutation by the seed, cut into parts, each kept as a small file.

A worker receives the number of a shard and reads the file of that shard, so that no list of images passes through Beam.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from components.ingest import tables
from components.shared import records, storage
from components.shared.errors import StorageError

STREAMS = {"train": 0, "validation": 1, "test": 2}  # independent orders of one seed
NUM_THREADS = 16  # waiting for an object store or for a disk to be sure


@dataclass(frozen=True)
class Part:
    """The images of one shard."""

    name: str  # of the shard
    positions: np.ndarray  # int64 [N], rows of the table of the split, in the order of the shard


def num_shards(num_images: int) -> int:
    """Choose the number of shards of a split: 8 or more of at least 64 images, at most 1024 images each."""
    return max(1, min(-(-num_images // 64), max(8, -(-num_images // 1024))))


def cut(split: str, keep: np.ndarray, seed: int) -> list[Part]:
    """Permute the kept images of a split by the seed and cut them into shards of equal size, give or take one.

    Args:
        split: train, validation or test.
        keep: bool [N], for each image in the order of the release whether it is kept.
        seed: of the order.
    """
    kept = np.flatnonzero(keep)
    order = np.random.Generator(np.random.PCG64([seed, STREAMS[split]])).permutation(len(kept))
    count = num_shards(len(kept))
    return [
        Part(records.shard_name(split, k, count), positions)
        for k, positions in enumerate(np.array_split(kept[order], count))
    ]


def _uri(base_uri: str, name: str) -> str:
    return storage.join(base_uri, "plan", name.replace(".tfrecord", ".table"))


def write(parts: Iterable[Part], images: np.ndarray, base_uri: str) -> None:
    """Keep the parts of a split as files, several at a time; those that are there are compared.

    Args:
        parts: of the plan.
        images: the table of the split.
        base_uri: folder of the shards.

    Raises:
        StorageError: the place cannot be written.
    """
    pool = ThreadPoolExecutor(NUM_THREADS)
    try:
        waiting = [
            pool.submit(lambda part: tables.keep(images[part.positions], _uri(base_uri, part.name)), part)
            for part in parts
        ]
        for future in waiting:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def read(base_uri: str, name: str) -> np.ndarray:
    """Read the images of a shard, a table in the order of the shard.

    Raises:
        StorageError: the file is not there or damaged.
    """
    images = tables.read(_uri(base_uri, name))
    if images is None:
        raise StorageError(f"{_uri(base_uri, name)}: not there or damaged. Run again, which makes it again")
    return images
