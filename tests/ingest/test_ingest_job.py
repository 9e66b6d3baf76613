"""Whole runs: accounting, labels, order, and what other components read."""

import shutil
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from components.ingest import images, resize
from components.ingest.contract import Ingest
from components.ingest.job import run
from components.shared import manifest, records, storage
from components.shared.errors import DataError

ONE_WORKER = "--direct_running_mode=in_memory --direct_num_workers=1"


def _ingest(release, folder, **changes):
    config = Ingest(
        release_uri=str(release),
        root_uri=str(folder / "root"),
        dataset=str(folder / "dataset.json"),
        summary=str(folder / "ingest.md"),
        **changes,
    )
    metadata = run(config)
    return manifest.load(config.dataset, "dataset"), metadata["dataset"]


@pytest.fixture(scope="module")
def ingested(sample_release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingested")
    dataset, metadata = _ingest(sample_release, folder)
    return dataset, metadata, folder


def _examples(dataset, split):
    return [
        records.decode_example(record)
        for shard in dataset.content["splits"][split]["shards"]
        for record in records.read_records(dataset.stage(shard["name"]))
    ]


def _rows(dataset):
    header, *lines = dataset.stage("images.tsv").read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def _bytes(dataset):
    return {name: dataset.stage(name).read_bytes() for name in dataset.files}


@pytest.mark.slow
def test_every_image_is_accounted_for(ingested):
    dataset, metadata, _ = ingested
    assert dataset.content["release"] == "mini"
    expected = {"train": (96, 92, 3, 1), "validation": (12, 11, 1, 0), "test": (24, 23, 1, 0)}
    rows = _rows(dataset)
    for split, (num_devkit, used, repaired, quarantined) in expected.items():
        entry = dataset.content["splits"][split]
        found = entry["num_devkit"], entry["used"], entry["repaired"], entry["quarantined"], entry["excluded"]
        assert found == (num_devkit, used, repaired, quarantined, 0)
        assert entry["num_examples"] == sum(shard["num_examples"] for shard in entry["shards"]) == used + repaired
        assert len(_examples(dataset, split)) == metadata[f"num_{split}"] == used + repaired
        assert Counter(row["status"] for row in rows if row["split"] == split) == Counter(
            used=used, repaired=repaired, quarantined=quarantined
        )
    assert sorted(row["reason"] for row in rows if row["status"] == "repaired") == [
        "cmyk",
        "gzip",
        "patch",
        "patch",
        "patch",
    ]
    assert [row["reason"] for row in rows if row["status"] == "quarantined"] == ["truncated"]
    assert (metadata["repaired"], metadata["quarantined"], metadata["digest"]) == (5, 1, dataset.digest)
    keys = [(("train", "validation", "test").index(row["split"]), row["filename"]) for row in rows]
    assert keys == sorted(set(keys))


def test_files_are_those_of_the_manifest_and_the_class_table_adds_up(ingested):
    dataset, _, _ = ingested
    for name, entry in dataset.files.items():
        assert manifest.file_entry(dataset.stage(name)) == entry
    classes = dataset.content["classes"]
    assert [c["label"] for c in classes] == [0, 1, 2, 3]
    assert [c["ilsvrc_id"] for c in classes] == [1, 2, 3, 4]
    for split in manifest.SPLITS:
        counts = Counter(example["image/class/label"] for example in _examples(dataset, split))
        assert [c[f"num_{split}"] for c in classes] == [counts[k] for k in range(4)]
    assert Counter(row["shard"] for row in _rows(dataset) if row["shard"]) == Counter(
        {s["name"]: s["num_examples"] for entry in dataset.content["splits"].values() for s in entry["shards"]}
    )


def _truth_by_name(release, split, prefix):
    """Read labels the slow way: extract the archives with the system's tar."""
    if split == "test":
        text = (release / "ILSVRC2010_test_ground_truth.txt").read_text()
    else:
        member = "devkit-1.0/data/ILSVRC2010_validation_ground_truth.txt"
        command = ["tar", "-xzOf", str(release / "ILSVRC2010_devkit-1.0.tar.gz"), member]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {f"ILSVRC2010_{prefix}_{k:08d}.JPEG": int(line) for k, line in enumerate(text.split(), 1)}


def _check_labels(dataset, release):
    wnids = {c["ilsvrc_id"]: c["wnid"] for c in dataset.content["classes"]}
    by_sorted_wnid = {wnid: label for label, wnid in enumerate(sorted(wnids.values()))}
    for split, prefix in (("validation", "val"), ("test", "test")):
        truth = _truth_by_name(release, split, prefix)
        wrong_by_sorted_wnid = 0
        examples = _examples(dataset, split)
        assert {e["image/filename"].decode() for e in examples} == set(truth)
        for example in examples:
            ilsvrc_id = truth[example["image/filename"].decode()]
            assert example["image/class/label"] == ilsvrc_id - 1
            assert example["image/class/synset"].decode() == wnids[ilsvrc_id]
            wrong_by_sorted_wnid += by_sorted_wnid[wnids[ilsvrc_id]] != ilsvrc_id - 1
        assert wrong_by_sorted_wnid > len(examples) / 4
    for example in _examples(dataset, "train"):
        wnid = example["image/filename"].decode().split("_")[0]
        assert wnids[example["image/class/label"] + 1] == wnid == example["image/class/synset"].decode()


def test_labels_follow_the_devkit_and_sorted_wnids_would_be_wrong(ingested, sample_release):
    _check_labels(ingested[0], sample_release)


@pytest.fixture(scope="module")
def mini(shared_data, tmp_path_factory):
    return _ingest(shared_data / "ilsvrc-mini", tmp_path_factory.mktemp("mini"))[0]


@pytest.mark.slow
def test_labels_of_real_photographs(mini, shared_data):
    _check_labels(mini, shared_data / "ilsvrc-mini")


@pytest.mark.slow
def test_real_photographs_are_all_used_and_stored_as_they_are_resized(mini, shared_data):
    num = {split: (entry["used"], entry["num_devkit"]) for split, entry in mini.content["splits"].items()}
    assert num == {"train": (4028, 4028), "validation": (600, 600), "test": (1800, 1800)}
    digests = {row["filename"]: row["sha256"] for row in _rows(mini)}
    header, *lines = (shared_data / "ilsvrc-mini" / "PROVENANCE.tsv").read_text().splitlines()
    provenance = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    key = next(column for column in provenance[0] if "sha256" in column)
    assert set(digests.values()) <= {row[key] for row in provenance}
    for example in _examples(mini, "validation")[::60]:
        name = f"val/{example['image/filename'].decode()}"
        tar = shared_data / "ilsvrc-mini" / "ILSVRC2010_images_val.tar"
        source = subprocess.run(["tar", "-xOf", str(tar), name], check=True, capture_output=True).stdout
        pixels = images.decode(source).image_HWC
        assert (example["image/height"], example["image/width"]) == pixels.shape[:2]
        stored = images.decode(example["image/encoded"]).image_HWC
        assert np.abs(stored.astype(int) - resize.resize(pixels)).mean() < 4


@pytest.mark.slow
def test_records_are_read_by_tensorflow(ingested):
    import tensorflow as tf

    dataset, _, _ = ingested
    name = dataset.content["splits"]["validation"]["shards"][0]["name"]
    ours = [records.decode_example(r) for r in records.read_records(dataset.stage(name))]
    theirs = [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(dataset.stage(name)))]
    assert len(theirs) == len(ours) > 0
    for mine, example in zip(ours, theirs, strict=True):
        feature = example.features.feature
        assert set(feature) == set(records.FEATURES)
        assert feature["image/class/label"].int64_list.value[0] == mine["image/class/label"]
        assert feature["image/filename"].bytes_list.value[0] == mine["image/filename"]
        image = tf.io.decode_jpeg(feature["image/encoded"].bytes_list.value[0], dct_method="INTEGER_ACCURATE")
        assert image.shape == (256, 256, 3)


