"""Bad releases: what is said, and that nothing is written that a later run would take for whole."""

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from components.ingest import archives, devkit, tars
from components.ingest.contract import Ingest
from components.ingest.job import run
from components.ingest.plan import num_shards
from components.shared import storage
from components.shared.errors import DataError, UsageError
from components.shared.release import fingerprint

PROJECT_DIR = Path(__file__).parents[2]
TRAIN, VAL, DEVKIT = "ILSVRC2010_images_train.tar", "ILSVRC2010_images_val.tar", "ILSVRC2010_devkit-1.0.tar.gz"


@pytest.fixture
def release(sample_release, tmp_path):
    """A copy of the sample that a test may damage."""
    return Path(shutil.copytree(sample_release, tmp_path / "release"))


def _config(release, tmp_path, **changes):
    return Ingest(
        release_uri=str(release),
        root_uri=str(tmp_path / "root"),
        dataset=str(tmp_path / "out" / "dataset.json"),
        summary=str(tmp_path / "out" / "ingest.md"),
        **changes,
    )


def _fails(release, tmp_path, match, kind=DataError, **changes):
    with pytest.raises(kind, match=match):
        run(_config(release, tmp_path, **changes))
    assert not (tmp_path / "out" / "dataset.json").exists()


def _members(path):
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isreg()}


def _tar(members, extra=()):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in extra:
            tar.addfile(info)
    return out.getvalue()


def _rewrite_devkit(release, change):
    members = _members(release / DEVKIT)
    change(members)
    (release / DEVKIT).write_bytes(gzip.compress(_tar(members)))


def test_missing_files_are_named_with_the_place_to_get_them(release, tmp_path):
    (release / VAL).unlink()
    (release / "ILSVRC2010_test_ground_truth.txt").unlink()
    _fails(release, tmp_path, r"no ILSVRC2010_images_val\.tar, ILSVRC2010_test_ground_truth\.txt there.*image-net\.org")
    _fails(tmp_path / "nowhere", tmp_path, r"nowhere: no ILSVRC2010_images_train\.tar")


def test_changed_release_is_refused(release, tmp_path):
    expected = fingerprint(str(release))
    (release / "patch_images.tar").unlink()
    _fails(release, tmp_path, "fingerprint .* expected", release_fingerprint=expected)


@pytest.mark.parametrize("size", [0, 300, 5000])
def test_damaged_devkit(release, tmp_path, size):
    data = (release / DEVKIT).read_bytes()
    (release / DEVKIT).write_bytes(data[: min(size, len(data) - 200)])
    _fails(release, tmp_path, r"not a whole \.tar\.gz")


@pytest.mark.slow
def test_devkit_of_another_year(release, tmp_path):
    def to_2012(members):
        fields = [("ILSVRC2012_ID", object), *((name, object) for name in devkit.FIELDS[1:])]
        synsets = np.zeros((3, 1), dtype=fields)
        out = io.BytesIO()
        scipy.io.savemat(out, {"synsets": synsets})
        members["devkit-1.0/data/meta.mat"] = out.getvalue()

    _rewrite_devkit(release, to_2012)
    _fails(release, tmp_path, r"another year \(ILSVRC2012_ID\)")
    _rewrite_devkit(release, lambda members: members.pop("devkit-1.0/data/meta.mat"))
    _fails(release, tmp_path, r"no file devkit-1\.0/data/meta\.mat")


@pytest.mark.slow
def test_meta_mat_that_is_none(release, tmp_path):
    _rewrite_devkit(release, lambda members: members.update({"devkit-1.0/data/meta.mat": b"MATLAB 5.0 " * 40}))
    _fails(release, tmp_path, "cannot be read as a MATLAB file")


@pytest.mark.slow
def test_ground_truth_that_does_not_fit(release, tmp_path):
    truth = release / "ILSVRC2010_test_ground_truth.txt"
    lines = truth.read_text().split()
    for changed, match in (
        ([*lines, "1"], r"24 images for 25 lines"),
        (lines[:-1], r"24 images for 23 lines.*ILSVRC2010_test_00000024"),
        ([*lines[:-1], "5"], r"line 24: 5 is not a class of meta\.mat \(1\.\.4\)"),
        ([*lines[:-1], "0"], r"line 24: 0 is not a class"),
        ([*lines[:-1], "cat"], r"one ILSVRC2010_ID a line.*cat"),
    ):
        truth.write_text("\n".join(changed))
        _fails(release, tmp_path, match)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
