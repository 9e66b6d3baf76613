"""Files and objects by URI: with the modules beside it, the only one that opens artifacts or talks to an object store.

A URI is a local path, `file:///path`, `gs://bucket/name` or `s3://bucket/name`. Publishing is create-only: a name is
written once, whole, and never overwritten; publishing the same bytes again is a success, other bytes an error.
"""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from components.shared.errors import StorageError
from components.shared.storage import temporary
from components.shared.storage.base import Entry as Entry
from components.shared.storage.base import Hasher, file_sha256
from components.shared.storage.base import explain as explain
from components.shared.storage.base import is_local as is_local
from components.shared.storage.base import local_path as local_path
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
    """List the files under a URI, recursively, sorted by name; hidden files are left out unless asked for."""
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


def open_read(uri: str) -> BinaryIO:
    """Open a file for seekable binary reading; one of an object store is fetched whole.

    Raises:
        StorageError: the file is not there or cannot be read.
    """
    with backend_of(uri) as backend:
        if is_local(uri):
            return local_path(uri).open("rb")
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
        backend.download(uri, file)
        file.seek(0)
        return file


def read_bytes(uri: str) -> bytes:
    """Read a whole file; errors as `open_read`."""
    data = io.BytesIO()
    with backend_of(uri) as backend:
        backend.download(uri, data)
    return data.getvalue()


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
def create(uri: str) -> Iterator[BinaryIO]:
    """Write a file that is published under `uri`, whole, when the block ends without an error.

    Raises:
        StorageError: as `publish_file`.
    """
    folder = local_path(uri).parent if is_local(uri) else Path(tempfile.gettempdir())
    make_parent(folder / "x")
    aside = folder / temporary.part()
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish_file(aside, uri)
    except OSError as error:
        raise explain(error, uri if is_local(uri) else str(aside)) from error
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
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise explain(error, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


def check_writable(uri: str) -> None:
    """Write and delete a probe file under a URI, so that an unwritable root fails before any work.

    Raises:
        StorageError: the place cannot be written.
    """
    probe = join(uri, temporary.probe())
    with io.BytesIO(b"probe") as data, create(probe) as file:
        shutil.copyfileobj(data, file)
    with backend_of(probe) as backend:
        backend.delete(probe)