def test_patches_replace_blank_images(ingested):
    dataset, _, _ = ingested
    patched = {row["filename"] for row in _rows(dataset) if "patch" in row["reason"]}
    assert len(patched) == 3
    for split in manifest.SPLITS:
        for example in _examples(dataset, split):
            blank = images.decode(example["image/encoded"]).image_HWC.std() < 2
            assert not blank, example["image/filename"]


@pytest.mark.slow
def test_images_with_the_same_bytes_are_reported(sample_release, tmp_path):
    """Blank images are alike; with their patches waived they show."""
    _ingest(sample_release, tmp_path, patches="waived")
    rows = _rows(manifest.load(str(tmp_path / "dataset.json"), "dataset"))
    text = (tmp_path / "ingest.md").read_text()
    for split in manifest.SPLITS:
        counts = [n for n in Counter(row["sha256"] for row in rows if row["split"] == split).values() if n > 1]
        assert f"| {split} | {len(counts)} | {sum(counts)} |" in text


@pytest.mark.slow
def test_waived_patches_leave_the_blank_images(sample_release, tmp_path):
    dataset, metadata = _ingest(sample_release, tmp_path, patches="waived", subset="classes=2,seed=1")
    assert metadata["quarantined"] <= 1
    assert not any("patch" in row["reason"] for row in _rows(dataset))


@pytest.mark.slow
def test_order_is_shuffled_by_the_seed(ingested, sample_release, tmp_path):
    names = [e["image/filename"] for e in _examples(ingested[0], "train")]
    assert names != sorted(names)
    labels = [e["image/class/label"] for e in _examples(ingested[0], "train")]
    assert sum(a != b for a, b in pairwise(labels)) > len(labels) / 2
    other, _ = _ingest(sample_release, tmp_path, seed=1)
    others = [e["image/filename"] for e in _examples(other, "train")]
    assert others != names and sorted(others) == sorted(names)
    assert other.content["seed"] == 1 and other.digest != ingested[0].digest


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_workers_nor_on_the_place(ingested, sample_release, tmp_path):
    copy = shutil.copytree(sample_release, tmp_path / "copy")
    single, _ = _ingest(copy, tmp_path, runner_options=ONE_WORKER)
    assert single.digest == ingested[0].digest
    assert _bytes(single) == _bytes(ingested[0])
    assert single.base_uri != ingested[0].base_uri


