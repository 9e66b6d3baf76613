"""The documents: links that lead somewhere, a README of readable length, a site that builds without warnings."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT_DIR

from pipeline.commands import alexnet
from pipeline.graph import reference

DOCUMENTS = sorted(
    [
        *(PROJECT_DIR / "docs").rglob("*.md"),
        *(PROJECT_DIR / name for name in ("README.md", "CONTRIBUTING.md", "docker/README.md", "k8s/README.md")),
    ]
)

MAX_README_LINES, MAX_COLUMNS = 120, 100
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT_DIR).as_posix()


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines outside fenced and indented code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, line


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings; mkdocs must make the same, which its build checks."""
    headings = (line.lstrip("#").strip() for _, line in prose(text) if line.startswith("#"))
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def dead_links(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    for number, line in prose(text):
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if re.match(r"https?://", target):
                continue
            file, _, anchor = target.partition("#")
            linked = (path.parent / file).resolve() if file else path
            found = linked.exists() and (not anchor or anchor in anchors(linked.read_text(encoding="utf-8")))
            if not found:
                yield f"{name_of(path)}:{number}: {target}"


def too_wide(path: Path) -> Iterator[str]:
    for number, line in prose(path.read_text(encoding="utf-8")):
        if len(line) > MAX_COLUMNS and not line.startswith("|") and not LINK.search(line):
            yield f"{name_of(path)}:{number}: {len(line)} columns"


def test_the_readme_is_short() -> None:
    assert len((PROJECT_DIR / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_every_link_leads_somewhere() -> None:
    assert [fault for path in DOCUMENTS for fault in dead_links(path)] == []


def test_lines_fit_in_a_window() -> None:
    assert [fault for path in DOCUMENTS for fault in too_wide(path)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](there.md)", []),
        ("[a](there.md#a-heading-of-2)", []),
        ("[a](#own)", []),
        ("[a](https://example.org/nowhere)", []),
        ("[a](missing.md)", ["missing.md"]),
        ("[a](there.md#other)", ["there.md#other"]),
        ("![a](missing.png)", ["missing.png"]),
        ("`[a](missing.md)`", []),
        ("```\n[a](missing.md)\n```", []),
    ],
)
def test_the_rule_about_links_sees(
    text: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PROJECT_DIR", tmp_path)
    (tmp_path / "there.md").write_text("# A `heading` of 2\n")
    (tmp_path / "here.md").write_text(f"# Own\n\n{text}\n")
    assert [fault.rpartition(": ")[2] for fault in dead_links(tmp_path / "here.md")] == expected


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {path.stem for path in pages} >= {"index", "concepts", "cli", "troubleshooting"}
    loaded = re.compile(r'<(?:script|img|link)[^>]* (?:src|href)="?https?://[^>]*')
    assert [(path.name, found) for path in pages for found in loaded.findall(path.read_text(encoding="utf-8"))] == []


@pytest.mark.slow
def test_a_page_that_is_not_up_to_date_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    for path in (PROJECT_DIR / "docs" / "reference").glob("*.md"):
        shutil.copy(path, tmp_path)
    (tmp_path / "cli.md").write_text("old\n")
    (tmp_path / "artifacts.md").unlink()
    arguments = alexnet.parser().parse_args(["compile", "--check"])
    assert arguments.action(arguments) == 1
    named = re.findall(r"^alexnet: (\S+) is not up to date", capsys.readouterr().err, re.MULTILINE)
    assert [Path(path).name for path in named] == ["artifacts.md", "cli.md"]


def test_the_reference_does_not_depend_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference.components(), reference.exit_codes({}), reference.artifacts()
    monkeypatch.setenv("ALEXNET_REGISTRY", "registry.example/me")
    monkeypatch.setenv("COLUMNS", "40")
    assert (reference.components(), reference.exit_codes({}), reference.artifacts()) == before
