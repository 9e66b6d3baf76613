"""Roots on file systems without hard links, as exFAT, BeeGFS and many FUSE mounts are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared import manifest

PROJECT_DIR = Path(__file__).parents[2]
FAILING = {
    "link": "(const char *from, const char *to)",
    "linkat": "(int from_at, const char *from, int to_at, const char *to, int flags)",
    "renameat2": "(int from_at, const char *from, int to_at, const char *to, unsigned flags)",
}
PUBLISH = """
import sys
from components.shared import storage
from components.shared.errors import StorageError

storage.check_writable(sys.argv[1])
for data in (b"first", b"first", b"second"):
    try:
        storage.publish_bytes(data, sys.argv[1] + "/file")
        print("published")
    except StorageError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """Return a function that gives the environment of a process in which these calls fail with EPERM or EINVAL."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here, which makes the calls fail")
    folder = tmp_path_factory.mktemp("without")

    def environment(**errors):
        lines = ["#include <errno.h>"]
        lines += [f"int {name}{FAILING[name]} {{ errno = {error}; return -1; }}" for name, error in errors.items()]
        library = folder / f"{'-'.join(errors)}.so"
        (folder / "calls.c").write_text("\n".join(lines) + "\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "calls.c"], check=True)
        return {**os.environ, "LD_PRELOAD": str(library)}

    return environment


def _publish(environment, root):
    command = [sys.executable, "-c", PUBLISH, str(root)]
    done = subprocess.run(command, cwd=PROJECT_DIR, env=environment, capture_output=True, text=True)
    return done.stdout.splitlines(), done.stderr


def test_a_name_is_taken_once_without_links(without, tmp_path):
    lines, _ = _publish(without(link="EPERM", linkat="EPERM"), tmp_path / "root")
    assert lines[:2] == ["published", "published"]
    assert "already there with other content" in lines[2]
    assert {path.name: path.read_bytes() for path in (tmp_path / "root").iterdir()} == {"file": b"first"}


def test_a_root_that_can_do_neither_is_refused_with_the_reasons(without, tmp_path):
    lines, error = _publish(without(link="EPERM", linkat="EPERM", renameat2="EINVAL"), tmp_path / "root")
    assert not lines
    assert "neither hard links (Operation not permitted) nor a rename that keeps what is there (Invalid" in error
    assert "Choose a root on another file system" in error
    assert not list((tmp_path / "root").iterdir())


@pytest.mark.slow
def test_the_components_give_the_same_without_links(sample_release, without, tmp_path):
    """Ingest and statistics, each as a process, on a root that has no links and on one that has."""
    digests = {}
    for name, environment in (("with", dict(os.environ)), ("without", without(link="EPERM", linkat="EPERM"))):
        out = tmp_path / name
        ingest = [f"--release-uri={sample_release}", f"--summary={out}/ingest.md", f"--dataset={out}/dataset.json"]
        statistics = [f"--dataset={out}/dataset.json", f"--statistics={out}/statistics.json", f"--summary={out}/s.md"]
        for component, flags in (("ingest", ingest), ("statistics", statistics)):
            command = [sys.executable, "-m", f"components.{component}", *flags, f"--root-uri={out}/root"]
            done = subprocess.run(command, cwd=PROJECT_DIR, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
        digests[name] = [manifest.load(f"{out}/{kind}.json", kind).digest for kind in ("dataset", "statistics")]
    assert digests["with"] == digests["without"]
