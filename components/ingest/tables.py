"""Images as rows of one array, 47 bytes each where a Python object takes 260, and as files that know their digest."""

import hashlib
import io
from collections.abc import Sequence

import numpy as np

from components.shared import storage

NUM_DIGEST_BYTES = 32


def make(
    names: Sequence[str], ilsvrc_ids: Sequence[int] | int, tar: int, spans: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Make a table of images.

    Args:
        names: of the members, without folders.
        ilsvrc_ids: 1-based, of each image or of all.
        tar: which file of the release, as a position in `archives.TARS`.
        spans: offset and number of bytes of each image.

    Returns:
        Rows of name (bytes, as wide as the longest), ilsvrc_id, tar, offset and num_bytes.
    """
    encoded = np.array([name.encode("utf-8", "surrogateescape") for name in names], "S") if names else np.empty(0, "S1")
    columns = [("name", encoded.dtype), ("ilsvrc_id", "<u2"), ("tar", "u1"), ("offset", "<i8"), ("num_bytes", "<i8")]
    table = np.empty(len(names), columns)
    table["name"], table["ilsvrc_id"], table["tar"] = encoded, ilsvrc_ids, tar
    offsets_and_sizes = np.array(spans, np.int64).reshape(-1, 2)
    table["offset"], table["num_bytes"] = offsets_and_sizes[:, 0], offsets_and_sizes[:, 1]
    return table


def npy(array: np.ndarray) -> bytes:
    """Encode an array in NPY format."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def encode(table: np.ndarray) -> bytes:
    """Encode a table: the sha256 of the rest, then the NPY format."""
    data = npy(table)
    return hashlib.sha256(data).digest() + data


def decode(data: bytes) -> np.ndarray | None:
    """Decode what `encode` made; None when it is damaged."""
    digest, rest = data[:NUM_DIGEST_BYTES], memoryview(data)[NUM_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        return None
    return np.lib.format.read_array(io.BytesIO(rest), allow_pickle=False)


def read(uri: str) -> np.ndarray | None:
    """Read a table; None when it is not there or damaged.

    Raises:
        StorageError: the place cannot be read.
    """
    return decode(storage.read_bytes(uri)) if storage.exists(uri) else None


def keep(table: np.ndarray, uri: str) -> None:
    """Publish a table unless it is there; other bytes under its name are damage, and are replaced.

    Raises:
        StorageError: the place cannot be written.
    """
    data = encode(table)
    if storage.exists(uri):
        if storage.read_bytes(uri) == data:
            return
        storage.delete(uri)
    storage.publish_bytes(data, uri)
