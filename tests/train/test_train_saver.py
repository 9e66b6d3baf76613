"""Checkpoints in the background: steps go on, and whatever happens meanwhile the last whole checkpoint stays."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.numpy
from tiny_dataset import write_inputs
from tiny_run import config_of, digest, inputs, recipes, settings_of, whole  # noqa: F401 - fixtures

from components.shared import runlog, storage
from components.shared.errors import AlexNetError, Interrupted, StorageError
from components.train import job
from components.train.run import checkpoint, loop, saver
from components.train.run.saver import MAX_SHARE, Saver

SOON = 0.0001  # minutes: after every step that has no write beside it


def fail():
    raise StorageError("disk full")


def on_write(monkeypatch, number, action, beside=lambda: None):
    """Do something in the thread that writes, before the arrays of a checkpoint; and before each step after that.

    No step begins while a write has neither come to its arrays nor ended, however slow the machine.

    Args:
        monkeypatch: of the test.
        number: of the checkpoint, from 1.
        action: called in the thread that writes.
        beside: called in the thread that trains, before each step after `action` has begun.
    """
    create, rates, writes, reached = storage.create, loop.rates, [], threading.Event()

    def create_and_act(uri):
        if "/checkpoints/" in uri and uri.endswith(".safetensors"):
            writes.append(uri)
            if len(writes) == number:
                reached.set()
                action()
        return create(uri)

    def wait_and_rates(phase):
        for thread in threading.enumerate():
            while thread.name == "checkpoint" and thread.is_alive() and not reached.wait(0.01):
                pass
        if reached.is_set():
            beside()
        return rates(phase)

    monkeypatch.setattr(storage, "create", create_and_act)
    monkeypatch.setattr(loop, "rates", wait_and_rates)


@pytest.mark.slow
def test_steps_go_on_while_a_checkpoint_is_written(inputs, tmp_path, recipes, monkeypatch, whole, capfd):
    enough, steps = threading.Event(), []

    def block():
        assert enough.wait(300), "no step was made beside the write"

    def count():
        steps.append(0)
        if len(steps) == 6:
            enough.set()

    on_write(monkeypatch, 1, block, count)
    job.run(config_of(inputs, tmp_path, checkpoint_minutes=SOON))
    costs = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "cost of a checkpoint" in line]
    assert costs[0]["steps_beside"] >= 5
    assert costs[0]["checkpoint_ms"] >= costs[0]["snapshot_ms"]
    assert digest(tmp_path) == digest(whole[0])


@pytest.mark.slow
def test_a_checkpoint_holds_its_step_though_later_steps_come_before_the_write(
    inputs,
    tmp_path,
    recipes,
    whole,
    capfd,
):
    """The snapshot shares no memory with weights, velocities and trace."""
    enough, steps = threading.Event(), []

    def count():
        steps.append(0)
        if len(steps) == 6:
            enough.set()
            raise AlexNetError("six steps beside the write")

    config = config_of(inputs, tmp_path, checkpoint_minutes=SOON)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AlexNetError, match="six steps"):
        on_write(patch, 1, lambda: enough.wait(300), count)
        job.run(config)
    job.run(config)
    assert '"resuming from a checkpoint", "step": 1,' in capfd.readouterr().err
    assert digest(tmp_path) == digest(whole[0])


@pytest.mark.slow
def test_a_write_that_fails_ends_the_run_and_leaves_the_checkpoint_before(
    inputs,
    tmp_path,
    recipes,
    whole,
):
    config = config_of(inputs, tmp_path, checkpoint_minutes=0.0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StorageError, match="disk full"):
        on_write(patch, 3, fail)
        job.run(config)
    names = [path.name for path in (tmp_path / "root").glob("train/*/checkpoints/*")]
    assert sorted(names) == [f"step-0000000{step}.{kind}" for step in (1, 2) for kind in ("json", "safetensors")]
    job.run(config)
    assert digest(tmp_path) == digest(whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("num_signals", [1, 2])
def test_signals_while_a_checkpoint_is_written(inputs, tmp_path, recipes, monkeypatch, whole, num_signals):
    """The first waits for the write and saves what was trained since; the second waits for nothing."""
    over, join = threading.Event(), threading.Thread.join

    def join_and_act(thread, timeout=None):
        if thread.name == "checkpoint" and not over.is_set():
            if num_signals == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            over.set()
        join(thread, timeout)

    def block():
        os.kill(os.getpid(), signal.SIGTERM)
        assert over.wait(300)

    monkeypatch.setattr(threading.Thread, "join", join_and_act)
    config = config_of(inputs, tmp_path, checkpoint_minutes=SOON)
    message = r"after step \d+ of 12, which is saved" if num_signals == 1 else "stopped at once by a second SIGTERM"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted, match=message):
        on_write(patch, 1, block)
        job.run(config)
    over.set()
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            join(thread)  # which would have ended with the process
    job.run(config)
    assert digest(tmp_path) == digest(whole[0])


KILLED = """
import contextlib, json, math, os, signal, sys, threading
sys.path[:0] = [sys.argv[1]]
from tiny_dataset import tiny
from components.shared import storage
from components.train import job
from components.train.run import loop, saver
from components.train.contract import Train
from components.train.recipes.known import RECIPES

