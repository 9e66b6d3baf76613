"""Reads the photographs of one split, in the order of the shards, each of them once.

Shapes: N images, H height, W width, C channels.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from components.shared import records
from components.shared.errors import DataError
from components.shared.manifest import Manifest
from components.shared.records import IMAGE_SIZE

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


def decode(encoded: tf.Tensor | bytes) -> tf.Tensor:
    """Decode one JPEG to uint8 [256, 256, 3] RGB.

    The fast DCT that TensorFlow takes by default darkens an image by 0.8 of 255 levels; the accurate one costs nothing.
    """
    image_HWC = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(image_HWC, [IMAGE_SIZE, IMAGE_SIZE, 3])


def _parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    kinds = {"image/encoded": tf.string, "image/class/label": tf.int64, "image/filename": tf.string}
    example = tf.io.parse_single_example(serialized, {k: tf.io.FixedLenFeature([], v) for k, v in kinds.items()})
    return decode(example["image/encoded"]), example["image/class/label"], example["image/filename"]


def read_batches(dataset: Manifest, split: str, batch_size: int) -> Iterator[Batch]:
    """Read a split batch by batch; the last one may be smaller.

    Args:
        dataset: the dataset manifest; its shards are staged and verified before the first batch.
        split: "validation" or "test".
        batch_size: images a batch.

    Yields:
        images_NHWC uint8 [N, 256, 256, 3], labels int64 [N], file names [N] as bytes.

    Raises:
        DataError: a shard is not what the manifest says, a record cannot be read, or a label is not of the dataset.
    """
    entry, num_classes = dataset.content["splits"][split], len(dataset.content["classes"])
    paths = [str(path) for path in dataset.stage_all(shard["name"] for shard in entry["shards"])]
    options = tf.data.Options()
    options.autotune.enabled = False  # on, it stalls for up to the length of the loop when a finite loop ends
    batches = (
        tf.data.TFRecordDataset(paths)
        .map(_parse, num_parallel_calls=2, deterministic=True)
        .batch(batch_size)
        .prefetch(2)
        .with_options(options)
    )
    num_read = 0
    try:
        for images_NHWC, labels, names in batches.as_numpy_iterator():
            if labels.min() < 0 or labels.max() >= num_classes:
                raise DataError(
                    f"{split} images {num_read} to {num_read + len(labels)}: expected labels 0 to {num_classes - 1}, "
                    f"got {labels.min()} to {labels.max()}. Run ingest again"
                )
            num_read += len(labels)
            yield images_NHWC, labels, names
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0].split("}} ")[-1].rstrip(".")  # without the name of TensorFlow's node
        raise DataError(
            f"{dataset.base_uri}: {split} image {num_read} or one of the {batch_size} after it cannot be read: "
            f"{reason}. Run ingest again"
        ) from error
    if num_read != entry["num_examples"]:
        raise DataError(
            f"{dataset.base_uri}: expected {entry['num_examples']} {split} images, got {num_read}. Run ingest again"
        )


def read_examples(dataset: Manifest, split: str, indices: list[int]) -> dict[int, records.Features]:
    """Read a few records by their position in the split, opening only the shards that hold them."""
    found, first = {}, 0
    for shard in dataset.content["splits"][split]["shards"]:
        wanted = {i - first for i in indices if first <= i < first + shard["num_examples"]}
        if wanted:
            for position, record in enumerate(records.read_records(dataset.stage(shard["name"]))):
                if position in wanted:
                    found[first + position] = records.decode_example(record)
        first += shard["num_examples"]
    return found
