"""JPEG both ways: source files decoded by content, stored files encoded; `resize` lies between.

EXIF orientation is ignored, as the 2012 code did: pixels are taken as they are stored.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from components.ingest.resize import resized_size

MAX_PIXELS = 100_000_000  # the largest ImageNet photographs have about 60 million
MAX_BYTES = 1 << 28

# Formats that are decoded although they are no JPEG, by the bytes they start with.
_OTHER_FORMATS = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "bmp": re.compile(rb"BM....\0\0\0\0", re.DOTALL),
}
_JPEG_2000 = re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")


class Unusable(Exception):
    """An image that is quarantined.

    `reason` is one of empty, not_an_image, truncated, corrupt, too_many_pixels (or bytes), unsupported_jpeg.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """Pixels of a source file."""

    image_HWC: np.ndarray  # uint8, RGB
    repairs: tuple[str, ...]  # what had to be done beyond decoding an ordinary JPEG: gzip, cmyk, png, ...


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise Unusable("corrupt", f"header says {width}x{height} pixels")
    num_resized = np.prod(resized_size(height, width), dtype=float)
    if height * width > MAX_PIXELS or num_resized > MAX_PIXELS:
        raise Unusable(
            "too_many_pixels", f"{width}x{height} pixels, the limit is {MAX_PIXELS:,}, also after the resize"
        )


def _gunzip(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        result = stream.decompress(data, MAX_BYTES)
    except zlib.error as error:
        raise Unusable("corrupt", f"gzip: {error}") from error
    if not stream.eof:
        reason = "too_many_pixels" if len(result) >= MAX_BYTES else "truncated"
        raise Unusable(reason, f"gzip stream does not end within {len(result):,} bytes")
    return result


@dataclass(frozen=True)
class _JpegHeader:
    precision: int  # bits per sample
    height: int
    width: int
    num_components: int


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, whole segment) up to the first scan, which comes with all that follows it.

    Bytes between segments are skipped, as decoders do.
    """
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise Unusable("truncated", "ends before the first scan")
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffing, fill bytes, markers without length
            at += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD9, 0xDA):
            yield marker, data[at:]
            return
        end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        yield marker, data[at:end]
        at = end


def _read_jpeg_header(data: bytes) -> _JpegHeader:
    """Find the frame header (SOFn) without decoding."""
    for marker, segment in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if len(segment) < 10:
                raise Unusable("truncated", "ends inside the frame header")
            return _JpegHeader(*struct.unpack(">BHHB", segment[4:10]))
    raise Unusable("corrupt", "no frame header before the scan")


def _decode_strictly(data: bytes, colorspace: str) -> np.ndarray:
    try:
        # The accurate DCT: the fast one darkens by 0.8 grey levels. Strict: warnings mean lost pixels.
        return simplejpeg.decode_jpeg(data, colorspace, fastdct=False, fastupsample=False, strict=True)
    except ValueError as error:
        unsupported = "Could not determine subsampling" in str(error)  # 3x1 and the like, which Pillow can read
        reason = "unsupported_jpeg" if unsupported else "truncated" if "Premature end" in str(error) else "corrupt"
        raise Unusable(reason, str(error)) from error


def _check_with_opencv(data: bytes) -> None:
    """Ask for a second opinion on what cannot be decoded strictly as it is."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if found is None:
        raise Unusable("corrupt", "OpenCV cannot read it")


def _decode_jpeg(data: bytes) -> Decoded:
    header = _read_jpeg_header(data)
    _check_size(header.height, header.width)
    if header.precision != 8 or header.num_components not in (1, 3, 4):
        raise Unusable("unsupported_jpeg", f"{header.precision} bits, {header.num_components} components")
    repairs: tuple[str, ...] = ()
    try:
        simplejpeg.decode_jpeg_header(data)
    except ValueError:  # junk between segments is harmless; the scans behind it must be whole
        _check_with_opencv(data)
        clean = b"\xff\xd8" + b"".join(segment for _, segment in _jpeg_segments(data))
        data, repairs = clean, ("jpeg_header",) if clean != data else ()
    is_cmyk = header.num_components == 4
    try:
        image_HWC = _decode_strictly(data, "CMYK" if is_cmyk else "RGB")
    except Unusable as error:
        if error.reason != "unsupported_jpeg":
            raise
        return Decoded(_decode_with_pillow(data), (*repairs, "sampling", *("cmyk",) * is_cmyk))
    if is_cmyk:  # Pillow knows the inks, but would have taken damage for paint
        return Decoded(_decode_with_pillow(data), (*repairs, "cmyk"))
    return Decoded(image_HWC, repairs)


def _check_png(data: bytes) -> None:
    """Verify the checksums, which Pillow does not do for pixels."""
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4].ljust(4, b"\0"))
        body, stored = data[at + 4 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if len(stored) < 4:
            raise Unusable("truncated", "PNG chunk ends behind the file")
        if zlib.crc32(body).to_bytes(4, "big") != stored:
            raise Unusable("corrupt", f"PNG chunk at offset {at:,}: wrong checksum")
        if body[:4] == b"IEND":
            return
        at += 12 + length
    raise Unusable("truncated", "PNG without its end")


def _decode_other(data: bytes, name: str) -> np.ndarray:
    image_HWC = _decode_with_pillow(data)
    if name == "png":
        _check_png(data)
    else:
        _check_with_opencv(data)
    return image_HWC


def _decode_with_pillow(data: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:  # of damaged EXIF
            _check_size(image.height, image.width)
            image.load()
            if image.mode.startswith("I"):  # 16 bits per sample, to 8
                grey_HW = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
                return np.repeat(grey_HW[..., None], 3, axis=2)
            if "transparency" in image.info:
                image = image.convert("RGBA")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise Unusable(reason, str(error)) from error


def decode(data: bytes) -> Decoded:
    """Decode a source file by its content, whatever its name.

    Args:
        data: the whole file.

    Raises:
        Unusable: the file is to be quarantined.
    """
    if not data:
        raise Unusable("empty", "no bytes")
    if len(data) > MAX_BYTES:
        raise Unusable("too_many_pixels", f"{len(data):,} bytes, the limit is {MAX_BYTES:,}")
    repairs: tuple[str, ...] = ()
    if data.startswith(b"\x1f\x8b"):
        data, repairs = _gunzip(data), ("gzip",)
    if data.startswith(b"\xff\xd8"):
        decoded = _decode_jpeg(data)
        return Decoded(decoded.image_HWC, repairs + decoded.repairs)
    for name, magic in _OTHER_FORMATS.items():
        if magic.match(data):
            return Decoded(_decode_other(data, name), (*repairs, name))
    if _JPEG_2000.match(data):
        raise Unusable("unsupported_jpeg", "JPEG 2000")
    raise Unusable("not_an_image", f"starts with {data[:8].hex(' ')}")


def encode(image_HWC: np.ndarray, quality: int) -> bytes:
    """Encode uint8 [256, 256, 3] RGB as a 4:2:0 JPEG of the given quality (1..100)."""
    return simplejpeg.encode_jpeg(image_HWC, quality=quality, colorspace="RGB", colorsubsampling="420", fastdct=False)
