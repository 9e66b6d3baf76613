"""Objects of Google Cloud Storage. Only `registry` imports this module.

Credentials are the application default ones (a key file, workload identity, gcloud's); STORAGE_EMULATOR_HOST is obeyed.
"""

# pyright: standard
# (not strict: its libraries have no complete types)

import http.client
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.shared import settings
from components.shared.storage import retry
from components.shared.storage.base import CHUNK_BYTES, Entry, Sink, split_uri
from components.shared.storage.retry import Damaged, Failure

MAX_CONNECTIONS = 32
CREDENTIALS = (
    "The credentials are missing, expired or not allowed there: run `gcloud auth application-default login`, or renew "
    "GOOGLE_APPLICATION_CREDENTIALS or the pod's service account, then run again"
)


class Gcs:
    """The backend of `gs://bucket/name`. Every request says `retry=None`: `retry` does it, for all stores alike."""

    def __init__(self, uri: str) -> None:
        import google.auth.exceptions
        import requests
        import requests.adapters
        import urllib3
        from google.api_core import exceptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
        from google.cloud.storage._media.requests import _request_helpers
        from google.cloud.storage.exceptions import DataCorruption

        logging.getLogger("urllib3").setLevel(logging.ERROR)  # retries are told by `retry`
        self._errors = exceptions
        self._auth_errors = google.auth.exceptions
        self._transient = (
            DataCorruption,
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            google.auth.exceptions.TransportError,
            ConnectionError,
            TimeoutError,
        )
        self._other = requests.RequestException
        self._timeout = retry.timeout_seconds()
        emulated = {"project": "emulator", "credentials": AnonymousCredentials()}
        make: Callable[..., Any] = storage.Client
        is_emulated = bool(settings.EMULATOR.get())
        self._client = self._call("log in", uri, lambda: make(**emulated) if is_emulated else make())
        for scheme in ("https://", "http://"):  # the library keeps 10 connections and makes every other one anew
            self._client._http.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS))
        # It reads by 8 kB, in Python: 5.6 s of the processor a gigabyte; by 1 MB 1.3 s.
        _request_helpers._SINGLE_GET_CHUNK_SIZE = CHUNK_BYTES

    def _judge(self, error: Exception) -> Failure | None:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, self._transient):
            return Failure(reason, is_transient=True)
        if isinstance(error, self._errors.GoogleAPICallError):
            if error.code == 400 and ("crc32c" in str(error).lower() or "md5" in str(error).lower()):
                return Failure(str(error), is_transient=True)  # the bytes changed on their way to the store
            headers = getattr(error.response, "headers", {})
            return retry.from_status(int(error.code or 0), str(error), headers.get("Retry-After"), CREDENTIALS)
        if isinstance(error, self._auth_errors.GoogleAuthError):
            return Failure(reason, CREDENTIALS)
        return Failure(reason, retry.SETTINGS) if isinstance(error, self._other) else None

    def _call(self, what: str, uri: str, request: Callable[[], Any]) -> Any:
        return retry.call(what, uri, request, self._judge)

    def _blob(self, uri: str) -> Any:
        bucket, name = split_uri(uri)
        return self._client.bucket(bucket).blob(name)

    @property
    def _once(self) -> dict[str, Any]:
        return {"timeout": self._timeout, "retry": None}

    def exists(self, uri: str) -> bool:
        return self._call("look up", uri, lambda: self._blob(uri).exists(**self._once))

    def entries(self, uri: str) -> list[Entry]:
        bucket, prefix = split_uri(uri, folder=True)

        def request() -> list[Entry]:
            return [
                Entry(blob.name[len(prefix) :], blob.size, str(blob.generation), blob.updated.timestamp())
                for blob in self._client.list_blobs(bucket, prefix=prefix, **self._once)
                if not blob.name.endswith("/")
            ]

        return self._call("list", uri, request)

    def download(self, uri: str, sink: Sink) -> None:
        def request() -> None:
            sink.seek(0)
            sink.truncate()
            self._blob(uri).download_to_file(sink, raw_download=True, checksum="crc32c", **self._once)

        self._call("read", uri, request)

    def read_range(self, uri: str, offset: int, num_bytes: int) -> bytes:
        """Read a range. The store has no checksum of parts of an object: TLS and the reader's own digests are all."""

        def request() -> bytes:
            blob = self._blob(uri)
            try:
                data = blob.download_as_bytes(
                    start=offset, end=offset + num_bytes - 1, raw_download=True, checksum=None, **self._once
                )
            except self._errors.RequestRangeNotSatisfiable:  # it starts behind the end
                return b""
            if len(data) < num_bytes:
                blob.reload(**self._once)
                expected = min(num_bytes, max(blob.size - offset, 0))
                if len(data) != expected:
                    raise Damaged(f"expected {expected:,} bytes at {offset:,}, got {len(data):,}")
            return data

        return self._call("read", uri, request) if num_bytes > 0 else b""

    def create(self, uri: str, source: Path) -> bool:
        def request() -> bool:
            blob = self._blob(uri)
            if blob.exists(**self._once):  # spares the upload; the precondition holds against who comes in between
                return False
            try:
                blob.upload_from_filename(str(source), if_generation_match=0, checksum="crc32c", **self._once)
            except self._errors.PreconditionFailed:
                return False
            return True

        return self._call("write", uri, request)

    def delete(self, uri: str) -> None:
        def request() -> None:
            try:
                self._blob(uri).delete(**self._once)
            except self._errors.NotFound:
                return

        self._call("delete", uri, request)

    def list_uploads(self, uri: str) -> list[Entry]:
        return []  # the store forgets an unfinished upload after a week, and lists none

    def abort_upload(self, uri: str, upload: str) -> None:
        """There is none."""

    def close(self) -> None:
        self._client.close()
