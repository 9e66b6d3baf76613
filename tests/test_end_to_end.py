"""The committed pipeline on a small generated release, as `alexnet run` runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT_DIR, alexnet

from components.shared import storage

TASKS = ("ingest", "statistics", "train", "evaluate")
ONE_ROOT = pytest.mark.xdist_group("one root")  # what runs more in it is in one process
SMOKE = ("--json", "--param", "recipe=smoke", "--param", "num_epochs=2")


def records(result):
    return {task: json.loads((Path(result["run_dir"]) / task / "task.json").read_text()) for task in TASKS}


@pytest.mark.slow
@ONE_ROOT
def test_a_run_says_what_came_of_it(finished_run):
    result, _, stderr = finished_run
    assert result["status"] == "succeeded"
    assert result["num_classes"] == 4
    assert result["num_examples"] == sum(
        entry["num_test"] for entry in json.loads(Path(result["dataset"]).read_text())["content"]["classes"]
    )
    for name in ("top1_error", "top5_error", "top1_error_center", "top5_error_center"):
        assert 0 <= result["metrics"][name] <= 1
    for name in ("report", "predictions", "model", "dataset", "statistics"):
        assert Path(result[name]).is_file()
    assert Path(result["report"]).read_text().lstrip().lower().startswith("<!doctype html>")
    for task in TASKS:
        assert f"{task:<12} done in" in stderr


@pytest.mark.slow
@ONE_ROOT
def test_every_image_is_accounted_for(finished_run):
    result, _, _ = finished_run
    content = json.loads(Path(result["dataset"]).read_text())["content"]
    for split in content["splits"].values():
        assert split["used"] + split["repaired"] + split["quarantined"] + split["excluded"] == split["num_devkit"]
        assert split["used"] + split["repaired"] == split["num_examples"]
    assert content["splits"]["train"]["quarantined"] == 1
    assert content["splits"]["train"]["repaired"] >= 2


@pytest.mark.slow
@ONE_ROOT
def test_the_second_run_takes_every_step_from_the_cache(finished_run, sample_release):
    result, root, _ = finished_run
    done = alexnet("run", "--release", sample_release, "--root", root, *SMOKE)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert {record["cached_from"] for record in records(again).values()} == {result["run_id"]}
    assert again["metrics"] == result["metrics"]
    assert Path(again["report"]).read_bytes() == Path(result["report"]).read_bytes()


@pytest.mark.slow
@ONE_ROOT
def test_a_lost_shard_is_made_again_and_a_second_network_trained_beside_the_first(finished_run, sample_release):
    """The same bytes are made again, so the first network is taken from the cache all the same."""
    result, root, _ = finished_run
    manifest = json.loads(Path(result["dataset"]).read_text())
    shard = Path(manifest["base_uri"]) / manifest["content"]["splits"]["test"]["shards"][0]["name"]
    aside = shard.with_name("aside")
    shard.rename(aside)
    try:
        done = alexnet("run", "--release", sample_release, "--root", root, *SMOKE, "--param", "num_networks=2")
        assert done.returncode == 0, done.stderr
        assert shard.read_bytes() == aside.read_bytes()
    finally:
        aside.unlink()
    again = json.loads(done.stdout)
    run_dir = Path(again["run_dir"])
    made = {task.parent.name: json.loads(task.read_text()) for task in run_dir.glob("*/task.json")}
    assert sorted(made) == ["evaluate", "ingest", "outcome", "statistics", "train-seed-0", "train-seed-1"]
    assert made["ingest"]["cached_from"] == ""
    assert made["train-seed-0"]["cached_from"] == result["run_id"]
    assert made["train-seed-1"]["cached_from"] == ""
    assert made["evaluate"]["inputs"]["models"] == [made[f"train-seed-{n}"]["outputs"]["model"] for n in (0, 1)]
    outcome = json.loads((root / "outcomes" / f"{again['run_id']}.json").read_text())
    assert (outcome["state"], outcome["parameters"]["seeds"]) == ("SUCCEEDED", [0, 1])
    assert again["models"] == [made[f"train-seed-{n}"]["outputs"]["model"]["path"] for n in (0, 1)]


@pytest.mark.slow
@ONE_ROOT
def test_a_changed_release_is_read_again(finished_run, sample_release, tmp_path):
    _, root, _ = finished_run
    release = tmp_path / "release"
    shutil.copytree(sample_release, release)
    (release / "ILSVRC2010_images_val.tar").write_bytes(b"\0" * 100)
    done = alexnet("run", "--release", release, "--root", root, *SMOKE)
    assert done.returncode == 1
    assert "ILSVRC2010_images_val.tar" in done.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("ctrl c")
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
@pytest.mark.xdist_group("full disk")
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