@pytest.mark.slow
def test_truncated_tar_is_named_with_the_offset(release, tmp_path, keep):
    data = (release / TRAIN).read_bytes()
    (release / TRAIN).write_bytes(data[: int(len(data) * keep)])
    _fails(release, tmp_path, r"images_train\.tar.*truncated.* at offset [\d,]+")


@pytest.mark.slow
def test_tar_overwritten_in_the_middle(release, tmp_path):
    tar = archives.Tar(str(release / VAL), 0, (release / VAL).stat().st_size)
    at = [member.offset for member in tars.walk(tar.where, 0, tar.end, partial(storage.read_range, tar.uri))][3] - 512
    data = bytearray((release / VAL).read_bytes())
    data[at : at + 8] = b"garbage!"
    (release / VAL).write_bytes(data)
    _fails(release, tmp_path, rf"images_val\.tar: expected a tar header at offset {at:,}")


def _link(name):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.slow
def test_tar_members_that_do_not_belong(release, tmp_path):
    members = _members(release / VAL)
    for changed, extra, match in (
        ({**members, "val/readme.txt": b"x"}, (), "unexpected member 'val/readme.txt'"),
        (
            {**members, "../../ILSVRC2010_val_00000013.JPEG": b"x"},
            (),
            r"\.\./\.\./ILSVRC2010_val_00000013\.JPEG .* leaves",
        ),
        (members, (_link("val/ILSVRC2010_val_00000013.JPEG"),), "00000013.JPEG .* is a symbolic link"),
        (dict(list(members.items())[1:]), (), "11 images for 12 lines"),
    ):
        (release / VAL).write_bytes(_tar(changed, extra))
        _fails(release, tmp_path, match)


@pytest.mark.slow
def test_training_tars_that_do_not_fit_the_devkit(release, tmp_path):
    members = _members(release / TRAIN)
    name = min(members)
    wnid = name[:-4]
    inner = tarfile.open(fileobj=io.BytesIO(members[name]))  # noqa: SIM115
    images = {m.name: inner.extractfile(m).read() for m in inner.getmembers()}
    for changed, match in (
        ({k: v for k, v in members.items() if k != name}, rf"1 classes of meta\.mat have no tar.*{name}"),
        ({**members, "n00000001.tar": members[name]}, r"unexpected member 'n00000001\.tar'"),
        ({**members, name: _tar(dict(list(images.items())[1:]))}, rf"num_train_images of {wnid} in meta\.mat"),
        ({**members, name: _tar({**images, "n00000001_1.JPEG": b""})}, rf"unexpected .*expected {wnid}_<number>"),
    ):
        (release / TRAIN).write_bytes(_tar(changed))
        _fails(release, tmp_path, match)


@pytest.mark.slow
def test_patches(release, tmp_path):
    patch_tar = release / "patch_images.tar"
    members = _members(patch_tar)
    patch_tar.write_bytes(_tar({**members, "patch_images/train/n00000001_1.JPEG": b""}))
    _fails(release, tmp_path, r"1 of 4 patches replace no image.*n00000001_1")
    patch_tar.unlink()
    _fails(release, tmp_path, r"no patch_images\.tar there", patches="required")


@pytest.mark.parametrize(
    "subset",
    ["some", "classes=0", "classes=5", "classes=two", "wnids=n00000000", "classes=2,per_class", "wnids="],
)
@pytest.mark.slow
def test_subset_rules_that_make_no_sense(sample_release, tmp_path, subset):
    _fails(sample_release, tmp_path, "--subset", kind=UsageError, subset=subset)


@pytest.mark.parametrize(
    ("num_images", "expected"), [(0, 1), (64, 1), (65, 2), (4028, 8), (50_000, 49), (1_261_406, 1232)]
)
def test_number_of_shards(num_images, expected):
    assert num_shards(num_images) == expected


