"""Peak memory of a worker is flat and below 400 MB, that of a whole run of many images below 600 MB."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from containers import docker, need

from benchmarks.release import write as write_release
from components.shared import manifest

PROJECT_DIR = Path(__file__).parents[2]

LIMIT = "400m"


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.docker
def test_a_worker_stays_below_its_limit(sample_release, shared_data, tmp_path):
    """The kernel ends a container above its limit with 137."""
    image = need("ingest")
    for name, release in (("small", sample_release), ("large", shared_data / "ilsvrc-mini")):
        out = tmp_path / name
        out.mkdir(mode=0o777)
        command = ["run", "--rm", f"--user={os.getuid()}", f"--memory={LIMIT}", f"--memory-swap={LIMIT}"]
        command += [f"--volume={release}:/release:ro", f"--volume={out}:/data", image, "--release-uri=/release"]
        command += ["--root-uri=/data/root", "--dataset=/data/dataset.json", "--summary=/data/ingest.md"]
        done = docker(*command, "--runner-options=--direct_running_mode=in_memory --direct_num_workers=1")
        assert done.returncode == 0, done.stderr[-2000:]
        found = manifest.load(str(out / "dataset.json"), "dataset")
        assert sum(split["num_examples"] for split in found.content["splits"].values()) > 100


# A process counts as its own peak what it was forked from: here that is this small one, not pytest.
LIMITED = """
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.alone
def test_a_run_of_many_images_stays_small(tmp_path):
    """As threads of one process, where Beam cut elements in half and asked for gigabytes."""
    write_release(tmp_path / "release", None, 20, 800, 0)
    command = [sys.executable, "-c", LIMITED]
    command += [sys.executable, "-m", "components.ingest", f"--release-uri={tmp_path}/release"]
    command += [f"--root-uri={tmp_path}/root", f"--dataset={tmp_path}/dataset.json", f"--summary={tmp_path}/s.md"]
    command += ["--runner-options=--direct_running_mode=multi_threading --direct_num_workers=4"]
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = manifest.load(str(tmp_path / "dataset.json"), "dataset")
    assert sum(split["num_examples"] for split in found.content["splits"].values()) == 20_000
    assert int(done.stdout.split()[-1]) < 600_000, "kilobytes"
