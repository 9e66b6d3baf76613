"""The record of how a run ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.outcome.contract import Outcome
from components.outcome.job import run
from components.shared import errors, storage

PROJECT_DIR = Path(__file__).parents[2]
# As the driver of Kubeflow 2.17 fills it in: states of its metadata store, the graph as the task, an empty error.
KUBEFLOW = {
    "state": "COMPLETE",
    "pipelineTaskName": "exit-handler-1",
    "pipelineJobResourceName": "alexnet-x7k2p",
    "error": {},
}


def configure(folder, status, **changes):
    values = {
        "status": status,
        "run_id": "run-1",
        "run_name": "a first try",
        "root_uri": str(folder / "root"),
        "recipe": "smoke",
        "num_epochs": 2,
        "seeds": [0, 1],
        "summary": str(folder / "summary.md"),
    }
    return Outcome(**values | changes)


def record(folder, name="run-1.json"):
    return json.loads((folder / "root" / "outcomes" / name).read_text())


def test_a_success(tmp_path):
    metadata = run(configure(tmp_path, KUBEFLOW))
    assert record(tmp_path) == {
        "run_id": "run-1",
        "run_name": "a first try",
        "resource_name": "alexnet-x7k2p",
        "state": "SUCCEEDED",
        "reported_state": "COMPLETE",
        "task": "",
        "message": "",
        "parameters": {
            "release_uri": "",
            "release_fingerprint": "",
            "subset": "",
            "recipe": "smoke",
            "num_epochs": 2,
            "seeds": [0, 1],
        },
    }
    assert metadata == {"summary": {"state": "SUCCEEDED", "uri": str(tmp_path / "root" / "outcomes" / "run-1.json")}}
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("# Succeeded\n")
    assert "a first try" in text
    assert "release_uri" not in text


@pytest.mark.parametrize(
    ("status", "state", "task", "message"),
    [
        (KUBEFLOW | {"state": "CACHED"}, "SUCCEEDED", "", ""),
        (KUBEFLOW | {"state": "FAILED"}, "FAILED", "exit-handler-1", ""),
        (KUBEFLOW | {"state": "CANCELED"}, "CANCELLED", "exit-handler-1", ""),
        (KUBEFLOW | {"state": "RUNNING"}, "UNKNOWN", "exit-handler-1", ""),
        ({}, "UNKNOWN", "", ""),
        ({"state": "FAILED", "pipelineTaskName": "train", "error": {"message": "why"}}, "FAILED", "train", "why"),
        ({"state": "CANCELLED", "pipelineTaskName": "train", "error": None}, "CANCELLED", "train", ""),
    ],
)
def test_states(tmp_path, status, state, task, message):
    run(configure(tmp_path, status))
    written = record(tmp_path)
    assert (written["state"], written["task"], written["message"]) == (state, task, message)


def test_a_record_is_never_overwritten(tmp_path):
    run(configure(tmp_path, KUBEFLOW | {"state": "FAILED"}))
    first = record(tmp_path)
    run(configure(tmp_path, KUBEFLOW | {"state": "FAILED"}))  # the task was retried
    assert [path.name for path in (tmp_path / "root" / "outcomes").iterdir()] == ["run-1.json"]
    run(configure(tmp_path, KUBEFLOW))  # the run was
    assert record(tmp_path) == first
    assert record(tmp_path, "run-1.2.json")["state"] == "SUCCEEDED"


@pytest.mark.slow
def test_in_an_object_store(bucket, tmp_path):
    run(configure(tmp_path, KUBEFLOW, root_uri=bucket))
    assert json.loads(storage.read_bytes(f"{bucket}/outcomes/run-1.json"))["state"] == "SUCCEEDED"


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", ".hidden", "a b"])
def test_a_run_id_is_a_file_name(tmp_path, run_id):
    with pytest.raises(errors.UsageError, match="--run-id"):
        run(configure(tmp_path, KUBEFLOW, run_id=run_id))


@pytest.mark.slow
def test_the_command_line_as_kubeflow_writes_it(tmp_path):
    environment = {**os.environ, "ALEXNET_LOG": "json"}

    def call(status):
        words = [
            sys.executable,
            "-m",
            "components.outcome",
            "--status",
            status,
            "--run-id",
            "run-1",
            "--seeds",
            "[0,1]",
        ]
        words += ["--root-uri", str(tmp_path / "root"), "--summary", str(tmp_path / "not" / "yet" / "summary.md")]
        return subprocess.run(words, cwd=PROJECT_DIR, env=environment, capture_output=True, text=True, check=False)

    done = call(json.dumps(KUBEFLOW | {"state": "FAILED"}))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr)["state"] == "FAILED"
    assert record(tmp_path)["parameters"]["seeds"] == [0, 1]
    refused = call("FAILED")
    assert refused.returncode == 2
    assert "--status: expected JSON" in refused.stderr
