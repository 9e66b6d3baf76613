"""Artifacts that travel between components: small JSON files that say what, where, how many and of which digest.

A manifest is published after every file it names, so that whoever can read it can trust them. Its digest covers
kind, files and content, but not the place (`base_uri`) nor `info` (times and the like): the same inputs and
configuration give the same digest anywhere. The TypedDicts below are the content of each kind.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypedDict

from components.shared import storage
from components.shared.errors import DataError, StorageError
from components.shared.layers import Layer

SCHEMA_VERSION = 1
Kind = Literal["dataset", "statistics", "model", "predictions"]
SPLITS = ("train", "validation", "test")


class ClassEntry(TypedDict):
    """One class, at position `label` of `DatasetContent.classes`."""

    label: int  # 0-based; ilsvrc_id - 1
    ilsvrc_id: int  # 1-based ILSVRC2010_ID of meta.mat
    wnid: str
    words: str
    num_train: int  # images used, per split
    num_validation: int
    num_test: int


class ShardEntry(TypedDict):
    """One TFRecord file; its size and sha256 are in `Manifest.files`."""

    name: str
    num_examples: int


class SplitEntry(TypedDict):
    """One split. used + repaired + quarantined + excluded = num_devkit; the first two are examples."""

    shards: list[ShardEntry]
    num_examples: int
    num_devkit: int
    used: int
    repaired: int
    quarantined: int
    excluded: int  # by the subset rule


class DatasetContent(TypedDict):
    """Files: the shards, and images.tsv, one row for every image of the release."""

    classes: list[ClassEntry]
    splits: dict[str, SplitEntry]  # by train, validation, test
    image_size: int
    jpeg_quality: int
    resize: str
    subset: str
    seed: int
    release: str  # "ILSVRC-2010" or "mini"


class StatisticsContent(TypedDict):
    """Files: mean_image.npy float32 [256, 256, 3] 0..255, pixel_sums.npy and product_sums.npy int64, transform_fn/."""

    dataset_digest: str
    num_images: int
    num_pixels: int
    mean_rgb: list[float]  # 0..255
    rgb_covariance: list[list[float]]  # 3x3, grey levels squared
    eigenvalues: list[float]  # ascending; variances, grey levels squared
    standard_deviations: list[float]  # their square roots, grey levels
    eigenvectors: list[list[float]]  # row k belongs to eigenvalue k; RGB; the largest entry by magnitude is positive


class ModelContent(TypedDict):
    """Files: weights.safetensors, history.jsonl (an object an epoch), rates.jsonl (an object a change), losses.npy."""

    recipe_name: str
    recipe: dict[str, Any]
    network: list[Layer]
    num_parameters: int
    classes: list[ClassEntry]
    dataset_digest: str
    statistics_digest: str
    seed: int
    num_epochs: int
    num_steps: int


class PredictionsContent(TypedDict):
    """File predictions.npz: names, labels, the five best labels and probabilities by ten crops and by the centre.

    It is of all networks together; of several, each has a file of its own, predictions-<digest of its model>.npz.
    """

    split: str
    num_examples: int
    dataset_digest: str
    model_digests: list[str]
    metrics: dict[str, float]


class FileEntry(TypedDict):
    """Size and digest of one file."""

    num_bytes: int
    sha256: str


def canonical_json(value: Any) -> bytes:
    """Encode JSON so that equal values give equal bytes; NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """Compute the sha256 of the canonical JSON of a value, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def source_digest(file: str, *names: str) -> str:
    """Compute a digest of sources, so that what other code made is never taken for theirs.

    For the keys of kept results: name the modules that decide the bytes, not those that only move them, so that
    a long run can go on after an unrelated change.

    Args:
        file: `__file__` of the caller.
        names: modules in the same folder, or `folder/module` below it.
    """
    return digest_of([storage.sha256(str(Path(file).parent / f"{name}.py")) for name in names])


@dataclass(frozen=True)
class Manifest:
    """An artifact. `files` maps paths relative to `base_uri` to their size and sha256."""

    kind: Kind
    base_uri: str
    files: dict[str, FileEntry]
    content: Any  # one of the TypedDicts above
    info: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def digest(self) -> str:
        return digest_of(
            {"kind": self.kind, "schema_version": SCHEMA_VERSION, "files": self.files, "content": self.content}
        )

    def uri(self, name: str) -> str:
        """Return the URI of one of the files."""
        if name not in self.files:
            raise DataError(f"{self.kind} manifest: no file {name!r}. It names {', '.join(sorted(self.files)[:5])} ...")
        return storage.join(self.base_uri, name)

    def stage(self, name: str) -> Path:
        """Bring one of the files to local disk, verified; errors as `storage.stage`."""
        wanted = self._wanted(name)
        return storage.stage(wanted.uri, wanted.num_bytes, wanted.sha256)

    def stage_all(self, names: Iterable[str], progress: Callable[[int], None] = lambda _: None) -> list[Path]:
        """Bring several of the files to local disk, side by side and verified; as `storage.stage_files`."""
        return storage.stage_files([self._wanted(name) for name in names], progress=progress)

    def _wanted(self, name: str) -> storage.Wanted:
        entry = self.files.get(name, FileEntry(num_bytes=0, sha256=""))  # `uri` refuses a name that is not there
        return storage.Wanted(self.uri(name), entry["num_bytes"], entry["sha256"])


def publish(data: bytes, base_uri: str, name: str) -> FileEntry:
    """Publish one of an artifact's files and describe it; errors as `storage.create`."""
    return publish_pieces([data], base_uri, name)


