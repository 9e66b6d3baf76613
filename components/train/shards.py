"""One split of a dataset on local disk: verified and indexed once, then read by position, in runs of neighbours."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np

from components.shared import records, runlog, storage
from components.shared.errors import DataError
from components.shared.manifest import Manifest, ShardEntry

IMAGE_SHAPE = (records.IMAGE_SIZE, records.IMAGE_SIZE, 3, 8)
# A JPEG starts with bytes that no text holds, so these find it in its record.
SIGNATURE_BYTES = 64


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


def index_shard(path: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the JPEGs of a shard, and check that every record is an example as training needs it.

    Args:
        path: a TFRecord file.
        num_classes: labels are below it.

    Returns:
        int64 [records, 3], offset in bytes, length in bytes and crc32c of each JPEG; and int32 [records], the labels.

    Raises:
        DataError: a record is damaged, or its label or image is not as promised; names shard, record and image.
    """
    spans, labels, at = [], [], 0
    for number, record in enumerate(records.read_records(path)):
        where = f"{path}, record {number}"
        try:
            features = records.decode_example(record)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        jpeg, label = features["image/encoded"], features["image/class/label"]
        where += f" ({features['image/filename'].decode(errors='replace')})"
        if not 0 <= label < num_classes:
            raise DataError(f"{where}: expected a label below {num_classes}, got {label}. Run ingest again")
        if (shape := jpeg_shape(jpeg)) != IMAGE_SHAPE:
            raise DataError(
                f"{where}: expected a JPEG of 256x256 pixels, 3 channels and 8 bits, "
                f"got {shape[0]}x{shape[1]}, {shape[2]} and {shape[3]}. Run ingest again"
            )
        start = record.index(jpeg[:SIGNATURE_BYTES])
        spans.append((at + 12 + start, len(jpeg), google_crc32c.value(jpeg)))
        labels.append(label)
        at += 16 + len(record)
    return np.array(spans, np.int64).reshape(-1, 3), np.array(labels, np.int32)


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
        spans, labels = [np.empty((0, 3), np.int64)], [np.empty(0, np.int32)]
        indexed = runlog.Progress(log, len(shards), f"{split} indexes")
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda path: index_shard(path, self.num_classes), self.paths)
            for shard, path, (of_images, of_classes) in zip(shards, self.paths, found, strict=True):
                if len(of_images) != shard["num_examples"]:
                    raise DataError(
                        f"{path}: expected {shard['num_examples']} records, got {len(of_images)}. "
                        "The manifest and its shards do not belong together; run ingest again"
                    )
                spans.append(of_images)
                labels.append(of_classes)
                indexed.update(len(labels) - 1)
        self._starts = np.cumsum([len(part) for part in spans])  # of each shard, and the end of the last
        self._spans, self.labels = np.concatenate(spans), np.concatenate(labels)
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
            DataError: a shard changed since it was indexed; names shard and record.
            StorageError: a shard cannot be read.
        """
        shards, spans = np.searchsorted(self._starts, indices, side="right") - 1, self._spans[indices]
        breaks = np.flatnonzero((np.diff(indices) != 1) | (np.diff(shards) != 0)) + 1
        jpegs, thread = [], threading.get_ident()
        for first, last in itertools.pairwise([0, *breaks.tolist(), len(indices)]):
            run, path = spans[first:last].tolist(), self.paths[shards[first]]
            begin, end = run[0][0], run[-1][0] + run[-1][1]
            self.reading[thread] = path
            data = storage.read_range(str(path), begin, end - begin)
            del self.reading[thread]
            for place, (offset, length, crc) in enumerate(run, first):
                jpeg = data[offset - begin : offset - begin + length]
                if google_crc32c.value(jpeg) != crc:
                    raise DataError(
                        f"{self.where(int(indices[place]))}: not the bytes that were there when this run began. "
                        "The shard changed; run ingest again"
                    )
                jpegs.append(jpeg)
        return jpegs
