"""Releases that would be read in two ways, or are damaged where no image shows it: each is refused by name."""

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import repack
import scipy.io

from components.ingest import devkit
from components.ingest.contract import Ingest
from components.ingest.job import run
from components.shared import manifest
from components.shared.errors import DataError
from components.shared.release import DEVKIT_TAR, PATCH_TAR, TEST_TAR, TEST_TRUTH, TRAIN_TAR, VALIDATION_TAR

PROJECT_DIR = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small_release(tmp_path_factory):
    """Two classes of four images."""
    out = tmp_path_factory.mktemp("small") / "release"
    command = [sys.executable, "-m", "components.sample", f"--out={out}", "--classes=2", "--images-per-class=8"]
    subprocess.run(command, check=True, cwd=PROJECT_DIR, stderr=subprocess.DEVNULL)
    return out


@pytest.fixture
def release(small_release, tmp_path):
    return Path(shutil.copytree(small_release, tmp_path / "release"))


def _ingest(release, folder, **changes):
    out = {"dataset": str(folder / "dataset.json"), "summary": str(folder / "ingest.md")}
    config = Ingest(release_uri=str(release), root_uri=str(folder / "root"), **out, **changes)
    run(config)
    return manifest.load(config.dataset, "dataset"), Path(config.summary).read_text()


def _refused(release, tmp_path, match):
    with pytest.raises(DataError, match=match) as error:
        _ingest(release, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "dataset.json").exists()


def _synset(change, number=0):
    """Return a change of the training tar that changes one synset's."""

    def edit(members):
        name, data = members[number]
        return [*members[:number], (name, repack.pack(change(repack.unpack(data)))), *members[number + 1 :]]

    return edit


def _other_bytes(members):
    return [*members, (members[0][0], members[1][1])]


@pytest.mark.parametrize(
    ("tar", "change", "match"),
    [
        (
            TRAIN_TAR,
            _synset(_other_bytes),
            r"train\.tar > n\d{8}\.tar: n\d+_\d+\.JPEG is there twice: .* offset .* and ",
        ),
        (TRAIN_TAR, _synset(_other_bytes, 1), r"n\d+_\d+\.JPEG is there twice"),
        (TRAIN_TAR, _synset(lambda m: [*m[1:], m[1]]), r"is there twice"),  # and the number is right
        (TRAIN_TAR, lambda m: [*m, m[0]], r"train\.tar: n\d{8}\.tar is there twice"),
        (TRAIN_TAR, lambda m: [*m, ("again/" + m[0][0], m[0][1])], r"twice: n\d{8}\.tar at .* again/n\d{8}\.tar at"),
        (TRAIN_TAR, lambda m: [m[0], (m[1][0], m[0][1])], r"unexpected member 'n\d+_\d+\.JPEG'"),
        (TRAIN_TAR, _synset(lambda m: [(m[0][0].lower(), m[0][1]), *m[1:]]), r"unexpected member 'n\d+_\d+\.jpeg'"),
        (TRAIN_TAR, _synset(lambda m: [("/" + m[0][0], m[0][1]), *m[1:]]), r"/n\d+_\d+\.JPEG at offset .* leaves"),
        (TRAIN_TAR, lambda m: [(m[0][0], b""), *m[1:]], r"n\d{8}\.tar: 0 images, but num_train_images"),
        (VALIDATION_TAR, _other_bytes, r"val\.tar: ILSVRC2010_val_\d+\.JPEG is there twice"),
        (
            TEST_TAR,
            lambda m: [*m, ("more/" + m[0][0], m[0][1])],
            r"ILSVRC2010_test_\d+\.JPEG is there twice.*more/test/",
        ),
        (PATCH_TAR, _other_bytes, r"patch_images\.tar: n\d+_\d+\.JPEG is there twice"),
        (
            PATCH_TAR,
            lambda m: [*m, ("old/" + m[2][0].rpartition("/")[2], b"")],
            r"ILSVRC.* is there twice: .* and old/",
        ),
        (VALIDATION_TAR, lambda m: [("val/\x1b[2J.JPEG", b""), *m], r"name 'val/\\x1b\[2J\.JPEG' at .* not printable"),
    ],
)
@pytest.mark.slow
def test_what_could_be_read_in_two_ways(release, tmp_path, tar, change, match):
    repack.edit(release / tar, change)
    _refused(release, tmp_path, match)


@pytest.mark.slow
@pytest.mark.parametrize("tar", [VALIDATION_TAR, PATCH_TAR])
def test_data_behind_the_end_of_the_archive(release, tmp_path, tar):
    data = (release / tar).read_bytes()
    for more in (b"garbage", bytes(5000) + b"\1", data):
        (release / tar).write_bytes(data + more)
        _refused(release, tmp_path, rf"{tar}: the archive ends at offset [\d,]+, but data follows at offset")


