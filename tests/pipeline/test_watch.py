"""What `submit --watch` says of a task that waits."""

import pytest
from conftest import alexnet
from kfp_server import KfpServer

from pipeline.kubeflow.argo import TaskRun
from pipeline.kubeflow.watch import sentence

REMEDY = "check its name, that it was pushed, and the pull secret"


@pytest.mark.parametrize(
    ("state", "message", "told"),
    [
        ("pending", 'ImagePullBackOff: Back-off pulling image "alexnet/train:1"', True),
        ("pending", "ErrImagePull: rpc error: code = NotFound", True),
        ("pending", "InvalidImageName", True),
        ("pending", "Unschedulable: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu.", False),
        ("failed", "Pod failed before main container starts due to ImagePullBackOff: Back-off", False),
        ("running", "", False),
    ],
)
def test_an_image_that_cannot_be_had_comes_with_what_to_check(state, message, told):
    said = sentence(TaskRun("train", state, message=message))
    assert said.startswith(f"{state}: {message}" if message else state)
    assert (REMEDY in said) == told


@pytest.mark.slow
def test_watching_says_it_at_the_first_look():
    why = 'ImagePullBackOff: Back-off pulling image "alexnet/ingest:1"'
    with KfpServer() as server:
        server.script = [("RUNNING", {"ingest": [f"Pending: {why}"]})]
        given = ("--param", "release_uri=gs://alexnet/release", "--param", "root_uri=gs://alexnet/root")
        watching = ("--watch", "--interval", "60", "--timeout", "0.1")
        done = alexnet("submit", "--endpoint", server.url, "--allow-tags", *given, *watching)
    assert done.returncode == 4, done.stderr
    line = next(line for line in (done.stdout + done.stderr).splitlines() if why in line)
    assert REMEDY in line


@pytest.mark.slow
def test_waiting_for_an_image_is_said_once():
    """Kubernetes changes the reason at each try, as `ErrImagePull` and `ImagePullBackOff` in turn."""
    reasons = ["ErrImagePull: not found", 'ImagePullBackOff: Back-off pulling image "alexnet/ingest:1"'] * 3
    with KfpServer() as server:
        server.script = [("RUNNING", {"ingest": [f"Pending: {reason}"]}) for reason in reasons]
        server.script.append(("SUCCEEDED", {"ingest": ["Succeeded"]}))
        given = ("--param", "release_uri=gs://alexnet/release", "--param", "root_uri=gs://alexnet/root")
        done = alexnet("submit", "--endpoint", server.url, "--allow-tags", *given, "--watch", "--interval", "0.01")
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert [REMEDY in line for line in lines if line.startswith("ingest ")] == [True, False]
