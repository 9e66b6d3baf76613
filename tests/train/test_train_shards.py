"""Shards as training reads them: what is damaged, changed, or does not come at all."""

import os
import signal
import threading

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_dataset import LOG, MASKS, NUM_CLASSES, PUBLISHED, draw_image, example, tiny, write_dataset, write_inputs

from components.shared import manifest, records
from components.shared.errors import DataError, StorageError
from components.train.input import loader
from components.train.input.draws import CenterBatches, TrainingBatches
from components.train.input.loader import iterate
from components.train.input.split import Split, jpeg_shape, read_index

SHARD = "train-00001-of-00002.tfrecord"


def batches_of(split, **changes):
    return TrainingBatches(split, tiny(**changes), PUBLISHED, 0, 1, MASKS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image": draw_image(0, 1)[:224]}, "expected a JPEG of 256x256 .*, got 224x256, 3 and 8"),
        (
            {"image/encoded": simplejpeg.encode_jpeg(draw_image(0, 1)[..., :1].copy(), colorspace="GRAY")},
            "expected a JPEG of .* 3 channels and 8 bits, got 256x256, 1 and 8",
        ),
        ({"image/encoded": b"GIF89a"}, "expected a JPEG of 256x256 pixels.*, got 0x0"),
    ],
)
def test_a_bad_image_is_named_when_it_is_read(tmp_path, changes, expected):
    shards = [[example(0, 1)], [example(1, 2), example(2, 3), example(0, 1, **changes)]]
    split = Split(write_dataset(tmp_path, {"train": shards}), "train", LOG)
    assert len(split.read(np.arange(3))) == 3
    with pytest.raises(DataError, match=rf"{SHARD}, record 2: .*{expected}"):
        split.read(np.arange(4))


GOOD = [(100, 10, 0, 1), (200, 10, 0, 2)]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (np.array([*GOOD[:1], (200, 10, 0, NUM_CLASSES)], records.INDEX_COLUMNS), "row 1: expected a label below 3"),
        (np.array([(100, 10, 0, -1), *GOOD[:1]], records.INDEX_COLUMNS), "row 0: expected a label below 3"),
        (np.array([*GOOD[:1], (10**9, 10, 0, 1)], records.INDEX_COLUMNS), "row 1: .* bytes inside the shard of"),
        (np.array([(-1, 10, 0, 1), *GOOD[:1]], records.INDEX_COLUMNS), "row 0: .* bytes inside the shard of"),
        (np.array([*GOOD, *GOOD], records.INDEX_COLUMNS), "expected 2 records, got 4"),
        (np.array([(1, 2), (3, 4)]), "expected .*offset.*, got int64"),
        (None, "not an array"),
    ],
)
def test_an_index_that_does_not_fit_is_named_before_the_first_step(tmp_path, index, expected):
    dataset = write_dataset(tmp_path, {"train": [[example(0, 1), example(1, 2)]]})
    name = records.index_name("train")
    path = tmp_path / "shards" / name
    if index is None:
        path.write_bytes(b"nothing")
    else:
        np.save(path, index)
    dataset.files[name] = manifest.file_entry(path)
    with pytest.raises(DataError, match=rf"{name}.*{expected}"):
        Split(dataset, "train", LOG)


@pytest.mark.slow
def test_a_jpeg_that_stops_early_is_named(tmp_path):
    broken = example(0, 1, **{"image/encoded": simplejpeg.encode_jpeg(draw_image(0, 1))[:2000]})
    split = Split(write_dataset(tmp_path, {"train": [[example(1, 2)], [example(1, 3), broken]]}), "train", LOG)
    with pytest.raises(DataError, match=f"{SHARD}, record 1: cannot be decoded: .*JPEG.* Run ingest again"):
        list(iterate(CenterBatches(split, 3, 3), 0, 1))


def test_a_shard_that_changed_before_is_found(tmp_path):
    dataset, _ = write_inputs(tmp_path, 6, 3)
    path = tmp_path / "shards" / "train-00000-of-00002.tfrecord"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="sha256 differs"):
        Split(dataset, "train", LOG)


