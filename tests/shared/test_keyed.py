"""Folders of results by key: found finished, computed, moved, or made again when files are lost."""

import io
import json
from pathlib import Path

import pytest

from components.shared import keyed, manifest, storage
from components.shared.keyed import KeyedFolder
from components.shared.runlog import RunLog


@pytest.fixture
def log() -> RunLog:
    return RunLog("test", stream=io.StringIO())


def finished(root: str) -> KeyedFolder:
    folder = keyed.folder(root, "train", "model", {"seed": 0})
    folder.finish({"weights": manifest.publish(b"w", folder.uri, "weights")}, {"seed": 0}, {})
    return folder


def test_the_folder_follows_from_what_the_result_depends_on(tmp_path: Path) -> None:
    root = str(tmp_path)
    one, same, other = (keyed.folder(root, "train", "model", {"seed": seed}) for seed in (0, 0, 1))
    assert one == same != other
    assert one.uri == f"{root}/train/{one.key}"
    assert len(one.key) == 16


def test_nothing_is_found_before_the_manifest_is_there(tmp_path: Path, log: RunLog) -> None:
    folder = keyed.folder(str(tmp_path), "train", "model", {"seed": 0})
    manifest.publish(b"w", folder.uri, "weights")
    assert folder.find(log) is None
    assert finished(str(tmp_path)).find(log) is not None


def test_a_root_that_was_moved_is_read_where_it_is(tmp_path: Path, log: RunLog) -> None:
    finished(str(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    found = keyed.folder(str(tmp_path / "new"), "train", "model", {"seed": 0}).find(log)
    assert found is not None
    assert found.stage("weights").read_bytes() == b"w"
    assert found.base_uri == f"{tmp_path}/new/train/{Path(found.base_uri).name}"


def test_a_result_whose_files_are_lost_is_not_found_and_made_again(tmp_path: Path) -> None:
    stream = io.StringIO()
    folder = finished(str(tmp_path))
    storage.delete(f"{folder.uri}/weights")
    assert folder.find(RunLog("test", stream=stream)) is None
    assert "weights is gone" in stream.getvalue()
    assert finished(str(tmp_path)).find(RunLog("test", stream=stream)) is not None


def test_a_result_of_other_content_is_never_overwritten(tmp_path: Path) -> None:
    folder = finished(str(tmp_path))
    before = json.loads(Path(folder.finished_uri).read_text())
    with pytest.raises(storage.StorageError, match="another model"):
        folder.finish({}, {"seed": 1}, {})
    assert json.loads(Path(folder.finished_uri).read_text()) == before
