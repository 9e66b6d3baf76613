"""Where every image of a release lies: read from the headers once, and kept under the root for the runs that follow.

One table for the whole release, rows by split, class and name. It is kept under the release's fingerprint and the
sources that made it, and is made again when its digest does not hold.
"""

import numpy as np

from components.ingest import archives, tables
from components.ingest.devkit import Devkit
from components.shared import manifest, runlog, storage
from components.shared.errors import DataError

SOURCE = "https://image-net.org/challenges/LSVRC/2010/"
FOLDER = "release-index"  # under the root, beside the folders of the components
SPLITS = {"train": archives.TRAIN_TAR, "validation": archives.VALIDATION_TAR, "test": archives.TEST_TAR}


def place(root_uri: str, fingerprint: str) -> str:
    """Name the file of a release's index."""
    source = manifest.source_digest(__file__, "archives", "devkit", "headers", "mat_reader", "tables", "tars")
    key = manifest.digest_of({"release": fingerprint, "source": source})[:16]
    return storage.join(root_uri, FOLDER, key)


def read_release(tars: dict[str, archives.Tar], kit: Devkit, log: runlog.RunLog) -> np.ndarray:
    """Read the headers of all tars of a release.

    Raises:
        DataError: a tar is damaged, or does not hold what the devkit promises.
    """
    progress = runlog.Progress(log, len(kit.synsets), "synsets indexed")
    parts = [
        archives.index_train(tars[archives.TRAIN_TAR], kit, progress.update),
        archives.index_flat(tars[archives.VALIDATION_TAR], "val", kit.validation_truth),
        archives.index_flat(tars[archives.TEST_TAR], "test", kit.test_truth),
    ]
    if archives.PATCH_TAR in tars:
        parts.append(archives.index_patches(tars[archives.PATCH_TAR]))
    return np.concatenate(parts)


def of_release(
    uri: str, tars: dict[str, archives.Tar], kit: Devkit, patches: str, log: runlog.RunLog
) -> dict[str, np.ndarray]:
    """Return the images of each split, a table in the order of class and name, with the patches applied.

    Args:
        uri: where the index is kept.
        tars: the files of the release.
        kit: its devkit.
        patches: auto, required or waived.
        log: for progress and for what is done with the patches.

    Raises:
        DataError: a tar is damaged, does not hold what the devkit promises, or patches are missing.
        StorageError: a place cannot be read or written.
    """
    table = tables.read(uri)
    if table is None:
        table = read_release(tars, kit, log)
        tables.keep(table, uri)
        log.info("release indexed", num_images=len(table), uri=uri)
    else:
        log.info("index of the release found", num_images=len(table), uri=uri)
    splits = {split: table[table["tar"] == archives.TARS.index(name)] for split, name in SPLITS.items()}
    if patches == "waived":
        log.warning("patches waived: blank images of the release stay")
    elif archives.PATCH_TAR in tars:
        patch_tar = tars[archives.PATCH_TAR]
        rows = table[table["tar"] == archives.PATCHES]
        log.info("patches applied", num_patches=archives.apply_patches(rows, splits, patch_tar.where))
    elif patches == "required" or kit.is_full:
        raise DataError(
            f"{tars[archives.TRAIN_TAR].uri.rpartition('/')[0]}: no {archives.PATCH_TAR} there, which replaces blank "
            f"images of the release. Fetch it from {SOURCE} or use --patches waived to go on without them"
        )
    return splits
