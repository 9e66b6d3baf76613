"""The development kit: classes from meta.mat and the ground truths, checked against what ILSVRC-2010 says of itself."""

import hashlib
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from components.ingest import tars
from components.shared import storage
from components.shared.errors import DataError
from components.shared.release import DEVKIT_TAR, TEST_TRUTH

META_MAT = "devkit-1.0/data/meta.mat"
VALIDATION_TRUTH = "devkit-1.0/data/ILSVRC2010_validation_ground_truth.txt"
PUBLISHED = {  # sha256 of what image-net.org gives out; nobody has published one of the test ground truth
    DEVKIT_TAR: "4336569628f820a3abfd0f5a1c563b2117d2e62119137f8d76de1247bf56341d",
    META_MAT: "a4c904192179ee125d817c1890cfe6a32459f7b11572296946a9350c68391782",
    VALIDATION_TRUTH: "38e56d90bf08ee83094ae015bedd101d5714315e3ac26f43db7619616988ee72",
}
FIELDS = (
    "ILSVRC2010_ID",
    "WNID",
    "words",
    "gloss",
    "num_children",
    "children",
    "wordnet_height",
    "num_train_images",
)
FULL_NUM_TRAIN = 1_261_406  # devkit readme: training images of the whole release
FULL_NUM_CLASSES = 1000
FULL_PER_CLASS = {"validation": 50, "test": 150}
MAX_BYTES = 1 << 28  # unpacked; the real kit has 1.4 MB
READER_SECONDS = 120  # on a busy machine; a few without other work
MAX_SYNSETS = 65_535
MAT_HEADER_BYTES, MAT_LITTLE_ENDIAN, MAT_COMPRESSED = 128, b"\0\1IM", 15  # MAT-file format, level 5


@dataclass(frozen=True)
class Synset:
    """A class: a synset without children."""

    ilsvrc_id: int  # 1-based
    wnid: str
    words: str
    num_train: int


@dataclass(frozen=True)
class Devkit:
    """Classes and labels of a release."""

    synsets: list[Synset]  # by ilsvrc_id: 1..number of classes
    validation_truth: list[int]  # ilsvrc_id of image k in the order of the names
    test_truth: list[int]
    published: tuple[str, ...] = ()  # files that are those of `PUBLISHED`, byte for byte

    @property
    def num_images(self) -> dict[str, int]:
        """Number of images that the devkit promises, by split."""
        return {
            "train": sum(synset.num_train for synset in self.synsets),
            "validation": len(self.validation_truth),
            "test": len(self.test_truth),
        }

    @property
    def provenance(self) -> str:
        """What is known of the origin of the labels, in two sentences."""
        if META_MAT in self.published:
            names = ", ".join(PurePosixPath(name).name for name in self.published)
            return (
                f"The devkit is the published one (sha256 of {names}). {TEST_TRUTH} was not verified: "
                "no digest of it is published."
            )
        return (
            "The devkit was not verified: it is not the one that was published for ILSVRC-2010. "
            "That a ground truth belongs to these images cannot be told from its form."
        )

    @property
    def is_full(self) -> bool:
        """Whether this is the whole ILSVRC-2010, not a cut or generated one."""
        return self.num_images["train"] == FULL_NUM_TRAIN


def _gunzip(data: bytes, uri: str) -> bytes:
    """Unpack a whole gzip file: checksum and length of each of its parts are verified, and nothing else may follow."""
    parts, rest = [], data
    while rest.rstrip(b"\0") or not parts:  # gzip itself allows zeros behind the end
        stream = zlib.decompressobj(wbits=31)
        try:
            parts.append(stream.decompress(rest, max(1, MAX_BYTES - sum(map(len, parts)))))
        except zlib.error as error:
            at = len(data) - len(rest)
            raise DataError(f"{uri}: not a whole .tar.gz: at offset {at:,}, {error}. Fetch it again") from error
        if not stream.eof:
            reason = "unpacks to too much" if stream.unconsumed_tail else "truncated"
            raise DataError(
                f"{uri}: not a whole .tar.gz: {reason} behind {sum(map(len, parts)):,} bytes. Fetch it again"
            )
        rest = stream.unused_data
    return b"".join(parts)


