"""The files of ILSVRC-2010, and what identifies a folder of them."""

import hashlib

from components.shared import storage
from components.shared.errors import StorageError

TRAIN_TAR, VALIDATION_TAR, TEST_TAR = (f"ILSVRC2010_images_{name}.tar" for name in ("train", "val", "test"))
PATCH_TAR = "patch_images.tar"
DEVKIT_TAR = "ILSVRC2010_devkit-1.0.tar.gz"
TEST_TRUTH = "ILSVRC2010_test_ground_truth.txt"
REQUIRED = (TRAIN_TAR, VALIDATION_TAR, TEST_TAR, DEVKIT_TAR, TEST_TRUTH)
FILES = (*REQUIRED, PATCH_TAR)


def fingerprint(uri: str) -> str:
    """Identify a release by the names, sizes and versions of its files, without reading them.

    Other files do not count, so that a root may lie in the release's folder.

    Raises:
        StorageError: there is no file under the URI.
    """
    entries = storage.list_files(uri)
    if not entries:
        raise StorageError(f"{uri}: no files there. Check the path for spelling")
    text = "\n".join(f"{e.name} {e.num_bytes} {e.version}" for e in entries if e.name in FILES)
    return hashlib.sha256(text.encode()).hexdigest()
