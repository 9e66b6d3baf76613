"""Object stores on good days, with large files, and without credentials."""

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT_DIR
from fault_proxy import Fault, FaultProxy

from components.shared import settings, storage
from components.shared.errors import StorageError, UsageError
from components.shared.storage import registry
from components.shared.storage.s3 import PART_BYTES


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three parts, the last one short."""
    path = tmp_path_factory.mktemp("large") / "file"
    path.write_bytes(b"PAYLOAD" + random.Random(0).randbytes(2 * PART_BYTES + 1000))
    return path


def proxied(variable: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    proxy = FaultProxy(os.environ[variable])
    monkeypatch.setenv(variable, proxy.url)
    monkeypatch.setenv(settings.STORAGE_TIMEOUT.name, "5")
    registry.forget()
    yield proxy
    registry.forget()
    proxy.stop()


@pytest.fixture
def s3(s3_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    yield from proxied("AWS_ENDPOINT_URL", monkeypatch)


@pytest.fixture
def gs(gs_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    yield from proxied("STORAGE_EMULATOR_HOST", monkeypatch)


@pytest.fixture
def s3_bucket(s3_store: str, tmp_path: Path) -> str:
    return f"{s3_store}/{tmp_path.name}"


@pytest.fixture
def gs_bucket(gs_store: str, tmp_path: Path) -> str:
    return f"{gs_store}/{tmp_path.name}"


@pytest.mark.slow
def test_a_large_file(bucket: str, large: Path, tmp_path: Path) -> None:
    digest = storage.publish_file(large, f"{bucket}/large")
    assert storage.publish_file(large, f"{bucket}/large") == digest
    size = large.stat().st_size
    assert storage.stage(f"{bucket}/large", size, digest, tmp_path).read_bytes() == large.read_bytes()
    with pytest.raises(StorageError, match="already there with other content"):
        (tmp_path / "other").write_bytes(bytes(size))
        storage.publish_file(tmp_path / "other", f"{bucket}/large")
    assert storage.sha256(f"{bucket}/large") == digest
    assert storage.list_uploads(bucket) == []


def test_an_empty_file(bucket: str, tmp_path: Path) -> None:
    storage.publish_bytes(b"", f"{bucket}/empty")
    assert storage.read_bytes(f"{bucket}/empty") == b""
    assert storage.read_range(f"{bucket}/empty", 0, 10) == b""
    assert storage.stage(f"{bucket}/empty", 0, hashlib.sha256().hexdigest(), tmp_path).read_bytes() == b""


@pytest.mark.parametrize(("offset", "num_bytes"), [(0, 0), (0, 3), (4, 3), (7, 3), (9, 5), (10, 2), (12, 1)])
def test_a_range_is_read_and_no_more(bucket: str, offset: int, num_bytes: int) -> None:
    storage.publish_bytes(b"0123456789", f"{bucket}/name")
    assert storage.read_range(f"{bucket}/name", offset, num_bytes) == b"0123456789"[offset : offset + num_bytes]


def test_files_are_listed_with_size_version_and_time(bucket: str) -> None:
    for name in ("a/1", "a/2 ä?#", "ab"):
        storage.publish_bytes(name.encode(), f"{bucket}/{name}")
    assert [(e.name, e.num_bytes) for e in storage.list_files(f"{bucket}/a")] == [("1", 3), ("2 ä?#", 8)]
    first, second = storage.list_files(f"{bucket}/a/")
    assert first.version != second.version
    assert abs(first.modified - time.time()) < 60
    whole = storage.list_files(bucket.rpartition("/")[0])
    assert f"{bucket.rpartition('/')[2]}/ab" in {e.name for e in whole}
    assert storage.read_bytes(f"{bucket}/a/2 ä?#") == b"a/2 \xc3\xa4?#"
    with storage.open_read(f"{bucket}/ab") as file:
        file.seek(1)
        assert file.read() == b"b"
    storage.delete(f"{bucket}/ab")
    storage.delete(f"{bucket}/ab")
    assert not storage.exists(f"{bucket}/ab")


@pytest.mark.slow
def test_the_condition_holds_where_asking_first_does_not(s3: FaultProxy, s3_bucket: str, large: Path) -> None:
    """Somebody may publish between the question and the upload: here the store denies what it has."""
    storage.publish_file(large, f"{s3_bucket}/large")
    storage.publish_bytes(b"first", f"{s3_bucket}/small")
    s3.set(Fault("status", match="HEAD ", times=100, status=404))
    with pytest.raises(StorageError, match="already there with other content"):
        storage.publish_bytes(b"second", f"{s3_bucket}/small")
    storage.publish_file(large, f"{s3_bucket}/large")
    assert storage.read_bytes(f"{s3_bucket}/small") == b"first"
    assert storage.list_uploads(s3_bucket) == []  # the second upload of the large one was refused at its end


@pytest.mark.parametrize(
    ("kind", "match", "times"),
    [("status", "partNumber=2", 2), ("refuse", "partNumber", 3), ("lost", r"POST .*\?uploadId", 1)],
)
@pytest.mark.slow
def test_parts_are_sent_again(s3: FaultProxy, s3_bucket: str, large: Path, kind: str, match: str, times: int) -> None:
    s3.set(Fault(kind, match=match, times=times))
    digest = storage.publish_file(large, f"{s3_bucket}/large")
    assert storage.sha256(f"{s3_bucket}/large") == digest
    assert storage.list_uploads(s3_bucket) == []


@pytest.mark.parametrize("kind", ["status", "refuse", "lost", "flip_sent"])
@pytest.mark.slow
def test_a_large_file_is_sent_again(gs: FaultProxy, gs_bucket: str, large: Path, kind: str) -> None:
    gs.set(Fault(kind, match="PUT .*upload_id="))
    digest = storage.publish_file(large, f"{gs_bucket}/large")
    assert storage.sha256(f"{gs_bucket}/large") == digest
    assert len(gs.seen) == (1 if kind == "lost" else 2)


@pytest.mark.slow
def test_parts_that_arrive_damaged_are_never_published(s3: FaultProxy, s3_bucket: str, large: Path) -> None:
    """Stores refuse such a part by its Content-MD5; this one does not, so the sum of all is found wrong at the end."""
    s3.set(Fault("flip_sent", match="partNumber=1"))
    with pytest.raises(StorageError, match=r"cannot write after \d tries"):
        storage.publish_file(large, f"{s3_bucket}/large")
    assert not storage.exists(f"{s3_bucket}/large")
    assert storage.list_uploads(s3_bucket) == []


@pytest.mark.slow
def test_an_upload_that_fails_is_aborted(s3: FaultProxy, s3_bucket: str, large: Path) -> None:
    s3.set(Fault("status", match="partNumber=2", times=100, status=403))
    with pytest.raises(StorageError, match=r"cannot write: .*credentials"):
        storage.publish_file(large, f"{s3_bucket}/large")
    assert len(s3.seen) == 1
    assert storage.list_uploads(s3_bucket) == []
    assert not storage.exists(f"{s3_bucket}/large")


@pytest.mark.parametrize(
    ("uri", "settings", "expected"),
    [
        ("s3://bucket/name", {"AWS_EC2_METADATA_DISABLED": "true"}, "NoCredentialsError.*renew AWS_ACCESS_KEY_ID"),
        ("s3://bucket/name", {"AWS_PROFILE": "absent"}, "ProfileNotFound.*the profile"),
        (
            "gs://bucket/name",
            {"NO_GCE_CHECK": "true"},
            "DefaultCredentialsError.*gcloud auth application-default login",
        ),
        ("gs://bucket/name", {"GOOGLE_APPLICATION_CREDENTIALS": "/absent.json"}, "/absent.json.*renew"),
    ],
)
def test_no_credentials_end_at_once(
    uri: str,
    settings: dict[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "STORAGE_EMULATOR"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    registry.forget()
    with pytest.raises(StorageError, match=expected) as raised:
        storage.check_writable(uri)
    assert str(raised.value).startswith("s3://bucket/name" if uri.startswith("s3") else "gs://bucket/name")
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().err == ""  # each further try would be a warning
    registry.forget()


@pytest.mark.parametrize(
    ("name", "value"),
    [(settings.STORAGE_TIMEOUT.name, "soon"), (settings.STORAGE_TIMEOUT.name, "0"), ("AWS_ENDPOINT_URL", "minio:9000")],
)
def test_settings_that_cannot_be_right(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    registry.forget()
    with pytest.raises(UsageError, match=f"{name}: expected .*, got '{value}'"):
        storage.exists("s3://bucket/name")
    registry.forget()


@pytest.mark.slow
def test_a_signal_during_a_request_is_no_failure_of_the_store(s3: FaultProxy, s3_bucket: str, tmp_path: Path) -> None:
    """botocore wraps whatever is raised inside a request; the process must still end as one that was interrupted."""
    script = """
import os, signal, sys
from components.shared import errors, storage
def interrupt(number, frame):
    raise errors.Interrupted("stopped")
signal.signal(signal.SIGTERM, interrupt)
try:
    storage.read_bytes(sys.argv[1])
except errors.AlexNetError as error:
    print(type(error).__name__, error)
"""
    s3.set(Fault("stall", match="GET "))
    command = [sys.executable, "-c", script, f"{s3_bucket}/name"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)}
    ) as process:
        deadline = time.monotonic() + 30
        while not s3.seen and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
        stdout, _ = process.communicate(timeout=20)
    assert stdout == "Interrupted stopped\n"