def publish_pieces(pieces: Iterable[bytes], base_uri: str, name: str) -> FileEntry:
    """Publish a file that is never whole in memory and describe it; errors as `storage.create`."""
    digest, num_bytes = hashlib.sha256(), 0
    with storage.create(storage.join(base_uri, name)) as file:
        for piece in pieces:
            digest.update(piece)
            num_bytes += file.write(piece)
    return FileEntry(num_bytes=num_bytes, sha256=digest.hexdigest())


def file_entry(path: Path) -> FileEntry:
    """Describe a local file."""
    return FileEntry(num_bytes=path.stat().st_size, sha256=storage.sha256(str(path)))


def save(manifest: Manifest, uri: str) -> None:
    """Publish a manifest; one with the same digest may already be there.

    Raises:
        StorageError: another artifact is there, or the place cannot be written.
    """
    if storage.exists(uri):
        if load(uri, manifest.kind).digest != manifest.digest:
            raise StorageError(
                f"{uri}: holds another {manifest.kind}, and nothing is overwritten. Remove it or name another path"
            )
        return
    entry = {
        "kind": manifest.kind,
        "schema_version": SCHEMA_VERSION,
        "digest": manifest.digest,
        "base_uri": manifest.base_uri,
        "content": manifest.content,
        "files": manifest.files,
        "info": manifest.info,
    }
    storage.publish_bytes(json.dumps(entry, indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n", uri)


def load(uri: str, kind: Kind) -> Manifest:
    """Read a manifest and verify its kind, version, digest and file names.

    Raises:
        DataError: the file is not a whole manifest of that kind.
        StorageError: the file is not there.
    """
    try:
        entry = storage.read_json(uri)
        found = (entry["kind"], entry["schema_version"])
        manifest = Manifest(entry["kind"], entry["base_uri"], entry["files"], entry["content"], entry["info"])
        digest_matches = manifest.digest == entry["digest"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{uri}: not a manifest ({error!r}). Expected the {kind} artifact that a component wrote"
        ) from error
    if found != (kind, SCHEMA_VERSION):
        raise DataError(
            f"{uri}: expected a {kind} manifest of version {SCHEMA_VERSION}, got {found[0]} of version {found[1]}"
        )
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{uri}: file name {name!r} leaves the artifact's folder. The manifest was tampered with")
    if not digest_matches:
        raise DataError(f"{uri}: its digest does not match its content. The manifest was edited; run its step again")
    return manifest
