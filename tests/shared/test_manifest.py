"""Manifests: what is loaded is what was saved, whole and of the promised kind, or it is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import manifest, storage
from components.shared.errors import DataError, StorageError
from components.shared.manifest import Manifest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
FILES = st.dictionaries(
    st.text("abz019-_.", min_size=1, max_size=9).filter(lambda name: name != ".."),
    st.fixed_dictionaries(
        {"num_bytes": st.integers(0, 2**40), "sha256": st.text("0123456789abcdef", min_size=64, max_size=64)}
    ),
    max_size=4,
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Manifest, str]:
    storage.publish_bytes(b"weights", f"{tmp_path}/model/weights.safetensors")
    files = {"weights.safetensors": manifest.file_entry(tmp_path / "model" / "weights.safetensors")}
    made = Manifest("model", f"{tmp_path}/model", files, {"seed": 1, "words": "ä"}, {"seconds": 3.5})
    manifest.save(made, f"{tmp_path}/model.json")
    return made, f"{tmp_path}/model.json"


def edit(uri: str, change: dict[str, Any]) -> None:
    entry = json.loads(Path(uri).read_text(encoding="utf-8"))
    Path(uri).write_text(json.dumps({**entry, **change}), encoding="utf-8")


@settings(derandomize=True, deadline=None, max_examples=50)
@given(files=FILES, content=JSON, info=st.dictionaries(st.text(), JSON, max_size=2))
@pytest.mark.slow
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, files: dict, content: Any, info: dict) -> None:
    made = Manifest("statistics", "gs://bucket/base", files, content, info)
    uri = f"{tmp_path_factory.mktemp('m')}/manifest.json"
    manifest.save(made, uri)
    loaded = manifest.load(uri, "statistics")
    assert loaded == made
    assert loaded.digest == made.digest


@settings(derandomize=True, deadline=None, max_examples=50)
@given(files=FILES, content=JSON)
def test_digest_covers_kind_files_and_content_only(files: dict, content: Any) -> None:
    made = Manifest("dataset", "/a", files, content, {"time": 1})
    assert made.digest == Manifest("dataset", "gs://b/c", dict(reversed(files.items())), content).digest
    others = [
        Manifest("model", "/a", files, content),
        Manifest("dataset", "/a", {**files, "more": {"num_bytes": 0, "sha256": ""}}, content),
        Manifest("dataset", "/a", files, [content]),
    ]
    assert made.digest not in {other.digest for other in others}


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest.digest_of({"loss": float("nan")})


def test_files_are_staged_and_verified(saved: tuple[Manifest, str]) -> None:
    loaded = manifest.load(saved[1], "model")
    path = loaded.stage("weights.safetensors")
    assert path.read_bytes() == b"weights"
    path.write_bytes(b"Weights")
    with pytest.raises(DataError, match="sha256 differs"):
        loaded.stage("weights.safetensors")
    for call in (loaded.uri, loaded.stage):
        with pytest.raises(DataError, match=r"no file 'history\.jsonl'"):
            call("history.jsonl")


def test_saving_again(saved: tuple[Manifest, str]) -> None:
    made, uri = saved
    before = Path(uri).read_bytes()
    manifest.save(Manifest("model", "/elsewhere", made.files, made.content, {"seconds": 9}), uri)
    assert Path(uri).read_bytes() == before
    with pytest.raises(StorageError, match="holds another model"):
        manifest.save(Manifest("model", made.base_uri, made.files, {"seed": 2}), uri)
    assert Path(uri).read_bytes() == before


def test_another_kind_or_version(saved: tuple[Manifest, str]) -> None:
    with pytest.raises(DataError, match="expected a dataset manifest of version 1, got model of version 1"):
        manifest.load(saved[1], "dataset")
    edit(saved[1], {"schema_version": 2})
    with pytest.raises(DataError, match="got model of version 2"):
        manifest.load(saved[1], "model")


@pytest.mark.parametrize("field", ["content", "files", "digest"])
def test_tampering_is_found(saved: tuple[Manifest, str], field: str) -> None:
    change = {
        "content": {"seed": 2, "words": "ä"},
        "files": {"weights.safetensors": {"num_bytes": 7, "sha256": "0" * 64}},
        "digest": "0" * 64,
    }
    edit(saved[1], {field: change[field]})
    with pytest.raises(DataError, match="digest does not match"):
        manifest.load(saved[1], "model")


def test_nan_in_a_manifest_is_refused(saved: tuple[Manifest, str]) -> None:
    edit(saved[1], {"content": {"loss": float("nan")}})
    with pytest.raises(DataError, match="not a manifest"):
        manifest.load(saved[1], "model")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_paths_may_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    crafted = Manifest("model", str(tmp_path), {name: {"num_bytes": 1, "sha256": "0" * 64}}, {})
    manifest.save(crafted, f"{tmp_path}/model.json")
    with pytest.raises(DataError, match="leaves the artifact's folder"):
        manifest.load(f"{tmp_path}/model.json", "model")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b'"model"', b"\xff\xfe", b"{", b'{"kind": "model"}'], ids=repr
)
def test_other_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.json: not a manifest"):
        manifest.load(f"{tmp_path}/x.json", "model")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not found"):
        manifest.load(f"{tmp_path}/x.json", "model")


@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.data())
@pytest.mark.slow
def test_a_flipped_byte_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("flip")
    made = Manifest("model", "/base", {"w": {"num_bytes": 7, "sha256": "ab" * 32}}, {"seed": 1, "rate": 0.01}, {"a": 1})
    manifest.save(made, f"{folder}/model.json")
    content = bytearray((folder / "model.json").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "model.json").write_bytes(content)
    try:
        loaded = manifest.load(f"{folder}/model.json", "model")
    except DataError:
        return
    assert (loaded.kind, loaded.files, loaded.content) == (made.kind, made.files, made.content)