def _members(archive: bytes, uri: str) -> dict[str, bytes]:
    """Return meta.mat and the validation ground truth."""
    found: dict[str, bytes] = {}
    for member in tars.walk(uri, 0, len(archive), lambda at, num_bytes: archive[at : at + num_bytes]):
        path = str(PurePosixPath(member.path))
        if path in (META_MAT, VALIDATION_TRUTH):
            if path in found:
                raise DataError(f"{uri}: {path} is there twice, again at offset {member.offset:,}. Fetch it again")
            found[path] = archive[member.offset : member.offset + member.num_bytes]
    for name in (META_MAT, VALIDATION_TRUTH):
        if name not in found:
            raise DataError(
                f"{uri}: no file {name} in it. Expected the devkit of ILSVRC-2010 (another year has other names); "
                "fetch ILSVRC2010_devkit-1.0.tar.gz"
            )
    return found


def _check_mat_streams(meta_mat: bytes, where: str) -> None:
    """Verify length and checksum of the compressed elements, of which a reader looks at what it needs only."""
    at = MAT_HEADER_BYTES if meta_mat[:MAT_HEADER_BYTES].endswith(MAT_LITTLE_ENDIAN) else len(meta_mat)
    while at < len(meta_mat):
        kind, size = (int.from_bytes(meta_mat[k : k + 4], "little") for k in (at, at + 4))
        data, at = meta_mat[at + 8 : at + 8 + size], at + 8 + size
        if at > len(meta_mat):
            raise DataError(f"{where}: truncated: {at:,} bytes are announced, {len(meta_mat):,} there. Fetch it again")
        if kind != MAT_COMPRESSED:  # without a checksum
            return
        stream = zlib.decompressobj()
        try:
            stream.decompress(data, MAX_BYTES)
        except zlib.error as error:
            raise DataError(f"{where}: damaged before offset {at:,}: {error}. Fetch the devkit again") from error
        if not stream.eof or stream.unused_data:
            raise DataError(f"{where}: damaged: the element before offset {at:,} does not end there. Fetch it again")


def _read_synsets(meta_mat: bytes, where: str) -> dict[str, Any]:
    """Run `mat_reader` and return what it found, whatever becomes of it."""
    _check_mat_streams(meta_mat, where)
    command = [sys.executable, "-P", str(Path(__file__).with_name("mat_reader.py"))]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # the threads of 64 cores would not fit its memory
    try:
        done = subprocess.run(
            command, input=meta_mat, capture_output=True, env=environment, timeout=READER_SECONDS, check=False
        )
        reason = f"signal {-done.returncode}" if done.returncode < 0 else done.stderr.decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        done, reason = None, f"no end after {READER_SECONDS} seconds"
    if done is None or done.returncode:
        raise DataError(
            f"{where}: cannot be read as a MATLAB file with `synsets`; the reader ended by "
            f"{reason.splitlines()[-1] if reason else 'itself'}. Fetch the devkit again"
        )
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise DataError(f"{where}: the reader's answer is damaged ({error}). Fetch the devkit again") from error


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 0:
        raise ValueError(f"expected a count, got {str(value)[:40]!r}")
    return int(value)


def _text(value: object, pattern: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value) or not value.isprintable():
        raise ValueError(f"expected printable text of the form {pattern}, got {str(value)[:40]!r}")
    return value


def _check_synset(row: Sequence[Any], num_synsets: int) -> Synset | None:
    """Check all fields of a row of `synsets`.

    Returns:
        The class, or None for an inner synset.
    """
    ilsvrc_id, wnid, words, gloss, num_children, children, height, num_train = row
    synset = Synset(_count(ilsvrc_id), _text(wnid, "n[0-9]{8}"), _text(words, ".+"), _count(num_train))
    _text(gloss or "", ".*")  # an empty text is read as an empty array
    _count(height)
    ids = [_count(child) for child in (children if isinstance(children, list) else [children])]
    if len(ids) != _count(num_children):
        raise ValueError(f"num_children is {num_children}, but there are {len(ids)} children")
    if odd := [child for child in ids if not 1 <= child <= num_synsets or child == synset.ilsvrc_id]:
        raise ValueError(f"child {odd[0]} is none of the other synsets (1..{num_synsets})")
    return None if ids else synset