@pytest.mark.parametrize(
    ("change", "kind", "expected"),
    [
        ("flip", DataError, f"{SHARD}, record 3: not the bytes that ingest wrote"),
        ("cut", DataError, f"{SHARD}, record 3: not the bytes"),
        ("remove", StorageError, f"not found: .*{SHARD}"),
    ],
)
def test_a_shard_that_changes_during_training_is_found(tmp_path, change, kind, expected):
    split = Split(write_inputs(tmp_path, 6, 3)[0], "train", LOG)  # shards of 2 and of 4
    path = tmp_path / "shards" / SHARD
    data = path.read_bytes()
    if change == "flip":
        path.write_bytes(data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:])
    elif change == "cut":
        path.write_bytes(data[:-1000])
    else:
        path.unlink()
    with pytest.raises(kind, match=expected):
        list(iterate(batches_of(split, batch_size=6, reshuffle=False), 0, 1))


def test_an_empty_split_is_an_error(tmp_path):
    dataset = write_dataset(tmp_path, {"train": [[example(0, 1)]], "validation": [[]]})
    assert len(Split(dataset, "train", LOG)) == 1
    with pytest.raises(DataError, match="no examples"):
        Split(dataset, "validation", LOG)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.lists(st.integers(0, 3), min_size=1, max_size=4))
@pytest.mark.slow
def test_examples_come_in_the_order_asked_for(tmp_path_factory, indices, sizes):
    folder, at, shards = tmp_path_factory.mktemp("order"), 0, []
    for size in [*sizes, 10]:  # some shards are empty
        shards.append([EXAMPLES[i] for i in range(at, min(at + size, 10))])
        at += size
    split = Split(write_dataset(folder, {"train": shards}), "train", LOG)
    expected = [records.decode_example(EXAMPLES[i]) for i in indices]
    assert split.read(np.array(indices)) == [features["image/encoded"] for features in expected]
    assert split.labels[indices].tolist() == [features["image/class/label"] for features in expected]


EXAMPLES = [example(number % NUM_CLASSES, number) for number in range(10)]


def test_the_index_is_that_of_the_records(tmp_path):
    dataset = write_dataset(tmp_path, {"train": [EXAMPLES]})
    data = (tmp_path / "shards" / "train-00000-of-00001.tfrecord").read_bytes()
    index = read_index(dataset, "train")
    assert index["label"].tolist() == [number % NUM_CLASSES for number in range(10)]
    for record, (offset, length, _, _) in zip(EXAMPLES, index.tolist(), strict=True):
        assert data[offset : offset + length] == records.decode_example(record)["image/encoded"]


def test_jpeg_shape():
    for height, width in ((256, 256), (17, 300)):
        for options in ({}, {"colorsubsampling": "444"}):
            jpeg = simplejpeg.encode_jpeg(np.zeros((height, width, 3), np.uint8), **options)
            assert jpeg_shape(jpeg) == (height, width, 3, 8)
    assert jpeg_shape(b"") == jpeg_shape(b"\xff\xd8") == (0, 0, 0, 0)


@pytest.fixture
def stalled(tmp_path):
    """A split whose second shard became a pipe that nobody writes to: opening it waits, as on a dead mount."""
    split = Split(write_inputs(tmp_path, 6, 3)[0], "train", LOG)
    path = tmp_path / "shards" / SHARD
    path.unlink()
    os.mkfifo(path)
    yield split
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # wakes the thread that waits, which finds no bytes


@pytest.mark.slow
def test_input_that_does_not_come_is_an_error_that_names_the_shard(stalled, monkeypatch):
    batches = iterate(batches_of(stalled, batch_size=2, reshuffle=False), 0, 3)
    next(batches)  # which takes seconds on a busy machine
    monkeypatch.setattr(loader, "STARVED_SECONDS", 1.0)
    with pytest.raises(StorageError, match=rf"no input for 1 s at step 1, while reading .*{SHARD}\. Check the disk"):
        next(batches)


@pytest.mark.slow
def test_waiting_for_input_ends_when_told_to_stop(stalled):
    told = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda *_: told.set())
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        batches = list(iterate(batches_of(stalled, batch_size=2, reshuffle=False), 0, 3, told.is_set))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(batches) == 1  # the first needs only the first shard


def test_no_thread_stays(tmp_path):
    split = Split(write_inputs(tmp_path, 6, 3)[0], "train", LOG)
    before = threading.active_count()
    batches = iterate(batches_of(split, batch_size=1), 0, 6)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before
