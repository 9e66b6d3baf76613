"""What a run writes down: rates that can be replayed, the loss of every step, logs without gaps or doubles."""

import io
import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_dataset import TINY, tiny, write_inputs
from tiny_run import config_of

from components.shared import manifest, runlog, storage
from components.train import job
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.known import RECIPES
from components.train.recipes.schedule import current_phase
from components.train.run import devices, loop, trace
from components.train.run.trace import Logs, Trace


def lines(model, name):
    return [json.loads(line) for line in model.stage(name).read_text().splitlines()]


@pytest.mark.slow
def test_the_rates_of_a_run_on_plateau_can_be_replayed(tmp_path, monkeypatch):
    write_inputs(tmp_path, 16, 4)
    on_plateau = tiny(name="smoke", num_epochs=5, plateau_patience=1)
    models = []
    for name in ("plateau", "replay"):
        recipe = on_plateau if name == "plateau" else trace.replayed(on_plateau, 5, lines(models[0], "rates.jsonl"))
        monkeypatch.setitem(RECIPES, "smoke", recipe)
        job.run(config_of(tmp_path, tmp_path / name))
        models.append(manifest.load(str(tmp_path / name / "model.json"), "model"))
    rates, again = (lines(model, "rates.jsonl") for model in models)
    assert rates[0]["cause"] == "start"
    assert any(entry["cause"].startswith("drop 1: 1 epochs without a validation error below") for entry in rates)
    assert min(entry["learning_rate"] for entry in rates) <= TINY.phases[0].learning_rate / 10
    assert [{**entry, "cause": ""} for entry in rates] == [{**entry, "cause": ""} for entry in again]
    for name in ("weights.safetensors", "losses.npy", "history.jsonl"):
        assert models[0].files[name] == models[1].files[name]
    history, losses = lines(models[0], "history.jsonl"), np.load(models[0].stage("losses.npy"))
    assert losses.dtype == np.float32
    assert [entry["train_loss"] for entry in history] == losses.reshape(5, 2).mean(1, np.float64).tolist()


def test_every_change_of_the_recorded_schedule_is_noted():
    rates = []
    for epoch in range(1, 94):
        phase = current_phase(ALEXNET_2012, epoch, 93, [])
        trace.note_rates(
            rates, phase, 10 * (epoch - 1), epoch, trace.cause_of(ALEXNET_2012, epoch, [1.0] * (epoch - 1))
        )
    assert [(entry["epoch"], entry["step"]) for entry in rates] == [(e, 10 * e - 10) for e in (1, 23, 51, 68, 72, 78)]
    assert trace.replayed(ALEXNET_2012, 93, rates) == ALEXNET_2012


def made_up(num_steps, steps_per_epoch):
    """Numbers of a run of so many steps, the same for the same step."""
    made = Trace()
    for step in range(num_steps):
        for values in vars(made).values():
            values.append(step % 7)
    rates = [{"step": 0, "learning_rate": 0.5}, {"step": steps_per_epoch, "learning_rate": 0.25}]
    ends = range(steps_per_epoch, num_steps + 1, steps_per_epoch)
    history = [{"epoch": number, "step": step, "train_loss": 1.0} for number, step in enumerate(ends, 1)]
    return made, rates, history, [{"epoch": entry["epoch"], "seconds": 1.0} for entry in history]


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=6), st.sampled_from([3, 250]))
def test_logs_in_parts_have_neither_gaps_nor_doubles(tmp_path_factory, ends, steps_per_epoch):
    """The run is killed and resumed: the next end may lie before the last one."""
    folders = [tmp_path_factory.mktemp(name) for name in ("parts", "whole")]
    parts, whole = (Logs(str(folder), steps_per_epoch) for folder in folders)
    for end in [*ends, 700]:
        parts.publish(*made_up(end, steps_per_epoch))
    whole.publish(*made_up(700, steps_per_epoch))
    curves = []
    for logs, folder in zip((parts, whole), folders, strict=True):
        logs.finish()
        reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        tags = reader.Tags()["scalars"]
        curves.append({tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in tags})
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[1]["steps/loss"]] == list(
        range(1, 701) if steps_per_epoch == 3 else range(2, 701, 2)
    )
    assert [step for step, _ in curves[1]["epochs/train_loss"]] == list(range(steps_per_epoch, 701, steps_per_epoch))
    found = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in folders]
    assert found[0] == found[1]
    width = max(1, steps_per_epoch // 100)
    losses = {entry["step"]: entry["loss"] for entry in found[0] if "loss" in entry}
    assert losses[width] == np.mean([step % 7 for step in range(width)])


def test_a_trace_survives_a_checkpoint():
    made = made_up(20, 3)[0]
    arrays = safetensors.numpy.load(safetensors.numpy.save(made.arrays()))
    assert Trace.restored(arrays) == made
    assert Trace.restored(safetensors.numpy.load(safetensors.numpy.save(Trace().arrays()))) == Trace()


def test_the_log_says_what_the_run_computes_with():
    written = io.StringIO()
    devices.use(0, "float32", runlog.RunLog("train", written))
    line = json.loads(written.getvalue())
    assert line["message"] == "devices"
    assert line["precision"] == "float32"
    assert line["threads"] >= 1
    assert line["device"]


@pytest.mark.parametrize(("data_ms", "num_steps", "warned"), [(60.0, 50, True), (60.0, 10, False), (40.0, 50, False)])
def test_waiting_for_input_is_a_warning(data_ms, num_steps, warned):
    written = io.StringIO()
    loop.warn_of_slow_input(runlog.RunLog("train", written), data_ms, 50.0, num_steps)
    assert ("the input is slower than the step: 60 ms of waiting for 50 ms of work" in written.getvalue()) is warned


@pytest.mark.slow
def test_logs_in_an_object_store(bucket):
    logs = Logs(bucket, 3)
    for end in (2, 9, 7, 10):
        logs.publish(*made_up(end, 3))
    logs.finish()
    logs.finish()
    assert [entry.name for entry in storage.list_files(bucket)] == [
        *(f"events.out.tfevents.{end}" for end in ("00000002-0000", "00000009-0003", "00000010-0003")),
        *(f"metrics.{end}.jsonl" for end in ("00000002-0000", "00000009-0003", "00000010-0003")),
        "metrics.jsonl",
    ]
    found = [json.loads(line) for line in storage.read_bytes(f"{bucket}/metrics.jsonl").splitlines()]
    assert [entry["step"] for entry in found if "loss" in entry] == list(range(1, 11))
