"""Logs for people and for machines."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.runlog import Progress, RunLog, format_seconds, hold_stderr

FIELDS = st.dictionaries(
    st.text().filter(lambda key: key not in ("level", "message", "self")), st.text() | st.integers() | st.none()
)


def log_to(stream: io.StringIO, style: str) -> RunLog:
    log = RunLog("train", stream)
    log.style = style
    return log


@settings(derandomize=True, deadline=None)
@given(message=st.text(), fields=FIELDS)
@pytest.mark.slow
def test_json_is_one_object_a_line(message: str, fields: dict) -> None:
    stream = io.StringIO()
    log_to(stream, "json").info(message, **fields)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry["message"] == message
    assert {key: entry[key] for key in fields} == fields
    assert {"time", "level", "component"} <= entry.keys()


def test_lines_for_people() -> None:
    stream = io.StringIO()
    log = log_to(stream, "human")
    log.info("epoch done", loss=0.123456789, step=7)
    log.warning("slow")
    log.error("bug: KeyError", traceback="Traceback ...")
    assert stream.getvalue().splitlines() == [
        "train: epoch done  loss 0.1235  step 7",
        "train: WARNING: slow",
        "train: ERROR: bug: KeyError",
        "Traceback ...",
    ]


@pytest.mark.parametrize(
    ("choice", "expected"), [("json", "json"), ("human", "human"), ("", "json")], ids=["json", "human", "no terminal"]
)
def test_the_environment_chooses(choice: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXNET_LOG", choice)
    assert RunLog("train", io.StringIO()).style == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (7322, "2:02:02")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_progress_counts_rate_and_time_left() -> None:
    stream = io.StringIO()
    progress = Progress(log_to(stream, "json"), 100, "images", done=20, interval_seconds=0)
    progress._marks[0] = (progress._marks[0][0] - 10, 20)  # ten seconds ago
    progress.update(60, data_ms=1.5)
    entry = json.loads(stream.getvalue())
    assert (entry["done"], entry["total"], entry["unit"], entry["data_ms"]) == (60, 100, "images", 1.5)
    assert entry["rate"] == pytest.approx(4, rel=0.01)  # what was done before does not count
    assert entry["eta_seconds"] == pytest.approx(10, rel=0.01)


def test_time_left_follows_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images a second for ten minutes, then one: the time left is soon that of one a second."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = io.StringIO()
    progress = Progress(log_to(stream, "json"), 10_000, "images", window_seconds=60)
    done = 0
    for rate in [10] * 600 + [1] * 61:
        now, done = now + 1, done + rate
        progress.update(done)
    entry = json.loads(stream.getvalue().splitlines()[-1])
    assert entry["rate"] == pytest.approx(1, abs=0.2)
    assert entry["eta_seconds"] == pytest.approx(10_000 - done, rel=0.2)
    assert len(progress._marks) < 70


def test_progress_is_rare_but_ends() -> None:
    stream = io.StringIO()
    progress = Progress(log_to(stream, "human"), 1000, "images", interval_seconds=1000)
    for done in range(1, 1001):
        progress.update(done)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("train: 100 %  1000/1000 images")
    assert line.endswith("ETA 0:00")


def test_held_stderr_is_shown_only_on_failure(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from components.shared.runlog import hold_stderr\n"
        "with hold_stderr(): os.write(2, b'native noise')\n"
        "print('after', file=sys.stderr)\n"
        "if sys.argv[1] == 'fail':\n"
        "    with hold_stderr():\n"
        "        os.write(2, b'native cause\\n')\n"
        "        raise SystemExit(3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    outputs = {}
    for end in ("well", "fail"):
        command = [sys.executable, "-c", script, end]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        outputs[end] = (done.returncode, done.stderr)
    assert outputs == {"well": (0, "after\n"), "fail": (3, "after\nnative cause\n")}
    with hold_stderr():
        pass  # and under a test runner, whose descriptor 2 is not the terminal
