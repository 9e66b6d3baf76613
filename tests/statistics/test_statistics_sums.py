"""The exact sums: any partition, order and batching of the images gives the same bits."""

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.errors import DataError
from components.statistics.sums import UINT16_IMAGES, ImageSums, Sums, channel_products

rng = np.random.default_rng(2012)
IMAGES_HWC = [
    np.zeros((256, 256, 3), np.uint8),
    np.full((256, 256, 3), 255, np.uint8),
    *(rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(3)),
    np.repeat(rng.integers(0, 256, (256, 256, 1), np.uint8), 3, axis=2),
]
JPEGS = [simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="420") for image in IMAGES_HWC]


def add(sums: Sums, jpegs: list[bytes]) -> Sums:
    batch = (np.array(jpegs, object), np.array([b"shard, record 0"] * len(jpegs), object))
    return ImageSums().add_input(sums, batch)


def plain_pass(jpegs: list[bytes]) -> Sums:
    images_NHWC = np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]).astype(np.int64)
    pixels = images_NHWC.reshape(-1, 3)
    return Sums(images_NHWC.sum(axis=0), pixels.T @ pixels, np.array(len(jpegs)))


def same_bits(ours: Sums, theirs: Sums) -> bool:
    return all(a.dtype == b.dtype == np.int64 and np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.data())
def test_any_partition_gives_the_bits_of_a_plain_pass(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(JPEGS))), min_size=1, max_size=8))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(chosen)), max_size=4)))
    combine = ImageSums()
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, len(chosen)], strict=True):
        sums = combine.create_accumulator()
        middle = data.draw(st.integers(start, stop))
        for batch in (chosen[start:middle], chosen[middle:stop]):
            sums = add(sums, [JPEGS[i] for i in batch])
        parts.append(sums)
    merged = combine.extract_output(combine.merge_accumulators(data.draw(st.permutations(parts))))
    assert same_bits(merged, plain_pass([JPEGS[i] for i in chosen]))


@pytest.mark.parametrize("image_HWC", IMAGES_HWC, ids=["black", "white", "a", "b", "c", "grey"])
def test_channel_products_are_exact(image_HWC: np.ndarray) -> None:
    pixels = image_HWC.reshape(-1, 3).astype(np.int64)
    assert np.array_equal(channel_products(image_HWC), pixels.T @ pixels)


def test_a_batch_that_overflows_uint16() -> None:
    white = JPEGS[1]
    sums = add(ImageSums().create_accumulator(), [white] * (UINT16_IMAGES + 2))
    assert sums.num_images == UINT16_IMAGES + 2
    assert (sums.pixel_sums == 255 * (UINT16_IMAGES + 2)).all()
    assert (sums.product_sums == 255 * 255 * 65536 * (UINT16_IMAGES + 2)).all()


GREY = simplejpeg.encode_jpeg(IMAGES_HWC[2][..., :1].copy(), colorspace="GRAY", colorsubsampling="Gray")


@pytest.mark.parametrize(
    "jpeg",
    [simplejpeg.encode_jpeg(IMAGES_HWC[2][:224, :224].copy()), b"not a jpeg", JPEGS[2][:4000], b"", GREY],
    ids=["224x224", "text", "truncated", "empty", "greyscale"],
)
def test_another_image_is_refused_by_name(jpeg: bytes) -> None:
    with pytest.raises(DataError, match="shard, record 0"):
        add(ImageSums().create_accumulator(), [jpeg])
