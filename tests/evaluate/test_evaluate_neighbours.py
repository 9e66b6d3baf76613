"""Nearest training photographs: which are searched, what a feature is, and what near means."""

import dataclasses

import numpy as np
import pytest
import tiny_artifacts
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from components.evaluate import inputs, neighbours
from components.evaluate.data import decode
from components.evaluate.network import Network
from components.shared import manifest
from components.shared.runlog import RunLog


@pytest.fixture(scope="module")
def dataset_and_member(tmp_path_factory):
    paths = tiny_artifacts.make_all(tmp_path_factory.mktemp("neighbours"))
    model = manifest.load(paths["model"], "model")
    return manifest.load(paths["dataset"], "dataset"), model, inputs.load_member(paths["model"], model)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(derandomize=True, max_examples=50, deadline=None)
def test_nearest_is_a_sort_by_distance(num_rows, num_columns, seed):
    rng = np.random.default_rng(seed)
    features_ND = rng.integers(0, 3, (num_rows, num_columns)).astype(np.float32)  # with ties
    query_D = rng.integers(0, 3, num_columns).astype(np.float32)
    best, distances = neighbours.nearest(query_D, features_ND, 6)
    squares = [sum((float(a) - float(b)) ** 2 for a, b in zip(row, query_D, strict=True)) for row in features_ND]
    expected = sorted(range(num_rows), key=lambda i: (squares[i], i))[:6]
    assert best.tolist() == expected
    np.testing.assert_allclose(distances, [squares[i] ** 0.5 for i in expected])


def test_training_images_are_drawn_evenly_by_class(dataset_and_member, monkeypatch):
    dataset, *_ = dataset_and_member
    drawn, num_per_class = neighbours.draw_training_images(dataset)
    assert len(drawn) == tiny_artifacts.NUM_TRAIN * tiny_artifacts.NUM_CLASSES
    assert num_per_class == neighbours.MAX_PER_CLASS
    monkeypatch.setattr(neighbours, "MAX_IMAGES", 13)
    fewer, num_per_class = neighbours.draw_training_images(dataset)
    assert num_per_class == 2
    labels = [record["image/class/label"] for record in fewer]
    assert np.bincount(labels).tolist() == [2] * tiny_artifacts.NUM_CLASSES
    first_two = [
        r for i, r in enumerate(drawn) if [d["image/class/label"] for d in drawn[:i]].count(r["image/class/label"]) < 2
    ]
    assert fewer == first_two


def test_drawing_stops_when_every_class_is_full_or_enough_was_read(dataset_and_member, monkeypatch):
    dataset, *_ = dataset_and_member
    shards = dataset.content["splits"]["train"]["shards"]
    missing = [*shards, {"name": "not-there", "num_examples": 1}]
    splits = {**dataset.content["splits"], "train": {"shards": missing}}
    longer = dataclasses.replace(dataset, content={**dataset.content, "splits": splits})
    assert len(neighbours.draw_training_images(longer)[0]) == 18
    monkeypatch.setattr(neighbours, "MAX_SCANNED", 7)
    assert len(neighbours.draw_training_images(dataset)[0]) == 7


def test_queries_are_of_different_classes():
    labels = np.random.default_rng(0).integers(0, 9, 200)
    chosen = neighbours.draw_queries(labels)
    assert len({int(labels[i]) for i in chosen}) == len(chosen) == neighbours.NUM_QUERIES
    assert neighbours.draw_queries(labels) == chosen
    assert len(neighbours.draw_queries(np.array([3, 3, 1]))) == 2


def test_features_are_of_the_centre_crop_before_dropout(dataset_and_member):
    dataset, model, member = dataset_and_member
    drawn, _ = neighbours.draw_training_images(dataset)
    drawn = (drawn * 2)[: neighbours.BATCH_SIZE + 1]  # no multiple of a batch
    found = neighbours.compute_features(member, drawn, RunLog("evaluate"))
    weights = load_file(model.stage("weights.safetensors"))
    crops = [decode(record["image/encoded"]).numpy()[16:240, 16:240] for record in drawn]
    crops_NHWC = np.stack(crops).astype(np.float32) - weights["mean_image"][16:240, 16:240]
    up_to_fc7 = Network(model.content["network"], weights)
    _, expected = up_to_fc7(crops_NHWC)
    assert found.shape == (len(drawn), 16)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_photograph_is_nearest_to_itself(dataset_and_member):
    dataset, _, member = dataset_and_member
    splits = {**dataset.content["splits"], "test": dataset.content["splits"]["train"]}
    same = dataclasses.replace(dataset, content={**dataset.content, "splits": splits})
    drawn, _ = neighbours.draw_training_images(same)
    labels = np.array([record["image/class/label"] for record in drawn])
    found = neighbours.find(member, same, "test", labels, RunLog("evaluate"))
    assert len(found.queries) == neighbours.NUM_QUERIES
    assert (found.num_images, found.num_features) == (18, 16)
    for query in found.queries:
        assert query.nearest[0] == query.record
        assert query.distances[0] == pytest.approx(0, abs=1e-3)
        assert query.distances == sorted(query.distances)
        assert len(query.nearest) == neighbours.NUM_NEIGHBOURS


def test_without_training_images_there_is_nothing_to_find(dataset_and_member):
    dataset, _, member = dataset_and_member
    splits = {**dataset.content["splits"], "train": {"shards": []}}
    empty = dataclasses.replace(dataset, content={**dataset.content, "splits": splits})
    assert neighbours.find(member, empty, "test", np.zeros(3, np.int64), RunLog("evaluate")).queries == []