@pytest.mark.slow
def test_a_root_inside_the_release_keeps_its_key(ingested, sample_release, tmp_path):
    release = Path(shutil.copytree(sample_release, tmp_path / "release"))
    first, _ = _ingest(release, release)
    (release / "notes.txt").write_text("a file of the user's own")
    again, _ = _ingest(release, release)
    assert again == first
    assert first.digest == ingested[0].digest
    assert len(list((release / "root" / "ingest").iterdir())) == 1


def test_second_run_writes_nothing(ingested, sample_release):
    dataset, metadata, folder = ingested
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != "ingest.md"}
    again, metadata_again = _ingest(sample_release, folder)
    assert (again, metadata_again) == (dataset, metadata)
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "ingest.md"}
    assert after == {p: t for p, t in before.items() if p.is_file()}


@pytest.mark.slow
def test_finished_shards_are_verified(sample_release, tmp_path):
    dataset, _ = _ingest(sample_release, tmp_path)
    shard = dataset.stage("train-00001-of-00002.tfrecord")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    storage.delete(storage.join(dataset.base_uri, "manifest.json"))  # as a run that was killed before its end
    with pytest.raises(DataError, match=r"train-00001-of-00002\.tfrecord: does not match its record"):
        _ingest(sample_release, tmp_path)


@pytest.mark.slow
def test_a_finished_dataset_is_found_and_its_files_are_looked_at(sample_release, tmp_path, capsys):
    dataset, _ = _ingest(sample_release, tmp_path)
    capsys.readouterr()
    again, _ = _ingest(sample_release, tmp_path)
    assert again == dataset
    assert "found finished" in capsys.readouterr().err
    shard = dataset.stage("train-00001-of-00002.tfrecord")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"train-00001-of-00002\.tfrecord: expected .* bytes, got .* remove it and run"):
        _ingest(sample_release, tmp_path)
    shard.unlink()
    _ingest(sample_release, tmp_path)
    assert shard.read_bytes() == whole


@pytest.mark.slow
def test_subset_is_deterministic_and_renumbers_labels(sample_release, tmp_path):
    dataset, metadata = _ingest(sample_release, tmp_path, subset="classes=2,per_class=9,seed=5", patches="waived")
    again, _ = _ingest(sample_release, tmp_path / "b", subset="classes=2,per_class=9,seed=5", patches="waived")
    assert dataset.digest == again.digest and metadata["num_classes"] == 2
    classes = dataset.content["classes"]
    assert [c["label"] for c in classes] == [0, 1]
    assert classes[0]["ilsvrc_id"] < classes[1]["ilsvrc_id"]
    entry = dataset.content["splits"]["train"]
    assert entry["used"] + entry["repaired"] + entry["quarantined"] == 18
    assert entry["excluded"] == 96 - 18
    assert dataset.content["splits"]["test"]["excluded"] == 12
    excluded = [row for row in _rows(dataset) if row["status"] == "excluded"]
    assert len(excluded) == 96 - 18 + 6 + 12 and not any(row["sha256"] or row["shard"] for row in excluded)


@pytest.mark.slow
def test_subset_by_wnid(ingested, sample_release, tmp_path):
    wnids = [c["wnid"] for c in ingested[0].content["classes"]]
    dataset, _ = _ingest(sample_release, tmp_path, subset=f"wnids={wnids[3]},{wnids[2]}")
    found = [(c["wnid"], c["label"], c["ilsvrc_id"]) for c in dataset.content["classes"]]
    assert found == [(wnids[2], 0, 3), (wnids[3], 1, 4)]
    assert {e["image/class/label"] for e in _examples(dataset, "test")} == {0, 1}


@pytest.mark.slow
def test_too_many_unusable_images(sample_release, tmp_path):
    release = shutil.copytree(sample_release, tmp_path / "release")
    path = release / "ILSVRC2010_images_val.tar"
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xd8\xff", 2000)
    data[at : at + 3] = b"XXX"
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=r"validation: 1 of 12 images are unusable, allowed are 0: .*\.JPEG \(not_an_image\)"
    ):
        _ingest(release, tmp_path)
    assert not (tmp_path / "dataset.json").exists()
    _, metadata = _ingest(release, tmp_path, max_bad_per_million=100_000)
    assert metadata["quarantined"] == 2


def test_summary_lists_counts_repairs_and_quarantine(ingested):
    text = (ingested[2] / "ingest.md").read_text()
    assert "| train | 92 | 3 | 1 | 0 | 96 | 2 |" in text
    assert "## Repaired: 5" in text and "## Quarantined: 1" in text
    for row in _rows(ingested[0]):
        assert (row["filename"] in text) == (row["status"] in ("repaired", "quarantined"))
    for entry in ingested[0].content["classes"]:
        assert f"| {entry['label']} | {entry['ilsvrc_id']} | {entry['wnid']} | {entry['words']} |" in text
