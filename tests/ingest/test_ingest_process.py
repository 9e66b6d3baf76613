"""The component as a process: killed, stopped, resumed, and as Kubeflow starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.ingest.contract import Ingest
from components.ingest.job import run
from components.shared import manifest, storage

PROJECT_DIR = Path(__file__).parents[2]
ONE_WORKER = "--direct_running_mode=in_memory --direct_num_workers=1"


def _ingest(release, folder):
    config = Ingest(
        release_uri=str(release),
        root_uri=str(folder / "root"),
        dataset=str(folder / "dataset.json"),
        summary=str(folder / "ingest.md"),
    )
    run(config)
    return manifest.load(config.dataset, "dataset")


def _bytes(dataset):
    return {name: dataset.stage(name).read_bytes() for name in dataset.files}


def _start(release, folder):
    flags = {"--release-uri": release, "--root-uri": folder / "root", "--runner-options": ONE_WORKER}
    flags |= {"--dataset": folder / "dataset.json", "--summary": folder / "ingest.md"}
    command = [sys.executable, "-m", "components.ingest", *(f"{k}={v}" for k, v in flags.items())]
    environment = {**os.environ, "ALEXNET_LOG": "json", "TMPDIR": str(folder)}  # a killed Beam leaves a folder there
    return subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def large_release(tmp_path_factory):
    """A release that takes long enough to be interrupted."""
    out = tmp_path_factory.mktemp("large") / "release"
    command = [sys.executable, "-m", "components.sample", f"--out={out}", "--classes=2", "--images-per-class=200"]
    subprocess.run(command, check=True, cwd=PROJECT_DIR, stderr=subprocess.DEVNULL)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_run_is_resumed_to_the_same_bytes(number, large_release, tmp_path):
    clean = _ingest(large_release, tmp_path / "clean")
    process = _start(large_release, tmp_path)
    deadline = time.monotonic() + 120
    while not (finished := list((tmp_path / "root").rglob("*.tfrecord.json"))):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (75 if number == signal.SIGTERM else -signal.SIGKILL), stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "dataset.json").exists()
    assert len(list((tmp_path / "root").rglob("*.tfrecord.json"))) < len(clean.files) - 1
    kept = {path: path.stat().st_mtime_ns for path in finished}
    resumed = _ingest(large_release, tmp_path)
    assert resumed.digest == clean.digest
    assert _bytes(resumed) == _bytes(clean)
    assert {path: path.stat().st_mtime_ns for path in finished} == kept, "finished shards are not written again"


@pytest.mark.slow
def test_component_alone_with_executor_input(sample_release, tmp_path):
    output = tmp_path / "out.json"
    dataset_path, summary_path = tmp_path / "a" / "dataset", tmp_path / "b" / "summary"
    executor_input = {
        "outputs": {
            "outputFile": str(output),
            "artifacts": {"dataset": {"artifacts": [{"name": "d", "uri": str(dataset_path), "metadata": {}}]}},
        }
    }
    command = [sys.executable, "-m", "components.ingest", "--release-uri", str(sample_release)]
    command += ["--root-uri", str(tmp_path / "root"), "--dataset", str(dataset_path), "--summary", str(summary_path)]
    command += ["--executor-input", json.dumps(executor_input)]
    environment = {**os.environ, "ALEXNET_LOG": "json"}
    done = subprocess.run(command, cwd=PROJECT_DIR, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(json.loads(line)["component"] == "ingest" for line in done.stderr.splitlines()), "one log, no noise"
    progress = [e for e in map(json.loads, done.stderr.splitlines()) if e.get("unit") == "images"]
    assert progress[-1]["done"] == progress[-1]["total"] == 132 and progress[-1]["bad"] == 1
    metadata = json.loads(output.read_text())["artifacts"]["dataset"]["artifacts"][0]["metadata"]
    dataset = manifest.load(str(dataset_path), "dataset")
    assert metadata["num_train"] == 95 and metadata["digest"] == dataset.digest
    assert summary_path.read_text().startswith("# Dataset")
    assert storage.exists(dataset.uri("images.tsv"))
