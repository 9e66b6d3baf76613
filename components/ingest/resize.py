"""The only resize of the project: the shorter side to 256, the centre cut at whole pixels.

The geometry is that of the original (cuda-convnet2 makeJPEG): the shorter side becomes 256, the other one is rounded,
and the crop starts at the floor of half the rest; area averaging when shrinking, cubic when enlarging. Shapes:
H, W of the source, C = 3 (RGB).
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import csr_array

from components.shared.records import IMAGE_SIZE

RESIZE = "shorter side 256 rounded, centre crop at floor offset, exact area average down, cv2 INTER_CUBIC up"
STRIP_ROWS = 128  # rows of the result that are made at once; fewer for images above a million pixels,
STRIP_PIXELS = STRIP_ROWS << 20  # so that the float32 copy of a strip stays small


def resized_size(height: int, width: int) -> tuple[int, int]:
    """Compute height and width after scaling the shorter side to 256; halves are rounded up."""
    shorter = min(height, width)
    new_height, new_width = ((2 * side * IMAGE_SIZE + shorter) // (2 * shorter) for side in (height, width))
    return new_height, new_width


class _Strip(NamedTuple):
    """Which part of an axis some of the new pixels come from."""

    first: int  # source pixels first..stop - 1
    stop: int
    weights: csr_array  # float32 [new pixels, stop - first]; each row adds up to 1


@functools.lru_cache(maxsize=4096)
def _area_strips(num_pixels: int, num_resized: int, num_rows: int) -> tuple[_Strip, ...]:
    """Compute the weights of area averaging along one axis, for the central 256 of the new pixels.

    In units of 1/num_resized of a source pixel all edges are integers: new pixel k covers num_pixels units from
    k * num_pixels on, source pixel i covers num_resized units. A weight is their overlap over num_pixels.
    """
    strips = []
    crop_start = (num_resized - IMAGE_SIZE) // 2
    for start in range(crop_start, crop_start + IMAGE_SIZE, num_rows):
        left_K = np.arange(start, min(start + num_rows, crop_start + IMAGE_SIZE)) * num_pixels
        pixel_KT = left_K[:, None] // num_resized + np.arange(-(-num_pixels // num_resized) + 1)
        right_KT = np.minimum(left_K[:, None] + num_pixels, (pixel_KT + 1) * num_resized)
        overlap_KT = right_KT - np.maximum(left_K[:, None], pixel_KT * num_resized)
        used_KT = overlap_KT > 0
        pixels = pixel_KT[used_KT]
        first, stop = int(pixels.min()), int(pixels.max()) + 1
        ends = np.concatenate([[0], np.cumsum(used_KT.sum(axis=1))])
        weights = (overlap_KT[used_KT] / num_pixels).astype(np.float32)
        strips.append(_Strip(first, stop, csr_array((weights, pixels - first, ends), (len(left_K), stop - first))))
    return tuple(strips)


def _shrink(image_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average areas, rows first, as two sparse products: less than half the time of cv2 INTER_AREA, same pixels."""
    (columns,) = _area_strips(image_HWC.shape[1], width, IMAGE_SIZE)
    num_columns = columns.stop - columns.first
    result_HWC = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    num_rows = min(STRIP_ROWS, max(1, STRIP_PIXELS // (image_HWC.shape[0] * image_HWC.shape[1])))
    row = 0
    for strip in _area_strips(image_HWC.shape[0], height, num_rows):
        source_HWC = image_HWC[strip.first : strip.stop, columns.first : columns.stop].astype(np.float32)
        rows_KWC = (strip.weights @ source_HWC.reshape(len(source_HWC), -1)).reshape(-1, num_columns, 3)
        turned_WKC = cv2.transpose(rows_KWC)  # a sparse product runs along the first axis
        cells_XKC = (columns.weights @ turned_WKC.reshape(num_columns, -1)).reshape(IMAGE_SIZE, -1, 3)
        stop = row + cells_XKC.shape[1]
        result_HWC[row:stop] = cv2.transpose(cv2.convertScaleAbs(cells_XKC))  # rounds to uint8
        row = stop
    return result_HWC


def resize(image_HWC: np.ndarray) -> np.ndarray:
    """Scale the shorter side to 256 and cut the centre.

    Args:
        image_HWC: uint8 RGB, any size.

    Returns:
        uint8 [256, 256, 3], contiguous.
    """
    height, width = resized_size(*image_HWC.shape[:2])
    if min(image_HWC.shape[:2]) > IMAGE_SIZE:
        return _shrink(image_HWC, height, width)
    if min(image_HWC.shape[:2]) < IMAGE_SIZE:
        image_HWC = cv2.resize(image_HWC, (width, height), interpolation=cv2.INTER_CUBIC)
    top, left = (height - IMAGE_SIZE) // 2, (width - IMAGE_SIZE) // 2
    return np.ascontiguousarray(image_HWC[top : top + IMAGE_SIZE, left : left + IMAGE_SIZE])
