"""The index of a release and the plan of its shards: what they hold, how they are read, and that damage is repaired."""

import json
import shutil
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.ingest import archives, devkit, headers, index, plan, tables
from components.ingest.contract import Ingest
from components.ingest.job import run
from components.shared import manifest, runlog, storage
from components.shared.errors import DataError
from components.shared.release import fingerprint

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
IMAGES = st.tuples(NAMES, st.integers(0, 65535), st.integers(0, 2**40), st.integers(0, 2**33))


def _ingest(release, folder, **changes):
    places = {"root_uri": str(folder / "root"), "dataset": str(folder / "dataset.json")}
    config = Ingest(**{"release_uri": str(release), **places, "summary": str(folder / "ingest.md"), **changes})
    run(config)
    return manifest.load(config.dataset, "dataset")


def _logged(capsys):
    return [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]


@given(st.lists(IMAGES, max_size=20), st.data())
@pytest.mark.slow
def test_tables_come_back_as_they_were_or_not_at_all(images, data):
    names, ids, offsets, sizes = zip(*images, strict=True) if images else ((),) * 4
    table = tables.make(names, ids, 2, list(zip(offsets, sizes, strict=True)))
    assert [name.decode() for name in table["name"].tolist()] == list(names)
    columns = table["ilsvrc_id"].tolist(), table["offset"].tolist(), table["num_bytes"].tolist()
    assert columns == (list(ids), list(offsets), list(sizes)) and set(table["tar"].tolist()) <= {2}
    encoded = tables.encode(table)
    found = tables.decode(encoded)
    assert found is not None and found.dtype == table.dtype and np.array_equal(found, table)
    at = data.draw(st.integers(0, len(encoded) - 1))
    flipped = encoded[:at] + bytes([encoded[at] ^ data.draw(st.integers(1, 255))]) + encoded[at + 1 :]
    assert tables.decode(flipped) is None and tables.decode(encoded[:at]) is None


def test_a_kept_table_replaces_damage_and_nothing_else(tmp_path):
    uri, table = str(tmp_path / "a" / "x.table"), tables.make(["a", "bb"], [1, 2], 0, [(0, 1), (512, 2)])
    assert tables.read(uri) is None
    tables.keep(table, uri)
    before = (tmp_path / "a" / "x.table").stat().st_mtime_ns
    tables.keep(table, uri)
    assert (tmp_path / "a" / "x.table").stat().st_mtime_ns == before
    (tmp_path / "a" / "x.table").write_bytes(b"half")
    assert tables.read(uri) is None
    tables.keep(table, uri)
    assert np.array_equal(tables.read(uri), table)


@given(st.lists(st.booleans(), max_size=3000), st.integers(0, 5), st.sampled_from(["train", "validation", "test"]))
def test_a_plan_holds_every_kept_image_once(keep, seed, split):
    parts = plan.cut(split, np.array(keep, bool), seed)
    assert sorted(np.concatenate([part.positions for part in parts]).tolist()) == np.flatnonzero(keep).tolist()
    sizes = [len(part.positions) for part in parts]
    assert max(sizes) - min(sizes) <= 1 and len(parts) == plan.num_shards(sum(keep))
    assert parts[-1].name == f"{split}-{len(parts) - 1:05d}-of-{len(parts):05d}.tfrecord"


@pytest.mark.slow
def test_a_damaged_plan_is_made_again(sample_release, tmp_path):
    dataset = _ingest(sample_release, tmp_path)
    files = sorted((tmp_path / "root").rglob("plan/*.table"))
    assert len(files) == sum(len(entry["shards"]) for entry in dataset.content["splits"].values())
    whole = [path.read_bytes() for path in files]
    files[0].write_bytes(b"")
    files[1].write_bytes(whole[1][:-1] + b"?")
    files[2].unlink()
    for name in list(dataset.files)[:2]:
        storage.delete(dataset.uri(name))
    assert _ingest(sample_release, tmp_path).digest == dataset.digest
    assert [path.read_bytes() for path in files] == whole


@pytest.mark.slow
def test_the_index_is_made_once_and_again_when_damaged(sample_release, tmp_path, capsys):
    first = _ingest(sample_release, tmp_path)
    assert "release indexed" in _logged(capsys)
    (path,) = (tmp_path / "root" / index.FOLDER).iterdir()
    whole = path.read_bytes()
    other = _ingest(sample_release, tmp_path / "b", root_uri=str(tmp_path / "root"), seed=3)
    assert other.digest != first.digest
    messages = _logged(capsys)
    assert "index of the release found" in messages and "release indexed" not in messages
    path.write_bytes(whole[:100])
    storage.delete(f"{first.base_uri}/manifest.json")  # else it is found finished, and the index is not read
    assert _ingest(sample_release, tmp_path).digest == first.digest
    assert "release indexed" in _logged(capsys)
    assert path.read_bytes() == whole


def test_another_release_has_another_index(sample_release, tmp_path):
    copy = shutil.copytree(sample_release, tmp_path / "copy")
    places = {index.place("root", fingerprint(str(release))) for release in (sample_release, copy)}
    assert len(places) == 2


def _tars(folder):
    return {
        entry.name: archives.Tar(storage.join(folder, entry.name), 0, entry.num_bytes)
        for entry in storage.list_files(folder)
        if entry.name in archives.TARS
    }


@pytest.fixture
def stored(sample_release, bucket):
    for path in sample_release.iterdir():
        storage.publish_file(path, f"{bucket}/{path.name}")
    return bucket


@pytest.mark.parametrize("block_bytes", [512, 10_240, headers.BLOCK_BYTES])
@pytest.mark.slow
def test_an_object_store_gives_the_same_index(sample_release, stored, monkeypatch, block_bytes):
    monkeypatch.setattr(headers, "BLOCK_BYTES", block_bytes)
    kit, log = devkit.read(stored), runlog.RunLog("test")
    found = index.read_release(_tars(stored), kit, log)
    expected = index.read_release(_tars(str(sample_release)), kit, log)
    assert len(found) == 96 + 12 + 24 + 3 and np.array_equal(found, expected)
    for row in expected[::20]:
        tar = sample_release / archives.TARS[row["tar"]]
        data = storage.read_range(str(tar), int(row["offset"]), int(row["num_bytes"]))
        assert _member(tar, row["name"].decode()) == data


def _member(path, name):
    """Read an image the usual way; the train tar is a tar of tars."""
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            if member.name.endswith(name):
                return tar.extractfile(member).read()
            if member.name.endswith(".tar"):
                with tarfile.open(fileobj=tar.extractfile(member)) as inner:
                    if name in inner.getnames():
                        return inner.extractfile(name).read()
    return None


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.slow
def test_blocks_give_the_bytes_of_the_file(data, gs_store, monkeypatch):
    content = bytes(range(256)) * 12
    uri = f"{gs_store}/blocks"
    storage.publish_bytes(content, uri)
    monkeypatch.setattr(headers, "BLOCK_BYTES", data.draw(st.integers(1, 1000)))
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    reader = headers.Reader(uri, start, end, data.draw(st.integers(-1, 3)))
    at = start
    while at < end:
        num_bytes = data.draw(st.integers(1, 1500))
        assert reader.read(at, num_bytes) == content[at : min(at + num_bytes, end)]
        at += data.draw(st.integers(1, 1500))


def test_a_file_that_ends_early_is_a_damaged_tar(gs_store):
    uri = f"{gs_store}/short.tar"
    storage.publish_bytes(bytes(100), uri)
    with pytest.raises(DataError, match=r"short\.tar: expected a tar header at offset 0"):
        archives.index_patches(archives.Tar(uri, 0, 2048))
