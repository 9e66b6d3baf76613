"""`alexnet gc`: finds what killed attempts leave, and nothing that anybody names."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT_DIR, alexnet

from components.shared import storage
from components.shared.manifest import Manifest, publish, save
from components.shared.runlog import RunLog
from components.train.run.checkpoint import Checkpoints
from pipeline.local import leftovers

# Writes to a root, and is killed while it does.
KILLED = """
import os, signal, sys
from pathlib import Path
from components.shared import storage
root = sys.argv[1]
if sys.argv[2] == "create":
    with storage.create(f"{root}/train/key0/weights.safetensors") as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "probe":
    from components.shared.storage import local
    local.Local.delete = lambda self, uri: os.kill(os.getpid(), signal.SIGKILL)
    storage.check_writable(root)
if sys.argv[2] == "upload":
    storage.publish_file(Path(sys.argv[3]), f"{root}/train/key0/weights.safetensors")
"""


@pytest.fixture(params=["local", "gs", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "root")
    return f"{request.getfixturevalue(f'{request.param}_store')}/{tmp_path.name}"


def killed(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", KILLED, *arguments]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)})


def found(root: str, hours: float = 0) -> dict[str, str]:
    """Leftovers: reason by name."""
    return {one.uri.removeprefix(f"{root}/"): one.reason for one in leftovers.find(root, hours)}


def finished_statistics(root: str) -> Manifest:
    """What statistics publishes, with the graph of one attempt in `info`."""
    base = f"{root}/statistics/key0"
    files = {"mean_image.npy": publish(b"mean", base, "mean_image.npy")}
    info = {"transform_fn": {"transform-00000000/graph": publish(b"graph", base, "transform-00000000/graph")}}
    made = Manifest("statistics", base, files, {}, info)
    save(made, f"{base}/manifest.json")
    return made


@pytest.mark.slow
def test_a_finished_folder_keeps_what_its_manifest_names(root: str) -> None:
    finished_statistics(root)
    assert found(root) == {}
    publish(b"graph", f"{root}/statistics/key0", "transform-11111111/graph")  # of an attempt that was killed
    assert found(root) == {"statistics/key0/transform-11111111/graph": "not named by manifest.json"}
    assert found(root, hours=1) == {}


def test_a_folder_without_its_last_file_was_never_finished(root: str) -> None:
    base = f"{root}/ingest/key0"
    for name in ("train-00000-of-00002.tfrecord", "train-00000-of-00002.tfrecord.json", "test-00000-of-00001.tfrecord"):
        publish(name.encode(), base, name)
    never = "never finished: no manifest.json"
    assert found(root) == {
        "ingest/key0/train-00000-of-00002.tfrecord": never,
        "ingest/key0/train-00000-of-00002.tfrecord.json": never,
        "ingest/key0/test-00000-of-00001.tfrecord": "without its record",
    }
    assert found(root, hours=1) == {}
    save(Manifest("dataset", base, {}, {}), f"{base}/manifest.json")
    assert found(root) == {}


def test_what_a_manifest_of_a_run_names_stays(root: str) -> None:
    base = f"{root}/ingest/key0"
    files = {name: publish(b"shard", base, name) for name in ("train-00000-of-00001.tfrecord", "other")}
    publish(b"{}", base, "extra.json")
    manifest = Manifest("dataset", base, files, {})
    save(manifest, f"{root}/runs/1/ingest/dataset.json")
    storage.publish_bytes(b"[]", f"{root}/runs/1/evaluate/metrics.json")
    assert found(root) == {"ingest/key0/extra.json": "never finished: no manifest.json"}


def test_checkpoints(root: str) -> None:
    checkpoints = Checkpoints(f"{root}/train/key0/checkpoints", "key0", RunLog("test"))
    checkpoints.save(10, {}, {})
    storage.publish_bytes(b"arrays", f"{root}/train/key0/checkpoints/step-00000020.safetensors")
    assert found(root)["train/key0/checkpoints/step-00000020.safetensors"] == "without its record"
    assert found(root)["train/key0/checkpoints/step-00000010.json"] == "never finished: no manifest.json"
    assert found(root, hours=1) == {}
    files = {"weights.safetensors": publish(b"weights", f"{root}/train/key0", "weights.safetensors")}
    save(Manifest("model", f"{root}/train/key0", files, {}), f"{root}/train/key0/manifest.json")
    assert len(found(root)) == 3  # all checkpoints of a training that ended, and nothing else
    leftovers.delete(leftovers.find(root, 0))
    assert [entry.name for entry in storage.list_files(f"{root}/train")] == [
        "key0/manifest.json",
        "key0/weights.safetensors",
    ]


def test_one_fresh_file_keeps_a_whole_folder(tmp_path: Path) -> None:
    """A training may wait long for its GPUs: its old checkpoints are the newest that it has."""
    root, names = str(tmp_path), ("step-00000010.safetensors", "step-00000010.json", "step-00000020.json")
    for name in names:
        storage.publish_bytes(b"{}", f"{root}/train/key0/checkpoints/{name}")
    old = time.time() - 7200
    for name in names[:2]:
        os.utime(tmp_path / "train/key0/checkpoints" / name, (old, old))
    assert found(root, hours=1) == {}
    os.utime(tmp_path / "train/key0/checkpoints" / names[2], (old, old))
    assert len(found(root, hours=1)) == 3


def test_nothing_else_is_anybodys_leftover(root: str) -> None:
    for name in ("runs/1/run.json", "cache/ab/abc.json", "sample/x.tar", "notes.txt", "mine/key0/file", "train/readme"):
        storage.publish_bytes(b"{}", f"{root}/{name}")
    assert found(root) == {}


@pytest.mark.parametrize("kind", ["create", "probe"])
def test_a_writer_that_was_killed(tmp_path: Path, kind: str) -> None:
    root = str(tmp_path / "root")
    assert killed(root, kind).wait(600) == -9
    (leftover,) = leftovers.find(root, 0)
    assert leftover.reason == {"create": "half written", "probe": "a probe whether one can write"}[kind]
    leftovers.delete([leftover])
    assert not [path for path in Path(root).rglob("*") if path.is_file()]


@pytest.mark.slow
def test_an_upload_that_was_killed(s3_store: str, tmp_path: Path) -> None:
    """On S3: Google's store lists no unfinished uploads, and forgets them after a week."""
    bucket = f"{s3_store}/{tmp_path.name}"
    (tmp_path / "large").write_bytes(bytes(60 << 20))
    with killed(bucket, "upload", str(tmp_path / "large")) as process:
        deadline = time.monotonic() + 600
        while sum(u.num_bytes for u in storage.list_uploads(bucket)) < 16 << 20:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    (leftover,) = leftovers.find(bucket, 24)  # the server dates every upload to 2010
    assert (leftover.uri, leftover.reason) == (f"{bucket}/train/key0/weights.safetensors", "unfinished upload")
    assert leftover.num_bytes >= 16 << 20
    leftovers.delete([leftover])
    assert storage.list_uploads(bucket) == []


@pytest.mark.slow
def test_the_command_lists_first_and_deletes_when_asked(tmp_path: Path) -> None:
    root = tmp_path / "root"
    finished_statistics(str(root))
    publish(b"graph", f"{root}/statistics/key0", "transform-11111111/graph")
    for words, end in (
        (("--older-than", 0), "1 leftovers, 5 bytes: nothing was deleted; --delete does it"),
        ((), "0 leftovers, 0 bytes: all is well"),
        (("--older-than", 0, "--delete"), "1 leftovers, 5 bytes: deleted"),
        (("--older-than", 0), "0 leftovers, 0 bytes: all is well"),
    ):
        done = alexnet("gc", "--root", root, *words)
        assert (done.returncode, done.stderr) == (0, "")
        *lines, last = done.stdout.splitlines()
        assert last == end
        for line in lines:
            assert re.fullmatch(r" +5 bytes +0\.0 h  .*/transform-11111111/graph  \(not named by manifest.json\)", line)
    assert (root / "statistics/key0/transform-00000000/graph").read_bytes() == b"graph"
    done = alexnet("gc", "--root", tmp_path / "absent")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no files there" in done.stderr