@pytest.mark.slow
def test_t27_real_devkit(shared_data, tmp_path):
    truth = "".join(f"{k % 1000 + 1}\n" for k in range(150_000))
    storage.write_text(tmp_path / devkit.TEST_TRUTH, truth)
    shutil.copy(shared_data / "ilsvrc2010-devkit-real" / DEVKIT, tmp_path)
    kit = devkit.read(str(tmp_path))
    assert kit.is_full
    assert kit.num_images == {"train": 1_261_406, "validation": 50_000, "test": 150_000}
    num_train = [synset.num_train for synset in kit.synsets]
    assert (len(num_train), sum(num_train)) == (1000, 1_261_406)
    assert (min(num_train), max(num_train)) == (668, 3047)
    assert (kit.synsets[172].wnid, kit.synsets[361].wnid) == ("n12075151", "n02094433")  # with the fewest and the most
    for truth_ids, per_class in ((kit.validation_truth, 50), (kit.test_truth, 150)):
        assert set(np.bincount(truth_ids)[1:].tolist()) == {per_class}
    assert kit.validation_truth[:10] == [78, 854, 435, 541, 973, 657, 168, 879, 390, 300]
    assert [kit.synsets[k - 1].wnid for k in (1, 330, 500, 1000)] == [
        "n07711080",
        "n01909906",
        "n02672831",
        "n04554684",
    ]
    assert kit.synsets[0].words.startswith("french fries")
    storage.write_text(tmp_path / devkit.TEST_TRUTH, truth.replace("\n2\n", "\n3\n", 1))
    with pytest.raises(DataError, match="test ground truth has 149 images of class 2, expected 150"):
        devkit.read(str(tmp_path))


@pytest.mark.slow
def test_real_devkit_with_other_labels_in_a_good_form(shared_data, tmp_path):
    """A line moved to the end: 50 images a class as before, so only the digest can tell."""
    storage.write_text(tmp_path / devkit.TEST_TRUTH, "".join(f"{k % 1000 + 1}\n" for k in range(150_000)))
    shutil.copy(shared_data / "ilsvrc2010-devkit-real" / DEVKIT, tmp_path)
    assert devkit.read(str(tmp_path)).published == tuple(devkit.PUBLISHED)
    shift = {
        devkit.VALIDATION_TRUTH: lambda data: data[data.index(b"\n") + 1 :] + data[: data.index(b"\n") + 1],
        devkit.META_MAT: lambda data: b"MATLAB 5.0 MAT-file, saved again".ljust(116) + data[116:],
    }
    original = (tmp_path / DEVKIT).read_bytes()
    for name, change in shift.items():
        (tmp_path / DEVKIT).write_bytes(original)
        _rewrite_devkit(
            tmp_path, lambda members, name=name, change=change: members.update({name: change(members[name])})
        )
        with pytest.raises(DataError, match=rf"{Path(name).name}: not what was published, while .* is \(sha256\)"):
            devkit.read(str(tmp_path))


def _command(release, tmp_path, *more, root=None):
    flags = {"--release-uri": release, "--root-uri": root or tmp_path / "root"}
    flags |= {"--dataset": tmp_path / "dataset.json", "--summary": tmp_path / "ingest.md"}
    command = [sys.executable, "-m", "components.ingest", *(str(x) for pair in flags.items() for x in pair), *more]
    return subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_exit_codes_and_one_line_of_message(sample_release, tmp_path):
    storage.write_text(tmp_path / "file", "")
    for done, code, message in (
        (_command(tmp_path, tmp_path), 65, "no ILSVRC2010_images_train.tar"),
        (_command(sample_release, tmp_path, root=tmp_path / "file"), 69, str(tmp_path / "file")),
        (_command(sample_release, tmp_path, "--jpeg-quality", "101"), 2, "--jpeg-quality: expected at most 100"),
        (_command(sample_release, tmp_path, "--runner", "NoSuchRunner"), 2, "--runner NoSuchRunner"),
    ):
        assert done.returncode == code, done.stderr
        assert message in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "dataset.json").exists()
