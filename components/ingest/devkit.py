"""The development kit: classes from meta.mat and the ground truths, checked against what ILSVRC-2010 says of itself."""

import io
import tarfile
import zlib
from dataclasses import dataclass

import numpy as np
import scipy.io

from components.shared import storage
from components.shared.errors import DataError

DEVKIT_TAR = "ILSVRC2010_devkit-1.0.tar.gz"
TEST_TRUTH = "ILSVRC2010_test_ground_truth.txt"
META_MAT = "devkit-1.0/data/meta.mat"
VALIDATION_TRUTH = "devkit-1.0/data/ILSVRC2010_validation_ground_truth.txt"
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
MAX_MEMBER_BYTES = 1 << 28


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

    @property
    def num_images(self) -> dict[str, int]:
        """Number of images that the devkit promises, by split."""
        return {
            "train": sum(synset.num_train for synset in self.synsets),
            "validation": len(self.validation_truth),
            "test": len(self.test_truth),
        }

    @property
    def is_full(self) -> bool:
        """Whether this is the whole ILSVRC-2010, not a cut or generated one."""
        return self.num_images["train"] == FULL_NUM_TRAIN


def _member(tar: tarfile.TarFile, name: str, uri: str) -> bytes:
    try:
        info = tar.getmember(name)
        file = tar.extractfile(info) if info.isreg() and info.size <= MAX_MEMBER_BYTES else None
    except KeyError:
        file = None
    if file is None:
        raise DataError(
            f"{uri}: no file {name} in it. Expected the devkit of ILSVRC-2010 (another year has other names); "
            "fetch ILSVRC2010_devkit-1.0.tar.gz"
        )
    return file.read()


def _synsets(meta_mat: bytes, where: str) -> list[Synset]:
    try:
        synsets = scipy.io.loadmat(io.BytesIO(meta_mat), squeeze_me=True, variable_names=["synsets"])["synsets"]
        names = synsets.dtype.names or ()
    except (KeyError, ValueError, TypeError, NotImplementedError, OSError, zlib.error) as error:
        raise DataError(
            f"{where}: cannot be read as a MATLAB file with `synsets` ({error}). Fetch the devkit again"
        ) from error
    if names != FIELDS:
        other = next((n for n in names if n.endswith("_ID") and n != FIELDS[0]), "")
        hint = (
            f"it is the devkit of another year ({other})" if other else f"its fields are {', '.join(names) or 'none'}"
        )
        raise DataError(
            f"{where}: expected the fields of ILSVRC-2010 ({', '.join(FIELDS)}), but {hint}. "
            "Fetch ILSVRC2010_devkit-1.0.tar.gz"
        )
    try:
        classes = [
            Synset(int(s["ILSVRC2010_ID"]), str(s["WNID"]), str(s["words"]), int(s["num_train_images"]))
            for s in np.atleast_1d(synsets)
            if int(s["num_children"]) == 0
        ]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: a field of `synsets` is not of its type ({error}). Fetch the devkit again"
        ) from error
    classes.sort(key=lambda synset: synset.ilsvrc_id)
    if [s.ilsvrc_id for s in classes] != list(range(1, len(classes) + 1)) or len({s.wnid for s in classes}) < len(
        classes
    ):
        raise DataError(f"{where}: expected classes with the ILSVRC2010_ID 1..{len(classes)} and different WNIDs")
    return classes


def _truth(data: bytes, where: str, num_classes: int) -> list[int]:
    try:
        ids = [int(line) for line in data.split()]
    except ValueError as error:
        raise DataError(f"{where}: expected one ILSVRC2010_ID a line, got {error}. Fetch it again") from error
    for k, ilsvrc_id in enumerate(ids, 1):
        if not 1 <= ilsvrc_id <= num_classes:
            raise DataError(f"{where}, line {k}: {ilsvrc_id} is not a class of meta.mat (1..{num_classes})")
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
    try:
        with tarfile.open(fileobj=io.BytesIO(storage.read_bytes(uri)), mode="r:gz") as tar:
            meta_mat, validation = (_member(tar, name, uri) for name in (META_MAT, VALIDATION_TRUTH))
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{uri}: not a whole .tar.gz ({error}). Fetch it again") from error
    synsets = _synsets(meta_mat, f"{uri} > {META_MAT}")
    test_uri = storage.join(release_uri, TEST_TRUTH)
    devkit = Devkit(
        synsets,
        _truth(validation, f"{uri} > {VALIDATION_TRUTH}", len(synsets)),
        _truth(storage.read_bytes(test_uri), test_uri, len(synsets)),
    )
    if devkit.is_full:
        _check_full(devkit, uri)
    return devkit
