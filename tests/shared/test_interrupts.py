"""SIGTERM at any moment of a component's start: always 75, never a bug or the death by a signal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT_DIR = Path(__file__).parents[2]
CAUGHT = 1 << (signal.SIGTERM - 1)
NUM_MOMENTS = 6


def start(component: str, folder: Path, release: Path) -> subprocess.Popen[str]:
    """Start a component on inputs that do not let it end: a pipe that nobody writes to, or very much work."""
    folder.mkdir()
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    flags = {
        "ingest": {"release-uri": release, "root-uri": folder, "summary": folder / "s", "dataset": folder / "d"},
        "sample": {"out": folder / "out", "classes": 8, "images-per-class": 1300},
        "statistics": {"dataset": pipe, "root-uri": folder, "statistics": folder / "s", "summary": folder / "m"},
        "train": dict.fromkeys(("dataset", "statistics"), pipe)
        | {"root-uri": folder, "model": folder / "m", "metrics": folder / "e", "report": folder / "r"},
        "evaluate": dict.fromkeys(("dataset", "statistics", "models"), pipe)
        | {"root-uri": folder}
        | {name: folder / name for name in ("predictions", "metrics", "confusion", "report", "summary")},
    }[component]
    command = [sys.executable, "-m", f"components.{component}", *(f"--{k}={v}" for k, v in flags.items())]
    environment = {**os.environ, "ALEXNET_LOG": "json", "TMPDIR": str(folder)}
    process = subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stderr=subprocess.PIPE, text=True)
    while not hears(process):
        assert process.poll() is None
        time.sleep(0.001)
    return process


def hears(process: subprocess.Popen[str]) -> bool:
    """Tell whether a process has a handler for SIGTERM yet."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & CAUGHT)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose images take longer than the moments of the test."""
    out = tmp_path_factory.mktemp("large") / "release"
    command = [sys.executable, "-m", "components.sample", f"--out={out}", "--classes=2", "--images-per-class=300"]
    subprocess.run(command, check=True, cwd=PROJECT_DIR, stderr=subprocess.DEVNULL)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("component", ["ingest", "sample", "statistics", "train", "evaluate"])
def test_sigterm_while_a_component_starts(component: str, release: Path, tmp_path: Path) -> None:
    for k in range(NUM_MOMENTS):
        process = start(component, tmp_path / str(k), release)
        time.sleep(0.02 * 4.0**k if k < 4 else 1.5 * (k - 2))
        if component == "ingest" and k >= 4 and process.poll() == 0:  # a fast machine: it has no start any more
            process.stderr.close()
            return
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 75, f"moment {k}: {process.returncode} {stderr}"
        assert "stopped by SIGTERM" in stderr
        assert "Traceback" not in stderr


# What libraries do with an exception that they do not expect while they are loaded.
SWALLOWS = """
import time
try:
    time.sleep(60)
except Exception as error:
    raise ImportError('another error') from error
"""


@pytest.mark.parametrize("style", ["json", "human"])
@pytest.mark.slow
def test_sigterm_in_an_import_that_catches_everything(style: str, tmp_path: Path) -> None:
    (tmp_path / "slow_to_load.py").write_text(SWALLOWS)
    program = (
        "from components.shared import interrupts, runlog\n"
        "interrupts.begin('train')\n"
        "with runlog.hold_stderr():\n"
        "    import slow_to_load\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT_DIR}:{tmp_path}", "ALEXNET_LOG": style}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True)
    while not hears(process):
        time.sleep(0.001)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 75
    message = "stopped by SIGTERM. The same command resumes the work"
    assert message in stderr and len(stderr.splitlines()) == 1
