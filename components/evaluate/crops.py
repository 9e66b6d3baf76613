"""The ten views of a photograph that the 2012 test averaged.

Shapes: N images, K views, H height, W width, C channels.
"""

from typing import TypeVar

import numpy as np
import tensorflow as tf

CROP_SIZE = 224
MARGIN = 32  # pixels left over in a 256x256 image
CENTER = MARGIN // 2

# Corners and centre, then their mirrors in the same order (Krizhevsky's convdata_jpeg.py; T29).
STARTS_YX = ((0, 0), (0, MARGIN), (CENTER, CENTER), (MARGIN, 0), (MARGIN, MARGIN))
NUM_VIEWS = 2 * len(STARTS_YX)
CENTER_VIEW = STARTS_YX.index((CENTER, CENTER))


Image = TypeVar("Image", tf.Tensor, np.ndarray)


def center_crop(image_HWC: Image) -> Image:
    """Cut the centre out of one image of 256x256 pixels.

    Args:
        image_HWC: [256, 256, C], any dtype.

    Returns:
        [224, 224, C], pixels 16..239 of both axes.
    """
    return image_HWC[CENTER : CENTER + CROP_SIZE, CENTER : CENTER + CROP_SIZE]


def ten_crop(images_NHWC: tf.Tensor) -> tf.Tensor:
    """Cut the four corners and the centre of every image, and mirror each of them.

    Args:
        images_NHWC: [N, 256, 256, C], any dtype.

    Returns:
        [N, 10, 224, 224, C]: starts (0,0), (0,32), (16,16), (32,0), (32,32), then their mirrors (paper, section 4.1).
    """
    views = [images_NHWC[:, y : y + CROP_SIZE, x : x + CROP_SIZE] for y, x in STARTS_YX]
    return tf.stack([*views, *(tf.reverse(view, axis=[2]) for view in views)], axis=1)