@pytest.mark.slow
def test_tar_without_its_end(release, small_release, tmp_path):
    kept = {}
    for tar in (VALIDATION_TAR, PATCH_TAR):
        data = (release / tar).read_bytes()
        kept[tar] = data.rstrip(b"\0")
        kept[tar] += bytes(-len(kept[tar]) % 512)
    (release / VALIDATION_TAR).write_bytes(kept[VALIDATION_TAR])  # the ground truth tells how many there must be
    assert _ingest(release, tmp_path / "a")[0].content == _ingest(small_release, tmp_path / "b")[0].content
    (release / PATCH_TAR).write_bytes(kept[PATCH_TAR])
    _refused(release, tmp_path, r"patch_images\.tar: truncated: no end-of-archive block")
    (release / VALIDATION_TAR).write_bytes(kept[VALIDATION_TAR][:-600])
    _refused(release, tmp_path, r"val\.tar: truncated: member val/ILSVRC2010_val_\d+\.JPEG at offset")


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S", b"Z"])
@pytest.mark.slow
def test_members_that_are_no_files(release, tmp_path, kind):
    info = tarfile.TarInfo("val/ILSVRC2010_val_00000001.JPEG")
    info.type, info.linkname = kind, "val/ILSVRC2010_val_00000002.JPEG"
    (release / VALIDATION_TAR).write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + (release / VALIDATION_TAR).read_bytes())
    _refused(
        release, tmp_path, r"val\.tar: val/ILSVRC2010_val_00000001\.JPEG at offset 0 is .*, neither file nor folder"
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_names_are_read_whole(release, small_release, tmp_path, form):
    for tar in (TRAIN_TAR, VALIDATION_TAR, PATCH_TAR):
        long = [(f"{'folder/' * 50}{name}", data) for name, data in repack.unpack((release / tar).read_bytes())]
        if tar == TRAIN_TAR:
            long = [
                (name, repack.pack([(f"{'ä' * 120}/{n}", d) for n, d in repack.unpack(data)], format=form))
                for name, data in long
            ]
        (release / tar).write_bytes(repack.pack(long, format=form))
    found, _ = _ingest(release, tmp_path / "long")
    expected, _ = _ingest(small_release, tmp_path / "short")
    assert found.digest == expected.digest
    odd = repack.pack([(f"{'folder/' * 50}odd.JPEG", b"")], format=form)
    (release / VALIDATION_TAR).write_bytes(odd)
    _refused(release, tmp_path, rf"unexpected member '{'folder/' * 50}odd\.JPEG'")
    (release / VALIDATION_TAR).write_bytes(odd[: odd.index(b"odd.JPEG") // 512 * 512 + 512])
    _refused(release, tmp_path, r"val\.tar: truncated: ends behind the name of a member, .*odd\.JPEG")


def _pax(records, name="val/ILSVRC2010_val_00000001.JPEG", kind=tarfile.XHDTYPE):
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(records)
    member = tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)
    return info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(-(-len(records) // 512) * 512, b"\0") + member


@pytest.mark.parametrize(
    ("start", "match"),
    [
        (_pax(b"22 GNU.sparse.major=1\n"), r"pax header at offset 0: a member has holes"),
        (_pax(b"14 size=99999\n"), r"truncated: member val/ILSVRC2010_val_00000001\.JPEG .* needs 99,999 bytes"),
        (_pax(b"11 size=-1\n"), r"pax header at offset 0: size='-1'"),
        (_pax(b"99 path=x\n"), r"pax header at offset 0: no record"),
        (_pax(b"path=x\n"), r"pax header at offset 0: no record"),
        (_pax(b"10 path=x\n", kind=tarfile.XGLTYPE), r"pax header at offset 0: it gives all members one path"),
        (_pax(b"18 path=../../x.y\n"), r"\.\./\.\./x\.y at offset 1,024 leaves"),
    ],
)
@pytest.mark.slow
def test_pax_headers_that_are_not_followed(release, tmp_path, start, match):
    (release / VALIDATION_TAR).write_bytes(start + bytes(1024))
    _refused(release, tmp_path, rf"val\.tar: {match}")


@pytest.mark.slow
def test_empty_image_and_another_order_of_members(release, small_release, tmp_path):
    repack.edit(
        release / TRAIN_TAR, lambda members: [(n, repack.pack(repack.unpack(d)[::-1])) for n, d in members[::-1]]
    )
    repack.edit(release / VALIDATION_TAR, lambda members: members[::-1])
    assert _ingest(release, tmp_path / "a")[0].digest == _ingest(small_release, tmp_path / "b")[0].digest
    repack.edit(release / VALIDATION_TAR, lambda members: [(members[0][0], b""), *members[1:]])
    _refused(release, tmp_path, r"validation: 1 of 4 images are unusable.*ILSVRC2010_val_\d+\.JPEG \(empty\)")


@pytest.mark.slow
def test_same_bytes_in_two_splits_and_two_classes_are_listed(release, small_release, tmp_path):
    (first, one), (second, two) = repack.unpack((release / TRAIN_TAR).read_bytes())
    a, b = repack.unpack(one), repack.unpack(two)
    b[0] = (b[0][0], a[0][1])
    (release / TRAIN_TAR).write_bytes(repack.pack([(first, one), (second, repack.pack(b))]))
    repack.edit(release / TEST_TAR, lambda members: [(members[0][0], a[2][1]), *members[1:]])
    dataset, summary = _ingest(release, tmp_path)
    assert "| train and test | 1 | 2 |" in summary
    assert "| train and validation | 0 | 0 |" in summary
    assert "| train | 1 | 2 |" in summary
    for name in (a[0][0], b[0][0], a[2][0]):
        assert f"train {name} {name[:9]}" in summary
    clean, without = _ingest(small_release, tmp_path / "clean")
    assert "In two splits or classes" not in without
    assert dataset.content["splits"] == clean.content["splits"], "nothing is left out"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda data: data[:-4] + bytes(4), r"incorrect length check"),
        (lambda data: data[:-8] + bytes(4) + data[-4:], r"incorrect data check"),
        (lambda data: data + b"more", r"at offset [\d,]+, .*incorrect header check"),
        (lambda data: data[:-1], r"truncated"),
        (lambda data: data + gzip.compress(data)[:-3], r"truncated"),
        (lambda data: data + gzip.compress(gzip.decompress(data)), r"archive ends at offset .* data follows"),
    ],
)
def test_devkit_whose_gzip_is_not_whole(release, tmp_path, change, match):
    path = release / DEVKIT_TAR
    path.write_bytes(change(path.read_bytes()))
    _refused(release, tmp_path, rf"ILSVRC2010_devkit-1\.0\.tar\.gz: .*{match}")


@pytest.mark.slow
def test_devkit_in_two_gzip_parts_is_read(release, tmp_path):
    path = release / DEVKIT_TAR
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data[:700]) + gzip.compress(data[700:]) + bytes(10))
    assert len(devkit.read(str(release)).synsets) == 2


