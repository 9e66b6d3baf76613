"""The exact part: integer sums over decoded images, a file for each group of shards.

All sums are integers that int64 holds (1.3 million images stay below 2^53), so any sharding, order, grouping or
number of workers gives the same bits. Shapes: H = W = 256, C = 3 (RGB).
"""

import hashlib
import io
import json
from typing import NamedTuple

import numpy as np
import simplejpeg

from components.shared import beam, storage
from components.shared.errors import DataError
from components.shared.manifest import Manifest
from components.shared.records import IMAGE_SIZE, decode_example, read_records

SHAPE_HWC = (IMAGE_SIZE, IMAGE_SIZE, 3)
NUM_PIXEL_SUMS = IMAGE_SIZE * IMAGE_SIZE * 3
UINT16_IMAGES = 65535 // 255  # so many images of value 255 fill a uint16
MAX_GROUPS = 256  # files of 1.6 MB, and elements for the engine


class Sums(NamedTuple):
    """What is known of a set of images; sets without a common image add up field by field."""

    pixel_sums: np.ndarray  # int64 [256, 256, 3]: over the images
    product_sums: np.ndarray  # int64 [3, 3]: of products of two channels, over all pixels of all images
    num_images: np.ndarray  # int64 []


def decode_image(jpeg: bytes, origin: str) -> np.ndarray:
    """Decode a stored image with the accurate DCT, as uint8 [256, 256, 3] RGB; releases the GIL.

    Args:
        jpeg: the JPEG file.
        origin: shard and record, for the error message.

    Raises:
        DataError: not a JPEG, damaged, or of another size or colour space.
    """
    try:
        _, _, colorspace, _ = simplejpeg.decode_jpeg_header(jpeg)
        image_HWC = simplejpeg.decode_jpeg(jpeg)
    except ValueError as error:
        raise DataError(f"{origin}: not a readable JPEG ({error}). Run ingest again") from error
    if colorspace != "YCbCr":  # what ingest writes; others would be converted without a word
        raise DataError(f"{origin}: expected a JPEG in YCbCr, got one in {colorspace}. Run ingest again")
    if image_HWC.shape != SHAPE_HWC:
        raise DataError(f"{origin}: expected an image of {SHAPE_HWC}, got {image_HWC.shape}. Run ingest again")
    return image_HWC


def channel_products(image_HWC: np.ndarray) -> np.ndarray:
    """Sum the products of two channels over the pixels of one uint8 image, as int64 [3, 3].

    float32 is exact here: a row of 256 products of two bytes stays below 2^24, in whatever order BLAS adds.
    """
    planes_CHW = image_HWC.transpose(2, 0, 1).astype(np.float32, order="C")
    return np.vecdot(planes_CHW[:, None], planes_CHW).sum(axis=-1, dtype=np.int64)


class Accumulator:
    """Sums images one by one."""

    def __init__(self) -> None:
        self._sums = Sums(np.zeros(SHAPE_HWC, np.int64), np.zeros((3, 3), np.int64), np.zeros((), np.int64))
        # A quarter of the time of adding each image to the int64 sums.
        self._part_HWC, self._num_in_part = np.zeros(SHAPE_HWC, np.uint16), 0

    def add(self, image_HWC: np.ndarray) -> None:
        """Add a uint8 image [256, 256, 3]."""
        np.add(self._part_HWC, image_HWC, out=self._part_HWC)
        np.add(self._sums.product_sums, channel_products(image_HWC), out=self._sums.product_sums)
        self._num_in_part += 1
        if self._num_in_part == UINT16_IMAGES:
            self._flush()

    def _flush(self) -> None:
        np.add(self._sums.pixel_sums, self._part_HWC, out=self._sums.pixel_sums)
        np.add(self._sums.num_images, self._num_in_part, out=self._sums.num_images)
        self._part_HWC[:], self._num_in_part = 0, 0

    def sums(self) -> Sums:
        """Return the sums over all images so far; they go on with later ones."""
        self._flush()
        return self._sums


def groups(dataset: Manifest, shards: list[str]) -> list[str]:
    """Cut the shards into at most MAX_GROUPS groups of nearly equal number, each as JSON for `sum_group`."""
    parts = np.array_split(np.arange(len(shards)), min(MAX_GROUPS, len(shards)))
    return [
        json.dumps({"group": k, "shards": {shards[i]: dataset.files[shards[i]] for i in part}})
        for k, part in enumerate(parts)
    ]


def partial_uri(folder: str, group: int) -> str:
    """Name the file of a group's sums."""
    return storage.join(folder, f"partial-{group:05d}.npy")


def sum_group(group: str, base_uri: str, folder: str) -> None:
    """Sum the images of a group of shards and publish the sums, unless they are there.

    Args:
        group: one of `groups`.
        base_uri: where the shards are.
        folder: where the sums go.

    Raises:
        DataError: a shard is damaged or holds another kind of image.
        StorageError: a shard cannot be read, or the sums cannot be written.
    """
    entry = json.loads(group)
    uri = partial_uri(folder, entry["group"])
    if storage.exists(uri):
        beam.count(int(read_partial(uri).num_images))
        return
    dataset = Manifest("dataset", base_uri, entry["shards"], {})
    accumulator = Accumulator()
    for shard in dataset.files:
        for index, record in enumerate(read_records(dataset.stage(shard))):
            beam.check_stop()
            example = decode_example(record)
            origin = f"{dataset.uri(shard)}, record {index}, {example['image/filename'].decode(errors='replace')}"
            accumulator.add(decode_image(example["image/encoded"], origin))
            beam.count(1)
    storage.publish_bytes(pack(accumulator.sums()), uri)


def pack(sums: Sums) -> bytes:
    """Encode sums as one `.npy` vector, followed by the sha256 of that."""
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate([np.ravel(field) for field in sums]))
    return buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest()


def read_partial(uri: str) -> Sums:
    """Read the sums of a group.

    Raises:
        DataError: the file is damaged.
        StorageError: it cannot be read.
    """
    data = storage.read_bytes(uri)
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise DataError(f"{uri}: sha256 differs from the one at its end. Remove the file and run again")
    vector = np.load(io.BytesIO(data))
    pixel_sums, product_sums, num_images = np.split(vector, [NUM_PIXEL_SUMS, NUM_PIXEL_SUMS + 9])
    return Sums(pixel_sums.reshape(SHAPE_HWC), product_sums.reshape(3, 3), num_images.reshape(()))
