"""The two towers on two devices: the same numbers as one device, and what is copied between the two."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from tiny_dataset import NUM_CLASSES, tiny, write_inputs

from components.shared import runlog, storage
from components.shared.errors import UsageError
from components.shared.keyed import KeyedFolder
from components.train import job
from components.train.contract import Train
from components.train.net import network, towers
from components.train.net.model import AlexNet
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.known import RECIPES
from components.train.run.checkpoint import Checkpoints

# CPU:0 is the host, the other two hold a tower each.
TWO_DEVICES = """
import sys; sys.path[:0] = [sys.argv[1]]
import json
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 3)
from tensorflow.python.eager import context
from tiny_dataset import tiny
from components.train.net import network, towers
from components.train.net.model import AlexNet
from components.train.net.optimizer import PaperSGD
from components.train.net.placement import OneDevice
from components.train.run.step import cross_entropy, make_train_step, make_validation_step
from components.train.recipes.switches import SWITCHES

DEVICES = ("/device:CPU:1", "/device:CPU:2")
MEAN = np.full((224, 224, 3), 120, np.float32)
RATES = np.array([1e-3, 1e-3, 1e-3, 1e-3], np.float32)
recipe = tiny()
layers = network.build(recipe, 3)

def make(parallel, layers=layers, recipe=recipe):
    model = AlexNet(layers, recipe, 0)
    return towers.TwoDevices(model, DEVICES) if parallel else OneDevice(model)

def batch_of(size):
    rng = np.random.default_rng(size)
    batch = {
        "crops": rng.integers(0, 256, (size, 224, 224, 3)).astype(np.uint8), "flips": rng.random(size) < 0.5,
        "noise": rng.normal(0, 7, (size, 3)).astype(np.float32), "labels": rng.integers(0, 3, size).astype(np.int32),
        "fc6_dropout": rng.random((size, 8)) < 0.5, "fc7_dropout": rng.random((size, 8)) < 0.5}
    return {name: tf.constant(value) for name, value in batch.items()}

def logits_and_gradients(model, batch):
    parameters = model.parameters()
    @tf.function
    def compute():
        images = model.prepare(lambda: tf.cast(batch["crops"], tf.float32) - MEAN)
        masks = {name: batch[name] for name in ("fc6_dropout", "fc7_dropout")}
        def loss():
            logits = model(images, masks)
            return tf.reduce_mean(cross_entropy(batch["labels"], logits)), logits
        return model.gradients(loss, [variable.value for variable in parameters.values()])
    _, logits, gradients = compute()
    named = dict(zip(parameters, (tf.Variable(gradient) for gradient in gradients), strict=True))
    return logits.numpy(), model.export(named)

def train(model):
    optimizer = PaperSGD(model.parameters(), recipe)
    step = make_train_step(model, optimizer, MEAN, tf.distribute.get_strategy())
    trace = [step(batch_of(size), RATES, 1.1) for size in (8, 7) * 5]
    validation = make_validation_step(model, MEAN)({name: batch_of(8)[name] for name in ("crops", "labels")})
    return trace, validation, model.export(optimizer.parameters), model.export(optimizer.velocities), optimizer

def copies(function):
    context.context().enable_run_metadata()
    function()
    metadata = context.context().export_run_metadata()
    context.context().disable_run_metadata()
    found = []  # of each copy: whence, whither, what
    for graph in (graph for call in metadata.function_graphs for graph in call.partition_graphs):
        for node in graph.node:
            if node.op == "_Recv":
                ends = [node.attr[end].s.decode().rsplit(":", 1)[1] for end in ("send_device", "recv_device")]
                found.append((*map(int, ends), node.attr["tensor_name"].s.decode()))
    return [copy for copy in found if 0 not in copy[:2]]

def step_of(model):
    step = make_train_step(model, PaperSGD(model.parameters(), recipe), MEAN, tf.distribute.get_strategy())
    return lambda: step(batch_of(8), RATES, 1.1)

one, two = make(False), make(True)
result = {"names": {n: list(v.shape) for n, v in two.export(two.parameters()).items()},
          "homes": {n: v.value.device[-5:] for n, v in two.parameters().items()}}
for name, value in one.parameters().items():
    np.testing.assert_array_equal(two.export(two.parameters())[name], value.numpy(), err_msg=name)
(logits, gradients), (logits2, gradients2) = (logits_and_gradients(model, batch_of(8)) for model in (one, two))
np.testing.assert_allclose(logits2, logits, rtol=1e-5)
assert set(gradients) == set(gradients2)
for name, value in gradients.items():
    np.testing.assert_allclose(gradients2[name], value, rtol=1e-4, atol=1e-6 * np.abs(value).max(), err_msg=name)
