"""The nested tars of the release: where the bytes of every image lie, found from the headers alone.

Nothing is ever extracted. A tar of uncompressed tars allows reading any inner member by its absolute offset, so a row
of a table of `tables` is all that a worker needs.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from components.ingest import headers, tables, tars
from components.ingest.devkit import Devkit
from components.shared.errors import DataError
from components.shared.release import PATCH_TAR, TEST_TAR, TRAIN_TAR, VALIDATION_TAR

TARS = (TRAIN_TAR, VALIDATION_TAR, TEST_TAR, PATCH_TAR)  # as column `tar` of a table of images counts them
PATCHES = TARS.index(PATCH_TAR)
NUM_INDEX_THREADS = 16  # waiting for headers, not computing
ONLY_HEADERS, OF_ONE_OF_MANY, OF_ONE_FILE = -1, 1, headers.NUM_FETCHES  # blocks to fetch ahead from an object store


@dataclass(frozen=True)
class Tar:
    """A tar file, or one inside another: bytes `start` to `end` of a file of the release."""

    uri: str
    start: int
    end: int
    inner_name: str = ""

    @property
    def where(self) -> str:
        return f"{self.uri}{' > ' if self.inner_name else ''}{self.inner_name}"


def _members(tar: Tar, num_ahead: int = OF_ONE_FILE, *, needs_end: bool = False) -> dict[str, tars.Member]:
    """Read the headers of a tar as `headers.Reader` does, and map names without folders to its members."""
    reader = headers.Reader(tar.uri, tar.start, tar.end, num_ahead)
    return tars.by_name(tar.where, tars.walk(tar.where, tar.start, tar.end, reader.read, needs_end=needs_end))


def _refuse_name(tar: Tar, member: tars.Member, expected: str) -> DataError:
    return DataError(
        f"{tar.where}: unexpected member {member.path!r} at offset {member.offset:,}, expected {expected}. "
        "Is this the ILSVRC-2010 release?"
    )


def _table(members: list[tars.Member], ilsvrc_ids: list[int] | int, tar: int) -> np.ndarray:
    spans = [(member.offset, member.num_bytes) for member in members]
    return tables.make([member.name for member in members], ilsvrc_ids, tar, spans)


def _index_synset(tar: Tar, ilsvrc_id: int, wnid: str, num_expected: int) -> np.ndarray:
    pattern = re.compile(re.escape(wnid) + r"_\d+\.JPEG", re.ASCII)
    images = _members(tar, OF_ONE_OF_MANY)
    for name, member in images.items():
        if not pattern.fullmatch(name):
            raise _refuse_name(tar, member, f"{wnid}_<number>.JPEG")
    if len(images) != num_expected:
        raise DataError(
            f"{tar.where}: {len(images):,} images, but num_train_images of {wnid} in meta.mat is {num_expected:,}. "
            "Tar and devkit are of different releases, or the tar is damaged"
        )
    return _table([images[name] for name in sorted(images)], ilsvrc_id, TARS.index(TRAIN_TAR))


def index_train(tar: Tar, devkit: Devkit, on_progress: Callable[[int], None]) -> np.ndarray:
    """List the training images in the order of class and name.

    Args:
        tar: the outer tar.
        devkit: classes and their counts.
        on_progress: called with the number of synsets done.

    Raises:
        DataError: the tar is damaged, or does not hold the devkit's classes and counts.
    """
    by_name = {f"{synset.wnid}.tar": synset for synset in devkit.synsets}
    inner: dict[str, Tar] = {}
    for name, member in _members(tar, ONLY_HEADERS).items():
        if name not in by_name:
            raise _refuse_name(tar, member, "<WNID>.tar of a class of meta.mat")
        inner[name] = Tar(tar.uri, member.offset, member.offset + member.num_bytes, name)
    missing = sorted(set(by_name) - set(inner))
    if missing:
        raise DataError(f"{tar.where}: {len(missing)} classes of meta.mat have no tar, the first is {missing[0]}")
    images: list[np.ndarray] = []
    pool = ThreadPoolExecutor(NUM_INDEX_THREADS)
    try:
        futures = [
            pool.submit(_index_synset, inner[name], synset.ilsvrc_id, synset.wnid, synset.num_train)
            for name, synset in by_name.items()
        ]
        for done, future in enumerate(futures, 1):
            images.append(future.result())
            on_progress(done)
    finally:
        pool.shutdown(cancel_futures=True)
    return np.concatenate(images)


def index_flat(tar: Tar, name: str, truth: list[int]) -> np.ndarray:
    """List the validation or test images in the order of their names, with the labels of the ground truth.

    Args:
        tar: the tar.
        name: `val` or `test`, as in the member names.
        truth: ILSVRC2010_ID of image k in the ascending order of the names.

    Raises:
        DataError: the tar is damaged or its images are not those of the ground truth.
    """
    pattern = re.compile(rf"ILSVRC2010_{name}_\d{{8}}\.JPEG", re.ASCII)
    members = _members(tar)
    for key, member in members.items():
        if not pattern.fullmatch(key):
            raise _refuse_name(tar, member, f"ILSVRC2010_{name}_<8 digits>.JPEG")
    expected = [f"ILSVRC2010_{name}_{k:08d}.JPEG" for k in range(1, len(truth) + 1)]
    if sorted(members) != expected:
        odd = sorted(set(expected) ^ set(members))
        raise DataError(
            f"{tar.where}: {len(members):,} images for {len(truth):,} lines of ground truth; the first difference is "
            f"{odd[0]}. Tar and ground truth are of different releases, or the tar is damaged"
        )
    return _table([members[key] for key in expected], truth, TARS.index(PurePosixPath(tar.uri).name))


def index_patches(tar: Tar) -> np.ndarray:
    """List the images of patch_images.tar, of no class.

    Raises:
        DataError: the tar is damaged.
    """
    # No count tells how many there must be, so the end has to.
    return _table(list(_members(tar, needs_end=True).values()), 0, PATCHES)


def apply_patches(patches: np.ndarray, splits: dict[str, np.ndarray], where: str) -> int:
    """Replace blank images, in place, by those of patch_images.tar with the same name.

    Returns:
        The number of patches.

    Raises:
        DataError: a patch has no image to replace.
    """
    unused = {name: position for position, name in enumerate(patches["name"].tolist())}
    for table in splits.values():
        for row in np.flatnonzero(np.isin(table["name"], patches["name"])).tolist():
            patch = patches[unused.pop(table["name"][row].item())]
            for column in ("tar", "offset", "num_bytes"):
                table[column][row] = patch[column]
    if unused:
        first = min(unused).decode(errors="replace")
        raise DataError(
            f"{where}: {len(unused)} of {len(patches)} patches replace no image, the first is {first}. "
            "Patches and images are of different releases; use --patches waived to go on without them"
        )
    return len(patches)