@pytest.mark.slow
def test_every_bit_of_the_devkit_counts(release):
    expected, path = devkit.read(str(release)), release / DEVKIT_TAR
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(1)
    for at in [*range(10, 20), *rng.integers(20, len(data), 60).tolist(), *range(len(data) - 8, len(data))]:
        bit = 1 << int(rng.integers(0, 8))
        data[at] ^= bit
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"devkit-1\.0\.tar\.gz: not a whole \.tar\.gz"):
            devkit.read(str(release))
        data[at] ^= bit
    path.write_bytes(data)
    assert devkit.read(str(release)) == expected


def _truths(lines):
    return [
        (b"\xef\xbb\xbf" + lines, r"line 1: expected one ILSVRC2010_ID a line, got b'\\xef\\xbb\\xbf"),
        (lines.replace(b"\n", b"\n\n", 2), r"line 2: expected one ILSVRC2010_ID a line, got b''"),
        (lines.replace(b"\n", b".0\n"), r"line 1: expected one ILSVRC2010_ID a line, got b'\d\.0'"),
        (lines.replace(b"\n", b" ", 1), r"line 1: expected one ILSVRC2010_ID a line, got b'\d \d'"),
        (lines.replace(b"\n", b"\r"), r"line 1: expected one"),
        (b"+1\n" + lines[2:], r"line 1: expected one"),
        (b"3\n" + lines[2:], r"line 1: 3 is not a class"),
        (lines[2:], r"images for \d+ lines of ground truth"),
        (lines + b"1\n", r"images for \d+ lines of ground truth"),
        (b"", r"line 1: expected one"),
    ]


@pytest.mark.slow
def test_ground_truths_that_are_none(release, tmp_path):
    truth = release / TEST_TRUTH
    lines = truth.read_bytes()
    for changed, match in _truths(lines):
        truth.write_bytes(changed)
        _refused(release, tmp_path, match)
    truth.write_bytes(lines)
    original = (release / DEVKIT_TAR).read_bytes()
    found = dict(repack.unpack(gzip.decompress(original)))
    for changed, match in _truths(found[devkit.VALIDATION_TRUTH]):
        repack.edit_devkit(release, lambda meta_mat, _, changed=changed: (meta_mat, changed))
        _refused(release, tmp_path, match)
    (release / DEVKIT_TAR).write_bytes(original)
    expected = devkit.read(str(release))
    windows = Path(shutil.copytree(release, tmp_path / "windows"))
    (windows / TEST_TRUTH).write_bytes(lines.replace(b"\n", b"\r\n"))
    assert devkit.read(str(windows)) == expected, "the same labels, whatever ends the lines"