before = one.export(one.parameters())
trained, trained2 = train(one), train(two)
np.testing.assert_allclose(trained2[0], trained[0], rtol=1e-5)
np.testing.assert_allclose(trained2[1], trained[1], rtol=1e-5)
for kind in (2, 3):
    for name, value in trained[kind].items():
        np.testing.assert_allclose(trained2[kind][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
result["moved"] = max(float(np.abs(trained[2][name] - before[name]).max()) for name in before)
for name, variable in two.parameters().items():
    assert trained2[4].velocities[name].value.device == variable.value.device, name

images = tf.zeros((2, 224, 224, 3))
result["forward"] = copies(tf.function(lambda: two(two.prepare(lambda: images + 1))))
result["training"] = copies(step_of(two))
swapped = make(True)
for layer in swapped.placed:
    if layer["name"] in ("conv4a", "conv4b"):
        layer["tower"] = {"a": "b", "b": "a"}[layer["tower"]]
result["swapped"] = copies(tf.function(lambda: swapped(swapped.prepare(lambda: images + 1))))
longer = SWITCHES["conv6"][0](recipe)
longer_layers = network.build(longer, 3)
whole, halves = (make(parallel, longer_layers, longer) for parallel in (False, True))
np.testing.assert_allclose(halves(halves.prepare(lambda: images + 1)), whole(images + 1), rtol=1e-5)
result["conv6"] = copies(tf.function(lambda: halves(halves.prepare(lambda: images + 1))))
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def two_devices(request):
    command = [sys.executable, "-c", TWO_DEVICES, str(request.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=request.config.rootpath)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_logits_gradients_and_ten_steps_are_those_of_one_device(two_devices):
    """The comparison itself is in the other process, which ends with an error when they differ."""
    assert two_devices["moved"] > 1e-4
    whole = AlexNet(network.build(tiny(), NUM_CLASSES), tiny(), 0)
    assert two_devices["names"] == {name: list(v.shape) for name, v in whole.parameters().items()}


@pytest.mark.slow
def test_each_parameter_is_on_the_device_of_its_tower(two_devices):
    homes = two_devices["homes"]
    assert {homes[name] for name in homes if name.split("/")[0].endswith("a")} == {"CPU:1"}
    assert {homes[name] for name in homes if name.split("/")[0].endswith("b")} == {"CPU:2"}
    assert {name for name in homes if name.split("/")[0][-1] not in "ab"} == {"fc8/kernel", "fc8/bias"}


@pytest.mark.slow
def test_devices_exchange_halves_at_conv3_and_the_dense_layers_only(two_devices):
    """Counts the receiving ends in the graphs that ran: each half of what conv3, fc6, fc7 and fc8 read, once."""
    a_to_b, b_to_a = [1, 2], [2, 1]
    forward = [copy[:2] for copy in two_devices["forward"]]
    # conv3, fc6 and fc7 are on both devices and need the other's half; fc8 is on the first.
    assert (forward.count(a_to_b), forward.count(b_to_a)) == (3, 4), two_devices["forward"]
    # A sixth convolution sees both towers too.
    longer = [copy[:2] for copy in two_devices["conv6"]]
    assert (longer.count(a_to_b), longer.count(b_to_a)) == (4, 5), two_devices["conv6"]
    training = [copy[:2] for copy in two_devices["training"]]
    # A half that went forward comes back as its gradient; the update copies nothing.
    assert (training.count(a_to_b), training.count(b_to_a)) == (7, 7), two_devices["training"]
    # A control: with conv4 on the wrong devices, its inputs and kernels would be copied as well.
    assert len(two_devices["swapped"]) > len(forward), two_devices["swapped"]


def test_only_two_equal_towers_on_two_gpus():
    towers.check(ALEXNET_2012, 2)
    for recipe, gpus, message in (
        (ALEXNET_2012, 1, "expected --gpus 2, a GPU for each tower, got 1. Use --parallel data"),
        (replace(ALEXNET_2012, towers=1), 2, "got alexnet-2012 with 1 tower. Use --parallel data"),
        (tiny(denses=tuple(replace(dense, units=7) for dense in tiny().denses)), 2, "dense layers of"),
    ):
        with pytest.raises(UsageError, match=message):
            towers.check(recipe, gpus)


def config_of(folder, parallel="data"):
    return Train(
        dataset=str(folder / "dataset.json"),
        statistics=str(folder / "statistics.json"),
        root_uri=str(folder / "root"),
        recipe="smoke",
        gpus=2 if parallel == "towers" else 0,
        parallel=parallel,
        checkpoint_minutes=0.0,
        model=str(folder / "model.json"),
        metrics=str(folder / "metrics.json"),
        report=str(folder / "report.html"),
    )


def test_towers_without_gpus_are_refused_first(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "smoke", tiny(name="smoke"))
    with pytest.raises(UsageError, match="expected --gpus 2"):
        job.run(replace(config_of(tmp_path, "towers"), gpus=0))


@pytest.mark.slow
def test_a_run_goes_on_with_towers_and_back(tmp_path, monkeypatch):
    """Both towers are on the CPU here: what is tested is that a checkpoint is the same whoever wrote it."""
    monkeypatch.setattr(towers, "DEVICES", ("/device:CPU:0", "/device:CPU:0"))
    dataset, statistics = write_inputs(tmp_path)
    log, save = runlog.RunLog("train"), Checkpoints.save

    def run(name, parallel, stop_at=0):
        def stopping(self, step, arrays, state):
            save(self, step, arrays, state)
            if step == stop_at:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoints, "save", stopping)
        folder = KeyedFolder("model", str(tmp_path / "root" / name))
        checkpoints = Checkpoints(f"{folder.uri}/checkpoints", folder.key, log)
        config = config_of(tmp_path, parallel)
        return job.train_and_publish(config, tiny(), 3, dataset, statistics, folder, checkpoints, {}, log)

    whole = run("whole", "data")
    for stop_at, parallel in ((2, "data"), (6, "towers")):  # then data again to the end
        with pytest.raises(KeyboardInterrupt):
            run("parts", parallel, stop_at)
    saved = sorted(entry.name for entry in storage.list_files(str(tmp_path / "root" / "parts" / "checkpoints")))
    assert saved[-1] == "step-00000006.safetensors"
    runs = [whole, run("parts", "data"), run("towers", "towers")]
    weights = [safetensors.numpy.load_file(model.stage("weights.safetensors")) for model in runs]
    for other in weights[1:]:
        assert set(other) == set(weights[0])
        for name, value in weights[0].items():
            np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert runs[1].content == runs[2].content == whole.content
