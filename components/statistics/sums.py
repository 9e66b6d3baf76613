"""The exact part: integer sums over decoded images, as a Beam CombineFn.

All sums are integers that int64 holds (1.3 million images stay below 2^53), so any sharding, order, batching or
number of workers gives the same bits. Shapes: H = W = 256, C = 3 (RGB).
"""

from collections.abc import Iterable
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import simplejpeg

from components.shared.errors import DataError
from components.shared.records import IMAGE_SIZE

SHAPE_HWC = (IMAGE_SIZE, IMAGE_SIZE, 3)
UINT16_IMAGES = 65535 // 255  # so many images of value 255 fill a uint16


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


class ImageSums(beam.CombineFn):
    """Combines batches `(jpegs, origins)`, two equally long arrays of bytes, into `Sums`."""

    def create_accumulator(self) -> Sums:
        return Sums(np.zeros(SHAPE_HWC, np.int64), np.zeros((3, 3), np.int64), np.zeros((), np.int64))

    def add_input(self, sums: Sums, batch: tuple[np.ndarray, np.ndarray]) -> Sums:
        jpegs, origins = batch
        for start in range(0, len(jpegs), UINT16_IMAGES):
            # A quarter of the time of adding each image to the int64 sums.
            part_HWC = np.zeros(SHAPE_HWC, np.uint16)
            for jpeg, origin in zip(jpegs[start:], origins[start : start + UINT16_IMAGES], strict=False):
                image_HWC = decode_image(jpeg, origin.decode())
                np.add(part_HWC, image_HWC, out=part_HWC)
                np.add(sums.product_sums, channel_products(image_HWC), out=sums.product_sums)
            np.add(sums.pixel_sums, part_HWC, out=sums.pixel_sums)
        np.add(sums.num_images, len(jpegs), out=sums.num_images)
        return sums

    def merge_accumulators(self, accumulators: Iterable[Sums]) -> Sums:
        total = self.create_accumulator()
        for sums in accumulators:
            for into, part in zip(total, sums, strict=True):
                np.add(into, part, out=into)
        return total

    def extract_output(self, sums: Sums) -> Sums:
        return sums
