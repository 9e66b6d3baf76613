"""Which kind of place a URI names, made once a process."""

import contextlib
import threading
from collections.abc import Generator

from components.shared.errors import UsageError
from components.shared.storage.base import Backend, disk_errors, is_local
from components.shared.storage.local import Local

SCHEMES = ("file", "gs", "s3")

_backends: dict[str, Backend] = {}
_making = threading.Lock()


def _make(scheme: str, uri: str) -> Backend:
    if scheme == "gs":
        from components.shared.storage.gcs import Gcs

        return Gcs(uri)
    if scheme == "s3":
        from components.shared.storage.s3 import S3

        return S3(uri)
    return Local()


@contextlib.contextmanager
def backend_of(uri: str) -> Generator[Backend]:
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
    with disk_errors(uri if is_local(uri) else ""):
        yield _backends[scheme]


def forget() -> None:
    """Make every backend anew when it is next used, as the environment then says."""
    while _backends:
        _backends.popitem()[1].close()
