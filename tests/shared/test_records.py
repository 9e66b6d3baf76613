"""Records: round trips, the same bytes as TensorFlow's, damage found.

TensorFlow is imported by the slow tests alone, which need it.
"""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import records
from components.shared.errors import DataError

FEATURES = st.fixed_dictionaries(
    {
        key: st.binary(max_size=300) if kind is bytes else st.integers(0, 2**63 - 1)
        for key, kind in records.FEATURES.items()
    }
)
EXAMPLE = {
    "image/encoded": bytes(range(256)) * 3,
    "image/filename": b"n01440764_10026.JPEG",
    "image/class/synset": b"n01440764",
    "image/class/label": 999,
    "image/height": 375,
    "image/width": 500,
}


@pytest.mark.slow
@settings(derandomize=True, deadline=None)
@given(FEATURES)
def test_round_trip_and_what_tensorflow_reads(features: records.Features) -> None:
    import tensorflow as tf

    data = records.encode_example(features)
    assert records.decode_example(data) == features
    parsed = tf.train.Example.FromString(data).features.feature
    found = {}
    for key, kind in records.FEATURES.items():
        (found[key],) = parsed[key].bytes_list.value if kind is bytes else parsed[key].int64_list.value
    assert found == features
    assert set(parsed) == set(features)


@pytest.mark.slow
@settings(derandomize=True, deadline=None)
@given(FEATURES)
def test_reads_what_tensorflow_writes(features: records.Features) -> None:
    import tensorflow as tf

    example = tf.train.Example()
    for key, value in features.items():
        feature = example.features.feature[key]
        (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value.append(value)
    assert records.decode_example(example.SerializeToString()) == features


def test_equal_features_give_equal_bytes() -> None:
    assert records.encode_example(EXAMPLE) == records.encode_example(dict(reversed(EXAMPLE.items())))


@pytest.mark.slow
@settings(derandomize=True, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_files_are_the_same_as_tensorflows(tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]) -> None:
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("records")
    buffer = io.BytesIO()
    assert records.write_records(buffer, payloads) == len(payloads)
    ours, theirs = folder / "ours.tfrecord", folder / "theirs.tfrecord"
    ours.write_bytes(buffer.getvalue())
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for payload in payloads:
            writer.write(payload)
    assert ours.read_bytes() == theirs.read_bytes()
    assert list(records.read_records(ours)) == payloads
    assert [item.numpy() for item in tf.data.TFRecordDataset(str(ours))] == payloads


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shard") / records.shard_name("train", 0, 8)
    with path.open("wb") as file:
        records.write_records(file, [records.encode_example({**EXAMPLE, "image/height": h}) for h in (1, 2, 3)])
    return path


@settings(derandomize=True, deadline=None, max_examples=200)
@given(data=st.data())
@pytest.mark.slow
def test_every_bit_flip_is_found(shard: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(shard.read_bytes())
    at = data.draw(st.integers(0, 8 * len(content) - 1))
    content[at // 8] ^= 1 << at % 8
    damaged = tmp_path_factory.mktemp("flip") / shard.name
    damaged.write_bytes(content)
    record = at // 8 * 3 // len(content)  # three records of one size
    with pytest.raises(DataError, match=rf"{shard.name}, record {record}: "):
        list(records.read_records(damaged))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(data=st.data())
def test_every_truncation_is_found(shard: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = shard.read_bytes()
    kept = data.draw(st.integers(0, len(content)))
    cut = tmp_path_factory.mktemp("cut") / shard.name
    cut.write_bytes(content[:kept])
    if kept * 3 % len(content) == 0:  # between two records: only count and digest of the manifest can tell
        assert len(list(records.read_records(cut))) == kept * 3 // len(content)
    else:
        with pytest.raises(DataError, match="record"):
            list(records.read_records(cut))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=60))
@pytest.mark.slow
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="record: "):
        records.decode_example(data)


@pytest.mark.parametrize("key", sorted(records.FEATURES))
def test_a_missing_or_retyped_feature_is_named(key: str) -> None:
    without = {name: value for name, value in EXAMPLE.items() if name != key}
    retyped = {**EXAMPLE, key: 1 if isinstance(EXAMPLE[key], bytes) else b"1"}
    for features in (without, retyped):
        with pytest.raises(DataError, match=key):
            records.decode_example(records.encode_example(features))


def test_shard_names() -> None:
    assert records.shard_name("validation", 7, 128) == "validation-00007-of-00128.tfrecord"
