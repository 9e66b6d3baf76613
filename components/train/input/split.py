"""One split of a dataset on local disk: verified once, then read by position, in runs of neighbours."""

import itertools
import threading
from pathlib import Path

import numpy as np

from components.shared import records, runlog, storage
from components.shared.errors import DataError
from components.shared.manifest import Manifest, ShardEntry

IMAGE_SHAPE = (records.IMAGE_SIZE, records.IMAGE_SIZE, 3, 8)


def jpeg_shape(data: bytes) -> tuple[int, int, int, int]:
    """Read height, width, channels and bits a sample from the frame header of a JPEG; zeros when it has none."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            return height, width, data[at + 9], data[at + 4]
        at += 2 + length
    return 0, 0, 0, 0


def read_index(dataset: Manifest, split: str) -> np.ndarray:
    """Read where the JPEGs of a split lie, as ingest wrote it.

    Returns:
        [records], an array of `records.INDEX_COLUMNS`.

    Raises:
        DataError: it is damaged, or does not fit the manifest.
    """
    name, num_classes = records.index_name(split), len(dataset.content["classes"])
    with storage.open_read(str(dataset.stage(name))) as file:
        try:
            index = np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"{dataset.uri(name)}: not an array ({error}). Run ingest again") from error
    if index.dtype != np.dtype(records.INDEX_COLUMNS) or index.ndim != 1:
        raise DataError(f"{dataset.uri(name)}: expected {records.INDEX_COLUMNS}, got {index.dtype}. Run ingest again")
    shards: list[ShardEntry] = dataset.content["splits"][split]["shards"]
    expected = sum(shard["num_examples"] for shard in shards)
    if len(index) != expected:
        raise DataError(f"{dataset.uri(name)}: expected {expected:,} records, got {len(index):,}. Run ingest again")
    sizes = [dataset.files[shard["name"]]["num_bytes"] for shard in shards]
    ends = np.repeat(sizes, [shard["num_examples"] for shard in shards])
    bad = (index["offset"] < 0) | (index["num_bytes"] <= 0) | (index["offset"] + index["num_bytes"] > ends)
    bad |= (index["label"] < 0) | (index["label"] >= num_classes)
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"{dataset.uri(name)}, row {first}: expected a label below {num_classes} and bytes inside the shard of "
            f"{ends[first]:,}, got {index[first]}. Run ingest again"
        )
    return index


class Split:
    """The examples of one split.

    No file stays open: there may be more shards than a process may open files, and a shard that shrinks under a memory
    map ends the process without a word.

    Args:
        dataset: the manifest.
        split: train, validation or test.
        log: for the progress of the verification.

    Raises:
        DataError: a shard is not what the manifest promises, or the split is empty.
    """

    def __init__(self, dataset: Manifest, split: str, log: runlog.RunLog) -> None:
        shards: list[ShardEntry] = dataset.content["splits"][split]["shards"]
        self.num_classes = len(dataset.content["classes"])
        self.reading: dict[int, Path] = {}  # by thread: the shard that it is waiting for
        staged = runlog.Progress(log, len(shards), f"{split} shards")
        self.paths = dataset.stage_all((shard["name"] for shard in shards), staged.update)
        self._starts = np.cumsum([0, *(shard["num_examples"] for shard in shards)])  # of each shard, and the last end
        self._index = read_index(dataset, split)
        self.labels = self._index["label"].copy()
        if not len(self):
            raise DataError(f"the {split} split of the dataset has no examples. Choose a subset that has some")

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, index: int) -> str:
        """Name shard and record of an example."""
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        return f"{self.paths[shard]}, record {index - self._starts[shard]}"

    def read(self, indices: np.ndarray) -> list[bytes]:
        """Read the JPEGs of some examples, each verified; neighbours in a shard are read at once.

        Args:
            indices: int64 [N], at least one.

        Raises:
            DataError: a shard changed since it was written, or holds another kind of image; names shard and record.
            StorageError: a shard cannot be read.
        """
        shards, index = np.searchsorted(self._starts, indices, side="right") - 1, self._index[indices]
        breaks = np.flatnonzero((np.diff(indices) != 1) | (np.diff(shards) != 0)) + 1
        jpegs, thread = [], threading.get_ident()
        for first, last in itertools.pairwise([0, *breaks.tolist(), len(indices)]):
            run, path = index[first:last].tolist(), self.paths[shards[first]]
            begin, end = run[0][0], run[-1][0] + run[-1][1]
            self.reading[thread] = path
            data = storage.read_range(str(path), begin, end - begin)
            del self.reading[thread]
            for place, (offset, length, crc, _) in enumerate(run, first):
                jpeg = data[offset - begin : offset - begin + length]
                if records.crc32c(jpeg) != crc:
                    raise DataError(
                        f"{self.where(int(indices[place]))}: not the bytes that ingest wrote. "
                        "The shard changed; run ingest again"
                    )
                if (shape := jpeg_shape(jpeg)) != IMAGE_SHAPE:
                    raise DataError(
                        f"{self.where(int(indices[place]))}: expected a JPEG of 256x256 pixels, 3 channels and 8 bits, "
                        f"got {shape[0]}x{shape[1]}, {shape[2]} and {shape[3]}. Run ingest again"
                    )
                jpegs.append(jpeg)
        return jpegs
