"""The record of a finished shard: a damaged one is none, and its shard is made again."""

import json
from pathlib import Path

import pytest

from components.ingest.contract import Ingest
from components.ingest.job import run
from components.ingest.outcomes import Outcome, parse_record
from components.shared import manifest

NAME = "train-0000.tfrecord"
DIGEST = "0123456789abcdef" * 4
IMAGES = [
    Outcome("a_1.JPEG", "used", "", DIGEST, 12, 100, 7),
    Outcome("a_2.JPEG", "repaired", "cmyk", DIGEST, 128, 90, 8),
    Outcome("a_3.JPEG", "quarantined", "empty", DIGEST),
]
RECORD = {"name": NAME, "num_bytes": 230, "sha256": DIGEST, "num_examples": 2, "images": IMAGES}


def _encode(**changes):
    return json.dumps({**RECORD, **changes}).encode()


def test_a_whole_record_is_read():
    found = parse_record(_encode(), NAME)
    assert found is not None
    assert [Outcome(*values) for values in found["images"]] == IMAGES
    assert {key: value for key, value in found.items() if key != "images"} == {
        key: value for key, value in RECORD.items() if key != "images"
    }


def test_a_cut_record_is_none():
    data = _encode()
    assert [length for length in range(len(data)) if parse_record(data[:length], NAME) is not None] == []


@pytest.mark.parametrize("key", RECORD)
def test_a_record_without_a_field_is_none(key):
    record = {name: value for name, value in RECORD.items() if name != key}
    assert parse_record(json.dumps(record).encode(), NAME) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 600,
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"null",
        b"[]",
        b"7",
        _encode(name="train-0001.tfrecord"),
        _encode(name=[NAME]),
        _encode(num_bytes=230.0),
        _encode(num_bytes="230"),
        _encode(num_bytes=True),
        _encode(num_bytes=-1),
        _encode(num_examples=3),
        _encode(num_examples=None),
        _encode(sha256=DIGEST[:-1]),
        _encode(sha256=DIGEST.upper()),
        _encode(images=None),
        _encode(images={}),
        _encode(images="abc"),
        _encode(images=IMAGES[:1]),
        _encode(images=[*IMAGES, []]),
        _encode(images=[*IMAGES, None]),
        _encode(images=[*IMAGES[:2], (*IMAGES[2], 1)]),
        *(
            _encode(images=[*IMAGES[:2], IMAGES[2]._replace(**change)])
            for change in (
                {"name": 3},
                {"name": None},
                {"status": "lost"},
                {"status": []},
                {"reason": 1},
                {"sha256": ""},
                {"sha256": None},
                {"offset": -1},
                {"offset": 0.5},
                {"num_bytes": -5},
                {"num_bytes": 5},
                {"crc32c": "7"},
                {"crc32c": 2**32},
            )
        ),
    ],
)
def test_a_damaged_record_is_none(data):
    assert parse_record(data, NAME) is None


def _ingest(release, folder, root=None):
    out = {"dataset": str(folder / "dataset.json"), "summary": str(folder / "ingest.md")}
    run(Ingest(release_uri=str(release), root_uri=str(root or folder / "root"), **out))
    return manifest.load(out["dataset"], "dataset")


@pytest.mark.slow
def test_a_damaged_record_is_made_again(sample_release, tmp_path):
    first = _ingest(sample_release, tmp_path)
    path = Path(first.base_uri) / f"{next(name for name in first.files if name.endswith('.tfrecord'))}.json"
    data = path.read_bytes()
    for damaged in (b"", data[: len(data) // 2], b"[]"):
        path.write_bytes(damaged)
        (path.parent / "manifest.json").unlink()  # else it is found finished, and the records are not read
        assert _ingest(sample_release, tmp_path).digest == first.digest
        assert path.read_bytes() == data
