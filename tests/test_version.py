"""pyproject.toml alone says which version this is; whatever else names it agrees."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import PROJECT_DIR

from pipeline.images import version

NAMING = ("README.md", "docker/README.md", "docker/Dockerfile", "docs/*.md", "k8s/**/*.yaml")


def test_the_citation_is_of_this_version():
    assert str(yaml.safe_load((PROJECT_DIR / "CITATION.cff").read_text())["version"]) == version()


def test_the_newest_dated_section_of_the_changelog_is_of_this_version():
    headings = re.findall(r"^## (.*)$", (PROJECT_DIR / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    newest = re.fullmatch(r"(\S+) \((\d{4}-\d\d-\d\d)\)", headings[1])
    assert newest and newest[1] == version()


@pytest.mark.parametrize("pattern", NAMING)
def test_images_are_named_with_this_version(pattern):
    texts = {path: path.read_text() for path in PROJECT_DIR.glob(pattern)}
    assert texts
    for path, text in texts.items():
        assert set(re.findall(r"\balexnet/[a-z-]+:(\d[\w.]*)", text)) <= {version()}, path


def test_without_a_checkout_the_command_says_so_in_one_line(tmp_path):
    """As after `pip install .`: the packages alone, without pyproject.toml, pipeline.yaml and docker/."""
    for name in ("components", "pipeline"):
        shutil.copytree(PROJECT_DIR / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pipeline.commands.alexnet", "run"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "runs from its checkout" in done.stderr
