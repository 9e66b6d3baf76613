"""The record of one image, as plain data: schema, tf.train.Example bytes and TFRecord framing, without TensorFlow.

Each record is a `tf.train.Example` with the features of `FEATURES`. Files are TFRecord files: for each record a
little-endian uint64 length, its masked crc32c, the bytes, and their masked crc32c.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypedDict, cast

import google_crc32c

from components.shared import storage
from components.shared.errors import DataError

IMAGE_SIZE = 256  # every stored image is 256x256x3 uint8 RGB, as JPEG

Features = TypedDict(
    "Features",
    {
        "image/encoded": bytes,  # JPEG, 256x256 RGB
        "image/filename": bytes,  # name of the tar member, UTF-8
        "image/class/synset": bytes,  # wnid
        "image/class/label": int,  # 0-based label
        "image/height": int,  # of the original image, pixels
        "image/width": int,
    },
)
FEATURES: dict[str, type] = Features.__annotations__


# The index of a split: where the JPEG of each record lies, an array in NPY format, by shard and record.
INDEX_COLUMNS = [
    ("offset", "<i8"),  # of the JPEG in its shard, bytes
    ("num_bytes", "<i4"),
    ("crc32c", "<u4"),
    ("label", "<i4"),
]
LENGTH_BYTES = 12  # before a record in its file: its length and the checksum of that
FRAME_BYTES = LENGTH_BYTES + 4  # and behind it the checksum of the record
SIGNATURE_BYTES = 64  # a JPEG starts with bytes that no text holds, so these find it in its record


class Writable(Protocol):
    """A file, or what looks like one."""

    def write(self, data: bytes, /) -> int: ...


def index_name(split: str) -> str:
    """Name the file of a dataset that holds the index of a split."""
    return f"{split}-records.npy"


def shard_name(split: str, index: int, num_shards: int) -> str:
    """Name a shard as the field does: `train-00000-of-00008.tfrecord`."""
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def crc32c(data: bytes) -> int:
    """Compute the checksum of TFRecord files."""
    return google_crc32c.value(data)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - no stubs


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def encode_example(features: Features) -> bytes:
    """Encode features as a serialized `tf.train.Example`, keys sorted, so that equal features give equal bytes."""
    entries: list[bytes] = []
    for key, value in sorted(features.items()):
        if isinstance(value, bytes):
            feature = _field(1, _field(1, value))  # bytes_list
        else:
            feature = _field(3, _field(1, _varint(cast(int, value))))  # int64_list, packed; values are never negative
        entries.append(_field(1, _field(1, key.encode()) + _field(2, feature)))
    return _field(1, b"".join(entries))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, payload) of a message that has only length-delimited fields."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag & 7 != 2:
            raise ValueError(f"wire type {tag & 7}")
        length, at = _read_varint(data, at)
        yield tag >> 3, data[at : at + length]
        at += length


def decode_example(data: bytes) -> Features:
    """Decode what `encode_example` wrote.

    Raises:
        DataError: the bytes are not such an Example or lack one of `FEATURES`.
    """
    result: dict[str, bytes | int] = {}
    try:
        for _, entry in _fields(dict(_fields(data))[1]):
            parts = dict(_fields(entry))
            ((number, values),) = _fields(parts[2])
            payload = dict(_fields(values))[1]
            result[parts[1].decode()] = payload if number == 1 else _read_varint(payload, 0)[0]
    except (IndexError, KeyError, ValueError) as error:
        raise DataError(f"record: not an Example of this project ({error!r})") from error
    missing = [key for key, kind in FEATURES.items() if not isinstance(result.get(key), kind)]
    if missing:
        raise DataError(
            f"record: features {missing} are missing or of another type. Was it written by components.ingest?"
        )
    return cast(Features, result)


def locate(jpeg: bytes, record: bytes, record_at: int) -> tuple[int, int, int]:
    """Return offset in bytes, number of bytes and crc32c of a JPEG, as the index of its split has them.

    Args:
        jpeg: the JPEG.
        record: the encoded Example that holds it.
        record_at: where the frame of the record begins in its file.
    """
    start = record_at + LENGTH_BYTES + record.index(jpeg[:SIGNATURE_BYTES])
    return start, len(jpeg), crc32c(jpeg)


def _masked_crc(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_records(file: Writable, records: Iterable[bytes]) -> int:
    """Write TFRecords to an open file.

    Returns:
        The number of records.
    """
    count = 0
    for record in records:
        length = struct.pack("<Q", len(record))
        file.write(length + struct.pack("<I", _masked_crc(length)))
        file.write(record + struct.pack("<I", _masked_crc(record)))
        count += 1
    return count


def read_records(path: Path) -> Iterator[bytes]:
    """Read the records of a TFRecord file, checksums verified.

    Raises:
        DataError: the file is truncated or a checksum differs; names the file and the record.
    """
    with storage.open_read(str(path)) as file:
        index = 0
        while header := file.read(12):
            where = f"{path}, record {index}"
            if len(header) < 12 or struct.unpack("<I", header[8:])[0] != _masked_crc(header[:8]):
                raise DataError(f"{where}: damaged length. The shard changed; run ingest again")
            length = struct.unpack("<Q", header[:8])[0]
            body = file.read(length + 4)
            if len(body) < length + 4 or struct.unpack("<I", body[length:])[0] != _masked_crc(body[:length]):
                raise DataError(f"{where}: truncated or damaged. The shard changed; run ingest again")
            yield body[:length]
            index += 1
