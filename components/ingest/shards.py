"""Writing the shards with Beam: each task reads its own byte ranges and writes its own file.

No image bytes pass through a shuffle, memory stays flat, and a task whose record `<shard>.json` is there is not
done again. The bytes of a shard depend on nothing but its task and settings.
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from components.ingest import images, resize
from components.ingest.archives import Image
from components.shared import beam, engines, records, runlog, storage
from components.shared.errors import DataError
from components.shared.manifest import canonical_json

STEP = "write shards"
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "scipy", "simplejpeg")  # a shard's bytes depend on them


@dataclass(frozen=True)
class Task:
    """One shard to write."""

    name: str
    images: tuple[Image, ...]  # in the order of the shard


@dataclass(frozen=True)
class Settings:
    """What all tasks share."""

    release_uri: str
    base_uri: str
    jpeg_quality: int
    wnids: dict[int, str]  # by ilsvrc_id
    labels: dict[int, int]  # by ilsvrc_id


@dataclass(frozen=True)
class Outcome:
    """What became of one image; a row of a shard's record."""

    name: str
    status: str  # used, repaired or quarantined
    reason: str
    sha256: str  # of the source bytes


class _HashedFile:
    """Computes the digest of what is written through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.num_bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        return self._file.write(data)


def read_record(task: Task, settings: Settings) -> dict[str, Any] | None:
    """Return the record of a finished shard, verified, or None.

    Raises:
        DataError: the shard is not what its record says.
    """
    uri = storage.join(settings.base_uri, f"{task.name}.json")
    shard_uri = storage.join(settings.base_uri, task.name)
    if not storage.exists(uri) or not storage.exists(shard_uri):  # a lost shard is made again, to the same bytes
        return None
    record = json.loads(storage.read_bytes(uri))
    if storage.sha256(shard_uri) != record["sha256"]:
        raise DataError(f"{shard_uri}: does not match its record {task.name}.json. Remove both and run again")
    return record


def _examples(task: Task, settings: Settings, outcomes: list[Outcome]) -> Iterator[bytes]:
    """Yield the records of a shard and append what became of each image to `outcomes`."""
    for image in task.images:
        beam.check_stop()
        uri = storage.join(settings.release_uri, image.tar)
        source = storage.read_range(uri, image.offset, image.num_bytes)
        if len(source) != image.num_bytes:
            raise DataError(
                f"{uri}: ends inside {image.name} at offset {image.offset:,}. "
                "The file changed during the run; run again"
            )
        digest = hashlib.sha256(source).hexdigest()
        try:
            decoded = images.decode(source)
        except images.Unusable as error:
            outcomes.append(Outcome(image.name, "quarantined", error.reason, digest))
            beam.count(1, bad=1)
            continue
        repairs = ("patch",) * image.patched + decoded.repairs
        outcomes.append(Outcome(image.name, "repaired" if repairs else "used", "+".join(repairs), digest))
        height, width = decoded.image_HWC.shape[:2]
        yield records.encode_example(
            {
                "image/encoded": images.encode(resize.resize(decoded.image_HWC), settings.jpeg_quality),
                "image/filename": image.name.encode(),
                "image/class/synset": settings.wnids[image.ilsvrc_id].encode(),
                "image/class/label": settings.labels[image.ilsvrc_id],
                "image/height": height,
                "image/width": width,
            }
        )
        beam.count(1)


def write_shard(task: Task, settings: Settings) -> dict[str, Any]:
    """Write one shard, then its record, unless they are there.

    Returns:
        The record: name, num_bytes, sha256, num_examples and `images`, the outcomes in the order of the task.

    Raises:
        StorageError: a file cannot be read or written.
        DataError: a shard that is there does not match its record.
    """
    beam.check_stop()
    record = read_record(task, settings)
    if record:
        beam.count(len(task.images), bad=sum(row[1] == "quarantined" for row in record["images"]))
        return record
    outcomes: list[Outcome] = []
    with storage.create(storage.join(settings.base_uri, task.name)) as file:
        hashed = _HashedFile(file)
        num_examples = records.write_records(hashed, _examples(task, settings, outcomes))
    record = {
        "name": task.name,
        "num_bytes": hashed.num_bytes,
        "sha256": hashed.digest.hexdigest(),
        "num_examples": num_examples,
        "images": [[o.name, o.status, o.reason, o.sha256] for o in outcomes],
    }
    storage.publish_bytes(canonical_json(record) + b"\n", storage.join(settings.base_uri, f"{task.name}.json"))
    return record


def write_all(tasks: list[Task], settings: Settings, engine: engines.Engine, log: runlog.RunLog) -> None:
    """Write all shards by a Beam pipeline.

    Args:
        tasks: the shards.
        settings: what they share.
        engine: where the tasks run.
        log: where progress goes; it counts images when the engine works in this process.

    Raises:
        StorageError, DataError: as `write_shard`.
        Interrupted: by a signal; finished shards stay.
    """
    progress = runlog.Progress(log, sum(len(task.images) for task in tasks), "images")
    beam.run(engine, STEP, tasks, functools.partial(write_shard, settings=settings), progress, log, PACKAGES)