RECIPES["smoke"] = tiny(name="smoke")
saver.MAX_SHARE = math.inf  # or the second checkpoint of a slow machine is the last, and waited for
create, rates, writes, steps, halved = storage.create, loop.rates, [], [], threading.Event()

@contextlib.contextmanager
def half(uri):
    with create(uri) as file:
        if "/checkpoints/" in uri and uri.endswith(".safetensors"):
            writes.append(uri)
            if len(writes) == 2:
                file.write(b"a half")
                file.flush()
                halved.set()
                threading.Event().wait()
        yield file

def die(phase):
    for thread in threading.enumerate():  # no step before a write has ended or come to its half
        while thread.name == "checkpoint" and thread.is_alive() and not halved.wait(0.01):
            pass
    steps.extend([0] * halved.is_set())
    if len(steps) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return rates(phase)

storage.create, loop.rates = half, die
job.run(Train(**json.loads(sys.argv[2])))
"""


@pytest.mark.slow
def test_a_kill_during_a_write_leaves_the_checkpoint_before(tmp_path, request, recipes, capfd):
    write_inputs(tmp_path)
    parts, alone = ({**settings_of(tmp_path, tmp_path / name), "checkpoint_minutes": SOON} for name in "ab")
    command = [sys.executable, "-c", KILLED, str(request.path.parent), json.dumps(parts)]
    done = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True, timeout=1800)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    saved = int(re.findall(r'"checkpoint saved", "step": (\d+)', done.stderr)[-1])
    job.run(job.Train(**parts))
    log = capfd.readouterr().err
    assert f'"resuming from a checkpoint", "step": {saved}' in log
    assert "damaged" not in log
    job.run(job.Train(**alone))
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_the_interval_follows_the_cost():
    written = io.StringIO()
    saver, end = Saver(0.01, runlog.RunLog("train", written)), threading.Event()
    saver.last_snapshot -= 0.6
    assert saver.due()
    for seconds in (60.0, *[0.1] * 9):  # the first step is traced
        saver.step_ended(seconds)
    saver.start(10, lambda: end.wait)
    assert not saver.due()
    for seconds in (0.3, 0.4, 0.3, 0.2, 0.3):
        saver.step_ended(seconds)
    end.set()
    saver.finish()
    assert saver.costs[0] - saver.snapshot_seconds == pytest.approx(5 * 0.2)
    assert saver.interval() == pytest.approx(saver.costs[0] / MAX_SHARE)
    assert not saver.due()
    line = json.loads(written.getvalue())
    assert (line["message"], line["step"], line["steps_beside"]) == ("cost of a checkpoint", 10, 5)
    assert line["checkpoint_ms"] == pytest.approx(1000 * saver.costs[0], abs=0.1)
    assert Saver(0.0, runlog.RunLog("train", written)).due()


@pytest.mark.parametrize(("hangs", "warning"), [(False, "not written: disk full"), (True, "not written in 1 s")])
@pytest.mark.slow
def test_the_last_write_hides_no_error(hangs, warning, monkeypatch):
    monkeypatch.setattr(saver, "LAST_WRITE_SECONDS", 1.0)
    written, end = io.StringIO(), threading.Event()
    with pytest.raises(AlexNetError, match="diverged"), Saver(0.0, runlog.RunLog("train", written)) as writer:
        writer.start(1, lambda: end.wait if hangs else fail)
        raise AlexNetError("diverged")
    end.set()
    assert warning in written.getvalue()


@pytest.mark.parametrize("shapes", [[], [(3,)], [(2, 3), (), (0,), (1, 2, 3, 4)]])
def test_encoding_is_safetensors(shapes):
    rng = np.random.default_rng(0)
    arrays = {f'layer "{n}"/kernel': rng.normal(size=shape).astype(np.float32) for n, shape in enumerate(shapes)}
    found = safetensors.numpy.load(b"".join(map(bytes, checkpoint.encode(arrays))))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
