"""The whole component on a tiny dataset: counts, determinism, reuse."""

import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_artifacts
import tiny_networks
from kfp.dsl import ClassificationMetrics
from safetensors.numpy import load_file
from tiny_artifacts import OUTPUTS, configure

from components.evaluate import job, metrics, predictions
from components.evaluate.contract import Evaluate
from components.evaluate.data import read_batches
from components.evaluate.network import Network
from components.evaluate.report.evaluation import measure
from components.shared import errors, manifest
from components.shared.contract import fields


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return tiny_artifacts.make_all(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def finished(artifacts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, job.run(configure(artifacts, folder))


def load_predictions(folder):
    made = manifest.load(str(folder / "predictions.json"), "predictions")
    return made, predictions.decode(made.stage("predictions.npz"))


@pytest.mark.slow
def test_every_image_is_counted_once_in_order(finished):
    made, found = load_predictions(finished[0])
    expected = [f"ILSVRC2010_test_{i + 1:08d}.JPEG" for i in range(tiny_artifacts.NUM_IMAGES)]
    assert found.filenames.tolist() == expected
    assert made.content["num_examples"] == tiny_artifacts.NUM_IMAGES
    assert found.ten_crop.labels.shape == found.center.probabilities.shape == (tiny_artifacts.NUM_IMAGES, 5)


@pytest.mark.slow
def test_metrics_are_counts_over_the_examples(finished):
    folder, metadata = finished
    _, found = load_predictions(folder)
    written = json.loads((folder / "metrics.json").read_text())
    assert written == metadata["metrics"]
    wrong = sum(int(best[0]) != label for best, label in zip(found.center.labels, found.labels, strict=True))
    assert written["num_top1_errors_center"] == wrong
    assert written["top1_error_center"] == wrong / tiny_artifacts.NUM_IMAGES
    assert {"top1_error", "top5_error", "nll", "num_examples", "num_classes", "images_per_second"} <= written.keys()
    assert all(np.isfinite(value) for value in written.values())


@pytest.mark.slow
def test_confusion_is_what_the_kfp_sdk_logs(finished):
    folder, metadata = finished
    found = metadata["confusion"]["confusionMatrix"]
    names = [entry["displayName"] for entry in found["annotationSpecs"]]
    assert names == ["crane (n00000000)", "kite", "crane (n00000002)", "rose & thorn <red>", "coal", "snow"]
    artifact = ClassificationMetrics()
    artifact.log_confusion_matrix(names, [entry["row"] for entry in found["rows"]])
    assert artifact.metadata == metadata["confusion"]
    assert json.loads((folder / "confusion.json").read_text()) == metadata["confusion"]
    assert sum(sum(entry["row"]) for entry in found["rows"]) == tiny_artifacts.NUM_IMAGES


@pytest.mark.slow
def test_two_roots_give_the_same_bytes(artifacts, finished, tmp_path):
    job.run(configure(artifacts, tmp_path))
    first, second = (load_predictions(folder)[0] for folder in (finished[0], tmp_path))
    assert first.digest == second.digest
    assert first.base_uri != second.base_uri


@pytest.mark.slow
def test_batch_size_changes_no_label(artifacts, finished, tmp_path):
    job.run(configure(artifacts, tmp_path, batch_size=7))
    _, first = load_predictions(finished[0])
    _, second = load_predictions(tmp_path)
    for a, b in ((first.ten_crop, second.ten_crop), (first.center, second.center)):
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_allclose(a.probabilities, b.probabilities, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_second_run_takes_the_kept_predictions(artifacts, finished, capfd):
    folder, metadata = finished
    again = job.run(configure(artifacts, folder))
    assert "found finished" in capfd.readouterr().err
    assert again == metadata


@pytest.mark.slow
def test_kept_predictions_are_verified(artifacts, finished, tmp_path):
    shutil.copytree(finished[0] / "root", tmp_path / "root")
    (kept,) = (tmp_path / "root" / "evaluate").iterdir()
    content = bytearray((kept / "predictions.npz").read_bytes())
    content[300] ^= 1
    (kept / "predictions.npz").write_bytes(content)
    with pytest.raises(errors.DataError, match="sha256 differs"):
        job.run(configure(artifacts, tmp_path))


@pytest.mark.slow
def test_predictions_equal_one_view_at_a_time(artifacts, finished):
    """The ten views are averaged as probabilities, with the centre of the mean image taken off each of them."""
    _, found = load_predictions(finished[0])
    model = manifest.load(artifacts["model"], "model")
    dataset = manifest.load(artifacts["dataset"], "dataset")
    weights = load_file(model.stage("weights.safetensors"))
    network = Network(model.content["network"], weights)
    image = next(read_batches(dataset, "test", 1))[0][0]
    mean = weights["mean_image"][16:240, 16:240]
    starts = ((0, 0), (0, 32), (16, 16), (32, 0), (32, 32))
    views = [image[y : y + 224, x : x + 224] for y, x in starts]
    views += [view[:, ::-1] for view in views]
    logits = np.concatenate([network((view.astype(np.float32) - mean)[None])[0].numpy() for view in views])
    shares = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True)
    for ranking, expected in ((found.ten_crop, shares.mean(axis=0)), (found.center, shares[2])):
        assert ranking.labels[0].tolist() == np.argsort(-expected)[:5].tolist()
        np.testing.assert_allclose(ranking.probabilities[0], np.sort(expected)[::-1][:5], rtol=1e-4, atol=1e-7)
        assert ranking.true_probability[0] == pytest.approx(expected[found.labels[0]], rel=1e-4)


@pytest.mark.slow
def test_equal_predictions_give_equal_bytes_and_read_back(finished):
    _, found = load_predictions(finished[0])
    assert predictions.encode(found) == predictions.encode(dataclasses.replace(found))
    ranking = metrics.rank(np.array([[0.2, 0.5, 0.3]]), np.array([2]))
    short = predictions.Predictions(np.array([2], np.int32), np.array(["é.JPEG"]), ranking, ranking)
    path = finished[0] / "short.npz"
    path.write_bytes(predictions.encode(short))
    with zipfile.ZipFile(path) as archive:  # no clock in the file
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    read = predictions.decode(path)
    assert read.filenames.tolist() == ["é.JPEG"]
    assert read.center.labels.tolist() == [[1, 2, 0]]
    assert measure(read, 3)["top5_error"] == 0.0


@pytest.mark.slow
def test_shared_tie_credit_is_told_where_it_differs():
    ranking = metrics.rank(np.full((4, 8), 0.125), np.array([0, 1, 2, 3]))
    numbers = measure(predictions.Predictions(np.arange(4), np.array(["x"] * 4), ranking, ranking), 8)
    assert numbers["top1_error"] == 0.75
    assert numbers["top1_error_2012_ties"] == 0.875
    assert numbers["top5_error_2012_ties"] == 0.375


@pytest.mark.slow
def test_command_line_alone(artifacts, tmp_path):
    config = configure(artifacts, tmp_path)
    flags = [part for f in fields(Evaluate) for part in (f.flag, f.render(getattr(config, f.name)))]
    outputs = {name: {"artifacts": [{"name": name, "uri": str(tmp_path / file)}]} for name, file in OUTPUTS.items()}
    executor = {"outputs": {"artifacts": outputs, "outputFile": str(tmp_path / "executor_output.json")}}
    command = [sys.executable, "-m", "components.evaluate", *flags, "--executor-input", json.dumps(executor)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / file).stat().st_size for file in OUTPUTS.values())
    written = json.loads((tmp_path / "executor_output.json").read_text())["artifacts"]
    assert written["metrics"]["artifacts"][0]["metadata"]["num_examples"] == tiny_artifacts.NUM_IMAGES
    assert len(written["confusion"]["artifacts"][0]["metadata"]["confusionMatrix"]["rows"]) == tiny_networks.NUM_CLASSES
