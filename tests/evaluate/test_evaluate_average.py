"""Several networks: their probabilities averaged, each of them on its own, in whichever order they are given."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tiny_artifacts
from safetensors.numpy import load_file
from tiny_artifacts import NUM_IMAGES, configure

from components.evaluate import job, predictions
from components.evaluate.data import read_batches
from components.evaluate.metrics import num_errors
from components.evaluate.network import Network
from components.shared import errors, manifest


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """The artifacts, and the paths of three models."""
    return tiny_artifacts.make_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def finished(networks, tmp_path_factory):
    artifacts, models = networks
    folder = tmp_path_factory.mktemp("three")
    return folder, job.run(configure(artifacts, folder, models=models))


def load_predictions(folder):
    """The manifest, what the networks say together, and what each says."""
    made = manifest.load(str(folder / "predictions.json"), "predictions")
    names = predictions.file_names(made.content["model_digests"])
    together, *each = (predictions.decode(made.stage(name)) for name in names)
    return made, together, each


def view_probabilities(path, images_NHWC):
    """[N, 10, C] of one model, computed one view at a time and with NumPy behind the logits."""
    model = manifest.load(path, "model")
    weights = load_file(model.stage("weights.safetensors"))
    network = Network(model.content["network"], weights)
    mean_HWC = weights["mean_image"][16:240, 16:240]
    views = []
    for mirrored in (False, True):
        for y, x in ((0, 0), (0, 32), (16, 16), (32, 0), (32, 32)):
            view_NHWC = images_NHWC[:, y : y + 224, x : x + 224].astype(np.float32)
            logits_NC = network((view_NHWC[:, :, ::-1] if mirrored else view_NHWC) - mean_HWC)[0].numpy()
            powers_NC = np.exp(logits_NC.astype(np.float64) - logits_NC.max(axis=1, keepdims=True))
            views.append(powers_NC / powers_NC.sum(axis=1, keepdims=True))
    return np.stack(views, axis=1)


@pytest.mark.slow
def test_probabilities_are_averaged_over_crops_and_networks(networks, finished):
    artifacts, models = networks
    folder, metadata = finished
    _, found, _ = load_predictions(folder)
    images_NHWC, labels, _ = next(read_batches(manifest.load(artifacts["dataset"], "dataset"), "test", NUM_IMAGES))
    views_MNKC = np.stack([view_probabilities(path, images_NHWC) for path in models])
    for ranking, expected_NC in (
        (found.ten_crop, views_MNKC.mean(axis=(0, 2))),
        (found.center, views_MNKC[:, :, 2].mean(axis=0)),
    ):
        order_NC = np.argsort(-expected_NC, axis=1)[:, :5]
        np.testing.assert_array_equal(ranking.labels, order_NC)
        np.testing.assert_allclose(ranking.probabilities, np.take_along_axis(expected_NC, order_NC, 1), rtol=1e-4)
        np.testing.assert_allclose(ranking.true_probability, expected_NC[np.arange(len(labels)), labels], rtol=1e-4)
    best_NC = np.argsort(-views_MNKC.mean(axis=(0, 2)), axis=1)
    assert metadata["metrics"]["num_top1_errors"] == np.sum(best_NC[:, 0] != labels)
    assert metadata["metrics"]["num_top5_errors"] == np.sum((best_NC[:, :5] != labels[:, None]).all(axis=1))
    # The mean of the logits would give others.
    assert not np.allclose(np.log(views_MNKC).mean(axis=(0, 2)), np.log(views_MNKC.mean(axis=(0, 2))), rtol=1e-3)


@pytest.mark.slow
def test_each_network_gives_what_it_gives_alone(networks, finished, tmp_path):
    artifacts, models = networks
    made, _, each = load_predictions(finished[0])
    names = predictions.file_names(made.content["model_digests"])
    for name, path, single in zip(names[1:], models, each, strict=True):
        alone = job.run(configure(artifacts, tmp_path / name, models=(path,)))["metrics"]
        found, *_ = load_predictions(tmp_path / name)
        assert found.files["predictions.npz"] == made.files[name]
        assert list(found.files) == ["predictions.npz"]
        assert found.content["model_digests"] == [manifest.load(path, "model").digest]
        assert alone["num_networks"] == 1
        assert alone["top1_error_mean_single"] == alone["top1_error"]
        assert alone["num_top1_errors"] == num_errors(single.ten_crop, single.labels, 1)


@pytest.mark.slow
def test_metrics_tell_the_mean_of_the_single_networks(finished):
    folder, metadata = finished
    _, _, each = load_predictions(folder)
    written = metadata["metrics"]
    assert written == json.loads((folder / "metrics.json").read_text())
    assert written["num_networks"] == len(each) == 3
    assert written["num_examples"] == NUM_IMAGES
    for num_best in (1, 5):
        counts = [num_errors(single.ten_crop, single.labels, num_best) for single in each]
        assert written[f"top{num_best}_error_mean_single"] == pytest.approx(np.mean(counts) / NUM_IMAGES)
    assert len({num_errors(single.ten_crop, single.labels, 1) for single in each}) > 1


@pytest.mark.slow
def test_the_order_of_the_networks_changes_nothing(networks, finished, tmp_path, capfd):
    artifacts, models = networks
    folder, metadata = finished
    job.run(configure(artifacts, tmp_path, models=models[::-1]))
    first, second = (load_predictions(place)[0] for place in (folder, tmp_path))
    assert first.digest == second.digest
    assert first.base_uri.rsplit("/", 1)[1] == second.base_uri.rsplit("/", 1)[1]
    capfd.readouterr()
    again = tmp_path / "again"
    turned = (models[1], models[2], models[0])
    kept = job.run(configure(artifacts, again, models=turned, root_uri=str(folder / "root")))
    assert "found finished" in capfd.readouterr().err
    assert kept == metadata
    for name in ("report.html", "summary.md", "metrics.json", "confusion.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_progress_counts_every_image_of_every_network(networks, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("ALEXNET_LOG", "json")
    artifacts, models = networks
    job.run(configure(artifacts, tmp_path, models=models[:2]))
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    last = [line for line in lines if line["message"] == "progress" and line["unit"] == "images"][-1]
    assert last["done"] == last["total"] == 2 * NUM_IMAGES


@pytest.mark.slow
def test_the_same_network_twice_is_refused(networks, tmp_path):
    artifacts, models = networks
    shutil.copy(models[0], tmp_path / "copy.json")
    for twice in (str(tmp_path / "copy.json"), models[0]):
        with pytest.raises(errors.UsageError, match=r"are the same network, .* Give each once"):
            job.run(configure(artifacts, tmp_path, models=(models[0], models[1], twice)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_digest": "0" * 64}, "other.json: made from dataset 0000.* Give the dataset that the train step had"),
        ({"statistics_digest": "1" * 64}, "other.json: trained with statistics 1111.* Give the statistics"),
        ({"classes": []}, "other.json: its 6 outputs are not the 6 classes .* Train again"),
    ],
)
def test_networks_that_do_not_fit_are_refused_by_name(networks, tmp_path, changes, message):
    artifacts, models = networks
    loaded = manifest.load(models[1], "model")
    manifest.save(dataclasses.replace(loaded, content={**loaded.content, **changes}), str(tmp_path / "other.json"))
    with pytest.raises(errors.DataError, match=message):
        job.run(configure(artifacts, tmp_path, models=(models[0], str(tmp_path / "other.json"))))


@pytest.mark.slow
def test_weights_of_another_network_are_refused_by_name(networks, tmp_path):
    artifacts, models = networks
    loaded = manifest.load(models[1], "model")
    content = {**loaded.content, "network": manifest.load(models[2], "model").content["network"]}
    manifest.save(dataclasses.replace(loaded, content=content), str(tmp_path / "other.json"))
    with pytest.raises(errors.DataError, match=r"other\.json: weights\.safetensors: no tensor 'conv1/kernel'"):
        job.run(configure(artifacts, tmp_path, models=(models[0], str(tmp_path / "other.json"))))
