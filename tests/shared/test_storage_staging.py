"""The cache of staged files: verified, bounded, and shared by processes."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.shared import settings, storage
from components.shared.errors import StorageError, UsageError
from components.shared.storage import staging
from components.shared.storage.staging import Wanted

SCRIPT = """
import pathlib, sys
from components.shared.storage import staging
folder, *words = sys.argv[1:]
wanted = [staging.Wanted(uri, int(size), digest) for uri, size, digest in zip(*[iter(words)] * 3)]
for _ in range({rounds}):
    for path, want in zip(staging.stage_files(wanted, pathlib.Path(folder)), wanted):
        assert len(path.read_bytes()) == want.num_bytes
print("staged", flush=True)
sys.stdin.read()
"""


def publish(bucket: str, count: int, num_bytes: int = 1000) -> list[Wanted]:
    made = []
    for index in range(count):
        data = bytes([index]) * num_bytes
        storage.publish_bytes(data, f"{bucket}/{index}")
        made.append(Wanted(f"{bucket}/{index}", num_bytes, hashlib.sha256(data).hexdigest()))
    return made


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def age(folder: Path, wanted: Wanted, seconds: float) -> None:
    used = time.time() - seconds
    os.utime(folder / wanted.sha256, (used, used))


def start(folder: Path, wanted: list[Wanted], rounds: int = 1) -> subprocess.Popen:
    words = [str(word) for want in wanted for word in (want.uri, want.num_bytes, want.sha256)]
    command = [sys.executable, "-c", SCRIPT.format(rounds=rounds), str(folder), *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, **pipes)


@pytest.mark.slow
def test_many_files_come_in_order_and_once(bucket: str, tmp_path: Path) -> None:
    wanted = publish(bucket, 20)
    done: list[int] = []
    paths = storage.stage_files([*wanted, wanted[0]], tmp_path, done.append)
    assert [path.read_bytes()[0] for path in paths] == [*range(20), 0]
    assert done == list(range(1, 22))
    for want in wanted:
        storage.delete(want.uri)
    assert storage.stage_files(wanted, tmp_path) == paths[:20]  # out of the cache: the store has them no more


def test_a_damaged_copy_is_fetched_again(bucket: str, tmp_path: Path) -> None:
    (wanted,) = publish(bucket, 1)
    for damage in (b"short", b"x" * wanted.num_bytes):
        (path,) = storage.stage_files([wanted], tmp_path)
        path.write_bytes(damage)
        assert storage.stage_files([wanted], tmp_path)[0].read_bytes() == bytes(wanted.num_bytes)


def test_the_least_recently_used_go_first(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = publish(bucket, 5)
    monkeypatch.setenv(settings.CACHE_GB.name, "3.5e-6")
    for index, want in enumerate(wanted[:3]):
        storage.stage(want.uri, want.num_bytes, want.sha256, tmp_path)
        age(tmp_path, want, 1000 - index)
    storage.stage(wanted[0].uri, 1000, wanted[0].sha256, tmp_path)  # used again
    age(tmp_path, wanted[0], 500)
    storage.stage(wanted[3].uri, 1000, wanted[3].sha256, tmp_path)
    assert names_in(tmp_path) == {wanted[index].sha256 for index in (0, 2, 3)}
    for want in wanted:
        if (tmp_path / want.sha256).exists():
            age(tmp_path, want, 1000)
    paths = storage.stage_files(wanted, tmp_path)  # together they are over the bound, and all are needed
    assert all(path.is_file() for path in paths)


def test_a_file_just_staged_is_safe(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = publish(bucket, 2)
    monkeypatch.setenv(settings.CACHE_GB.name, "0")
    for want in (first, second):
        storage.stage(want.uri, want.num_bytes, want.sha256, tmp_path)
    assert names_in(tmp_path) == {first.sha256, second.sha256}


@pytest.mark.slow
def test_what_another_process_holds_stays(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, second, third = publish(bucket, 3)
    monkeypatch.setenv(settings.CACHE_GB.name, "0")
    with start(tmp_path, [held]) as process:
        assert process.stdout.readline() == "staged\n"
        age(tmp_path, held, 1000)
        storage.stage(second.uri, second.num_bytes, second.sha256, tmp_path)
        assert names_in(tmp_path) == {held.sha256, second.sha256}
        process.kill()  # its lock ends with it
    storage.stage(third.uri, third.num_bytes, third.sha256, tmp_path)
    assert held.sha256 not in names_in(tmp_path)
    assert not list(tmp_path.glob(".held-*"))


@pytest.mark.slow
def test_processes_share_a_folder(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = publish(bucket, 8, 50_000)
    monkeypatch.setenv(settings.CACHE_GB.name, "0.0002")
    processes = [start(tmp_path, wanted[first:] + wanted[:first], rounds=5) for first in (0, 3, 6)]
    for process in processes:
        stdout, stderr = process.communicate(input="", timeout=60)
        assert (stdout, process.returncode) == ("staged\n", 0), stderr
    assert not list(tmp_path.glob(".*.part"))


def test_too_little_disk_is_said_before_anything_is_fetched(bucket: str, tmp_path: Path) -> None:
    (wanted,) = publish(bucket, 1)
    with pytest.raises(StorageError, match=r"1,000,000,000,001,000 bytes are needed there, [\d,]+ are free.*TMPDIR"):
        storage.stage_files([wanted, Wanted(f"{bucket}/huge", 10**15, "0" * 64)], tmp_path)
    assert names_in(tmp_path) == set()


def test_a_download_of_a_killed_process_goes(bucket: str, tmp_path: Path) -> None:
    (wanted,) = publish(bucket, 1)
    for name, seconds in ((".1-00000000.part", 2 * staging.STALE_SECONDS), (".2-00000000.part", 10)):
        (tmp_path / name).write_bytes(b"half")
        used = time.time() - seconds
        os.utime(tmp_path / name, (used, used))
    storage.stage_files([wanted], tmp_path)
    assert [path.name for path in tmp_path.glob(".*.part")] == [".2-00000000.part"]


def test_a_bound_that_is_no_number(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wanted,) = publish(bucket, 1)
    monkeypatch.setenv(settings.CACHE_GB.name, "much")
    with pytest.raises(UsageError, match=r"ALEXNET_CACHE_GB: expected a number of gigabytes, got 'much'"):
        storage.stage_files([wanted], tmp_path)


def test_local_files_stay_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    wanted = Wanted(str(tmp_path / "file"), 5, hashlib.sha256(b"bytes").hexdigest())
    assert storage.stage_files([wanted], tmp_path / "cache") == [tmp_path / "file"]
    assert not (tmp_path / "cache").exists()
