"""The ten views, against slices written out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from components.evaluate.crops import CENTER_VIEW, center_crop, ten_crop

IMAGES_NHWC = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)


def reference(image_HWC):
    views = [image_HWC[y : y + 224, x : x + 224] for y, x in ((0, 0), (0, 32), (16, 16), (32, 0), (32, 32))]
    return np.stack(views + [view[:, ::-1] for view in views])


@pytest.mark.parametrize("where", ["eager", "graph", "tf.data"])
def test_t29_ten_crops_equal_slices(where):
    if where == "eager":
        views = ten_crop(IMAGES_NHWC).numpy()
    elif where == "graph":
        views = tf.function(ten_crop)(tf.constant(IMAGES_NHWC)).numpy()
    else:
        views = next(tf.data.Dataset.from_tensor_slices(IMAGES_NHWC).batch(3).map(ten_crop).as_numpy_iterator())
    assert views.dtype == np.uint8
    np.testing.assert_array_equal(views, np.stack([reference(image) for image in IMAGES_NHWC]))


def test_t29_each_view_has_its_mirror_five_places_on():
    views = ten_crop(IMAGES_NHWC).numpy()
    np.testing.assert_array_equal(views[:, 5:], views[:, :5, :, ::-1])


def test_center_crop_is_the_center_view():
    views = ten_crop(IMAGES_NHWC).numpy()
    np.testing.assert_array_equal(center_crop(IMAGES_NHWC[1]), views[1, CENTER_VIEW])
    np.testing.assert_array_equal(center_crop(IMAGES_NHWC[1]), IMAGES_NHWC[1, 16:240, 16:240])
