"""Files and objects by URI: the only module that opens artifacts or talks to an object store.

A URI is a local path, `file:///path` or `gs://bucket/name`. Publishing is create-only: a name is written once,
whole, and never overwritten; publishing the same bytes again is a success, other bytes an error.
"""

import contextlib
import errno
import hashlib
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from components.shared.errors import DataError, StorageError, UsageError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Entry:
    """One file under a URI."""

    name: str  # relative to the listed URI, with `/`
    num_bytes: int
    version: str  # changes whenever the content does: generation, or inode and modification time


class _Backend(Protocol):
    def exists(self, uri: str) -> bool: ...
    def list(self, uri: str) -> list[Entry]: ...
    def open(self, uri: str) -> BinaryIO: ...
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


def absolute(uri: str) -> str:
    """Make a local path absolute; other URIs are returned without a trailing slash."""
    return str(local_path(uri).expanduser().absolute()) if is_local(uri) else uri.rstrip("/")


def join(base_uri: str, *parts: str) -> str:
    """Append relative parts to a URI."""
    return "/".join([base_uri.rstrip("/"), *parts])


class _Local:
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

    def create(self, uri: str, source: Path) -> bool:
        target = local_path(uri)
        make_parent(target)
        # A hard link is the create-only rename: it fails when the name is taken, and is never half there.
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            if source.stat().st_dev == target.parent.stat().st_dev:
                os.link(source, aside)
            else:
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


class _Gcs:
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

    def create(self, uri: str, source: Path) -> bool:
        from google.api_core.exceptions import PreconditionFailed

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


_SCHEMES = {"": _Local, "file": _Local, "gs": _Gcs}
_backends: dict[str, _Backend] = {}


@contextlib.contextmanager
def _backend(uri: str) -> Iterator[_Backend]:
    """Yield the backend of a URI and turn its failures into StorageError."""
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme not in _SCHEMES:
        raise UsageError(f"{uri}: unknown scheme {scheme!r}. Use a local path, file:// or gs://")
    try:
        if scheme not in _backends:
            _backends[scheme] = _SCHEMES[scheme]()
        yield _backends[scheme]
    except OSError as error:
        raise explain(error, uri if not error.filename else "") from error
    except Exception as error:
        if type(error).__module__.startswith(("google.", "requests.", "urllib3.")):
            raise StorageError(
                f"{uri}: {type(error).__name__}: {error}. Check the bucket, the credentials and the network"
            ) from error
        raise


def exists(uri: str) -> bool:
    """Tell whether a file is there."""
    with _backend(uri) as backend:
        return backend.exists(uri)


def list_files(uri: str) -> list[Entry]:
    """List the files under a URI, recursively, sorted by name; hidden files are left out."""
    with _backend(uri) as backend:
        return sorted(backend.list(uri), key=lambda entry: entry.name)


def open_read(uri: str) -> BinaryIO:
    """Open a file for seekable binary reading.

    Raises:
        StorageError: the file is not there or cannot be read.
    """
    with _backend(uri) as backend:
        return backend.open(uri)


def read_bytes(uri: str) -> bytes:
    """Read a whole file."""
    with open_read(uri) as file:
        return file.read()


def sha256(uri: str) -> str:
    """Compute the sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open_read(uri) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def make_parent(path: Path) -> None:
    """Make the folder of a file.

    Raises:
        StorageError: the folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, str(path.parent)) from error


def publish_file(source: Path, uri: str) -> str:
    """Publish a local file under a name that is written once. The source stays.

    Returns:
        The sha256 of the file.

    Raises:
        StorageError: the name is taken by other bytes, or the place cannot be written.
    """
    digest = sha256(str(source))
    with _backend(uri) as backend:
        created = backend.create(uri, source)
    if not created and sha256(uri) != digest:
        raise StorageError(
            f"{uri}: already there with other content, and nothing is overwritten. Remove it or choose another place"
        )
    return digest


@contextlib.contextmanager
def create(uri: str) -> Iterator[BinaryIO]:
    """Write a file that is published under `uri`, whole, when the block ends without an error.

    Raises:
        StorageError: as `publish_file`.
    """
    folder = local_path(uri).parent if is_local(uri) else Path(tempfile.gettempdir())
    make_parent(folder / "x")
    aside = folder / f".{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish_file(aside, uri)
    except OSError as error:
        raise explain(error, uri) from error
    finally:
        aside.unlink(missing_ok=True)


def publish_bytes(data: bytes, uri: str) -> None:
    """Publish bytes under a name that is written once; errors as `publish_file`."""
    with create(uri) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace a local text file in one step: readers see the old content or the new, never a part."""
    make_parent(path)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise explain(error, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


def stage(uri: str, num_bytes: int, digest: str, cache_dir: Path | None = None) -> Path:
    """Bring a file to local disk and verify it.

    Args:
        uri: the file; a local one is verified where it lies.
        num_bytes: expected size.
        digest: expected sha256, hexadecimal.
        cache_dir: folder for copies of remote files; the default is under the system's temporary folder.

    Raises:
        DataError: size or digest differ.
        StorageError: the file is not there.
    """
    if is_local(uri):
        path = local_path(uri)
    else:
        path = (cache_dir or Path(tempfile.gettempdir()) / "alexnet-stage") / digest
        if not path.is_file():
            with open_read(uri) as source, create(str(path)) as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)
    if not path.is_file():
        raise StorageError(f"{uri}: not found. Its manifest promises it; run the step that made it again")
    found = path.stat().st_size
    if found != num_bytes:
        raise DataError(
            f"{uri}: expected {num_bytes:,} bytes, got {found:,}. The file changed; run the step that made it again"
        )
    if sha256(str(path)) != digest:
        raise DataError(f"{uri}: sha256 differs from the manifest. The file changed; run the step that made it again")
    return path


def fingerprint(uri: str) -> str:
    """Identify the content of a folder by the names, sizes and versions of its files, without reading them.

    Raises:
        StorageError: there is no file under the URI.
    """
    entries = list_files(uri)
    if not entries:
        raise StorageError(f"{uri}: no files there. Check the path for spelling")
    text = "\n".join(f"{e.name} {e.num_bytes} {e.version}" for e in entries)
    return hashlib.sha256(text.encode()).hexdigest()


def check_writable(uri: str) -> None:
    """Write and delete a probe file under a URI, so that an unwritable root fails before any work.

    Raises:
        StorageError: the place cannot be written.
    """
    probe = join(uri, f"probe-{secrets.token_hex(4)}")
    with io.BytesIO(b"probe") as data, create(probe) as file:
        shutil.copyfileobj(data, file)
    with _backend(probe) as backend:
        backend.delete(probe)
