"""However a run ends, what it has saved stays good: SIGTERM in any phase, a full disk, input that does not come.

Each process stops itself by a real signal when it comes to a point, so that the phase is no matter of luck. They are
forked where everything is imported and nothing has run, which saves the seconds of the imports.
"""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from tiny_dataset import write_inputs

from components.shared import errors, manifest, storage

DRIVER = """
import json, os, signal, sys, threading, time
sys.path[:0] = [sys.argv[1]]
from tiny_dataset import tiny
from components.shared import storage
from components.shared.contract import command_line
from components.train import job
from components.train.input import draws, loader
from components.train.run import checkpoint, loop, report
from components.train.contract import Train
from components.train.recipes.known import RECIPES

POINTS = {
    "loading": (job, "load_inputs"),
    "network": (job, "make_network"),
    "first step": (loop, "rates"),
    "resuming": (checkpoint.Checkpoints, "_load"),
    "reading": (draws.TrainingBatches, "read"),
    "validating": (draws.CenterBatches, "read"),
    "saving": (storage, "create"),
    "report": (report, "build"),
}

def stall(shard, seconds):
    # From its sixth batch on the shard is a pipe that nobody writes to: opening it waits, as on a dead mount.
    # Only that batch is given up soon: on a busy machine the first batch of a process takes seconds, too.
    before, wait = draws.TrainingBatches.read, loader._wait
    def read(self, step):
        if step == 5:
            os.rename(shard, shard + ".aside")
            os.mkfifo(shard)
            if seconds:
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return before(self, step)
    def wait_less(batches, ready, step, stopped):
        if step == 5 and not seconds:
            loader.STARVED_SECONDS = 3.0
        return wait(batches, ready, step, stopped)
    draws.TrainingBatches.read, loader._wait = read, wait_less

def stop_at(point, detail, calls):
    if point == "stalled":
        return stall(detail, calls)
    owner, name = POINTS[point]
    before, count = getattr(owner, name), []
    def call(*args, **settings):
        if detail in str(args[-1]):
            count.append(0)
            if len(count) == calls:
                os.write(2, f"terminated at {point} {detail}, {time.process_time()}\\n".encode())
                os.kill(os.getpid(), signal.SIGTERM)
        return before(*args, **settings)
    setattr(owner, name, call)

def say(read):
    def call(self, step):
        os.write(2, f"step {step} takes {self.indices(step).tolist()}\\n".encode())
        return read(self, step)
    return call

draws.TrainingBatches.read = say(draws.TrainingBatches.read)
RECIPES["smoke"] = tiny(name="smoke")
loop.VALIDATION_BATCH = 4
for flags, stop, num_devices in json.loads(sys.argv[2]):
    process = os.fork()
    if not process:
        if num_devices > 1:
            cpu, one = job.tf.config.list_physical_devices("CPU")[0], job.tf.config.LogicalDeviceConfiguration()
            job.tf.config.set_logical_device_configuration(cpu, [one] * num_devices)
            names = [f"CPU:{number}" for number in range(num_devices)]
            job.strategy_for = lambda *_: job.tf.distribute.MirroredStrategy(names)
        if stop:
            stop_at(*stop)
        sys.argv[1:] = flags
        command_line.run(Train, "components.train.job:run")
    _, status, usage = os.wait4(process, 0)
    if stop and os.path.exists(stop[1] + ".aside"):
        os.rename(stop[1] + ".aside", stop[1])
    os.write(2, f"ended with {os.waitstatus_to_exitcode(status)}, {usage.ru_utime + usage.ru_stime}\\n".encode())
"""


