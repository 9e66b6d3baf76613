"""The kinds of places that `storage` writes to and reads from; nothing else imports this module."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from components.shared.errors import StorageError, UsageError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Entry:
    """One file under a URI."""

    name: str  # relative to the listed URI, with `/`
    num_bytes: int
    version: str  # changes whenever the content does: generation, or inode and modification time


class Backend(Protocol):
    """What a kind of place can do; `create` is False when the name is taken."""

    def exists(self, uri: str) -> bool: ...
    def list(self, uri: str) -> list[Entry]: ...
    def open(self, uri: str) -> BinaryIO: ...
    def read_range(self, uri: str, offset: int, num_bytes: int) -> bytes: ...
    def create(self, uri: str, source: Path) -> bool: ...
    def delete(self, uri: str) -> None: ...


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


def make_parent(path: Path) -> None:
    """Make the folder of a file.

    Raises:
        StorageError: the folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, str(path.parent)) from error


class Local:
    """Files of this machine."""

    def exists(self, uri: str) -> bool:
        return local_path(uri).is_file()

    def list(self, uri: str) -> list[Entry]:
        base = local_path(uri)
        return [
            Entry(p.relative_to(base).as_posix(), s.st_size, f"{s.st_ino}-{s.st_mtime_ns}")
            for p in base.rglob("*")
            if p.is_file() and not p.name.startswith(".")
            for s in [p.stat()]
        ]

    def open(self, uri: str) -> BinaryIO:
        return local_path(uri).open("rb")

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
        # A hard link is the create-only rename: it fails when the name is taken, and is never half there.
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            try:
                os.link(source, aside)
            except OSError as error:
                if error.errno != errno.EXDEV:  # two mounts may be of one disk, so only the link itself can tell
                    raise
                shutil.copyfile(source, aside)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            os.link(aside, target)
        except FileExistsError:
            return False
        finally:
            aside.unlink(missing_ok=True)
        return True

    def delete(self, uri: str) -> None:
        local_path(uri).unlink(missing_ok=True)


class Gcs:
    """Google Cloud Storage with application default credentials; obeys STORAGE_EMULATOR_HOST."""

    def __init__(self) -> None:
        from google.cloud import storage as gcs

        if os.environ.get("STORAGE_EMULATOR_HOST"):
            from google.auth.credentials import AnonymousCredentials

            self._client = gcs.Client(project="emulator", credentials=AnonymousCredentials())
        else:
            self._client = gcs.Client()

    def _blob(self, uri: str) -> Any:
        parts = urlsplit(uri)
        return self._client.bucket(parts.netloc).blob(parts.path.lstrip("/"))

    def exists(self, uri: str) -> bool:
        return self._blob(uri).exists(timeout=TIMEOUT_SECONDS)

    def list(self, uri: str) -> list[Entry]:
        parts = urlsplit(uri)
        prefix = parts.path.strip("/") + "/"
        blobs = self._client.list_blobs(parts.netloc, prefix=prefix, timeout=TIMEOUT_SECONDS)
        return [Entry(b.name[len(prefix) :], b.size, str(b.generation)) for b in blobs]

    def open(self, uri: str) -> BinaryIO:
        blob = self._blob(uri)
        blob.reload(timeout=TIMEOUT_SECONDS)  # a missing object fails here, not at the first read
        return blob.open("rb", chunk_size=CHUNK_BYTES, timeout=TIMEOUT_SECONDS)

    def read_range(self, uri: str, offset: int, num_bytes: int) -> bytes:
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        if num_bytes <= 0:
            return b""
        try:
            return self._blob(uri).download_as_bytes(
                start=offset, end=offset + num_bytes - 1, raw_download=True, checksum=None, timeout=TIMEOUT_SECONDS
            )
        except RequestRangeNotSatisfiable:  # it starts behind the end
            return b""

    def create(self, uri: str, source: Path) -> bool:
        from google.api_core.exceptions import PreconditionFailed

        if self.exists(uri):  # spares the upload; the precondition holds against whoever comes in between
            return False
        try:
            self._blob(uri).upload_from_filename(
                str(source), if_generation_match=0, checksum="crc32c", timeout=TIMEOUT_SECONDS
            )
        except PreconditionFailed:
            return False
        return True

    def delete(self, uri: str) -> None:
        blob = self._blob(uri)
        if blob.exists(timeout=TIMEOUT_SECONDS):
            blob.delete(timeout=TIMEOUT_SECONDS)


SCHEMES = {"": Local, "file": Local, "gs": Gcs}
_backends: dict[str, Backend] = {}


@contextlib.contextmanager
def backend_of(uri: str) -> Iterator[Backend]:
    """Yield the backend of a URI and turn its failures into StorageError."""
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme not in SCHEMES:
        raise UsageError(f"{uri}: unknown scheme {scheme!r}. Use a local path, file:// or gs://")
    try:
        if scheme not in _backends:
            _backends[scheme] = SCHEMES[scheme]()
        yield _backends[scheme]
    except OSError as error:
        raise explain(error, uri if not error.filename else "") from error
    except Exception as error:
        if type(error).__module__.startswith(("google.", "requests.", "urllib3.")):
            raise StorageError(
                f"{uri}: {type(error).__name__}: {error}. Check the bucket, the credentials and the network"
            ) from error
        raise