def _synsets(meta_mat: bytes, where: str) -> list[Synset]:
    found = _read_synsets(meta_mat, where)
    names, rows = tuple(found["fields"]), found["synsets"]
    if names != FIELDS:
        other = next((n for n in names if n.endswith("_ID") and n != FIELDS[0]), "")
        hint = (
            f"it is the devkit of another year ({other})" if other else f"its fields are {', '.join(names) or 'none'}"
        )
        raise DataError(
            f"{where}: expected the fields of ILSVRC-2010 ({', '.join(FIELDS)}), but {hint}. "
            "Fetch ILSVRC2010_devkit-1.0.tar.gz"
        )
    if len(rows) > MAX_SYNSETS:
        raise DataError(f"{where}: {len(rows):,} synsets, at most {MAX_SYNSETS:,} are expected. Fetch the devkit again")
    classes = []
    for k, row in enumerate(rows, 1):
        try:
            synset = _check_synset(row, len(rows))
        except (ValueError, OverflowError) as error:
            raise DataError(f"{where}: `synsets`, row {k}: {error}. Fetch the devkit again") from error
        classes += [synset] if synset else []
    classes.sort(key=lambda synset: synset.ilsvrc_id)
    for what, values, expected in (
        ("ILSVRC2010_ID", [_count(row[0]) for row in rows], len(rows)),
        ("ILSVRC2010_ID of classes", [synset.ilsvrc_id for synset in classes], len(classes)),
    ):
        if sorted(values) != list(range(1, expected + 1)):
            raise DataError(f"{where}: {what}: expected each of 1..{expected} once. Fetch the devkit again")
    if not classes or len({row[1] for row in rows}) < len(rows):
        raise DataError(f"{where}: expected synsets with different WNIDs, at least one a class. Fetch the devkit again")
    return classes


def _truth(data: bytes, where: str, num_classes: int) -> list[int]:
    """Read a ground truth: one ILSVRC2010_ID a line, in the order of the images, so that no line may be missing."""
    ids = []
    for k, line in enumerate(data.rstrip().split(b"\n"), 1):
        if not re.fullmatch(rb"[0-9]{1,9}\r?", line):
            raise DataError(f"{where}, line {k}: expected one ILSVRC2010_ID a line, got {line[:40]!r}. Fetch it again")
        ids.append(int(line))
        if not 1 <= ids[-1] <= num_classes:
            raise DataError(f"{where}, line {k}: {ids[-1]} is not a class of meta.mat (1..{num_classes})")
    return ids


def _check_full(devkit: Devkit, where: str) -> None:
    if len(devkit.synsets) != FULL_NUM_CLASSES:
        raise DataError(f"{where}: {len(devkit.synsets)} classes, expected {FULL_NUM_CLASSES} for the full release")
    for split, ids in (("validation", devkit.validation_truth), ("test", devkit.test_truth)):
        counts = np.bincount(ids, minlength=FULL_NUM_CLASSES + 1)[1:]
        odd = np.flatnonzero(counts != FULL_PER_CLASS[split])
        if len(odd):
            raise DataError(
                f"{where}: {split} ground truth has {counts[odd[0]]} images of class {odd[0] + 1}, "
                f"expected {FULL_PER_CLASS[split]} of each. The file is damaged or of another release"
            )


def read(release_uri: str) -> Devkit:
    """Read the devkit and the test ground truth.

    Args:
        release_uri: folder of the release.

    Raises:
        DataError: a file is damaged, of another year, or contradicts itself.
    """
    uri = storage.join(release_uri, DEVKIT_TAR)
    packed = storage.read_bytes(uri)
    members = _members(_gunzip(packed, uri), uri)
    synsets = _synsets(members[META_MAT], f"{uri} > {META_MAT}")
    validation_truth = _truth(members[VALIDATION_TRUTH], f"{uri} > {VALIDATION_TRUTH}", len(synsets))
    test_uri = storage.join(release_uri, TEST_TRUTH)
    truth_lines = "".join(f"{ilsvrc_id}\n" for ilsvrc_id in validation_truth).encode()  # whatever ends its lines
    contents = {DEVKIT_TAR: packed, META_MAT: members[META_MAT], VALIDATION_TRUTH: truth_lines}
    devkit = Devkit(
        synsets,
        validation_truth,
        _truth(storage.read_bytes(test_uri), test_uri, len(synsets)),
        tuple(name for name, data in contents.items() if hashlib.sha256(data).hexdigest() == PUBLISHED[name]),
    )
    if (META_MAT in devkit.published) != (VALIDATION_TRUTH in devkit.published):
        good, bad = (META_MAT, VALIDATION_TRUTH) if META_MAT in devkit.published else (VALIDATION_TRUTH, META_MAT)
        raise DataError(
            f"{uri} > {bad}: not what was published, while {good} is (sha256). Labels cannot be trusted; "
            "fetch the devkit again"
        )
    if devkit.is_full:
        _check_full(devkit, uri)
    return devkit
