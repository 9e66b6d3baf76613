"""What the container tests share: an image of the present sources or the reason why not, and the docker command."""

import functools
import os
import subprocess

import pytest

from components.shared.errors import AlexNetError
from pipeline import images
from pipeline.components import code_digest

CPU_STAGES = ("sample", "ingest", "statistics", "train", "evaluate", "outcome")


@functools.cache
def _why_not(stage):
    from docker.errors import ImageNotFound

    try:
        image = images.client().images.get(images.tag(stage))
    except AlexNetError as error:
        return str(error)
    except ImageNotFound:
        return f"no image {images.tag(stage)}: alexnet images build {stage}"
    if image.labels.get("alexnet.code") != code_digest(stage):
        return f"{images.tag(stage)} is not of these sources: alexnet images build {stage}"
    return ""


def need(stage):
    """The tag of a stage's image; without it the test is skipped, or fails where ALEXNET_NEEDS_IMAGES is set (CI)."""
    if reason := _why_not(stage):
        (pytest.fail if os.environ.get("ALEXNET_NEEDS_IMAGES") else pytest.skip)(reason)
    return images.tag(stage)


def docker(*words, **options):
    """Run the docker command."""
    command = ["docker", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **options)


def python_in(image, code):
    """Run Python code in an image, hardened, and return what it printed."""
    done = docker("run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout
