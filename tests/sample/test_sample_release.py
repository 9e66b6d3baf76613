import gzip
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from components.sample.contract import Sample
from components.sample.job import FILES, run
from components.sample.patterns import PATTERNS, draw
from components.shared import storage
from components.shared.errors import StorageError

PROJECT_DIR = Path(__file__).parents[2]


@pytest.mark.slow
def test_default_sample_is_written_by_the_command(tmp_path):
    command = [sys.executable, "-m", "components.sample", "--out", str(tmp_path / "release"), "--images-per-class", "8"]
    assert subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, check=False).returncode == 0
    assert {p.name for p in (tmp_path / "release").iterdir()} == {*FILES, "sample.json"}


@pytest.mark.slow
def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path):
    releases = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert run(Sample(out=str(tmp_path / name), classes=3, images_per_class=8, seed=seed)) == {}
        releases[name] = {f: storage.sha256(str(tmp_path / name / f)) for f in FILES}
    assert releases["a"] == releases["b"]
    assert all(releases["a"][f] != releases["c"][f] for f in FILES if f != "ILSVRC2010_test_ground_truth.txt")


def test_second_run_keeps_what_is_there(sample_release):
    before = {p.name: p.stat().st_mtime_ns for p in sample_release.iterdir()}
    run(Sample(out=str(sample_release), classes=4, images_per_class=24))
    assert {p.name: p.stat().st_mtime_ns for p in sample_release.iterdir()} == before


@pytest.mark.slow
def test_interrupted_run_is_completed(tmp_path, sample_release):
    for name in FILES[:2]:
        storage.publish_file(sample_release / name, str(tmp_path / name))
    run(Sample(out=str(tmp_path), classes=4, images_per_class=24))
    assert {f: storage.sha256(str(tmp_path / f)) for f in FILES} == {
        f: storage.sha256(str(sample_release / f)) for f in FILES
    }


def test_folder_with_something_else_is_refused(tmp_path, sample_release):
    with pytest.raises(StorageError, match=r"asked was .*another folder"):
        run(Sample(out=str(sample_release), classes=5, images_per_class=24))
    storage.write_text(tmp_path / "thesis.tex", "x")
    with pytest.raises(StorageError, match=r"thesis\.tex.*empty folder"):
        run(Sample(out=str(tmp_path)))


def test_damaged_sample_is_refused(tmp_path):
    config = Sample(out=str(tmp_path), classes=2, images_per_class=8)
    run(config)
    (tmp_path / "patch_images.tar").unlink()
    with pytest.raises(StorageError, match=r"patch_images\.tar is missing"):
        run(config)


def _members(path):
    with tarfile.open(path) as tar:
        return [(m.name, m.isdir(), tar.extractfile(m).read() if m.isreg() else b"") for m in tar.getmembers()]


def _meta(release):
    members = {name: data for name, _, data in _members(release / "ILSVRC2010_devkit-1.0.tar.gz")}
    return scipy.io.loadmat(io.BytesIO(members["devkit-1.0/data/meta.mat"])), members


def test_layout_is_that_of_the_release(sample_release):
    meta, devkit = _meta(sample_release)
    classes = [s for s in meta["synsets"][:, 0] if s["num_children"][0, 0] == 0]
    outer = _members(sample_release / "ILSVRC2010_images_train.tar")
    assert {name for name, _, _ in outer} == {f"{s['WNID'][0]}.tar" for s in classes}
    counts = {s["WNID"][0]: s["num_train_images"][0, 0] for s in classes}
    for name, _, data in outer:
        with tarfile.open(fileobj=io.BytesIO(data)) as inner:
            assert len(inner.getnames()) == counts[name[:-4]]
            assert all(member.startswith(name[:-4] + "_") for member in inner.getnames())
            assert all(info.mtime == info.uid == info.gid == 0 for info in inner)
    assert len(set(counts.values())) > 1, "class counts vary"
    assert sum(counts.values()) == 4 * 24
    for split, per_class, truth in (
        ("val", 3, devkit["devkit-1.0/data/ILSVRC2010_validation_ground_truth.txt"]),
        ("test", 6, (sample_release / "ILSVRC2010_test_ground_truth.txt").read_bytes()),
    ):
        members = _members(sample_release / f"ILSVRC2010_images_{split}.tar")
        names = [name for name, is_dir, _ in members if not is_dir]
        assert members[0][:2] == (split, True)
        assert names != sorted(names), "stored in another order than the names"
        assert sorted(names) == [f"{split}/ILSVRC2010_{split}_{k:08d}.JPEG" for k in range(1, 4 * per_class + 1)]
        assert np.bincount([int(line) for line in truth.split()]).tolist() == [0, *[per_class] * 4]


def test_meta_mat_has_the_fields_of_the_real_one(sample_release, shared_data):
    mine, _ = _meta(sample_release)
    real, _ = _meta(shared_data / "ilsvrc2010-devkit-real")
    assert mine["synsets"].dtype == real["synsets"].dtype
    assert mine["synsets"].ndim == real["synsets"].ndim == 2
    for name in real["synsets"].dtype.names:
        ours, theirs = mine["synsets"][0, 0][name], real["synsets"][0, 0][name]
        assert ours.ndim == theirs.ndim and ours.dtype.kind == theirs.dtype.kind, name
    assert mine["cost_matrix"].dtype == real["cost_matrix"].dtype


def test_hierarchy_is_consistent_and_ids_are_not_in_the_order_of_wnids(sample_release):
    meta, _ = _meta(sample_release)
    synsets = meta["synsets"][:, 0]
    assert [s["ILSVRC2010_ID"][0, 0] for s in synsets] == list(range(1, len(synsets) + 1))
    wnids = [s["WNID"][0] for s in synsets[:4]]
    assert wnids != sorted(wnids)
    children = [c for s in synsets for c in s["children"].ravel()]
    assert sorted(children) == [k for k in range(1, len(synsets) + 1) if k != 5], "every synset but the root, once"
    assert all(s["num_children"][0, 0] == s["children"].size for s in synsets)
    cost = meta["cost_matrix"]
    assert (cost == cost.T).all() and (np.diag(cost) == 0).all() and cost.max() == 2


def test_odd_members_and_patches(sample_release):
    heads = {}
    for outer, _, data in _members(sample_release / "ILSVRC2010_images_train.tar"):
        with tarfile.open(fileobj=io.BytesIO(data)) as inner:
            heads |= {f"{outer}/{m.name}": inner.extractfile(m).read() for m in inner}
    gzipped = [data for data in heads.values() if data[:2] == b"\x1f\x8b"]
    assert len(gzipped) == 1 and gzip.decompress(gzipped[0])[:2] == b"\xff\xd8"
    components = [data[data.find(b"\xff\xc0") + 9] for data in heads.values() if data[:2] == b"\xff\xd8"]
    assert components.count(1) == components.count(4) == 1
    assert sum(data[-2:] != b"\xff\xd9" for data in heads.values()) == 2, "the gzip and the truncated one"
    patches = [name for name, is_dir, _ in _members(sample_release / "patch_images.tar") if not is_dir]
    assert {name.split("/")[1] for name in patches} == {"train", "val", "test"}


def _gallery(num_classes, num_each, seed):
    labels = np.repeat(np.arange(num_classes), num_each)
    return labels, [draw(PATTERNS[k], np.random.default_rng([seed, i])) for i, k in enumerate(labels)]


def _nearest_neighbour_accuracy(features, labels):
    distance = ((features[:, None] - features[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    return (labels[distance.argmin(1)] == labels).mean()


@pytest.mark.slow
def test_mean_colour_says_little_and_structure_says_much():
    labels, images = _gallery(8, 30, seed=1)
    mean_rgb = np.array([image.reshape(-1, 3).mean(0) for image in images])
    assert _nearest_neighbour_accuracy(mean_rgb, labels) < 1 / 8 + 0.1
    spectra = []  # what a bank of oriented filters sees: energy by direction of the gradient
    for image in images:
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 3)
        dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
        angles = np.arctan2(dy, dx) % np.pi
        energy, _ = np.histogram(angles, bins=16, range=(0, np.pi), weights=np.hypot(dx, dy))
        spectra.append(energy / energy.sum())
    assert _nearest_neighbour_accuracy(np.array(spectra), labels) > 0.5


@pytest.mark.slow
def test_images_are_of_many_sizes():
    _, images = _gallery(2, 60, seed=2)
    shapes = [image.shape[:2] for image in images]
    assert len(set(shapes)) > 100
    assert any(min(shape) < 256 for shape in shapes)
    assert any(h > w for h, w in shapes) and any(w > h for h, w in shapes)


def test_marker_names_parameters_and_digests(sample_release):
    marker = json.loads((sample_release / "sample.json").read_bytes())
    assert marker["parameters"] == {"classes": 4, "images_per_class": 24, "seed": 0}
    for name, entry in marker["files"].items():
        assert storage.sha256(str(sample_release / name)) == entry["sha256"]
