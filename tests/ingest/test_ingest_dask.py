"""Ingest and statistics on Dask: a scheduler and two worker processes on loopback, some of which are killed."""

import os
import signal

import pytest
from dask_cluster import (
    dask_cluster,
    finish,
    ingest,
    ingest_command,
    started,
    statistics,
    statistics_command,
    wait_for,
)

from components.shared import manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def in_process(sample_release, tmp_path_factory):
    return ingest(sample_release, tmp_path_factory.mktemp("in-process"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster") as (flags, _):
        yield flags


def _writer(root):
    """Find a process that is in the middle of a shard: the file that it writes has its number."""
    for path in root.glob("ingest/*/.*.part"):
        return int(path.name[1:].partition("-")[0])
    return None


def test_the_same_digests(in_process, cluster, sample_release, tmp_path):
    dataset = ingest(sample_release, tmp_path, *cluster)
    assert dataset.digest == in_process.digest
    assert dataset.files == in_process.files
    sums = statistics(tmp_path / "dataset.json", tmp_path, *cluster)
    assert sums.digest == statistics(tmp_path / "dataset.json", tmp_path / "in-process").digest


def test_workers_of_this_machine(in_process, sample_release, tmp_path):
    flags = ["--runner=DaskRunner", "--runner-options=--direct_num_workers=2"]
    done = finish(ingest_command(sample_release, tmp_path, *flags))
    assert done.returncode == 0, done.stderr
    assert manifest.load(f"{tmp_path}/dataset.json", "dataset").digest == in_process.digest
    assert "Traceback" not in done.stderr
    assert '"dask workers", "num_workers": 2, "num_threads": 2' in done.stderr


@pytest.mark.parametrize("nanny", [False, True], ids=["alone", "with nanny"])
def test_a_killed_worker(in_process, sample_release, tmp_path, nanny):
    with (
        dask_cluster(tmp_path / "cluster", nanny=nanny) as (flags, _),
        started(ingest_command(sample_release, tmp_path, *flags)) as driver,
    ):
        os.kill(wait_for(lambda: _writer(tmp_path / "root"), "a worker's file", driver), signal.SIGKILL)
        _, stderr = driver.communicate()
    assert driver.returncode == 0, stderr
    assert manifest.load(f"{tmp_path}/dataset.json", "dataset").digest == in_process.digest


def test_the_driver_is_told_to_stop(in_process, cluster, sample_release, tmp_path):
    with started(ingest_command(sample_release, tmp_path, *cluster)) as driver:
        wait_for(lambda: _writer(tmp_path / "root"), "a worker's file", driver)
        driver.send_signal(signal.SIGTERM)
        _, stderr = driver.communicate()
    assert driver.returncode == 75, stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "dataset.json").exists()
    assert ingest(sample_release, tmp_path, *cluster).digest == in_process.digest


def test_a_lost_scheduler(sample_release, tmp_path):
    with (
        dask_cluster(tmp_path / "cluster") as (flags, scheduler),
        started(ingest_command(sample_release, tmp_path, *flags)) as driver,
    ):
        wait_for(lambda: _writer(tmp_path / "root"), "a worker's file", driver)
        scheduler.kill()
        _, stderr = driver.communicate()
    assert driver.returncode == 69, stderr
    # Dask's client raises, or returns as if all were done; then the records of the shards are missing.
    said = ("the engine or its workers are lost", "the runner ended without writing it")
    assert any(text in stderr.splitlines()[-1] for text in said)


def test_errors_of_workers(in_process, cluster, tmp_path):
    """What a worker raises ends the component as if it had raised it itself."""
    dataset = in_process
    shard = dataset.content["splits"]["train"]["shards"][0]["name"]
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in dataset.files:
        (damaged / name).write_bytes(dataset.stage(name).read_bytes())
    manifest.save(
        manifest.Manifest("dataset", str(damaged), dataset.files, dataset.content), str(tmp_path / "damaged.json")
    )
    (damaged / shard).write_bytes((damaged / shard).read_bytes()[:-1] + b"\0")
    done = finish(statistics_command(tmp_path / "damaged.json", tmp_path, *cluster))
    assert done.returncode == 65, done.stderr
    assert f"{shard}: sha256 differs" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    (damaged / shard).unlink()
    done = finish(statistics_command(tmp_path / "damaged.json", tmp_path, *cluster))
    assert done.returncode == 69, done.stderr
    assert f"{shard}: not found" in done.stderr.splitlines()[-1]
