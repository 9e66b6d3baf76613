"""What a step on a cluster leaves under its root."""

import json
import os
import subprocess
import sys

import pytest
from conftest import PROJECT_DIR

IMAGE = "registry.example/ingest@sha256:" + 64 * "0"
RUN = "3f2c9a41-7d5e-4b0c-9a77-0d8f6f1c2b3a"


def executor_input(uri):
    return {
        "inputs": {"parameterValues": {"jpeg_quality": 95}},
        "outputs": {"artifacts": {"dataset": {"artifacts": [{"name": "dataset", "uri": uri}]}}},
    }


def ingest(folder, root, given):
    """Run a real component, which fails soon: there is no release."""
    words = ["--release-uri", folder / "nothing", "--root-uri", root, "--executor-input", json.dumps(given)]
    words += ["--dataset", folder / "dataset.json", "--summary", folder / "summary.md"]
    command = [sys.executable, "-m", "components.ingest", *map(str, words)]
    environment = os.environ | {"ALEXNET_IMAGE": IMAGE}
    return subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["gs://b/kfp/alexnet", "s3://b/alexnet", "minio://mlpipeline/v2/artifacts/alexnet"])
def test_a_step_on_a_cluster_leaves_what_a_rerun_needs_even_if_it_fails(tmp_path, place):
    given = executor_input(f"{place}/{RUN}/ingest/0f1e2d3c-0000-4000-8000-000000000001/dataset")
    assert ingest(tmp_path, tmp_path / "root", given).returncode == 65
    [path] = (tmp_path / "root").rglob("*.json")
    assert path.parent == tmp_path / "root" / "tasks" / RUN / "ingest"
    record = json.loads(path.read_text())
    found = record["component"], record["image"], record["run_id"], record["executor_input"]
    assert found == ("ingest", IMAGE, RUN, given)


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, executor_input("/data/runs/20261120-101500-ab12cd34/ingest/dataset.json")])
def test_a_step_of_this_machine_leaves_nothing(tmp_path, given):
    ingest(tmp_path, tmp_path / "root", given)
    assert not (tmp_path / "root" / "tasks").exists()


@pytest.mark.slow
def test_a_record_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    given = executor_input(f"gs://b/alexnet/{RUN}/ingest/x/dataset")
    done = ingest(tmp_path, tmp_path / "file" / "root", given)
    levels = [json.loads(line)["level"] for line in done.stderr.splitlines()]
    assert levels == ["warning", "error"]
