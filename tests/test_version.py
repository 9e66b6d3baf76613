"""pyproject.toml alone says which version this is; whatever else names it agrees."""

import re

import pytest
import yaml
from conftest import PROJECT_DIR

from pipeline.images import VERSION

NAMING = ("README.md", "docker/README.md", "docker/Dockerfile", "docs/*.md", "k8s/**/*.yaml")


def test_the_citation_is_of_this_version():
    assert str(yaml.safe_load((PROJECT_DIR / "CITATION.cff").read_text())["version"]) == VERSION


def test_the_newest_dated_section_of_the_changelog_is_of_this_version():
    headings = re.findall(r"^## (.*)$", (PROJECT_DIR / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    newest = re.fullmatch(r"(\S+) \((\d{4}-\d\d-\d\d)\)", headings[1])
    assert newest and newest[1] == VERSION


@pytest.mark.parametrize("pattern", NAMING)
def test_images_are_named_with_this_version(pattern):
    texts = {path: path.read_text() for path in PROJECT_DIR.glob(pattern)}
    assert texts
    for path, text in texts.items():
        assert set(re.findall(r"\balexnet/[a-z-]+:(\d[\w.]*)", text)) <= {VERSION}, path
