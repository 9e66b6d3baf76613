"""Push to a real registry on this machine, and what comes back as a digest."""

import shutil
import socket
import subprocess
import time

import pytest
from containers import docker, need

from components.shared.errors import AlexNetError, UsageError
from pipeline import images
from pipeline.console import Console

pytestmark = [pytest.mark.docker, pytest.mark.slow]
CONFIGURATION = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{address}"}}
"""


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """The address of an empty registry, which `images` uses."""
    program = shutil.which("docker-registry")
    if not program:
        pytest.skip("no docker-registry program here (a Debian package of that name)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (tmp_path / "registry.yml").write_text(CONFIGURATION.format(folder=tmp_path / "registry", address=address))
    command = [program, "serve", tmp_path / "registry.yml"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(address.partition(":")[2]))) == 0:
                break
        time.sleep(0.1)
    monkeypatch.setenv("ALEXNET_REGISTRY", address)
    monkeypatch.setattr(images, "DIGESTS_PATH", tmp_path / "images.json")
    yield address
    process.terminate()
    process.wait(10)


def test_a_pushed_image_is_known_by_its_digest(registry, monkeypatch):
    monkeypatch.delenv("ALEXNET_REGISTRY")
    local = need("sample")
    monkeypatch.setenv("ALEXNET_REGISTRY", registry)
    with pytest.raises(AlexNetError, match="does not exist locally"):
        images.push("sample", Console())
    with pytest.raises(UsageError, match="alexnet images push sample"):
        images.write_digests(["sample"])
    try:
        docker("tag", local, images.tag("sample"))
        images.push("sample", Console())
        digests = images.write_digests(["sample"])
        assert digests["sample"].startswith(f"{registry}/alexnet/sample@sha256:")
        assert images.image("sample") == digests["sample"]
        pulled = docker("pull", digests["sample"])
        assert pulled.returncode == 0, pulled.stderr
    finally:
        docker("rmi", images.tag("sample"))
