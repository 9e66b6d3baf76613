"""Storage: names written once and whole, failures that say where and what to do."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import storage
from components.shared.errors import DataError, StorageError, UsageError


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@settings(derandomize=True, deadline=None, max_examples=30)
@given(data=st.binary(max_size=1000))
@pytest.mark.slow
def test_what_is_published_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("place")
    for uri in (f"{folder}/plain", f"file://{folder}/sub/with%20space"):
        storage.publish_bytes(data, uri)
        storage.publish_bytes(data, uri)  # the same bytes again are a success
        assert storage.read_bytes(uri) == data
        assert storage.exists(uri)
        with pytest.raises(StorageError, match="already there with other content"):
            storage.publish_bytes(data + b"x", uri)
        assert storage.read_bytes(uri) == data
    assert names_in(folder) == {"plain", "sub", "sub/with space"}


@pytest.mark.parametrize(("offset", "num_bytes"), [(0, 0), (0, 3), (4, 3), (7, 3), (9, 5), (12, 1)])
def test_a_range_is_read_and_no_more(tmp_path: Path, offset: int, num_bytes: int) -> None:
    storage.publish_bytes(b"0123456789", f"{tmp_path}/name")
    assert storage.read_range(f"{tmp_path}/name", offset, num_bytes) == b"0123456789"[offset : offset + num_bytes]
    with pytest.raises(StorageError, match="not found"):
        storage.read_range(f"{tmp_path}/other", offset, num_bytes)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), storage.create(f"{tmp_path}/name") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert names_in(tmp_path) == set()


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    with storage.create(f"{tmp_path}/name") as file:
        file.write(b"half")
        file.flush()
        assert not storage.exists(f"{tmp_path}/name")
        assert storage.list_files(str(tmp_path)) == []
    assert storage.read_bytes(f"{tmp_path}/name") == b"half"


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    refused = []
    start = threading.Barrier(8)

    def write(index: int) -> None:
        start.wait()
        try:
            storage.publish_bytes(b"%d" % index * 100_000, f"{tmp_path}/name")
        except StorageError:
            refused.append(index)

    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(range(8)) - set(refused)
    assert storage.read_bytes(f"{tmp_path}/name") == b"%d" % winner * 100_000
    assert names_in(tmp_path) == {"name"}


def test_publish_file_keeps_the_source(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"bytes")
    digest = storage.publish_file(tmp_path / "source", f"{tmp_path}/a/b")
    assert digest == storage.sha256(f"{tmp_path}/a/b")
    assert (tmp_path / "source").read_bytes() == b"bytes"


def test_publish_file_onto_another_disk(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    (tmp_path / "source").write_bytes(b"bytes")
    folder = other / f"alexnet-test-{os.getpid()}"
    try:
        storage.publish_file(tmp_path / "source", f"{folder}/name")
        assert (folder / "name").read_bytes() == b"bytes"
        assert names_in(folder) == {"name"}
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def small_disk(tmp_path: Path):
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named_and_left_clean(small_disk: Path) -> None:
    storage.publish_bytes(b"x" * 100_000, f"{small_disk}/kept")
    with pytest.raises(StorageError, match=r"^disk full: .*/name \([\d,]+ bytes free\)\. Free space"):
        storage.publish_bytes(b"y" * 300_000, f"{small_disk}/name")
    with pytest.raises(StorageError, match="disk full"):
        storage.write_text(small_disk / "summary.md", "z" * 300_000)
    assert names_in(small_disk) == {"kept"}
    storage.publish_bytes(b"y" * 100_000, f"{small_disk}/name")  # there is room for what fits


def test_full_disk_when_copied_from_another(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 300_000)
    with pytest.raises(StorageError, match="disk full"):
        storage.publish_file(tmp_path / "source", f"{small_disk}/name")
    assert names_in(small_disk) == set()


@pytest.mark.parametrize("kind", ["below a file", "proc"])
def test_an_unwritable_root_fails_before_any_work(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    root = "/proc/alexnet" if kind == "proc" else f"{tmp_path}/file/root"
    with pytest.raises(StorageError) as error:
        storage.check_writable(root)
    assert root.split("/root")[0] in str(error.value)
    assert error.value.exit_code == 69


def test_a_writable_root_is_made_and_left_empty(tmp_path: Path) -> None:
    storage.check_writable(f"{tmp_path}/new/root")
    assert [name for name in names_in(tmp_path) if (tmp_path / name).is_file()] == []


def test_what_is_not_there(tmp_path: Path) -> None:
    missing = f"{tmp_path}/missing"
    assert not storage.exists(missing)
    assert storage.list_files(missing) == []
    for call in (storage.read_bytes, storage.sha256):
        with pytest.raises(StorageError, match=missing):
            call(missing)
    with pytest.raises(StorageError, match="Its manifest promises it"):
        storage.stage(missing, 1, "0" * 64)


def test_unknown_schemes(tmp_path: Path) -> None:
    for call in (storage.exists, storage.read_bytes, storage.check_writable):
        with pytest.raises(UsageError, match="unknown scheme 'ftp'"):
            call("ftp://host/name")
    with pytest.raises(UsageError, match="expected a local path"):
        storage.local_path("gs://bucket/name")


def test_stage_detects_changed_size_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(b"right")
    digest = storage.sha256(str(path))
    assert storage.stage(str(path), 5, digest) == path
    assert storage.stage(f"file://{path}", 5, digest) == path
    path.write_bytes(b"wrong")
    with pytest.raises(DataError, match="sha256 differs"):
        storage.stage(str(path), 5, digest)
    path.write_bytes(b"longer")
    with pytest.raises(DataError, match="expected 5 bytes, got 6"):
        storage.stage(str(path), 5, digest)


def test_write_text_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "summary.md"
    for text in ("first, and longer", "second ä"):
        storage.write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert names_in(tmp_path) == {"new", "new/summary.md"}
    with pytest.raises(StorageError):
        storage.write_text(path / "below", "x")


def test_delete_is_idempotent(tmp_path: Path) -> None:
    storage.publish_bytes(b"x", f"{tmp_path}/name")
    storage.delete(f"{tmp_path}/name")
    storage.delete(f"{tmp_path}/name")
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("uri", "parts", "joined"),
    [
        ("/a/", ("b",), "/a/b"),
        ("gs://bucket", ("b", "c.txt"), "gs://bucket/b/c.txt"),
        ("file:///a", ("b",), "file:///a/b"),
    ],
)
def test_join(uri: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(uri, *parts) == joined


def test_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("root") == f"{tmp_path}/root"
    assert storage.absolute("file:///a/b") == "/a/b"
    assert storage.absolute("gs://bucket/root/") == "gs://bucket/root"


def test_objects_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    storage.check_writable(bucket)
    storage.publish_bytes(b"bytes", f"{bucket}/a/shard")
    storage.publish_bytes(b"bytes", f"{bucket}/a/shard")
    with pytest.raises(StorageError, match="already there"):
        storage.publish_bytes(b"other", f"{bucket}/a/shard")
    assert [(e.name, e.num_bytes) for e in storage.list_files(f"{bucket}/a")] == [("shard", 5)]
    staged = storage.stage(f"{bucket}/a/shard", 5, storage.sha256(f"{bucket}/a/shard"), tmp_path)
    assert staged.read_bytes() == b"bytes"
    with pytest.raises(StorageError, match="missing"):
        storage.read_bytes(f"{bucket}/missing")
