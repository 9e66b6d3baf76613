"""Object stores on bad days: a fault proxy stands between storage and a real server of each kind."""

import gc
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from conftest import PROJECT_DIR
from fault_proxy import Fault, FaultProxy

from components.shared import settings, storage
from components.shared.errors import DataError, StorageError
from components.shared.storage import registry, retry

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
DATA = b"PAYLOAD" + bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()
TIMEOUT_SECONDS = 1.0
READ = {"gs": "GET /download/", "s3": "GET /alexnet/"}
WRITE = {"gs": "POST /upload/", "s3": "PUT /alexnet/"}
ANY = {"gs": "/o[/?]", "s3": "."}  # of gs without the bucket itself, which its library looks at now and then
XML = "<Error><Code>{}</Code><Message>{}</Message></Error>"


def answer(store: str, status: int, code: str, message: str, **headers: str) -> Fault:
    """An error as each store words it."""
    body = XML.format(code, message) if store == "s3" else json.dumps({"error": {"code": status, "message": message}})
    kind = {"Content-Type": "application/xml" if store == "s3" else "application/json"}
    return Fault("status", status=status, headers=kind | headers, body=body.encode())


def faults(store: str) -> dict[str, Fault]:
    """What may go wrong with any request."""
    return {
        "503": answer(store, 503, "SlowDown", "Reduce your request rate"),
        "429, Retry-After: 1": answer(store, 429, "TooManyRequests", "Slow down", **{"Retry-After": "1"}),
        "408": answer(store, 408, "RequestTimeout", "Too slow"),
        "500": answer(store, 500, "InternalError", "We are sorry"),
        "stall": Fault("stall"),
        "reset": Fault("refuse"),
    }


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> Iterator[None]:
    """Let `proxy` look for garbage in what these tests make, not in all that is imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def proxy(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    variable = "STORAGE_EMULATOR_HOST" if object_store.startswith("gs") else "AWS_ENDPOINT_URL"
    made = FaultProxy(os.environ[variable])
    monkeypatch.setenv(variable, made.url)
    monkeypatch.setenv(settings.STORAGE_TIMEOUT.name, str(TIMEOUT_SECONDS))
    registry.forget()
    yield made
    registry.forget()
    made.stop()
    gc.collect()  # clients drop some refused answers unread: their sockets are found here, not in another test


@pytest.fixture
def store(object_store: str) -> str:
    return object_store[:2]


@pytest.fixture
def warnings(capsys: pytest.CaptureFixture[str]):
    """The retries that were logged so far."""

    def read() -> list[dict]:
        entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert all(entry["level"] == "warning" and entry["component"] == "storage" for entry in entries)
        assert [entry["tried"] for entry in entries] == list(range(1, len(entries) + 1))
        return entries

    return read


@pytest.fixture
def row(tmp_path_factory: pytest.TempPathFactory):
    """Keep a line of the table in docs/explain/log.md; `pytest --basetemp` says where."""

    def keep(fault: str, store: str, request: str, outcome: str, tries: int) -> None:
        with (tmp_path_factory.getbasetemp() / "faults.md").open("a") as table:
            table.write(f"| {fault} | {store} | {request} | {outcome} | {tries} |\n")

    return keep


def inject(proxy: FaultProxy, fault: Fault, match: str, times: int = 1) -> None:
    fault.match, fault.times = match, times
    proxy.set(fault)


@pytest.mark.slow
@pytest.mark.parametrize("name", faults("gs"))
@pytest.mark.parametrize("request_name", ["stage", "range", "publish"])
def test_a_passing_fault_is_waited_out(proxy, store, bucket, warnings, row, tmp_path, name, request_name) -> None:
    times = 1 if name == "stall" else 2
    uri = f"{bucket}/name"
    if request_name != "publish":
        storage.publish_bytes(DATA, uri)
    inject(proxy, faults(store)[name], (WRITE if request_name == "publish" else READ)[store], times)
    start = time.monotonic()
    if request_name == "publish":
        storage.publish_bytes(DATA, uri)
    elif request_name == "stage":
        assert storage.stage(uri, len(DATA), SHA256, tmp_path).read_bytes() == DATA
    else:
        assert storage.read_range(uri, 100, 5000) == DATA[100:5100]
    seconds = time.monotonic() - start
    assert len(proxy.seen) == times + 1
    told = warnings()
    assert len(told) == times
    assert all(uri in entry["message"] for entry in told)
    asked = 1.0 if "Retry-After" in name else 0.0
    assert all(asked <= entry["wait_seconds"] <= max(asked, TIMEOUT_SECONDS / 4) for entry in told)
    assert seconds >= sum(entry["wait_seconds"] for entry in told) - 0.01  # which are rounded
    assert storage.read_bytes(uri) == DATA
    row(name, store, request_name, "as without it", times + 1)


@pytest.mark.parametrize("name", ["503", "reset"])
@pytest.mark.slow
def test_a_lasting_fault_ends_as_one_line(proxy, store, bucket, warnings, row, name) -> None:
    inject(proxy, faults(store)[name], ANY[store], times=1000)
    with pytest.raises(StorageError) as raised:
        storage.read_bytes(f"{bucket}/name")
    assert f"{bucket}/name: cannot read after {retry.MAX_TRIES} tries: " in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(proxy.seen) == retry.MAX_TRIES
    assert len(warnings()) == retry.MAX_TRIES - 1
    row(f"{name}, lasting", store, "read", "StorageError", retry.MAX_TRIES)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("request_name", ["read", "publish", "list"])
def test_refused_credentials_end_at_once(proxy, store, bucket, warnings, row, status, request_name) -> None:
    code = "ExpiredToken" if status == 401 else "AccessDenied"
    inject(proxy, answer(store, status, code, "The provided token has expired"), ANY[store], times=1000)
    with pytest.raises(StorageError, match=r"credentials are missing, expired or not allowed there: r") as raised:
        if request_name == "read":
            storage.read_bytes(f"{bucket}/name")
        elif request_name == "list":
            storage.list_files(bucket)
        else:
            storage.publish_bytes(DATA, f"{bucket}/name")
    assert str(raised.value).startswith(bucket)
    assert "\n" not in str(raised.value)
    assert len(proxy.seen) == 1
    assert warnings() == []  # so there was no wait
    row(f"{status} {code}", store, request_name, "StorageError", 1)


def test_what_is_not_there_is_not_asked_for_again(proxy, store, bucket, warnings, row) -> None:
    inject(proxy, Fault("none"), ANY[store], times=0)
    with pytest.raises(StorageError, match=r"Check the bucket and the name for spelling$"):
        storage.read_bytes(f"{bucket}/name")
    assert len(proxy.seen) == 1
    assert warnings() == []
    row("404", store, "read", "StorageError", 1)


@pytest.mark.parametrize("kind", ["reset", "cut", "short", "flip"])
@pytest.mark.parametrize("request_name", ["stage", "read"])
def test_a_damaged_body_is_fetched_again(proxy, store, bucket, warnings, row, tmp_path, kind, request_name) -> None:
    storage.publish_bytes(DATA, f"{bucket}/name")
    inject(proxy, Fault(kind), READ[store])
    if request_name == "stage":
        assert storage.stage(f"{bucket}/name", len(DATA), SHA256, tmp_path).read_bytes() == DATA
        assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [SHA256]
    else:
        assert storage.read_bytes(f"{bucket}/name") == DATA
    assert len(proxy.seen) == 2
    assert len(warnings()) == 1
    row(f"body: {kind}", store, request_name, "as without it", 2)


@pytest.mark.parametrize("kind", ["reset", "cut", "short"])
def test_a_range_that_lacks_bytes_is_fetched_again(proxy, store, bucket, warnings, row, kind) -> None:
    storage.publish_bytes(DATA, f"{bucket}/name")
    for offset, num_bytes in ((7, 5000), (9000, 5000)):  # the second reaches over the end
        inject(proxy, Fault(kind), READ[store])
        assert storage.read_range(f"{bucket}/name", offset, num_bytes) == DATA[offset : offset + num_bytes]
        assert len(proxy.seen) == 2
        assert len(warnings()) == 1
    row(f"body: {kind}", store, "range", "as without it", 2)


def test_other_bytes_in_the_store_end_as_bad_data(proxy, store, bucket, row, tmp_path) -> None:
    storage.publish_bytes(DATA[::-1], f"{bucket}/name")
    inject(proxy, Fault("none"), READ[store], times=0)
    with pytest.raises(DataError, match="sha256 differs from the manifest"):
        storage.stage(f"{bucket}/name", len(DATA), SHA256, tmp_path)
    assert len(proxy.seen) == 2
    row("other bytes in the store", store, "stage", "DataError", 2)


def test_a_create_whose_answer_is_lost(proxy, store, bucket, warnings, row) -> None:
    inject(proxy, Fault("lost"), WRITE[store])
    storage.publish_bytes(DATA, f"{bucket}/name")
    assert len(proxy.seen) == 1  # the second try finds the object there
    assert len(warnings()) == 1
    assert storage.read_bytes(f"{bucket}/name") == DATA
    row("answer of the create lost", store, "publish", "as without it", 2)


@pytest.mark.slow
def test_a_whole_step_on_a_bad_day(proxy, store, bucket, row, sample_release, tmp_path) -> None:
    """Ingest, release and root in the store, while every seventh answer breaks off."""
    for path in sample_release.iterdir():
        storage.publish_file(path, f"{bucket}/release/{path.name}")

    def digest(release: str, root: str) -> tuple[str, str]:
        flags = {
            "release-uri": release,
            "root-uri": root,
            "dataset": tmp_path / "dataset.json",
            "summary": tmp_path / "s",
        }
        (tmp_path / "dataset.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "components.ingest", *(f"--{name}={value}" for name, value in flags.items())]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_DIR, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "dataset.json").read_text())["digest"], done.stderr

    proxy.set(Fault("reset", match=ANY[store], every=7, times=10**6))
    remote, stderr = digest(f"{bucket}/release", f"{bucket}/root")
    proxy.set(Fault("none", times=0))
    assert remote == digest(str(sample_release), str(tmp_path / "root"))[0]
    assert stderr.count("trying again") > 10
    row("every seventh body: reset", store, "ingest", "the local run's digest", stderr.count("trying again"))


def test_a_byte_that_flips_on_its_way_to_the_store(proxy, store, bucket, warnings, row) -> None:
    inject(proxy, Fault("flip_sent"), WRITE[store])
    storage.publish_bytes(DATA, f"{bucket}/name")
    assert len(proxy.seen) == 2
    assert len(warnings()) == 1
    assert storage.read_bytes(f"{bucket}/name") == DATA
    row("sent byte flipped", store, "publish", "as without it", 2)
