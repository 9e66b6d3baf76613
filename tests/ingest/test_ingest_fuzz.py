"""A thousand damaged files: each is refused, or decodes to the pixels that another, strict decoder finds."""

import gzip
import io
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from components.ingest import images
from components.ingest.process import prepare_process


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    """What the first shard of a process does."""
    prepare_process()


DIRTY_DIR = Path(__file__).parents[2].parent / "shared" / "data" / "dirty-images"
NUM_FILES = 1000
MAX_SECONDS = 10  # for one file, of the processor


def _drawing(mode):
    y, x = np.mgrid[:72, :100]
    noise = np.random.default_rng(0).integers(0, 40, (72, 100, 3))
    rgb = np.clip(np.stack([x * 2, y * 3, x + y], axis=2) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def _saved(mode="RGB", **options):
    out = io.BytesIO()
    _drawing(mode).save(out, **options)
    return out.getvalue()


def _generated():
    jpegs = [
        _saved(format="JPEG", quality=90, subsampling=2),
        _saved(format="JPEG", quality=75, subsampling=0, progressive=True),
        _saved(format="JPEG", quality=95, subsampling=1, restart_marker_blocks=3),
        _saved("L", format="JPEG"),
        _saved("CMYK", format="JPEG"),
    ]
    others = [_saved(format=name) for name in ("PNG", "BMP", "WEBP")] + [_saved("P", format="GIF")]
    return [*jpegs, *jpegs[:2], *others, gzip.compress(jpegs[0])]


def _real():
    if not DIRTY_DIR.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return [path.read_bytes() for path in sorted(DIRTY_DIR.glob("*.JPEG")) if 100 < path.stat().st_size < 40_000]


# What disks, networks and strangers do to some bytes of a file, as (before, damaged, after) -> new bytes.
EDITS = (
    lambda before, part, after, rng: before + bytes([part[0] ^ 1 << int(rng.integers(0, 8))]) + part[1:] + after,
    lambda before, part, after, rng: before + rng.bytes(1) + part[1:] + after,
    lambda before, part, after, rng: before + rng.bytes(len(part)) + after,
    lambda before, part, after, rng: before + bytes(len(part)) + after,
    lambda before, part, after, rng: before + after,
    lambda before, part, after, rng: before + rng.bytes(len(part)) + part + after,
    lambda before, part, after, rng: before + 8 * part + after,
    lambda before, part, after, rng: before + part,
)


def _damage(data, rng):
    """Edit a file in one to three places, often in its first bytes."""
    for _ in range(rng.integers(1, 4)):
        end = min(700, len(data)) if rng.random() < 0.4 else len(data)
        at, size = int(rng.integers(0, max(end - 1, 1))), int(rng.integers(1, 65))
        if at < len(data):
            data = EDITS[rng.integers(0, len(EDITS))](data[:at], data[at : at + size], data[at + size :], rng)
    return data


def _other_decoder(data):
    """Decode with OpenCV, whose libraries and error handling are its own; None where it refuses."""
    bgr_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if bgr_HWC is None else bgr_HWC[..., ::-1]


@pytest.mark.parametrize("corpus", [_generated, _real])
@pytest.mark.slow
def test_damaged_file_is_refused_or_decodes_to_the_right_pixels(corpus):
    sources, rng = corpus(), np.random.default_rng(2012)
    outcomes = Counter()
    for k in range(NUM_FILES):
        data = _damage(sources[k % len(sources)], rng)
        start = time.process_time()
        try:
            decoded = images.decode(data)
        except images.Unusable as error:
            outcomes[error.reason] += 1
            continue
        finally:
            assert time.process_time() - start < MAX_SECONDS, f"file {k}"
        outcomes["decoded", *decoded.repairs] += 1
        if "gzip" in decoded.repairs:
            data = gzip.decompress(data)
        image_HWC, other_HWC = decoded.image_HWC, _other_decoder(data)
        assert image_HWC.dtype == np.uint8
        assert other_HWC is not None, f"file {k} ({decoded.repairs}): OpenCV refuses it"
        assert image_HWC.shape == other_HWC.shape, f"file {k}"
        tolerance = 3 if "cmyk" in decoded.repairs else 0  # from ink to light there is no one formula
        np.testing.assert_allclose(image_HWC.astype(int), other_HWC, rtol=0, atol=tolerance, err_msg=f"file {k}")
    num_decoded = sum(count for outcome, count in outcomes.items() if isinstance(outcome, tuple))
    assert NUM_FILES / 20 < num_decoded < NUM_FILES / 2, "most damage is seen, and some does no harm"
    assert set(outcomes) >= {"corrupt", "truncated", "not_an_image", "unsupported_jpeg"}


@pytest.mark.parametrize("position", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("junk", [b"", b"\0\1\2\3\4"], ids=["", "junk between segments"])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_damage_that_lenient_decoders_paint_over_is_refused(mode, junk, position):
    data = bytearray(_saved(mode, format="JPEG", quality=90))
    at = data.index(b"\xff\xdb")
    data[at:at] = junk
    assert images.decode(bytes(data)).image_HWC.shape == (72, 100, 3)
    scan = data.index(b"\xff\xda") + 14
    at = scan + int((len(data) - scan) * position)
    data[at : at + 4] = b"\xff\xd9\xff\xd9"  # the file says that it ends here
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # Pillow has no complaint
    with pytest.raises(images.Unusable):
        images.decode(bytes(data))


def test_png_with_a_wrong_checksum_is_refused():
    data = bytearray(_saved(format="PNG"))
    data[-14] ^= 1  # the checksum of the last pixels
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    with pytest.raises(images.Unusable, match="wrong checksum"):
        images.decode(bytes(data))
