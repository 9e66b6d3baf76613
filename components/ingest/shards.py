"""Writing the shards with Beam: each task reads its own byte ranges and writes its own file.

A Beam element is the number of a shard; its images are in a file of the plan. No image bytes pass through a shuffle,
memory stays flat, and a task whose record `<shard>.json` is there is not done again. The bytes of a shard depend on
nothing but its part of the plan and the settings.
"""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from components.ingest import archives, images, plan, resize
from components.ingest.outcomes import Outcome, parse_record
from components.ingest.process import prepare_process
from components.shared import beam, engines, records, runlog, storage
from components.shared.errors import DataError
from components.shared.manifest import canonical_json

STEP = "write shards"
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "scipy", "simplejpeg")  # a shard's bytes depend on them


@dataclass(frozen=True)
class Settings:
    """What all tasks share."""

    release_uri: str
    base_uri: str
    jpeg_quality: int
    wnids: dict[int, str]  # by ilsvrc_id
    labels: dict[int, int]  # by ilsvrc_id


class _HashedFile:
    """Computes the digest of what is written through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.num_bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        return self._file.write(data)


def read_record(name: str, settings: Settings) -> dict[str, Any] | None:
    """Return the record of a shard, or None where there is none or a damaged one; the shard is not looked at.

    Raises:
        StorageError: the record cannot be read.
    """
    uri = storage.join(settings.base_uri, f"{name}.json")
    return parse_record(storage.read_bytes(uri), name) if storage.exists(uri) else None


def _finished(name: str, settings: Settings) -> dict[str, Any] | None:
    """Return the record of a finished shard, verified, or None.

    Raises:
        DataError: the shard is not what its record says.
    """
    uri, shard_uri = (storage.join(settings.base_uri, file) for file in (f"{name}.json", name))
    record = read_record(name, settings)
    if record is None and storage.exists(uri):
        storage.delete(uri)  # damaged: it is made again, and so is the shard, to the same bytes
    if record is None or not storage.exists(shard_uri):  # a lost shard is made again, to the same bytes
        return None
    if storage.sha256(shard_uri) != record["sha256"]:
        raise DataError(f"{shard_uri}: does not match its record {name}.json. Remove both and run again")
    return record


def _source(row: np.void, settings: Settings) -> bytes:
    uri = storage.join(settings.release_uri, archives.TARS[row["tar"]])
    offset, num_bytes = int(row["offset"]), int(row["num_bytes"])
    source = storage.read_range(uri, offset, num_bytes)
    if len(source) != num_bytes:
        raise DataError(
            f"{uri}: ends inside {row['name'].decode()} at offset {offset:,}. "
            "The file changed during the run; run again"
        )
    return source


def _examples(table: np.ndarray, settings: Settings, outcomes: list[Outcome]) -> Iterator[bytes]:
    """Yield the records of a shard and append what became of each image to `outcomes`."""
    at = 0
    for row in table:
        beam.check_stop()
        name, ilsvrc_id = row["name"].decode(), int(row["ilsvrc_id"])
        source = _source(row, settings)
        digest = hashlib.sha256(source).hexdigest()
        try:
            decoded = images.decode(source)
        except images.Unusable as error:
            outcomes.append(Outcome(name, "quarantined", error.reason, digest))
            beam.count(1, bad=1)
            continue
        repairs = (("patch",) if row["tar"] == archives.PATCHES else ()) + decoded.repairs
        jpeg = images.encode(resize.resize(decoded.image_HWC), settings.jpeg_quality)
        height, width = decoded.image_HWC.shape[:2]
        record = records.encode_example(
            {
                "image/encoded": jpeg,
                "image/filename": name.encode(),
                "image/class/synset": settings.wnids[ilsvrc_id].encode(),
                "image/class/label": settings.labels[ilsvrc_id],
                "image/height": height,
                "image/width": width,
            }
        )
        place = records.locate(jpeg, record, at)
        outcomes.append(Outcome(name, "repaired" if repairs else "used", "+".join(repairs), digest, *place))
        at += len(record) + records.FRAME_BYTES
        yield record
        beam.count(1)


def write_shard(name: str, settings: Settings) -> dict[str, Any]:
    """Write one shard, then its record, unless they are there.

    Returns:
        The record: name, num_bytes, sha256, num_examples and `images`, the outcomes in the order of the plan.

    Raises:
        StorageError: a file cannot be read or written.
        DataError: a shard that is there does not match its record.
    """
    prepare_process()
    beam.check_stop()
    record = _finished(name, settings)
    if record:
        beam.count(len(record["images"]), bad=sum(row[1] == "quarantined" for row in record["images"]))
        return record
    outcomes: list[Outcome] = []
    table = plan.read(settings.base_uri, name)
    with storage.create(storage.join(settings.base_uri, name)) as file:
        hashed = _HashedFile(file)
        num_examples = records.write_records(hashed, _examples(table, settings, outcomes))
    record = {
        "name": name,
        "num_bytes": hashed.num_bytes,
        "sha256": hashed.digest.hexdigest(),
        "num_examples": num_examples,
        "images": outcomes,
    }
    storage.publish_bytes(canonical_json(record) + b"\n", storage.join(settings.base_uri, f"{name}.json"))
    return record


def write_all(
    names: list[str], num_images: int, settings: Settings, engine: engines.Engine, log: runlog.RunLog
) -> None:
    """Write all shards by a Beam pipeline.

    Args:
        names: of the shards; their parts of the plan are written.
        num_images: in all of them.
        settings: what they share.
        engine: where the tasks run.
        log: where progress goes; it counts images when the engine works in this process.

    Raises:
        StorageError, DataError: as `write_shard`.
        Interrupted: by a signal; finished shards stay.
    """
    progress = runlog.Progress(log, num_images, "images")
    beam.run(engine, STEP, names, functools.partial(write_shard, settings=settings), progress, log, PACKAGES)
