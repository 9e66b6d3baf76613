"""`alexnet runs`, `completion` and `run --open`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands import alexnet


def out_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert alexnet.main([*words]) == 0
    return capsys.readouterr().out


def task(folder: Path, outputs: dict, exit_code: int = 0) -> None:
    """Write what the runner records of a task."""
    folder.mkdir(parents=True)
    kinds = dict.fromkeys(outputs, "system.Artifact")
    found = {name: {"path": str(path), "sha256": "", "metadata": {}} for name, path in outputs.items()}
    record = {"exit_code": exit_code, "outputs": found, "task": {"outputs": kinds}, "cached_from": ""}
    (folder / "task.json").write_text(json.dumps(record | {"started": 1.8e9, "seconds": 61.0}))


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out_of(capsys, "runs", "--root", str(tmp_path)) == f"no runs under {tmp_path}\n"
    assert json.loads(out_of(capsys, "runs", "--root", str(tmp_path), "--json")) == []


def test_runs_of_a_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished run, one that failed, and one of a cluster, of which only the record of its end is here."""
    metrics, report = tmp_path / "metrics.json", tmp_path / "report.html"
    metrics.write_text(json.dumps({"top1_error": 0.3749, "top5_error": 0.17}))
    for run_id, status, code in (("good", "succeeded", 0), ("bad", "failed", 65)):
        task(tmp_path / "runs" / run_id / "evaluate", {} if code else {"metrics": metrics, "report": report}, code)
        record = {"status": status, "parameters": {"recipe": "smoke"}}
        (tmp_path / "runs" / run_id / "run.json").write_text(json.dumps(record))
    (tmp_path / "outcomes").mkdir()
    record = {"run_id": "far", "state": "UNKNOWN", "parameters": {"recipe": "alexnet-2012"}}
    (tmp_path / "outcomes" / "far.json").write_text(json.dumps(record))
    text = out_of(capsys, "runs", "--root", str(tmp_path))
    good, bad, far = (
        next(line for line in text.splitlines() if line.startswith(name)) for name in ("good", "bad", "far")
    )
    assert "37.5 / 17.0 %" in good
    assert "1:01" in good
    assert str(report) in text
    assert "failed" in bad
    assert "unknown" in far
    assert "alexnet-2012" in far
    rows = {row["run_id"]: row for row in json.loads(out_of(capsys, "runs", "--root", str(tmp_path), "--json"))}
    assert rows["good"]["top1_error"] == 0.3749
    assert rows["bad"]["top1_error"] is None


@pytest.mark.slow
def test_the_runs_of_a_real_root(finished_run: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    result, root, _ = finished_run
    rows = {row["run_id"]: row for row in json.loads(out_of(capsys, "runs", "--root", str(root), "--json"))}
    row = rows[result["run_id"]]
    assert (row["state"], row["recipe"], row["report"]) == ("succeeded", "smoke", result["report"])
    assert row["top1_error"] == result["metrics"]["top1_error"]


def test_bash_completes_commands_and_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "alexnet.bash"
    script.write_text(out_of(capsys, "completion", "bash"))

    def completed(*words: str) -> set[str]:
        ask = (
            f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            f"$(complete -p alexnet | sed 's/.*-F //; s/ .*//') alexnet {words[-1]} {words[-2]}; "
            "printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert completed("alexnet", "ru") == {"run", "runs"}
    assert "--release" in completed("alexnet", "run", "--re")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "alexnet" in out_of(capsys, "completion", shell)


def test_the_end_of_a_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m pipeline.commands.alexnet completion bash | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_open_shows_the_report(finished_run: tuple, tmp_path: Path) -> None:
    _, root, _ = finished_run
    browser, shown = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shown}\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "pipeline.commands.alexnet", "run", "--root", str(root), "--open"]
    subprocess.run(command, env=os.environ | {"BROWSER": str(browser)}, check=True, capture_output=True)
    assert shown.read_text().startswith("file:///")
    assert shown.read_text().strip().endswith("/evaluate/report.html")
