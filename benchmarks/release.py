"""Writes a release of any size, up to that of ILSVRC-2010 and beyond, with one small image in it over and over.

    python -m benchmarks.release FOLDER NUM_CLASSES IMAGES_PER_CLASS [GAP_BYTES]
    python -m benchmarks.release FOLDER DEVKIT_TAR_GZ [GAP_BYTES]

The second form takes classes, counts and validation labels from a real devkit. With GAP_BYTES each image is a hole
of so many bytes, which takes no disk: for the index alone. A test has 150 images a class and a validation 50, or less
where the classes have fewer. Members are written one by one; nothing is held in memory.
"""

import gzip
import io
import shutil
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.io
import simplejpeg

from components.ingest import archives, devkit
from components.shared import storage

BLOCK = 512
JPEG = simplejpeg.encode_jpeg(np.full((16, 16, 3), (90, 140, 200), np.uint8), quality=80)
Member = tuple[str, int]  # name and number of bytes


def padded(num_bytes: int) -> int:
    """Round up to whole blocks."""
    return -(-num_bytes // BLOCK) * BLOCK


def header(name: str, num_bytes: int) -> bytes:
    """Make the header of a member."""
    info = tarfile.TarInfo(name)
    info.size = num_bytes
    return info.tobuf(tarfile.USTAR_FORMAT)


def tar_bytes(sizes: Iterable[int]) -> int:
    """Compute the size of a tar of members of these sizes."""
    return sum(BLOCK + padded(size) for size in sizes) + 2 * BLOCK


def write_members(file: BinaryIO, members: Iterable[Member], content: bytes | None) -> None:
    """Write the members of a tar and its end; without content they are holes."""
    for name, num_bytes in members:
        file.write(header(name, num_bytes))
        if content is None:
            file.seek(padded(num_bytes), io.SEEK_CUR)
        else:
            file.write(content.ljust(padded(num_bytes), b"\0"))
    file.write(bytes(2 * BLOCK))


def write_train(path: Path, synsets: list[devkit.Synset], num_bytes: int, content: bytes | None) -> None:
    """Write the tar of tars."""
    with path.open("wb") as file:
        for synset in synsets:
            file.write(header(f"{synset.wnid}.tar", tar_bytes([num_bytes] * synset.num_train)))
            names = (f"{synset.wnid}_{k}.JPEG" for k in range(synset.num_train))
            write_members(file, ((name, num_bytes) for name in names), content)
        file.write(bytes(2 * BLOCK))


def flat(name: str, num_images: int, num_bytes: int) -> Iterator[Member]:
    """Yield the members of a validation or test tar."""
    return ((f"{name}/ILSVRC2010_{name}_{k:08d}.JPEG", num_bytes) for k in range(1, num_images + 1))


def write_devkit(path: Path, num_classes: int, num_train: int, validation: list[int]) -> None:
    """Write a devkit of made-up classes."""
    synsets = np.empty((num_classes, 1), dtype=[(name, object) for name in devkit.FIELDS])
    for k in range(num_classes):
        synsets[k, 0] = (k + 1, f"n9{k * 7919 % 10**7:07d}", f"class {k}", "made up", 0, [], 0, num_train)
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets}, do_compression=True)
    truth = "".join(f"{ilsvrc_id}\n" for ilsvrc_id in validation).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in ((devkit.META_MAT, meta.getvalue()), (devkit.VALIDATION_TRUTH, truth)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(out.getvalue(), mtime=0))


def labels(num_classes: int, each: int) -> list[int]:
    """Draw the labels of a split."""
    return (np.random.default_rng(0).permutation(np.repeat(np.arange(num_classes), each)) + 1).tolist()


def write(folder: Path, kit: Path | None, num_classes: int, num_train: int, gap_bytes: int) -> None:
    """Write a whole release, the classes either of a devkit or made up."""
    folder.mkdir(parents=True)
    if kit:
        shutil.copy(kit, folder / devkit.DEVKIT_TAR)
        num_classes, num_train = devkit.FULL_NUM_CLASSES, devkit.FULL_NUM_TRAIN // devkit.FULL_NUM_CLASSES
    else:
        write_devkit(folder / devkit.DEVKIT_TAR, num_classes, num_train, labels(num_classes, min(50, num_train)))
    test = labels(num_classes, min(devkit.FULL_PER_CLASS["test"], num_train))
    (folder / devkit.TEST_TRUTH).write_text("".join(f"{ilsvrc_id}\n" for ilsvrc_id in test))
    found = devkit.read(str(folder))
    content, num_bytes = (None, gap_bytes) if gap_bytes else (JPEG, len(JPEG))
    write_train(folder / archives.TRAIN_TAR, found.synsets, num_bytes, content)
    for path, name, truth in (
        (archives.VALIDATION_TAR, "val", found.validation_truth),
        (archives.TEST_TAR, "test", found.test_truth),
    ):
        with (folder / path).open("wb") as file:
            write_members(file, flat(name, len(truth), num_bytes), content)
    with (folder / archives.PATCH_TAR).open("wb") as file:
        write_members(file, [(f"{found.synsets[0].wnid}_0.JPEG", num_bytes)], content)
    total = sum(entry.num_bytes for entry in storage.list_files(str(folder)))
    print(f"{folder}: {sum(found.num_images.values()):,} images in {num_classes:,} classes, {total / 1e9:.1f} GB")


def main() -> None:
    """Write what the command line says."""
    folder, first, *rest = sys.argv[1:]
    if first.isdecimal():
        num_train, gap_bytes = (*map(int, rest), 0)[:2]
        write(Path(folder), None, int(first), num_train, gap_bytes)
    else:
        write(Path(folder), Path(first), 0, 0, int(rest[0]) if rest else 0)


if __name__ == "__main__":
    main()
