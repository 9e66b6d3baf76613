"""What a person sees while tasks run, on terminals of several kinds and where there is none."""

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from conftest import PROJECT_DIR

from pipeline.console import Console
from pipeline.progress import columns_for, epoch_line

PROGRESS = {
    "time": 0,
    "level": "info",
    "component": "train",
    "message": "progress",
    "done": 12_345,
    "total": 123_450,
    "unit": "images",
    "rate": 1234.56,
    "eta_seconds": 3723.4,
    "epoch": 3,
    "loss": 0.41234,
    "validation_top1_error": 0.15,
    "validation_top5_error": 0.0213,
}
NETWORK = PROGRESS | {"message": "network", "steps": 600}
EPOCH = {
    "time": 0,
    "level": "info",
    "component": "train",
    "message": "epoch ended",
    "epoch": 3,
    "step": 180,
    "train_loss": 0.41234,
    "train_top1_error": 0.125,
    "validation_top1_error": 0.15,
    "validation_top5_error": 0.0213,
    "seconds": 62.4,
}
LINE = "train  epoch 3/10  loss 0.412  train error 12.5 %  validation 15.0 / 2.1 %  1:02"
NUMBERS = ("10 %", "1,235 images/s", "1:02:03")

SHOW = """
import json, sys, time
from pipeline.console import Console
with Console() as console:
    console.status("train", "starting")
    for entry in json.loads(sys.argv[1]):
        console.entry("train", json.dumps(entry))
    time.sleep(float(sys.argv[2]))
    console.finish("train", "done in 0:46")
"""


def started(entries, columns, seconds=0.6, **variables):
    """Start the script on a terminal; returns the process and the other end of the terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    environment |= {"TERM": "xterm-256color", "PYTHONPATH": str(PROJECT_DIR), "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, json.dumps(entries), str(seconds)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | variables,
        cwd=PROJECT_DIR,
    )
    os.close(theirs)
    return process, ours


def rest_of(process, ours):
    """Read what comes on a terminal until the process has ended."""
    data = b""
    try:
        while piece := os.read(ours, 65536):
            data += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    process.wait()
    os.close(ours)
    return data.decode()


def plain(text):
    """Return a text without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.slow
def test_no_number_is_cut_on_a_terminal(columns):
    text = rest_of(*started([NETWORK, EPOCH, PROGRESS], columns))
    lines = [line for line in re.split(r"[\r\n]+", plain(text)) if line]
    assert max(map(len, lines)) <= max(columns, 62)  # a line of an epoch has no less
    row = next(line for line in lines if line.startswith("train ") and "%  " in line and "epoch" not in line)
    assert [number in row for number in NUMBERS] == [True] * 3
    assert ("15.0 / 2.1 %" in row) == (columns >= 80)
    assert ("━" in row) == (columns >= 80)
    assert len(row.rstrip()) <= columns - 3  # behind which a terminal writes ^C
    assert any(line.startswith("train  epoch 3/10  ") and "15.0 / 2.1 %" in line for line in lines)
    assert lines[-1] == "train        done in 0:46"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown


@pytest.mark.slow
def test_a_warning_stays_whole_on_a_terminal():
    message = "slow input " + 20 * "words and " + "the end"
    warning = {"time": 0, "level": "warning", "component": "train", "message": message}
    assert message in plain(rest_of(*started([PROGRESS, warning], 80)))


@pytest.mark.slow
def test_no_color_is_honoured():
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    assert coloured.search(rest_of(*started([PROGRESS], 120)))
    assert not coloured.search(rest_of(*started([PROGRESS], 120, NO_COLOR="1")))


@pytest.mark.slow
def test_a_dumb_terminal_has_plain_lines():
    text = rest_of(*started([NETWORK, EPOCH, PROGRESS], 80, TERM="dumb"))
    assert text.splitlines() == [LINE, "train        done in 0:46"]


@pytest.mark.slow
def test_a_stopped_command_shows_the_cursor_again():
    process, ours = started([PROGRESS], 80, 60)
    shown = b""
    while b"images/s" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    text = shown.decode(errors="replace") + rest_of(process, ours)
    assert "KeyboardInterrupt" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_elsewhere_there_are_few_lines():
    stream = io.StringIO()
    with Console(stream) as console:
        console.status("train", "starting")
        for entry in (NETWORK, PROGRESS, EPOCH, PROGRESS):
            assert console.entry("train", json.dumps(entry))
        assert console.entry("train", "no entry") is None
        assert console.entry("train", '{"message": "epoch ended"}') is None
        console.finish("train", "done in 0:46")
    assert stream.getvalue().splitlines() == [LINE, "train        done in 0:46"]


def test_elsewhere_a_line_comes_after_a_while(monkeypatch):
    stream = io.StringIO()
    console = Console(stream)
    later = time.monotonic() + 11
    monkeypatch.setattr(time, "monotonic", lambda: later)
    for _ in range(3):
        console.entry("train", json.dumps(PROGRESS))
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("train         10 %  12345/123450 images")


def test_what_is_less_important_drops_out_first():
    row = {"task": "train-seed-0", "percent": "10 %", "rate": "812 images/s", "left": "1:02"}
    assert list(columns_for([row, {"task": "a"}], 80)) == ["task", "bar", "percent", "rate", "left"]
    assert list(columns_for([row], 40)) == ["task", "percent", "rate", "left"]
    assert list(columns_for([row], 25)) == ["task", "percent", "left"]


def test_an_epoch_says_less_where_it_is_narrow():
    fields = EPOCH | {"epochs": 10}
    assert epoch_line("train", fields) == LINE
    shorter = epoch_line("train-seed-0", fields, 80)
    assert ("loss" in shorter, "1:02" in shorter) == (False, True)


def test_rich_is_imported_for_a_live_table_only():
    code = "import sys, pipeline.commands.alexnet; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_DIR)
    assert done.stdout.strip() == "False"
