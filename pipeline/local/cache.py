"""The content-addressed cache of finished steps.

The key of a step is a digest of what it is made of: the code and the locked packages of its component, its
command, its parameter values and the digests of its input artifacts. A hit is believed only when every output,
and every file that an output manifest names, is still there.
"""

import json
import shutil
from pathlib import Path
from typing import Any, TypedDict

from components.shared import manifest, storage
from pipeline.spec.ir import Task, Value


class Output(TypedDict):
    """One output artifact of a finished task."""

    path: str
    sha256: str
    digest: str  # of the content: a manifest's own digest, else the sha256 of the file
    metadata: dict[str, Any] | None  # None: not known, as of some outputs of a cluster


Input = Output | list[Output]  # one artifact of a finished task, or one of each of several


class CacheEntry(TypedDict):
    """What the cache remembers of a step."""

    run_id: str
    outputs: dict[str, Output]


def _manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest in a file, or None when it holds something else."""
    try:
        content = storage.read_json(str(path))
    except ValueError:
        return None
    return content if isinstance(content, dict) and "base_uri" in content else None


def describe(path: Path, metadata: dict[str, Any] | None) -> Output:
    """Describe an output file."""
    sha256 = storage.sha256(str(path))
    content = _manifest(path)
    return Output(path=str(path), sha256=sha256, digest=content["digest"] if content else sha256, metadata=metadata)


def listed(given: Input) -> list[Output]:
    """Return the artifacts of an input, which may be one or a list."""
    return given if isinstance(given, list) else [given]


def step_key(task: Task, code: str, parameters: dict[str, Value], inputs: dict[str, Input]) -> str:
    """Compute the cache key of a step; `code` identifies its component: a digest of the sources, or of the image."""
    return manifest.digest_of(
        {
            "code": code,
            "command": [*task.command, *task.args],
            "parameters": parameters,
            "inputs": {
                name: [output["digest"] for output in given] if isinstance(given, list) else given["digest"]
                for name, given in inputs.items()
            },
        }
    )


def base_uri(path: Path) -> str:
    """Return where the files of an artifact lie; empty for one that is no manifest."""
    return (_manifest(path) or {"base_uri": ""})["base_uri"]


def lost_files(path: Path) -> list[str]:
    """List the files that an artifact's manifest names and that are gone or of another size."""
    content = _manifest(path)
    if content is None:
        return []
    here = {entry.name: entry.num_bytes for entry in storage.list_files(content["base_uri"])}
    return [
        storage.join(content["base_uri"], name)
        for name, entry in content["files"].items()
        if here.get(name) != entry["num_bytes"]
    ]


def _is_whole(output: Output) -> bool:
    path = Path(output["path"])
    return path.is_file() and storage.sha256(str(path)) == output["sha256"] and not lost_files(path)


class Cache:
    """Finished steps by key, in a local folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def find(self, key: str) -> CacheEntry | None:
        """Return the finished step of a key whose outputs are all there and unchanged."""
        path = self._path(key)
        if not path.is_file():
            return None
        entry: CacheEntry = storage.read_json(str(path))
        return entry if all(_is_whole(output) for output in entry["outputs"].values()) else None

    def put(self, key: str, entry: CacheEntry) -> None:
        """Remember a finished step; the newest one with a key counts."""
        storage.write_text(self._path(key), json.dumps(entry, indent=1))


def adopt(entry: CacheEntry, paths: dict[str, Path]) -> dict[str, Output]:
    """Copy the outputs of a cached step into a new run, so that each run folder is whole.

    Returns:
        The outputs at their new paths.
    """
    outputs = {}
    for name, path in paths.items():
        storage.make_parent(path)
        with storage.disk_errors(str(path)):
            shutil.copyfile(entry["outputs"][name]["path"], path)
        outputs[name] = Output(**{**entry["outputs"][name], "path": str(path)})
    return outputs