def flags_of(inputs, out, **changes):
    settings = {
        "dataset": inputs / "dataset.json",
        "statistics": inputs / "statistics.json",
        "root-uri": out / "root",
        "recipe": "smoke",
        "model": out / "model.json",
        "metrics": out / "metrics.json",
        "report": out / "report.html",
        **changes,
    }
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def run_all(request, plan):
    """Run processes one after another; returns their exit codes and all that they wrote."""
    command = [sys.executable, "-c", DRIVER, str(request.path.parent), json.dumps(plan)]
    done = subprocess.run(command, cwd=request.config.rootpath, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [int(code) for code in re.findall(r"ended with (-?\d+)", done.stderr)], done.stderr


STOPS = [
    ("loading", "", 1),
    ("network", "", 1),
    ("first step", "", 1),  # which is finished and saved
    ("resuming", "", 1),
    ("reading", "", 3),
    ("validating", "", 2),
    ("saving", ".safetensors", 1),  # the arrays of a checkpoint
    ("saving", ".json", 1),  # its record
    ("saving", "events", 1),
    ("saving", "weights.safetensors", 1),  # of the model
    ("saving", "model.json", 1),
    ("report", "", 1),
]


@pytest.mark.slow
def test_sigterm_in_any_phase(tmp_path, request):
    write_inputs(tmp_path, num_train=30, num_validation=10)
    whole, parts = (flags_of(tmp_path, tmp_path / name, **{"checkpoint-minutes": 0.0}) for name in ("whole", "parts"))
    plan = [(whole, None, 1), *((parts, stop, 1) for stop in STOPS), (parts, None, 1)]
    codes, log = run_all(request, plan)
    assert codes == [errors.OK, *[errors.Interrupted.exit_code] * len(STOPS), errors.OK], log[-3000:]
    sent = [float(at) for at in re.findall(r"terminated at .*, ([\d.]+)\n", log)]
    ends = [float(at) for at in re.findall(r"ended with 75, ([\d.]+)\n", log)]
    assert len(sent) == len(STOPS)  # every phase was reached
    # Of the 30 seconds that a cluster gives; of the processor, so that what else the machine does counts not.
    assert max(np.subtract(ends, sent)) < 20
    models = [manifest.load(str(tmp_path / name / "model.json"), "model") for name in ("whole", "parts")]
    logs = [[entry.name for entry in storage.list_files(model.info["logs_uri"])] for model in models]
    assert "metrics.jsonl" in logs[1]
    assert models[0].files["weights.safetensors"] == models[1].files["weights.safetensors"]
    for name in ("losses.npy", "rates.jsonl"):  # not the history: validation in two parts adds up otherwise
        assert models[0].files[name] == models[1].files[name]


@pytest.mark.slow
def test_input_that_stalls_ends_the_process_in_time(tmp_path, request):
    write_inputs(tmp_path, num_train=30, num_validation=10)
    shard = str(tmp_path / "shards" / "train-00001-of-00002.tfrecord")
    flags = flags_of(tmp_path, tmp_path, **{"checkpoint-minutes": 0.0})
    plan = [(flags, ("stalled", shard, 0.0), 1), (flags, ("stalled", shard, 1.0), 1), (flags, None, 1)]
    codes, log = run_all(request, plan)
    assert codes == [errors.StorageError.exit_code, errors.Interrupted.exit_code, errors.OK], log[-3000:]
    assert re.search(rf"no input for 3 s at step \d+, while reading {shard}\. Check the disk or mount", log)
    assert re.search(r"stopped by SIGTERM after step \d+ of 12, which is saved", log)
    assert log.count("resuming from a checkpoint") == 2


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_the_last_checkpoints_whole(tmp_path, request):
    write_inputs(tmp_path, num_train=30, num_validation=10)
    whole, small = (flags_of(tmp_path, tmp_path / name, **{"checkpoint-minutes": 0.0}) for name in ("whole", "small"))
    root = tmp_path / "small" / "root"
    root.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(root)]  # two checkpoints of 40 kB, not three
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        codes, log = run_all(request, [(small, None, 1)])
        assert codes == [errors.StorageError.exit_code], log[-3000:]
        assert re.search(r"disk full: \S+ \([\d,]+ bytes free\)\. Free space or choose another root", log)
        folder = next(root.glob("train/*/checkpoints"))
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]  # nothing half written
        subprocess.run(["mount", "-o", "remount,size=20m", str(root)], check=True)
        codes, log = run_all(request, [(small, None, 1), (whole, None, 1)])
        assert codes == [errors.OK] * 2, log[-3000:]
        assert '"resuming from a checkpoint", "step": 2' in log
        assert "damaged" not in log
        models = [manifest.load(str(tmp_path / name / "model.json"), "model") for name in ("whole", "small")]
        assert models[0].digest == models[1].digest
    finally:
        subprocess.run(["umount", str(root)], check=True)


@pytest.mark.slow
def test_other_devices_go_on_with_the_same_examples(tmp_path, request):
    write_inputs(tmp_path, num_train=30, num_validation=10)
    whole, parts = (flags_of(tmp_path, tmp_path / name, **{"checkpoint-minutes": 0.0}) for name in ("whole", "parts"))
    stops = [(parts, ("reading", "", 4), 1), (parts, ("reading", "", 4), 2), (parts, None, 1)]
    codes, log = run_all(request, [(whole, None, 1), *stops])
    assert codes == [errors.OK, errors.Interrupted.exit_code, errors.Interrupted.exit_code, errors.OK], log[-3000:]
    taken = set(re.findall(r"step (\d+) takes \[(.*)\]", log))
    assert sorted(int(step) for step, _ in taken) == list(range(12))  # each step took the same in every process
    models = [manifest.load(str(tmp_path / name / "model.json"), "model") for name in ("whole", "parts")]
    losses = [np.load(model.stage("losses.npy")) for model in models]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
