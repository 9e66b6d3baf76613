"""Training runs: checkpoints, resuming to the same bits, failures with a remedy, what is published."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from tiny_dataset import LOG, TINY, example, tiny, write_dataset, write_inputs, write_statistics
from tiny_run import config_of, digest, inputs, recipes, stop_after, whole  # noqa: F401 - fixtures

from components.shared import errors, manifest, runlog, storage
from components.shared.errors import AlexNetError, DataError, Interrupted, UsageError
from components.train import job
from components.train.input.draws import CenterBatches, TrainingBatches
from components.train.recipes.known import RECIPES
from components.train.run import loop
from components.train.run.checkpoint import Checkpoints
from components.train.run.loop import State, check_stuck


@pytest.mark.slow
def test_a_run_publishes_model_metrics_and_report(whole, inputs):
    out, metadata = whole
    model = manifest.load(str(out / "model.json"), "model")
    history = [json.loads(line) for line in model.stage("history.jsonl").read_text().splitlines()]
    assert [(entry["epoch"], entry["step"]) for entry in history] == [(1, 4), (2, 8), (3, 12)]
    assert [entry["learning_rate"] for entry in history] == [0.001, 0.001, 0.0001]
    assert [timing["epoch"] for timing in model.info["timings"]] == [1, 2, 3]
    weights = safetensors.numpy.load_file(model.stage("weights.safetensors"))
    names = {
        f"{layer['name']}/{kind}"
        for layer in model.content["network"]
        if "kernel" in layer
        for kind in ("kernel", "bias")
    }
    assert set(weights) == {*names, "mean_image"}
    assert weights["mean_image"].shape == (256, 256, 3)
    assert sum(weights[name].size for name in names) == model.content["num_parameters"]
    assert model.content["dataset_digest"] == manifest.load(str(inputs / "dataset.json"), "dataset").digest
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == metadata["metrics"]
    assert metrics["validation_top1_error"] == history[-1]["validation_top1_error"]
    assert all(isinstance(v, (int, float, str)) for m in metadata.values() for v in m.values())
    assert np.load(model.stage("losses.npy")).shape == (12,)
    rates = [json.loads(line) for line in model.stage("rates.jsonl").read_text().splitlines()]
    assert [(r["step"], r["learning_rate"], r["cause"]) for r in rates] == [
        (0, 0.001, "start"),
        (8, 0.0001, "schedule of the recipe"),
    ]
    report = (out / "report.html").read_text()
    assert f"tensorboard --logdir {model.info['logs_uri']}" in report
    assert report.count("data:image/png;base64,") == 2
    assert "://" not in report.split("base64")[0]
    assert not [file for file in storage.list_files(str(out / "root" / "train")) if "checkpoints" in file.name]


@pytest.mark.slow
def test_validation_error_is_exact(whole, inputs):
    """Recomputes the last epoch's validation from the published files, image by image."""
    import tensorflow as tf

    from components.train.input.split import Split
    from components.train.net.model import AlexNet

    model = manifest.load(str(whole[0] / "model.json"), "model")
    weights = safetensors.numpy.load_file(model.stage("weights.safetensors"))
    net = AlexNet(model.content["network"], tiny(), 5)
    for name, variable in net.parameters().items():
        variable.assign(weights[name])
    split = Split(manifest.load(str(inputs / "dataset.json"), "dataset"), "validation", LOG)
    wrong, losses = 0, []
    for index in range(len(split)):
        (jpeg,), label = split.read(np.array([index])), split.labels[index]
        crop = tf.io.decode_jpeg(jpeg, dct_method="INTEGER_ACCURATE").numpy()[16:240, 16:240]
        logits = (
            net(crop[None].astype(np.float32) - weights["mean_image"][16:240, 16:240]).numpy()[0].astype(np.float64)
        )
        wrong += int(logits.argmax() != label)
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
    last = json.loads(model.stage("history.jsonl").read_text().splitlines()[-1])
    assert last["validation_top1_error"] == wrong / len(split)
    assert last["validation_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert last["validation_top5_error"] == 0.0  # there are three classes


@pytest.mark.slow
def test_the_same_command_again_adopts_the_finished_training(whole, inputs, recipes, monkeypatch):
    out, _ = whole
    before = manifest.load(str(out / "model.json"), "model")
    monkeypatch.setattr(job, "train", None)  # would fail if it were called
    job.run(config_of(inputs, out, model=str(out / "again.json")))
    assert manifest.load(str(out / "again.json"), "model").digest == before.digest
    with pytest.raises(TypeError):
        job.run(config_of(inputs, out, seed=1, model=str(out / "other.json")))


@pytest.mark.slow
@pytest.mark.parametrize("num_checkpoints", [1, 6])  # in the middle of an epoch
def test_a_stopped_run_resumes_to_the_same_bits(whole, inputs, tmp_path, recipes, num_checkpoints):
    config = config_of(inputs, tmp_path, checkpoint_minutes=0.0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, num_checkpoints)
        job.run(config)
    assert not (tmp_path / "model.json").exists()
    job.run(config)
    assert digest(tmp_path) == digest(whole[0])
    assert len(manifest.load(str(tmp_path / "model.json"), "model").info["timings"]) == 3


def damage(path, kind):
    data = bytearray(path.read_bytes())
    if kind == "bytes":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif kind == "cut":
        path.write_bytes(data[:100])
    elif kind == "gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("{")


@pytest.mark.parametrize("kind", ["bytes", "cut", "gone", "record"])
def test_a_damaged_checkpoint_is_passed_over_loudly(tmp_path, capfd, kind):
    checkpoints = Checkpoints(str(tmp_path), "key", runlog.RunLog("train"))
    for step in (1, 2, 3):
        checkpoints.save(step, {"a": np.full(100, step, np.float32)}, {"step": step})
    assert checkpoints.names() == ["step-00000003", "step-00000002"]
    damage(tmp_path / "step-00000003.safetensors", kind)
    step, arrays, state = checkpoints.load()
    assert (step, arrays["a"][0], state) == (2, 2, {"step": 2})
    assert "step-00000003 is damaged" in capfd.readouterr().err
    checkpoints.save(3, {"a": np.full(100, 3, np.float32)}, {"step": 3})  # the damaged one is in nobody's way
    assert checkpoints.load()[0] == 3


def test_a_checkpoint_that_reads_back_as_other_bytes_is_not_committed(tmp_path, monkeypatch):
    checkpoints = Checkpoints(str(tmp_path), "key", runlog.RunLog("train"))
    checkpoints.save(1, {"a": np.full(100, 1, np.float32)}, {})
    create = storage.create

    @contextlib.contextmanager
    def create_on_a_bad_disk(uri):
        with create(uri) as file:
            yield file
        damage(storage.local_path(uri), "bytes")

    monkeypatch.setattr(storage, "create", create_on_a_bad_disk)
    with pytest.raises(errors.StorageError, match=r"step-00000002\.safetensors: reads back as other bytes"):
        checkpoints.save(2, {"a": np.full(100, 2, np.float32)}, {})
    assert checkpoints.load()[0] == 1


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(whole, inputs, tmp_path, recipes, capfd):
    config = config_of(inputs, tmp_path, checkpoint_minutes=0.0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 5)
        job.run(config)
    damage(next((tmp_path / "root" / "train").glob("*/checkpoints/step-00000005.safetensors")), "bytes")
    capfd.readouterr()
    job.run(config)
    assert '"resuming from a checkpoint", "step": 4' in capfd.readouterr().err
    assert digest(tmp_path) == digest(whole[0])


def test_no_whole_checkpoint_is_an_error(tmp_path):
    checkpoints = Checkpoints(str(tmp_path), "key", runlog.RunLog("train"))
    assert checkpoints.load() is None
    checkpoints.save(3, {"a": np.ones(4, np.float32)}, {"x": 1})
    step, arrays, state = checkpoints.load()
    assert (step, state, arrays["a"].tolist()) == (3, {"x": 1}, [1, 1, 1, 1])
    with pytest.raises(DataError, match="none of the 1 checkpoints is whole"):
        Checkpoints(str(tmp_path), "another", runlog.RunLog("train")).load()
    (tmp_path / "step-00000004.safetensors").write_bytes(b"left by a killed run")
    assert checkpoints.load()[0] == 3
    checkpoints.save(4, {"a": np.zeros(4, np.float32)}, {})
    assert checkpoints.load()[0] == 4


@pytest.mark.slow
def test_divergence_stops_the_run_and_keeps_the_checkpoint(inputs, tmp_path, recipes):
    calm, wild = TINY.phases[0], replace(TINY.phases[0], first_epoch=2, learning_rate=1e25, bias_learning_rate=1e25)
    recipes(phases=(calm, wild))
    with pytest.raises(
        AlexNetError,
        match=r"diverged: expected finite numbers, got nan or inf at step \d+ of epoch 2, learning rate 1e\+25",
    ) as caught:
        job.run(config_of(inputs, tmp_path, checkpoint_minutes=0.0))
    assert caught.value.exit_code == 1
    assert "lower learning rate" in str(caught.value)
    folder = next((tmp_path / "root" / "train").glob("*/checkpoints"))
    newest = safetensors.numpy.load_file(max(folder.glob("*.safetensors")))
    assert all(np.all(np.isfinite(value)) for value in newest.values())
    assert not (tmp_path / "model.json").exists()


def test_a_stuck_run_is_stopped_but_a_slow_one_is_not():
    def state(losses, step=5000):
        return State(step=step, history=[{"train_loss": loss} for loss in losses])

    silent = math.log(1000)
    with pytest.raises(AlexNetError, match="training is stuck"):
        check_stuck(state([silent + 0.01] * 12), 1000)
    check_stuck(state([silent] * 9), 1000)
    check_stuck(state([silent] * 12, step=1999), 1000)
    check_stuck(state([silent] * 11 + [silent - 0.03]), 1000)


@pytest.mark.slow
def test_sigterm_finishes_the_step_saves_and_exits_75(inputs, tmp_path, recipes, monkeypatch, whole):
    read, sent = TrainingBatches.read, []

    def read_and_terminate(self, step):
        if step == 6 and not sent:
            sent.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, step)

    monkeypatch.setattr(TrainingBatches, "read", read_and_terminate)
    before = signal.getsignal(signal.SIGTERM)
    config = config_of(inputs, tmp_path)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM after step \d+ of 12, which is saved") as caught:
        job.run(config)
    assert caught.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is before
    job.run(config)
    assert digest(tmp_path) == digest(whole[0])


@pytest.mark.slow
def test_sigterm_during_validation_saves_and_the_next_run_validates(inputs, tmp_path, recipes, monkeypatch, whole):
    read, sent = CenterBatches.read, []

    def read_and_terminate(self, step):
        if not sent:
            sent.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
        return read(self, step)

    monkeypatch.setattr(loop, "VALIDATION_BATCH", 4)
    monkeypatch.setattr(CenterBatches, "read", read_and_terminate)
    config = config_of(inputs, tmp_path)
    with pytest.raises(Interrupted, match="after step 4 of 12, which is saved"):
        job.run(config)
    job.run(config)
    models = [manifest.load(str(out / "model.json"), "model") for out in (whole[0], tmp_path)]
    assert models[0].files["weights.safetensors"] == models[1].files["weights.safetensors"]
    histories = [model.stage("history.jsonl").read_text().splitlines() for model in models]
    for expected, found in zip(*histories, strict=True):
        assert json.loads(found) == pytest.approx(json.loads(expected))


@pytest.mark.slow
def test_more_gpus_than_there_are(inputs, tmp_path):
    with pytest.raises(UsageError, match="--gpus: asked for 64, found"):
        job.run(config_of(inputs, tmp_path, gpus=64))


def test_statistics_of_another_dataset(inputs, tmp_path):
    write_inputs(tmp_path / "other", 4, 3)
    with pytest.raises(DataError, match="expected statistics of dataset"):
        job.run(config_of(inputs, tmp_path, statistics=str(tmp_path / "other" / "statistics.json")))


def test_an_empty_class(tmp_path):
    dataset = write_dataset(tmp_path, {"train": [[example(0, 1), example(2, 2)]], "validation": [[example(0, 3)]]})
    write_statistics(tmp_path, dataset)
    with pytest.raises(
        DataError, match=r"expected training images of all 3 classes, got none of 1: n00000001 \(label 1\)"
    ):
        job.run(config_of(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("mean", "found"),
    [
        (np.zeros((224, 224, 3), np.float32), "float32 (224, 224, 3) of 0.0 to 0.0"),
        (np.zeros((256, 256, 3), np.float64), "float64 (256, 256, 3)"),
        (np.full((256, 256, 3), -1, np.float32), "of -1.0 to -1.0"),
        (np.full((256, 256, 3), np.nan, np.float32), "of nan to nan"),
    ],
)
def test_a_mean_image_that_is_none(tmp_path, mean, found):
    with storage.create(str(tmp_path / "mean_image.npy")) as file:
        np.save(file, mean)
    files = {"mean_image.npy": manifest.file_entry(tmp_path / "mean_image.npy")}
    with pytest.raises(DataError, match=f"expected float32 \\(256, 256, 3\\) of 0 to 255, got .*{re.escape(found)}"):
        job.load_mean_image(manifest.Manifest("statistics", str(tmp_path), files, {}))


def flags_of(config):
    return [sys.executable, "-m", "components.train"] + [
        part
        for name in (
            "dataset",
            "statistics",
            "root_uri",
            "recipe",
            "model",
            "metrics",
            "report",
            "num_epochs",
            "checkpoint_minutes",
        )
        for part in (f"--{name.replace('_', '-')}", str(getattr(config, name)))
    ]


def wait_for_checkpoint(root, step, process):
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline:
        steps = [int(path.stem.split("-")[1]) for path in root.glob("train/*/checkpoints/step-*.json")]
        if steps and max(steps) >= step:
            return
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint of step {step} in half an hour")


@pytest.mark.slow
def test_the_command_survives_sigkill_and_sigterm(inputs, tmp_path, request):
    """Three processes share one run of the real recipe: one killed, one terminated, one that ends it."""
    environment = {**os.environ, "ALEXNET_LOG": "json"}
    settings = {"cwd": request.config.rootpath, "env": environment, "stderr": subprocess.PIPE, "text": True}
    whole = config_of(inputs, tmp_path / "whole", num_epochs=12)
    done = subprocess.run(flags_of(whole), **settings)
    assert done.returncode == errors.OK, done.stderr[-3000:]
    config = config_of(inputs, tmp_path / "parts", num_epochs=12, checkpoint_minutes=0.0)
    for number, step, code in ((signal.SIGKILL, 2, -signal.SIGKILL), (signal.SIGTERM, 4, errors.Interrupted.exit_code)):
        with subprocess.Popen(flags_of(config), **settings) as process:
            wait_for_checkpoint(tmp_path / "parts" / "root", step, process)
            process.send_signal(number)
            _, log = process.communicate()
            assert process.returncode == code, log[-3000:]
    done = subprocess.run(flags_of(config), **settings)
    assert done.returncode == errors.OK, done.stderr[-3000:]
    assert "resuming from a checkpoint" in done.stderr
    models = [manifest.load(str(tmp_path / name / "model.json"), "model") for name in ("whole", "parts")]
    assert models[0].files == models[1].files
    assert models[0].digest == models[1].digest


@pytest.mark.slow
def test_alexnet_2012_takes_steps(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "alexnet-2012", replace(RECIPES["alexnet-2012"], batch_size=8))
    write_inputs(tmp_path / "inputs", 16, 3)
    metadata = job.run(config_of(tmp_path / "inputs", tmp_path, recipe="alexnet-2012", num_epochs=1))
    assert metadata["metrics"]["num_steps"] == 2
    assert metadata["metrics"]["num_parameters"] == 60965224 - 997 * 4097
    assert math.isfinite(metadata["metrics"]["train_loss"])
