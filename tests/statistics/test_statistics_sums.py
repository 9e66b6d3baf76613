"""The exact sums: any partition, order and batching of the images gives the same bits."""

import json
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.errors import DataError
from components.shared.manifest import FileEntry, Manifest
from components.statistics import sums as module
from components.statistics.sums import UINT16_IMAGES, Accumulator, Sums, channel_products, decode_image, read_partial

rng = np.random.default_rng(2012)
IMAGES_HWC = [
    np.zeros((256, 256, 3), np.uint8),
    np.full((256, 256, 3), 255, np.uint8),
    *(rng.integers(0, 256, (256, 256, 3), np.uint8) for _ in range(3)),
    np.repeat(rng.integers(0, 256, (256, 256, 1), np.uint8), 3, axis=2),
]
JPEGS = [simplejpeg.encode_jpeg(image, quality=95, colorsubsampling="420") for image in IMAGES_HWC]


def add(jpegs: list[bytes]) -> Sums:
    accumulator = Accumulator()
    for jpeg in jpegs:
        accumulator.add(decode_image(jpeg, "shard, record 0"))
    return accumulator.sums()


def plain_pass(jpegs: list[bytes]) -> Sums:
    images_NHWC = np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]).astype(np.int64)
    pixels = images_NHWC.reshape(-1, 3)
    return Sums(images_NHWC.sum(axis=0), pixels.T @ pixels, np.array(len(jpegs)))


def same_bits(ours: Sums, theirs: Sums) -> bool:
    return all(a.dtype == b.dtype == np.int64 and np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(range(len(JPEGS))), min_size=1, max_size=8), st.integers(0, 8))
def test_any_partition_gives_the_bits_of_a_plain_pass(chosen: list[int], cut: int) -> None:
    parts = [add([JPEGS[i] for i in part]) for part in (chosen[cut:], chosen[:cut])]
    merged = Sums(*(np.asarray(a + b) for a, b in zip(*parts, strict=True)))
    assert same_bits(merged, plain_pass([JPEGS[i] for i in chosen]))


@pytest.mark.parametrize("image_HWC", IMAGES_HWC, ids=["black", "white", "a", "b", "c", "grey"])
def test_channel_products_are_exact(image_HWC: np.ndarray) -> None:
    pixels = image_HWC.reshape(-1, 3).astype(np.int64)
    assert np.array_equal(channel_products(image_HWC), pixels.T @ pixels)


def test_more_images_than_a_uint16_holds() -> None:
    white = JPEGS[1]
    sums = add([white] * (UINT16_IMAGES + 2))
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
        add([jpeg])


def test_groups_hold_each_shard_once_and_are_small() -> None:
    names = [f"train-{k:05d}-of-01233.tfrecord" for k in range(1233)]
    dataset = Manifest("dataset", "gs://b/d", {n: FileEntry(num_bytes=1, sha256="0" * 64) for n in names}, {})
    groups = module.groups(dataset, names)
    assert len(groups) == module.MAX_GROUPS
    assert [n for group in groups for n in json.loads(group)["shards"]] == names
    assert max(len(group) for group in groups) < 1000


def test_a_damaged_file_of_sums_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partial.npy"
    path.write_bytes(module.pack(add(JPEGS)))
    assert same_bits(read_partial(str(path)), add(JPEGS))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"partial\.npy: sha256 differs"):
        read_partial(str(path))
