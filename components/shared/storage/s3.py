"""Objects of S3: AWS, MinIO, SeaweedFS and whatever else speaks it. Only `registry` imports this module.

Everything is configured by the variables and files of AWS's own tools: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (which
also turns on path style), AWS_REGION or AWS_DEFAULT_REGION, and the usual chain of credentials.
"""

# pyright: standard
# (not strict: its libraries have no complete types)

import base64
import contextlib
import hashlib
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from components.shared import settings
from components.shared.errors import UsageError
from components.shared.storage import retry
from components.shared.storage.base import CHUNK_BYTES, Entry, Hasher, Sink, file_sha256, split_uri
from components.shared.storage.retry import Damaged, Failure

PART_BYTES = 16 << 20  # a larger file goes up in parts of this size
MAX_PARTS = 10_000  # of one object, says S3
PART_THREADS = 4  # so many parts are in memory
MAX_CONNECTIONS = 32
CREDENTIALS = (
    "The credentials are missing, expired or not allowed there: renew AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
    "AWS_SESSION_TOKEN, the profile or the pod's role, then run again"
)
# Codes that mean "again" under a status that does not, and refused credentials under another than 401 and 403.
TRANSIENT_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
CREDENTIAL_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}


def _md5(data: bytes) -> bytes:
    """Every S3 knows MD5, as Content-MD5 and as ETag; against accidents it does."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


class S3:
    """The backend of `s3://bucket/name`."""

    def __init__(self, uri: str) -> None:
        import boto3
        from botocore import exceptions
        from botocore.config import Config

        logging.getLogger("urllib3").setLevel(logging.ERROR)  # retries are told by `retry`
        endpoint = settings.S3_ENDPOINT.get() or settings.AWS_ENDPOINT.get()
        timeout = retry.timeout_seconds()
        self._errors = exceptions
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise UsageError(f"AWS_ENDPOINT_URL: expected http://host:port or https://host:port, got {endpoint!r}")
        config = Config(
            connect_timeout=timeout,
            read_timeout=timeout,
            retries={"total_max_attempts": 1},  # `retry` does them: botocore's stop where a body begins
            max_pool_connections=MAX_CONNECTIONS,
            s3={"addressing_style": "path"} if endpoint else {},
            # Checksums are given with each request; the trailers that botocore adds are news to older stores.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        region = settings.AWS_REGION.get() or None  # AWS_DEFAULT_REGION is boto's own
        # A session of its own: boto3's default one keeps what the environment said when it was made.
        self._client: Any = self._call(
            "log in", uri, lambda: boto3.Session().client("s3", region_name=region, config=config)
        )

    def _judge(self, error: Exception) -> Failure | None:
        errors = self._errors
        if isinstance(error, errors.ClientError):
            answer: Any = error.response
            code, told = answer.get("Error", {}).get("Code", ""), answer.get("ResponseMetadata", {})
            if code in TRANSIENT_CODES:
                return Failure(str(error), is_transient=True)
            status = 403 if code in CREDENTIAL_CODES else told.get("HTTPStatusCode", 0)
            return retry.from_status(status, str(error), told.get("HTTPHeaders", {}).get("retry-after"), CREDENTIALS)
        if not isinstance(error, errors.BotoCoreError):
            return None
        reason = f"{type(error).__name__}: {error}"
        if isinstance(
            error,
            errors.HTTPClientError | errors.ConnectionError | errors.IncompleteReadError | errors.FlexibleChecksumError,
        ):
            return Failure(reason, is_transient=True)
        return Failure(reason, CREDENTIALS if re.search("Credential|Token|SSO|Profile", reason) else retry.SETTINGS)

    def _call(self, what: str, uri: str, request: Callable[[], Any]) -> Any:
        return retry.call(what, uri, request, self._judge)

    def _is_there(self, place: dict[str, str]) -> bool:
        try:
            self._client.head_object(**place)
        except self._errors.ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return False
            raise
        return True

    def exists(self, uri: str) -> bool:
        return self._call("look up", uri, lambda: self._is_there(_place(uri)))

    def entries(self, uri: str) -> list[Entry]:
        bucket, prefix = split_uri(uri, folder=True)

        def request() -> list[Entry]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return [
                Entry(key["Key"][len(prefix) :], key["Size"], key["ETag"].strip('"'), key["LastModified"].timestamp())
                for page in pages
                for key in page.get("Contents", [])
                if not key["Key"].endswith("/")
            ]

        return self._call("list", uri, request)

    def download(self, uri: str, sink: Sink) -> None:
        def request() -> None:
            sink.seek(0)
            sink.truncate()
            body = self._client.get_object(**_place(uri), ChecksumMode="ENABLED")["Body"]
            with contextlib.closing(body):
                while chunk := body.read(CHUNK_BYTES):  # verifies length and checksum at the end
                    sink.write(chunk)

        self._call("read", uri, request)

    def read_range(self, uri: str, offset: int, num_bytes: int) -> bytes:
        def request() -> bytes:
            try:
                answer = self._client.get_object(**_place(uri), Range=f"bytes={offset}-{offset + num_bytes - 1}")
            except self._errors.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 416:  # it starts behind the end
                    return b""
                raise
            with contextlib.closing(answer["Body"]) as body:
                data = body.read()
            first, last = answer["ContentRange"].split()[1].split("/")[0].split("-")
            if (int(first), int(last) + 1 - offset) != (offset, len(data)):
                raise Damaged(f"expected bytes {first} to {last}, got {len(data):,}")
            return data

        return self._call("read", uri, request) if num_bytes > 0 else b""

    def create(self, uri: str, source: Path) -> bool:
        num_bytes = source.stat().st_size
        if num_bytes > PART_BYTES:
            return self._create_in_parts(uri, source, max(PART_BYTES, -(-num_bytes // MAX_PARTS)))
        data = source.read_bytes()
        headers = {
            "ContentMD5": _base64(_md5(data)),
            "ChecksumAlgorithm": "SHA256",  # kept by stores that know it, and sent along with every later read
            "ChecksumSHA256": _base64(hashlib.sha256(data).digest()),
        }
        return self._call(
            "write",
            uri,
            lambda: self._commit(uri, source, _md5(data).hex(), self._client.put_object, Body=data, **headers),
        )

    def _commit(self, uri: str, source: Path, etag: str, request: Callable[..., Any], **arguments: Any) -> bool:
        """Make the request that makes an object appear, unless the name is taken: False.

        A try whose answer was lost finds its own object; the caller compares what is there with what it has. Asking
        first also holds where a store does not know the condition.
        """
        if self._is_there(_place(uri)):
            return False
        try:
            answer = request(**_place(uri), IfNoneMatch="*", **arguments)
        except self._errors.ClientError as error:
            if error.response["Error"]["Code"] == "PreconditionFailed":
                return False
            raise
        # The ETag is the MD5 of what was stored, unless the store encrypts by a key of its own: then it is read back.
        if answer.get("ETag", "").strip('"') != etag and self._sha256(uri) != file_sha256(source):
            self._client.delete_object(**_place(uri))
            raise Damaged("other bytes were stored than were sent")
        return True

    def _sha256(self, uri: str) -> str:
        hasher = Hasher()
        with contextlib.closing(self._client.get_object(**_place(uri))["Body"]) as body:
            while chunk := body.read(CHUNK_BYTES):
                hasher.write(chunk)
        return hasher.hexdigest()

    def _create_in_parts(self, uri: str, source: Path, part_bytes: int) -> bool:
        if self.exists(uri):
            return False
        place = _place(uri)
        upload = self._call("begin to write", uri, lambda: self._client.create_multipart_upload(**place))["UploadId"]

        def send(index: int) -> tuple[bytes, str]:
            with source.open("rb") as file:
                file.seek(index * part_bytes)
                data = file.read(part_bytes)
            md5 = _md5(data)
            part = {"UploadId": upload, "PartNumber": index + 1, "Body": data, "ContentMD5": _base64(md5)}
            return md5, self._call("write", uri, lambda: self._client.upload_part(**place, **part))["ETag"]

        created = False
        try:
            with ThreadPoolExecutor(PART_THREADS) as pool:
                sent = list(pool.map(send, range(-(-source.stat().st_size // part_bytes))))
            parts = {"Parts": [{"PartNumber": n, "ETag": etag} for n, (_, etag) in enumerate(sent, 1)]}
            expected = f"{_md5(b''.join(md5 for md5, _ in sent)).hex()}-{len(sent)}"
            finish = self._client.complete_multipart_upload
            created = self._call(
                "write",
                uri,
                lambda: self._commit(uri, source, expected, finish, UploadId=upload, MultipartUpload=parts),
            )
        finally:
            if not created:
                with contextlib.suppress(Exception):  # what is left over is found by `alexnet gc`
                    self._client.abort_multipart_upload(**place, UploadId=upload)
        return created

    def delete(self, uri: str) -> None:
        self._call("delete", uri, lambda: self._client.delete_object(**_place(uri)))

    def list_uploads(self, uri: str) -> list[Entry]:
        bucket, prefix = split_uri(uri, folder=True)

        def request() -> list[Entry]:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
            return [
                Entry(u["Key"][len(prefix) :], self._sent_bytes(bucket, u), u["UploadId"], u["Initiated"].timestamp())
                for page in pages
                for u in page.get("Uploads", [])
            ]

        return self._call("list the unfinished uploads of", uri, request)

    def _sent_bytes(self, bucket: str, upload: dict[str, Any]) -> int:
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
        return sum(part["Size"] for page in pages for part in page.get("Parts", []))

    def abort_upload(self, uri: str, upload: str) -> None:
        self._call(
            "abort an upload of", uri, lambda: self._client.abort_multipart_upload(**_place(uri), UploadId=upload)
        )

    def close(self) -> None:
        self._client.close()


def _place(uri: str) -> dict[str, str]:
    bucket, key = split_uri(uri)
    return {"Bucket": bucket, "Key": key}
