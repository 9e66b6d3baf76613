"""A skip for a reason that nobody allowed fails a run, whichever process it happens in."""

import os
import subprocess
import sys

import pytest
from conftest import PROJECT_DIR
from skip_list import allowed_reasons

CONFTEST = """
from pathlib import Path
from skip_list import SkipList

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipList(Path(__file__).with_name("allowed.txt")))
"""
ALLOWED = r"""
# a comment
no java here  # an engine that is large
only on \d+ GPUs
"""
FINE = """
import pytest
@pytest.mark.skip(reason="no java here")
def test_marked(): pass
def test_called(): pytest.skip("only on 8 GPUs")
def test_passes(): pass
@pytest.mark.xfail
def test_fails(): raise ValueError
"""
MARKED = '@pytest.mark.skip(reason="too hard")\ndef test_other(): pass\n'
CALLED = 'def test_other(): pytest.skip("no java here today")\n'
MODULE = 'import pytest\npytest.skip("no module", allow_module_level=True)\n'


def run(folder, files, *options):
    """Run pytest on files, with nothing set that a person would not have set."""
    for name, text in {"conftest.py": CONFTEST, "allowed.txt": ALLOWED, **files}.items():
        (folder / name).write_text(text)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(PROJECT_DIR / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", f"--rootdir={folder}"]
    command += [*options, folder]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "workers"])
def test_only_listed_reasons_pass(tmp_path, options):
    assert run(tmp_path, {"test_fine.py": FINE}, *options).returncode == 0
    for files, told in (
        ({"test_bad.py": FINE + MARKED}, "test_bad.py::test_other: too hard"),
        ({"test_bad.py": FINE + CALLED}, "test_bad.py::test_other: no java here today"),
        ({"test_bad.py": MODULE}, "test_bad.py: no module"),
    ):
        done = run(tmp_path, files, *options)
        assert done.returncode == 1, done.stdout
        assert told in done.stdout
        assert "allowed.txt does not allow" in done.stdout
        assert "test_fine.py::" not in done.stdout


@pytest.mark.slow
def test_a_failure_stays_a_failure(tmp_path):
    done = run(tmp_path, {"test_bad.py": "def test_it(): raise ValueError\n"})
    assert done.returncode == 1
    assert "does not allow" not in done.stdout


def test_the_list_of_this_project_says_why():
    path = PROJECT_DIR / "tests" / "allowed_skips.txt"
    entries = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all("  # " in line for line in entries)
    assert len(allowed_reasons(path)) == len(entries)