def test_devkit_with_two_of_a_file(release, tmp_path):
    names = (devkit.META_MAT, devkit.VALIDATION_TRUTH)
    for extra in names:
        repack.edit_devkit(
            release, lambda *data, extra=extra: [*zip(names, data, strict=True), ("./" + extra, data[0])]
        )
        _refused(release, tmp_path, rf"{extra} is there twice")


def _meta_mat(**changes):
    """A meta.mat of two classes and their parent, with some fields changed: name=(row, value)."""
    columns = {
        "ILSVRC2010_ID": [1, 2, 3],
        "WNID": ["n00000001", "n00000002", "n00000003"],
        "words": ["one", "two", "both"],
        "gloss": ["", "", ""],
        "num_children": [0, 0, 2],
        "children": [[], [], [1, 2]],
        "wordnet_height": [0, 0, 1],
        "num_train_images": [4, 4, 0],
    }
    for name, (row, value) in changes.items():
        columns[name][row] = value
    synsets = np.empty((3, 1), dtype=[(name, object) for name in columns])
    for row in range(3):
        synsets[row, 0] = tuple(values[row] for values in columns.values())
    out = io.BytesIO()
    scipy.io.savemat(out, {"synsets": synsets}, do_compression=True)
    return out.getvalue()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"ILSVRC2010_ID": (0, 2)}, "ILSVRC2010_ID: expected each of 1..3 once"),
        ({"ILSVRC2010_ID": (0, 1.5)}, "row 1: expected a count, got '1.5'"),
        ({"WNID": (1, "n1")}, "row 2: expected .*n.*, got 'n1'"),
        ({"WNID": (1, "n00000001")}, "synsets with different WNIDs"),
        ({"WNID": (1, 7)}, "row 2: expected .*got '7'"),
        ({"words": (0, "")}, "row 1: expected printable text"),
        ({"words": (0, "one\ttwo")}, "row 1: expected printable text"),
        ({"gloss": (0, 3.0)}, "row 1: expected printable text"),
        ({"num_children": (0, 1)}, "row 1: num_children is 1, but there are 0 children"),
        ({"children": (2, [1, 4])}, "row 3: child 4 is none of the other synsets"),
        ({"children": (2, [1, 3])}, "row 3: child 3 is none of the other synsets"),
        ({"wordnet_height": (2, -1)}, "row 3: expected a count, got '-1'"),
        ({"num_train_images": (0, -4)}, "row 1: expected a count, got '-4'"),
        ({"num_train_images": (0, float("nan"))}, "row 1: "),
        ({"num_train_images": (0, [4, 4])}, "row 1: expected a count"),
    ],
)
@pytest.mark.slow
def test_fields_of_meta_mat_are_checked(changes, match):
    assert [s.num_train for s in devkit._synsets(_meta_mat(), "meta.mat")] == [4, 4]
    with pytest.raises(DataError, match=rf"^meta\.mat: .*{match}"):
        devkit._synsets(_meta_mat(**changes), "meta.mat")


@pytest.mark.slow
def test_mutations_of_meta_mat():
    """Under good checksums: a table of synsets, or an error with the file's name; nothing ends the process."""
    original, rng = _meta_mat(), np.random.default_rng(7)
    elements = repack.mat_elements(original)
    num_refused = 0
    for _ in range(12):
        k = int(rng.integers(len(elements)))
        data = bytearray(elements[k])
        for at in rng.integers(0, len(data), 3).tolist():
            data[at] = int(rng.integers(256))
        mutated = repack.mat_file(original[: devkit.MAT_HEADER_BYTES], [*elements[:k], bytes(data), *elements[k + 1 :]])
        try:
            devkit._synsets(mutated, "meta.mat")
        except DataError as error:
            assert str(error).startswith("meta.mat: ") and "\n" not in str(error)
            num_refused += 1
    assert num_refused > 0


@pytest.mark.parametrize(
    ("folder", "match"),
    [
        ("duplicate_member", r"n10000000\.tar: n10000000_1\.JPEG is there twice"),
        ("devkit_bitflip", r"devkit-1\.0\.tar\.gz: not a whole \.tar\.gz"),
        ("meta_segv", r"meta\.mat: cannot be read .* signal 11"),
        ("meta_index", r"meta\.mat: cannot be read .* IndexError"),
        ("gnu_long_names", ""),
        ("pax_long_names", ""),
    ],
)
@pytest.mark.slow
def test_awkward_releases(shared_data, tmp_path, folder, match):
    release = shared_data / "awkward-releases" / folder
    if match:
        _refused(release, tmp_path, match)
    else:
        assert _ingest(release, tmp_path)[0].content["splits"]["train"]["used"] == 12
