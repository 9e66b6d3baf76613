"""What identifies a release."""

from pathlib import Path

import pytest

from components.shared import release, storage
from components.shared.errors import StorageError


@pytest.mark.slow
def test_fingerprint_changes_with_the_content_of_the_release_only(tmp_path: Path) -> None:
    folder = str(tmp_path / "release")
    with pytest.raises(StorageError, match="no files there"):
        release.fingerprint(folder)
    storage.publish_bytes(b"one", f"{folder}/{release.TRAIN_TAR}")
    storage.publish_bytes(b"two", f"{folder}/{release.DEVKIT_TAR}")
    first = release.fingerprint(folder)
    assert release.fingerprint(f"file://{folder}/") == first
    for name in (".hidden", "dataset.json", "root/ingest/key/train-00000-of-00001.tfrecord", f"old/{release.TEST_TAR}"):
        storage.publish_bytes(b"not part of it", f"{folder}/{name}")
        assert release.fingerprint(folder) == first
    seen = {first}
    storage.publish_bytes(b"three", f"{folder}/{release.PATCH_TAR}")
    seen.add(release.fingerprint(folder))
    (Path(folder) / release.TRAIN_TAR).rename(Path(folder) / release.TEST_TAR)
    seen.add(release.fingerprint(folder))
    storage.write_text(Path(folder) / release.TEST_TAR, "onE")  # same size
    seen.add(release.fingerprint(folder))
    assert len(seen) == 4
