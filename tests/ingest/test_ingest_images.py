import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.ingest import images, resize
from components.ingest.process import prepare_process


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    """What the first shard of a process does."""
    prepare_process()


DIRTY_DIR = Path(__file__).parents[2].parent / "shared" / "data" / "dirty-images"

# Files on which decoders differ: what this project does with them, on purpose.
EITHER = {
    "arithmetic_sof9.JPEG": "",  # libjpeg-turbo decodes it without a warning
    "lossless_sof3.JPEG": "",
    "xyb_icc.JPEG": "",  # colour profiles are ignored, as in 2012
    "gif_animated.JPEG": "gif",  # the first frame
    "webp_photo.JPEG": "webp",
    "gzip_of_jpeg.JPEG": "gzip",  # the real release has one
    "jp2_jpeg2000.JPEG": "unsupported_jpeg",
    "corrupt_silent_bitflips_imagenet.JPEG": "corrupt",  # the decoder warns: pixels are lost
    "truncated_last_2_bytes.JPEG": "truncated",  # cannot be told from lost pixels
}


def _manifest():
    path = DIRTY_DIR / "MANIFEST.tsv"
    if not path.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason="no ../shared/data beside this checkout"))]
    with path.open(newline="") as file:
        return [pytest.param(row, id=row["file"]) for row in csv.DictReader(file, delimiter="\t")]


@pytest.mark.parametrize("row", _manifest())
@pytest.mark.slow
def test_awkward_file_is_decoded_or_refused_as_its_manifest_says(row):
    data = (DIRTY_DIR / row["file"]).read_bytes()
    try:
        decoded = images.decode(data)
    except images.Unusable as error:
        expected = row["reject_reason"] if row["expected"] == "reject" else EITHER[row["file"]]
        assert row["expected"] != "decode" and error.reason == expected
        return
    assert row["expected"] != "reject"
    assert decoded.image_HWC.dtype == np.uint8 and decoded.image_HWC.shape[2] == 3
    if row["expected"] == "either":
        assert "+".join(decoded.repairs) == EITHER[row["file"]]
    if row["resized_wh"]:
        height, width = resize.resized_size(*decoded.image_HWC.shape[:2])
        expected_wh = [int(n) for n in row["resized_wh"].split("x")]
        assert np.abs(np.subtract(expected_wh, (width, height))).max() <= 1
        expected_rgb = [float(x) for x in row["mean_rgb"].split(",")]
        np.testing.assert_allclose(decoded.image_HWC.mean(axis=(0, 1)), expected_rgb, atol=3)
    assert resize.resize(decoded.image_HWC).shape == (256, 256, 3)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((375, 500), (256, 341)),  # 341.33
        ((500, 375), (341, 256)),
        ((333, 500), (256, 384)),  # 384.38
        ((80, 100), (256, 320)),
        ((256, 256), (256, 256)),
        ((512, 513), (256, 257)),  # 256.5: a half is rounded up
        ((1, 1), (256, 256)),
        ((25, 284), (256, 2908)),
        ((500, 49), (2612, 256)),
    ],
)
def test_t26_size_after_resize(size, resized):
    assert resize.resized_size(*size) == resized


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
@pytest.mark.slow
def test_shorter_side_becomes_256_and_the_other_keeps_the_shape(height, width):
    new = resize.resized_size(height, width)
    assert min(new) == 256
    assert (new[0] <= new[1]) == (height <= width) or new[0] == new[1]
    assert abs(max(new) - 256 * max(height, width) / min(height, width)) <= 0.5
    assert resize.resized_size(width, height) == new[::-1]


@pytest.mark.parametrize(("height", "width"), [(256, 341), (256, 340), (341, 256), (300, 256)])
def test_t26_crop_starts_at_the_floor_of_half_the_rest(height, width):
    image_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    top, left = int((height - 256) / 2), int((width - 256) / 2)
    np.testing.assert_array_equal(resize.resize(image_HWC), image_HWC[top : top + 256, left : left + 256])


def test_shrinking_averages_areas_exactly():
    image_HWC = np.random.default_rng(1).integers(0, 256, (512, 768, 3), np.uint8)
    means = image_HWC.reshape(256, 2, 384, 2, 3).mean(axis=(1, 3))[:, 64:320]
    assert np.abs(resize.resize(image_HWC) - means).max() <= 0.5


