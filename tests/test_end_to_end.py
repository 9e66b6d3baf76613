"""The committed pipeline on a small generated release, as `alexnet run` runs it, in one root.

Whatever changes the root of `finished_run` or looks for leftovers there is in this file: tests of
a file are never run side by side.
"""

import json
import shutil
from pathlib import Path

import pytest
from conftest import alexnet

from components.shared import keyed
from pipeline.components import COMPONENTS
from pipeline.local import leftovers

TASKS = ("ingest", "statistics", "train", "evaluate")
SMOKE = ("--json", "--param", "recipe=smoke", "--param", "num_epochs=2")


def records(result):
    return {task: json.loads((Path(result["run_dir"]) / task / "task.json").read_text()) for task in TASKS}


@pytest.mark.slow
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
def test_every_image_is_accounted_for(finished_run):
    result, _, _ = finished_run
    content = json.loads(Path(result["dataset"]).read_text())["content"]
    for split in content["splits"].values():
        assert split["used"] + split["repaired"] + split["quarantined"] + split["excluded"] == split["num_devkit"]
        assert split["used"] + split["repaired"] == split["num_examples"]
    assert content["splits"]["train"]["quarantined"] == 1
    assert content["splits"]["train"]["repaired"] >= 2


@pytest.mark.slow
def test_a_real_run_leaves_nothing_over(finished_run: tuple) -> None:
    result, root, _ = finished_run
    assert leftovers.find(str(root), 0) == []
    for name in ("dataset", "statistics", "model", "predictions"):
        manifest = json.loads(Path(result[name]).read_text())
        assert Path(manifest["base_uri"]).parts[-2] in COMPONENTS
        last = Path(manifest["base_uri"]) / keyed.FINISHED
        assert last.is_file()


@pytest.mark.slow
def test_the_second_run_takes_every_step_from_the_cache(finished_run, sample_release):
    result, root, _ = finished_run
    done = alexnet("run", "--release", sample_release, "--root", root, *SMOKE)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert {record["cached_from"] for record in records(again).values()} == {result["run_id"]}
    assert again["metrics"] == result["metrics"]
    assert Path(again["report"]).read_bytes() == Path(result["report"]).read_bytes()


@pytest.mark.slow
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
def test_a_changed_release_is_read_again(finished_run, sample_release, tmp_path):
    _, root, _ = finished_run
    release = tmp_path / "release"
    shutil.copytree(sample_release, release)
    (release / "ILSVRC2010_images_val.tar").write_bytes(b"\0" * 100)
    done = alexnet("run", "--release", release, "--root", root, *SMOKE)
    assert done.returncode == 1
    assert "ILSVRC2010_images_val.tar" in done.stderr
