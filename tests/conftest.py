import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import gcp_storage_emulator.server
import hypothesis
import pytest
from skip_list import SkipList

from components.shared.storage import registry

PROJECT_DIR = Path(__file__).parents[1]
SHARED_DATA = PROJECT_DIR.parent / "shared" / "data"

# No test fails because a machine is slow.
hypothesis.settings.register_profile(
    "untimed", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    """Let a skip for a reason that nobody allowed fail the run, in whatever worker."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipList(PROJECT_DIR / "tests" / "allowed_skips.txt"))


def pytest_collection_modifyitems(items):
    """Begin with the files that have slow tests, so that no worker has one left at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_data():
    """Real photographs beside the checkout, where there are any."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Make what all workers share: the first one that asks makes it, the others wait."""
    base = tmp_path_factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name, work):
        folder, told = common / name, common / f"{name}.json"
        with (common / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not told.exists():
                folder.mkdir(exist_ok=True)
                told.write_text(json.dumps(work(folder)))
        return folder, json.loads(told.read_text())

    return make


@pytest.fixture(scope="session")
def sample_release(made_once):
    """A generated release: 4 classes of about 24 training images. No test changes it."""

    def draw(folder):
        command = [sys.executable, "-m", "components.sample", f"--out={folder / 'release'}"]
        command += ["--classes=4", "--images-per-class=24"]
        subprocess.run(command, check=True, cwd=PROJECT_DIR)

    return made_once("sample", draw)[0] / "release"


@pytest.fixture(scope="session")
def gs_store():
    """An emulator of Google Cloud Storage on this machine, which the processes of a test see too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = gcp_storage_emulator.server.create_server("127.0.0.1", port, in_memory=True, default_bucket="alexnet")
    server.start()
    with settings(STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{port}"):
        yield "gs://alexnet"
    server.stop()


@pytest.fixture(scope="session")
def s3_store():
    """moto's S3 on this machine, with a bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    with settings(AWS_ENDPOINT_URL=endpoint, **keys):
        boto3.Session().client("s3", region_name="us-east-1").create_bucket(Bucket="alexnet")
        yield "s3://alexnet"
    server.stop()


@contextlib.contextmanager
def settings(**variables):
    """Set environment variables, which storage reads when it first meets a store."""
    before = dict(os.environ)
    os.environ |= variables
    registry.forget()
    yield
    os.environ.clear()
    os.environ |= before
    registry.forget()


@pytest.fixture(params=["gs", "s3"])
def object_store(request):
    """A bucket of each kind of object store."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def bucket(object_store, request):
    """A folder of its own for each test in a bucket."""
    return f"{object_store}/" + re.sub("[^a-zA-Z0-9]+", "-", request.node.name)


def alexnet(*arguments, cwd=PROJECT_DIR, **options):
    """Run the `alexnet` command as a person would."""
    command = [sys.executable, "-m", "pipeline.commands.alexnet", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_DIR)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=800, **options)


@pytest.fixture(scope="session")
def finished_run(sample_release, made_once):
    """The whole pipeline on the small release, two epochs: (result of --json, root, stderr).

    What runs more in the root, or looks for leftovers there, is in tests/test_end_to_end.py.
    """

    def run(folder):
        settings = ("--json", "--param", "recipe=smoke", "--param", "num_epochs=2")
        done = alexnet("run", "--release", sample_release, "--root", folder / "root", *settings)
        assert done.returncode == 0, done.stderr
        return {"result": json.loads(done.stdout), "stderr": done.stderr}

    folder, told = made_once("finished-run", run)
    return told["result"], folder / "root", told["stderr"]
