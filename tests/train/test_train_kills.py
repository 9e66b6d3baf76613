"""A training of 200 steps that is killed again and again ends as one that was left alone, to the bit."""

import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_dataset import write_inputs
from tiny_run import settings_of

from components.shared import manifest

NUM_EPOCHS, STEPS_PER_EPOCH = 40, 5
NUM_KILLS, SEED = 5, 0

# Processes that kill themselves a few events after they first read the batch of a step; an event is a reading, a
# publication or a deletion, so it may be between the arrays of a checkpoint and its record, too. They are forked where
# everything is imported and nothing has run, which saves the seconds of the imports.
DRIVER = """
import json, math, os, signal, sys
sys.path[:0] = [sys.argv[1]]
from tiny_dataset import tiny
from components.shared import storage
from components.train import job
from components.train.input import draws
from components.train.run import saver
from components.train.contract import Train
from components.train.recipes.known import RECIPES

plan, num_epochs = json.loads(sys.argv[2]), int(sys.argv[3])

def fatal(function):
    def call(*args, **settings):
        if fuse or function.__name__ == "read" and args[1] >= die_at[0]:
            fuse.append(function.__name__)
        if len(fuse) > die_at[1]:
            what = args[1] if function.__name__ == "read" else os.path.basename(args[-1])
            os.write(2, f"killed at {function.__name__} of {what}\\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **settings)
    return call

draws.TrainingBatches.read = fatal(draws.TrainingBatches.read)
storage.create, storage.delete = fatal(storage.create), fatal(storage.delete)
saver.MAX_SHARE = math.inf
RECIPES["smoke"] = tiny(name="smoke", num_epochs=num_epochs)
for settings, die_at in plan:
    fuse, process = [], os.fork()
    if not process:
        job.run(Train(**settings))
        os._exit(0)
    os.write(2, f"ended with {os.waitpid(process, 0)[1]}\\n".encode())
"""


@pytest.mark.slow
def test_random_kills_change_no_bit(tmp_path, request):
    write_inputs(tmp_path, num_train=8 * STEPS_PER_EPOCH, num_validation=4)
    often = {"checkpoint_minutes": 0.001}  # every few steps
    whole, parts = (settings_of(tmp_path, tmp_path / name) | often for name in ("whole", "parts"))
    rng, never = np.random.default_rng(SEED), (NUM_EPOCHS * STEPS_PER_EPOCH, 0)
    steps = np.sort(rng.choice(np.arange(5, 190), NUM_KILLS, replace=False)).tolist()
    kills = [(step, int(rng.integers(0, 8))) for step in steps]
    plan = json.dumps([(whole, never), *((parts, kill) for kill in kills), (parts, never)])
    command = [sys.executable, "-c", DRIVER, str(request.path.parent), plan, str(NUM_EPOCHS)]
    done = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    endings = [int(code) for code in re.findall(r"ended with (\d+)", done.stderr)]
    assert endings == [0, *[signal.SIGKILL] * NUM_KILLS, 0], done.stderr[-3000:]
    assert done.stderr.count("resuming from a checkpoint") >= NUM_KILLS - 1
    models = [manifest.load(str(tmp_path / name / "model.json"), "model") for name in ("whole", "parts")]
    histories = [model.stage("history.jsonl").read_text() for model in models]
    assert histories[0] == histories[1]  # losses, errors and rates of every epoch
    assert len(histories[0].splitlines()) == NUM_EPOCHS
    assert json.loads(histories[0].splitlines()[-1])["step"] == NUM_EPOCHS * STEPS_PER_EPOCH
    assert models[0].files == models[1].files  # sha256 of the weights, the losses and the rates
    assert models[0].digest == models[1].digest
    logs = [models[1].info["logs_uri"], *(model.stage("losses.npy") for model in models)]
    events = EventAccumulator(logs[0], size_guidance={"scalars": 0}).Reload().Scalars("steps/loss")
    assert [event.step for event in events] == list(range(1, NUM_EPOCHS * STEPS_PER_EPOCH + 1))
    assert [event.value for event in events] == np.load(logs[1]).tolist() == np.load(logs[2]).tolist()
