"""Storage backends: the interface, URIs, and errors of the local disk."""

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from components.shared.errors import StorageError, UsageError

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One file under a URI."""

    name: str  # relative to the listed URI, with `/`
    num_bytes: int
    version: str  # changes whenever the content does: generation, ETag, or inode and modification time
    modified: float  # seconds since 1970


class Sink(Protocol):
    """Where a download goes: a file, or what looks like one."""

    def write(self, data: bytes, /) -> int: ...
    def seek(self, offset: int, /) -> int: ...
    def truncate(self) -> int: ...


class Backend(Protocol):
    """What a kind of place can do; `create` is False when the name is taken."""

    def exists(self, uri: str) -> bool: ...
    def entries(self, uri: str) -> list[Entry]: ...
    def download(self, uri: str, sink: Sink) -> None: ...  # whole, from the start of an empty or rewound sink
    def read_range(self, uri: str, offset: int, num_bytes: int) -> bytes: ...
    def create(self, uri: str, source: Path) -> bool: ...
    def delete(self, uri: str) -> None: ...
    def list_uploads(self, uri: str) -> list[Entry]: ...  # begun and never finished; `version` is the upload's id
    def abort_upload(self, uri: str, upload: str) -> None: ...
    def close(self) -> None: ...


class Hasher:
    """A sink that keeps the sha256 of what is written, and nothing else."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)

    def seek(self, offset: int) -> int:
        """Forget everything: a download that is tried again begins again."""
        self._digest = hashlib.sha256()
        return offset

    def truncate(self) -> int:
        return 0

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _explain(error: OSError, place: str) -> StorageError:
    """Turn an operating-system error into one line that names the place and the remedy."""
    place = place or str(error.filename or "")
    if error.errno == errno.ENOSPC:
        free = ""
        with contextlib.suppress(OSError):
            existing = next(p for p in (Path(place), *Path(place).parents) if p.exists())
            free = f" ({shutil.disk_usage(existing).free:,} bytes free)"
        return StorageError(
            f"disk full: {place or 'the output disk'}{free}. Free space or choose another root, then run again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(
            f"no permission: {place} ({error.strerror}). Choose a place this user may write, or change its mode"
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and place:
        return StorageError(f"not found: {place}. Check the path for spelling")
    return StorageError(f"cannot use {place or 'a file'}: {error.strerror or error}")


@contextlib.contextmanager
def disk_errors(place: str = "") -> Generator[None]:
    """Turn the failures of this machine's disks within a block into StorageError.

    Only around the use of a file: any other OSError is a bug, and shows its traceback.

    Args:
        place: what the block reads or writes, for the message; default: the file that the error names.
    """
    try:
        yield
    except OSError as error:
        raise _explain(error, place) from error


def is_local(uri: str) -> bool:
    """Tell whether a URI names a local file."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Turn a local URI into a path.

    Raises:
        UsageError: the URI is not local.
    """
    if not is_local(uri):
        raise UsageError(f"{uri}: expected a local path or file:// URI")
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else Path(uri)


def split_uri(uri: str, *, folder: bool = False) -> tuple[str, str]:
    """Split the URI of an object into bucket and name; the name of a folder ends in `/`, or is empty."""
    bucket, _, name = uri.partition("://")[2].partition("/")
    return bucket, f"{name.strip('/')}/".lstrip("/") if folder else name


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a local file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        StorageError: it cannot be made.
    """
    with disk_errors(str(path)):
        path.mkdir(parents=True, exist_ok=True)


def make_parent(path: Path) -> None:
    """Make the folder of a file; errors as `make_folder`."""
    make_folder(path.parent)
