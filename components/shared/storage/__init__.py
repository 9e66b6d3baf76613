"""Read and publish files by URI. Only this package opens artifacts or talks to an object store.

A URI is a local path, `file:///path`, `gs://bucket/name` or `s3://bucket/name`. Publishing is create-only: a name is
written once, whole, and never overwritten; publishing the same bytes again is a success, other bytes an error.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

from components.shared.errors import StorageError
from components.shared.storage import temporary
from components.shared.storage.base import Entry as Entry
from components.shared.storage.base import Hasher, file_sha256
from components.shared.storage.base import disk_errors as disk_errors
from components.shared.storage.base import is_local as is_local
from components.shared.storage.base import local_path as local_path
from components.shared.storage.base import make_folder as make_folder
from components.shared.storage.base import make_parent as make_parent
from components.shared.storage.registry import backend_of
from components.shared.storage.staging import Wanted as Wanted
from components.shared.storage.staging import stage as stage
from components.shared.storage.staging import stage_files as stage_files


def absolute(uri: str) -> str:
    """Make a local path absolute; other URIs are returned without a trailing slash."""
    return str(local_path(uri).expanduser().absolute()) if is_local(uri) else uri.rstrip("/")


def join(base_uri: str, *parts: str) -> str:
    """Append relative parts to a URI."""
    return "/".join([base_uri.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """Tell whether a file is there."""
    with backend_of(uri) as backend:
        return backend.exists(uri)


def delete(uri: str) -> None:
    """Delete a file; one that is not there is a success."""
    with backend_of(uri) as backend:
        backend.delete(uri)


def list_files(uri: str, *, hidden: bool = False) -> list[Entry]:
    """List the files under a URI, recursively, sorted by name; hidden files only if `hidden`."""
    with backend_of(uri) as backend:
        entries = sorted(backend.entries(uri), key=lambda entry: entry.name)
    return [entry for entry in entries if hidden or not entry.name.rpartition("/")[2].startswith(".")]


def list_uploads(uri: str) -> list[Entry]:
    """List the uploads under a URI that were begun and neither finished nor aborted; `version` is their id."""
    with backend_of(uri) as backend:
        return backend.list_uploads(uri)


def abort_upload(uri: str, upload: str) -> None:
    """Abort an upload that `list_uploads` named."""
    with backend_of(uri) as backend:
        backend.abort_upload(uri, upload)


@contextlib.contextmanager
def open_read(uri: str) -> Generator[BinaryIO]:
    """Open a file for seekable binary reading; one of an object store is fetched whole.

    Raises:
        StorageError: the file is not there or cannot be read.
    """
    with backend_of(uri) as backend:
        if is_local(uri):
            with local_path(uri).open("rb") as file:
                yield file
            return
        with tempfile.TemporaryFile() as copy:
            backend.download(uri, copy)
            copy.seek(0)
            yield copy


def read_bytes(uri: str) -> bytes:
    """Read a whole file; errors as `open_read`."""
    data = io.BytesIO()
    with backend_of(uri) as backend:
        backend.download(uri, data)
    return data.getvalue()


def read_text(uri: str) -> str:
    """Read a whole text file; errors as `open_read`."""
    return read_bytes(uri).decode(errors="replace")


def read_json(uri: str) -> Any:
    """Read a JSON file; errors as `open_read`, and ValueError where it holds none."""
    return json.loads(read_bytes(uri))


def read_range(uri: str, offset: int, num_bytes: int) -> bytes:
    """Read some bytes of a file and no others; fewer come back only where the file ends.

    Raises:
        StorageError: the file is not there or cannot be read.
    """
    with backend_of(uri) as backend:
        return backend.read_range(uri, offset, num_bytes)


def sha256(uri: str) -> str:
    """Compute the sha256 of a file, in hexadecimal; errors as `open_read`."""
    hasher = Hasher()
    with backend_of(uri) as backend:
        if is_local(uri):
            return file_sha256(local_path(uri))
        backend.download(uri, hasher)
    return hasher.hexdigest()


def publish_file(source: Path, uri: str) -> str:
    """Publish a local file under a name that is written once. The source stays.

    Returns:
        The sha256 of the file.

    Raises:
        StorageError: the name is taken by other bytes, or the place cannot be written.
    """
    digest = sha256(str(source))
    with backend_of(uri) as backend:
        created = backend.create(uri, source)
    if not created and sha256(uri) != digest:
        raise StorageError(
            f"{uri}: already there with other content, and nothing is overwritten. Remove it or choose another place"
        )
    return digest


@contextlib.contextmanager
def create(uri: str) -> Generator[BinaryIO]:
    """Write a file that is published under `uri`, whole, when the block ends without an error.

    Raises:
        StorageError: as `publish_file`.
    """
    folder = local_path(uri).parent if is_local(uri) else Path(tempfile.gettempdir())
    make_folder(folder)
    aside = folder / temporary.part()
    with disk_errors(uri if is_local(uri) else str(aside)):
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            publish_file(aside, uri)
        finally:
            aside.unlink(missing_ok=True)


def publish_bytes(data: bytes, uri: str) -> None:
    """Publish bytes under a name that is written once; errors as `publish_file`."""
    with create(uri) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace a local text file in one step: readers see the old content or the new, never a part."""
    make_parent(path)
    aside = path.with_name(temporary.beside(path.name))
    with disk_errors(str(path)):
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def check_writable(uri: str) -> None:
    """Write, read and delete a probe file under a URI, so that an unusable root fails before any work.

    Raises:
        StorageError: the place cannot be written, returns other bytes, or keeps what was deleted.
    """
    probe, data = join(uri, temporary.probe()), os.urandom(64)
    publish_bytes(data, probe)
    try:
        same = read_bytes(probe) == data
    finally:
        delete(probe)
    if not same or exists(probe):
        raise StorageError(f"{uri}: a probe file read back as other bytes, or stayed when it was deleted")
