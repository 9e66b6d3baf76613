"""What the tests of k8s/ share: the rendered objects of a folder."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

K8S_DIR = Path(__file__).parents[2] / "k8s"
OVERLAYS = ("overlays/local", "overlays/gke", "overlays/s3")
FOLDERS = ("base", *OVERLAYS, "smoke")


@functools.cache
def _renderer():
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        version = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, timeout=60).stdout
        if re.search(r"Kustomize Version: v[5-9]", version):
            return ["kubectl", "kustomize"]
    return None


@functools.cache
def _render(folder):
    done = subprocess.run([*_renderer(), str(K8S_DIR / folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns of what it will refuse one day"
    return done.stdout


def render(folder):
    """The objects of a folder, as `kubectl apply -k` would send them; a fresh copy each time."""
    if not _renderer():
        pytest.skip("neither kustomize 5 nor a kubectl with it on PATH")
    return list(yaml.safe_load_all(_render(folder)))


def named(documents, kind, name):
    """The one object of a kind and name."""
    (found,) = (d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)
    return found
