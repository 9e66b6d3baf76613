"""Checkpoints: arrays in safetensors and one JSON record, whose appearance commits them.

`<base>/step-00000123.safetensors` is written first, then `step-00000123.json` with its size and sha256. A checkpoint
without a record does not exist; one that does not match its record is passed over, loudly, for the one before.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from components.shared import runlog, storage
from components.shared.errors import DataError, StorageError

NUM_KEPT = 2
SCHEMA_VERSION = 2

Arrays = dict[str, np.ndarray]


def encode(arrays: Arrays) -> Iterator[bytes | memoryview]:
    """Encode float32 arrays in safetensors, piece by piece and without copies.

    `safetensors.numpy.save` copies twice and holds Python's lock meanwhile, which stops the steps.
    """
    header, offset = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": (offset, offset + array.nbytes)}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8 bytes
    yield len(text).to_bytes(8, "little") + text
    yield from (array.reshape(-1).data for array in arrays.values())


class Checkpoints:
    """The checkpoints of one run.

    Args:
        base_uri: folder of the checkpoints.
        run_key: identity of the run; a checkpoint of another is not loaded.
        log: for what was saved, loaded and passed over.
    """

    def __init__(self, base_uri: str, run_key: str, log: runlog.RunLog) -> None:
        self.base_uri, self.run_key, self.log = base_uri, run_key, log

    def _uri(self, name: str) -> str:
        return storage.join(self.base_uri, name)

    def names(self) -> list[str]:
        """List the committed checkpoints without suffix, the newest first."""
        files = [entry.name for entry in storage.list_files(self.base_uri)]
        return sorted((name.removesuffix(".json") for name in files if name.endswith(".json")), reverse=True)

    def _delete(self, name: str) -> None:
        for suffix in (".json", ".safetensors"):  # the record first: what is half deleted does not exist
            storage.delete(self._uri(name + suffix))

    def save(self, step: int, arrays: Arrays, state: dict[str, Any]) -> None:
        """Publish a checkpoint and delete all but the last two.

        Args:
            step: steps done.
            arrays: float32 arrays by name.
            state: whatever else the run needs to go on, as JSON.

        Raises:
            StorageError: the place cannot be written; the checkpoints before stay.
        """
        name = f"step-{step:08d}"
        uri = self._uri(f"{name}.safetensors")
        self._delete(name)  # left by a run that was killed before its commit, or damaged
        hasher, num_bytes = hashlib.sha256(), 0
        with storage.create(uri) as file:
            for piece in encode(arrays):
                hasher.update(piece)
                num_bytes += file.write(piece)
        sha256 = hasher.hexdigest()
        if storage.sha256(uri) != sha256:
            raise StorageError(
                f"{uri}: reads back as other bytes than were written. Check the disk; the checkpoints before stay"
            )
        record = {
            "schema_version": SCHEMA_VERSION,
            "run_key": self.run_key,
            "step": step,
            "num_bytes": num_bytes,
            "sha256": sha256,
            "state": state,
        }
        storage.publish_bytes(json.dumps(record, allow_nan=False).encode(), self._uri(f"{name}.json"))
        self.log.info("checkpoint saved", step=step, megabytes=round(num_bytes / 1e6, 1))
        for old in self.names()[NUM_KEPT:]:
            self._delete(old)

    def load(self) -> tuple[int, Arrays, dict[str, Any]] | None:
        """Load the newest whole checkpoint.

        Returns:
            Step, arrays and state as they were saved; None when there is no checkpoint.

        Raises:
            DataError: there are checkpoints and all of them are damaged.
        """
        names = self.names()
        for name in names:
            try:
                loaded = self._load(name)
            except (DataError, StorageError, SafetensorError, ValueError, KeyError) as error:
                self.log.warning(f"checkpoint {name} is damaged, trying the one before: {error}", uri=self._uri(name))
                continue
            self.log.info("resuming from a checkpoint", step=loaded[0], uri=self._uri(name))
            return loaded
        if names:
            raise DataError(
                f"{self.base_uri}: none of the {len(names)} checkpoints is whole. "
                "Delete the folder to start again from the first step"
            )
        return None

    def _load(self, name: str) -> tuple[int, Arrays, dict[str, Any]]:
        record = storage.read_json(self._uri(f"{name}.json"))
        found = (record["schema_version"], record["run_key"])
        if found != (SCHEMA_VERSION, self.run_key):
            raise DataError(f"expected version {SCHEMA_VERSION} of run {self.run_key}, got {found[0]} of {found[1]}")
        path = storage.stage(self._uri(f"{name}.safetensors"), record["num_bytes"], record["sha256"])
        return record["step"], safetensors.numpy.load_file(path), record["state"]

    def clear(self) -> None:
        """Delete all checkpoints, when the run is finished and published."""
        for entry in storage.list_files(self.base_uri):
            storage.delete(self._uri(entry.name))
