"""The kinds of places that `storage` writes to and reads from, and this machine's disks, which are one of them.

Only `storage` and the modules behind it (`s3`, `gcs`, `staging`) import this one.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from components.shared.errors import StorageError, UsageError

CHUNK_BYTES = 1 << 20
SCHEMES = ("file", "gs", "s3")
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)
AT_FDCWD, RENAME_NOREPLACE = -100, 1  # of Linux, for renameat2


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


def explain(error: OSError, place: str = "") -> StorageError:
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
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return StorageError(f"not found: {place}. Check the path for spelling")
    return StorageError(f"cannot use {place or 'a file'}: {error.strerror or error}")


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


def make_parent(path: Path) -> None:
    """Make the folder of a file.

    Raises:
        StorageError: the folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, str(path.parent)) from error


def _claim(aside: Path, target: Path) -> None:
    """Give a file a name that is not taken: the name is never half there, and never taken from another file.

    Raises:
        FileExistsError: the name is taken.
        StorageError: the file system has no way to do that.
    """
    try:
        os.link(aside, target)
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        reason = error.strerror
    # exFAT, FAT and many network and FUSE mounts have no hard links; most can rename without replacing (Linux only).
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename and rename(AT_FDCWD, os.fsencode(aside), AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno() if rename else errno.ENOSYS
    if number not in (errno.EINVAL, *NO_LINKS):
        raise OSError(number, os.strerror(number), str(target))
    raise StorageError(
        f"{target}: its file system has neither hard links ({reason}) nor a rename that keeps what is there "
        f"({os.strerror(number)}), and nothing may be overwritten. Choose a root on another file system"
    )


class Local:
    """Files of this machine."""

    def exists(self, uri: str) -> bool:
        return local_path(uri).is_file()

    def entries(self, uri: str) -> list[Entry]:
        base, entries = local_path(uri), []
        for path in base.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process may have finished with it
                found = path.stat()
                if stat.S_ISREG(found.st_mode):
                    version = f"{found.st_ino}-{found.st_mtime_ns}"
                    entries.append(Entry(path.relative_to(base).as_posix(), found.st_size, version, found.st_mtime))
        return entries

    def download(self, uri: str, sink: Sink) -> None:
        with local_path(uri).open("rb") as file:
            shutil.copyfileobj(file, sink, CHUNK_BYTES)

    def read_range(self, uri: str, offset: int, num_bytes: int) -> bytes:
        with local_path(uri).open("rb", buffering=0) as file:
            parts = []
            while num_bytes > 0 and (part := os.pread(file.fileno(), num_bytes, offset)):  # at most 2 GiB a call
                parts.append(part)
                offset, num_bytes = offset + len(part), num_bytes - len(part)
            return b"".join(parts)

    def create(self, uri: str, source: Path) -> bool:
        target = local_path(uri)
        make_parent(target)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            try:
                os.link(source, aside)
            except OSError as error:
                if error.errno not in (errno.EXDEV, *NO_LINKS):  # only the link itself tells whether it can be made
                    raise
                shutil.copyfile(source, aside)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            _claim(aside, target)
        except FileExistsError:
            return False
        finally:
            aside.unlink(missing_ok=True)
        return True

    def delete(self, uri: str) -> None:
        local_path(uri).unlink(missing_ok=True)

    def list_uploads(self, uri: str) -> list[Entry]:
        return []  # what a writer leaves here is a hidden file

    def abort_upload(self, uri: str, upload: str) -> None:
        """There is none."""

    def close(self) -> None:
        """There is nothing open."""


_backends: dict[str, Backend] = {}
_making = threading.Lock()


def _make(scheme: str, uri: str) -> Backend:
    if scheme == "gs":
        from components.shared.gcs import Gcs

        return Gcs(uri)
    if scheme == "s3":
        from components.shared.s3 import S3

        return S3(uri)
    return Local()


@contextlib.contextmanager
def backend_of(uri: str) -> Iterator[Backend]:
    """Yield the backend of a URI and turn the failures of this machine's disks into StorageError.

    Raises:
        UsageError: the scheme is unknown.
    """
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    if scheme not in SCHEMES:
        raise UsageError(f"{uri}: unknown scheme {scheme!r}. Use a local path, file://, gs:// or s3://")
    with _making:
        if scheme not in _backends:
            _backends[scheme] = _make(scheme, uri)
    try:
        yield _backends[scheme]
    except OSError as error:
        raise explain(error, uri if is_local(uri) and not error.filename else "") from error


def forget() -> None:
    """Make every backend anew when it is next used, as the environment then says."""
    while _backends:
        _backends.popitem()[1].close()