def _cubic(t, a=-0.75):
    """The cubic convolution kernel."""
    t = np.abs(t)
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def test_enlarging_is_cubic():
    step_HWC = np.zeros((64, 64, 3), np.uint8)
    step_HWC[:, 32:] = 200
    row = resize.resize(step_HWC)[128, :, 0]
    at = (np.arange(112, 144) + 0.5) / 4 - 0.5  # positions of the new pixels among the old ones
    weights = _cubic(at[:, None] - np.arange(64))
    expected = np.clip(weights @ step_HWC[0, :, 0], 0, 255)
    np.testing.assert_allclose(row[112:144], expected, atol=1)
    assert expected.max() > 200, "overshoot is kept"


def test_every_pixel_comes_from_where_the_geometry_says():
    y, x = np.mgrid[:300, :451].astype(float)
    ramps_HWC = np.stack([x / 2, y * 0.8, (x + y) / 3], axis=2)
    result = resize.resize(np.rint(ramps_HWC).astype(np.uint8))
    # 300 x 451 becomes 256 x 385; columns 64..319 of it stay. Pixel centres map to pixel centres.
    y, x = (np.arange(256) + 0.5) * 300 / 256 - 0.5, (np.arange(64, 320) + 0.5) * 451 / 385 - 0.5
    y, x = np.meshgrid(y, x, indexing="ij")
    np.testing.assert_allclose(result, np.stack([x / 2, y * 0.8, (x + y) / 3], axis=2), atol=1.1)
    golden = {(0, 0): (38, 0, 25), (0, 255): (187, 0, 125), (100, 50): (67, 94, 84), (255, 255): (187, 239, 224)}
    assert {at: tuple(result[at].tolist()) for at in golden} == golden


def test_encode_keeps_the_picture():
    y, x = np.mgrid[:256, :256]
    image_HWC = np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8)
    for quality, limit in ((95, 1.5), (50, 4)):
        decoded = images.decode(images.encode(image_HWC, quality))
        assert decoded.repairs == ()
        assert np.abs(decoded.image_HWC.astype(int) - image_HWC).mean() < limit
    with Image.open(io.BytesIO(images.encode(image_HWC, 95))) as stored:
        assert [(horizontal, vertical) for _, horizontal, vertical, _ in stored.layer] == [(2, 2), (1, 1), (1, 1)]


def _file(mode, size=(40, 30), **options):
    out = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(out, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "repairs"),
    [
        (_file("RGB", format="BMP"), ("bmp",)),
        (_file("LA", format="PNG"), ("png",)),
        (_file("P", format="PNG", transparency=0), ("png",)),
        (_file("P", format="PNG", transparency=bytes(range(256))), ("png",)),
        (_file("1", format="PNG"), ("png",)),
        (_file("RGB", format="JPEG", progressive=True), ()),
        (gzip.compress(_file("CMYK", format="JPEG"), mtime=0), ("gzip", "cmyk")),
        (gzip.compress(_file("L", format="PNG"), mtime=0), ("gzip", "png")),
    ],
)
def test_format_is_told_by_content(data, repairs):
    decoded = images.decode(data)
    assert decoded.image_HWC.shape == (30, 40, 3)
    assert decoded.repairs == repairs


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\xff\xd8", "truncated"),
        (gzip.compress(b"", mtime=0), "not_an_image"),
        (gzip.compress(_file("L", format="JPEG"), mtime=0)[:-20], "truncated"),
        (b"\x1f\x8b" + b"\0" * 40, "corrupt"),
        (_file("L", format="GIF", size=(1, 60000)), "too_many_pixels"),  # 256 x 15,360,000 after the resize
        (b"BM" + b"\xff" * 100, "not_an_image"),
    ],
)
def test_unusable_bytes(data, reason):
    with pytest.raises(images.Unusable) as caught:
        images.decode(data)
    assert caught.value.reason == reason


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.data())
@pytest.mark.slow
def test_damaged_jpeg_never_raises_anything_else(data):
    source = bytearray(_file("RGB", format="JPEG"))
    for _ in range(data.draw(st.integers(1, 6))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(source)))
    try:
        decoded = images.decode(bytes(source[:cut]))
    except images.Unusable:
        return
    assert decoded.image_HWC.dtype == np.uint8
