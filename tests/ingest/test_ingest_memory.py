"""Peak memory of a worker is flat and below 400 MB."""

import os
import shutil
import subprocess

import pytest

from components.shared import manifest

IMAGE = "alexnet/ingest:0.1.0"
LIMIT = "400m"


def _docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.slow
@pytest.mark.docker
def test_a_worker_stays_below_its_limit(sample_release, shared_data, tmp_path):
    """The kernel ends a container above its limit with 137."""
    if shutil.which("docker") is None or _docker("image", "inspect", IMAGE).returncode:
        pytest.skip(f"no image {IMAGE} here; `alexnet images build` makes it")
    for name, release in (("small", sample_release), ("large", shared_data / "ilsvrc-mini")):
        out = tmp_path / name
        out.mkdir(mode=0o777)
        command = ["run", "--rm", f"--user={os.getuid()}", f"--memory={LIMIT}", f"--memory-swap={LIMIT}"]
        command += [f"--volume={release}:/release:ro", f"--volume={out}:/data", IMAGE, "--release-uri=/release"]
        command += ["--root-uri=/data/root", "--dataset=/data/dataset.json", "--summary=/data/ingest.md"]
        done = _docker(*command, "--runner-options=--direct_running_mode=in_memory --direct_num_workers=1")
        assert done.returncode == 0, done.stderr[-2000:]
        found = manifest.load(str(out / "dataset.json"), "dataset")
        assert sum(split["num_examples"] for split in found.content["splits"].values()) > 100
