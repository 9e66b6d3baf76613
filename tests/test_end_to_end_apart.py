"""The committed pipeline in roots of their own: stopped, on a full disk, in object stores."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT_DIR, alexnet

from components.shared import storage

TASKS = ("ingest", "statistics", "train", "evaluate")
SMOKE = ("--json", "--param", "recipe=smoke", "--param", "num_epochs=2")


def records(result):
    return {task: json.loads((Path(result["run_dir"]) / task / "task.json").read_text()) for task in TASKS}


@pytest.mark.slow
def test_ctrl_c_stops_training_and_the_next_run_ends_it(sample_release, finished_run, tmp_path):
    result, _, _ = finished_run
    command = [
        sys.executable,
        "-m",
        "pipeline.commands.alexnet",
        "run",
        "--release",
        sample_release,
        "--root",
        tmp_path / "root",
        *SMOKE,
    ]
    process = subprocess.Popen(
        [str(word) for word in command], cwd=PROJECT_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        logs = list(tmp_path.glob("root/runs/*/train/log.jsonl"))
        if logs and "progress" in logs[0].read_text():
            break
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 4, stderr
    assert json.loads(stdout)["status"] == "cancelled"
    children = subprocess.run(["pgrep", "-f", str(tmp_path / "root")], capture_output=True, text=True, check=False)
    assert children.stdout == ""
    done = alexnet("run", "--release", sample_release, "--root", tmp_path / "root", *SMOKE)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    digests = [json.loads(Path(r["model"]).read_text())["files"]["weights.safetensors"] for r in (result, again)]
    assert digests[0] == digests[1]  # bit for bit what a run without interruption trains


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_that_looks_whole(sample_release, tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        done = alexnet("run", "--release", sample_release, "--root", root, *SMOKE)
        assert done.returncode == 1
        assert "disk full" in done.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", str(root)], check=True)
        done = alexnet("run", "--release", sample_release, "--root", root, *SMOKE)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", str(root)], check=True)


@pytest.mark.slow
def test_release_and_root_in_an_object_store_give_the_same_digests(bucket, sample_release, finished_run, tmp_path):
    for path in sample_release.iterdir():
        storage.publish_file(path, f"{bucket}/release/{path.name}")
    arguments = ("run", "--release", f"{bucket}/release", "--root", f"{bucket}/root", *SMOKE)
    done = alexnet(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    remote, local = json.loads(done.stdout), finished_run[0]
    for name in ("dataset", "statistics", "model", "predictions"):
        manifests = [json.loads(Path(result[name]).read_text()) for result in (remote, local)]
        assert manifests[0]["digest"] == manifests[1]["digest"], name
        assert manifests[0]["base_uri"].startswith(f"{bucket}/root/")
    again = json.loads(alexnet(*arguments, cwd=tmp_path).stdout)
    assert {record["cached_from"] for record in records(again).values()} == {remote["run_id"]}
    left = alexnet("gc", "--root", f"{bucket}/root", "--older-than", 0)
    assert left.stdout == "0 leftovers, 0 bytes: all is well\n"
