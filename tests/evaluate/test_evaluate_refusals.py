"""What evaluate refuses: artifacts that do not belong together, changed files, foreign records, diverged networks."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
import tiny_artifacts
import tiny_networks
from PIL import Image
from tiny_artifacts import configure

from components.evaluate import job, predictions
from components.evaluate.data import read_batches
from components.evaluate.network import Network
from components.shared import errors, manifest, records
from components.shared.runlog import RunLog


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return tiny_artifacts.make_all(tmp_path_factory.mktemp("artifacts"))


def member(name="first.json", scale=1.0):
    weights = tiny_networks.random_weights(tiny_networks.NETWORK)
    for layer in ("conv1a", "fc7", "fc8"):
        weights[f"{layer}/kernel"] *= np.float32(scale)
    network = Network(tiny_networks.NETWORK, weights)
    return predictions.Member(name, network, np.zeros((256, 256, 3), np.float32))


def rewrite(artifacts, folder, name, **changes):
    """Publish a manifest with another content, whole and with its own digest."""
    loaded = manifest.load(artifacts[name], name)
    changed = dataclasses.replace(loaded, content={**loaded.content, **changes})
    manifest.save(changed, str(folder / f"other-{name}.json"))
    return {**artifacts, name: str(folder / f"other-{name}.json")}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dataset", {"seed": 1}, "statistics.json: made from dataset"),
        ("model", {"dataset_digest": "0" * 64}, "other-model.json: made from dataset 0000"),
        ("model", {"statistics_digest": "1" * 64}, "trained with statistics 1111"),
        ("model", {"classes": []}, "its 6 outputs are not the 6 classes"),
        ("model", {"network": tiny_networks.NETWORK[:-1]}, "its 16 outputs are not the 6 classes"),
    ],
)
def test_artifacts_must_belong_together(artifacts, tmp_path, name, changes, message):
    with pytest.raises(errors.DataError, match=message):
        job.run(configure(rewrite(artifacts, tmp_path, name, **changes), tmp_path))
    assert not (tmp_path / "predictions.json").exists()


def test_refusals(artifacts, tmp_path):
    with pytest.raises(errors.StorageError, match=r"nowhere\.json"):
        job.run(configure({**artifacts, "model": str(tmp_path / "nowhere.json")}, tmp_path))
    with pytest.raises(errors.DataError, match="expected a model manifest"):
        job.run(configure({**artifacts, "model": artifacts["dataset"]}, tmp_path))
    with pytest.raises(errors.DataError, match="validation split is empty"):
        job.run(configure(artifacts, tmp_path, split="validation"))
    with pytest.raises(errors.UsageError, match="expected 1 GPU"):
        job.choose_device(1)
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StorageError):
        job.run(configure(artifacts, tmp_path, root_uri=str(tmp_path / "file" / "root")))


def copy_with(artifacts, folder, name, file, change):
    """Copy an artifact with one of its files changed behind the manifest's back."""
    loaded = manifest.load(artifacts[name], name)
    shutil.copytree(loaded.base_uri, folder / "copy")
    path = folder / "copy" / file
    path.write_bytes(change(path.read_bytes()))
    manifest.save(dataclasses.replace(loaded, base_uri=str(folder / "copy")), str(folder / "copy.json"))
    return {**artifacts, name: str(folder / "copy.json")}


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("model", "weights.safetensors", lambda b: b[:-1] + bytes([b[-1] ^ 1]), "sha256 differs"),
        ("model", "weights.safetensors", lambda b: b[:-9], "expected .* bytes"),
        ("dataset", "test-00001-of-00003.tfrecord", lambda b: b[:-1] + bytes([b[-1] ^ 1]), "sha256 differs"),
    ],
)
def test_changed_files_are_refused(artifacts, tmp_path, name, file, change, message):
    with pytest.raises(errors.DataError, match=message):
        job.run(configure(copy_with(artifacts, tmp_path, name, file, change), tmp_path))


def test_missing_weights_file(artifacts, tmp_path):
    changed = copy_with(artifacts, tmp_path, "model", "weights.safetensors", lambda b: b)
    (tmp_path / "copy" / "weights.safetensors").unlink()
    with pytest.raises(errors.StorageError, match=r"weights\.safetensors: not found"):
        job.run(configure(changed, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {**c, "num_examples": 99}, "expected 99 test images, got 23"),
        (lambda c: {**c, "shards": c["shards"][:2]}, "expected 23 test images, got 17"),
    ],
)
@pytest.mark.slow
def test_miscounted_dataset(artifacts, tmp_path, change, message):
    dataset = manifest.load(artifacts["dataset"], "dataset")
    splits = {**dataset.content["splits"], "test": change(dataset.content["splits"]["test"])}
    dataset = dataclasses.replace(dataset, content={**dataset.content, "splits": splits})
    with pytest.raises(errors.DataError, match=message):
        predictions.predict([member()], dataset, "test", 8, RunLog("evaluate"))


@pytest.mark.parametrize(
    ("label", "size", "message"),
    [
        (
            2,
            (100, 256),
            r"read: Shape of tensor .*\[256,100,3\] is not compatible with expected shape \[256,256,3\]\. Run",
        ),
        (6, (256, 256), "expected labels 0 to 5, got 6 to 6"),
    ],
)
def test_foreign_records(artifacts, tmp_path, label, size, message):
    with io.BytesIO() as file:
        Image.new("RGB", size).save(file, "JPEG")
        encoded = file.getvalue()
    features = {"image/encoded": encoded, "image/filename": b"x", "image/class/label": label}
    with io.BytesIO() as file:
        records.write_records(file, [records.encode_example(features)])
        (tmp_path / "shard").write_bytes(file.getvalue())
    dataset = manifest.load(artifacts["dataset"], "dataset")
    split = {"shards": [{"name": "shard", "num_examples": 1}], "num_examples": 1}
    dataset = dataclasses.replace(
        dataset,
        base_uri=str(tmp_path),
        files={"shard": manifest.file_entry(tmp_path / "shard")},
        content={**dataset.content, "splits": {"test": split}},
    )
    with pytest.raises(errors.DataError, match=message):
        list(read_batches(dataset, "test", 4))


@pytest.mark.slow
def test_diverged_network_is_refused(artifacts):
    dataset = manifest.load(artifacts["dataset"], "dataset")
    networks = [member(), member(name="second.json", scale=1e30)]
    with pytest.raises(errors.DataError, match=r"second\.json, test images 0 to 8: the network gives NaN or infinity"):
        predictions.predict(networks, dataset, "test", 8, RunLog("evaluate"))
