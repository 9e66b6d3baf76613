"""Find and delete leftovers of interrupted runs under a root.

Each component publishes under `<root>/<component>/<key>/`, `manifest.json` last: then the folder is finished.
Nothing that a published manifest names is ever listed: neither the folder's own, nor a manifest of a run.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from components.shared import storage
from components.shared.errors import StorageError
from components.shared.keyed import FINISHED
from components.shared.storage import temporary
from pipeline.components import COMPONENTS


@dataclass(frozen=True)
class Leftover:
    """An unneeded file, or an unfinished upload."""

    uri: str
    num_bytes: int
    modified: float
    reason: str
    upload: str = ""


def _named(content: Any) -> set[str]:
    """List the files that a manifest names, those in its `info` too; none for other JSON."""
    if not (isinstance(content, dict) and isinstance(content.get("files"), dict)):
        return set()
    parts = [content["files"], *content.get("info", {}).values()]
    return {
        name
        for part in parts
        if isinstance(part, dict)
        for name, entry in part.items()
        if isinstance(entry, dict) and "sha256" in entry
    }


def _read_json(uri: str) -> Any:
    with contextlib.suppress(ValueError):
        return storage.read_json(uri)
    return None


def _named_by_runs(root_uri: str, entries: list[storage.Entry]) -> dict[str, set[str]]:
    """List by `<component>/<key>` what manifests in the folders of runs name; the root may have moved since."""
    named: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.name.endswith(".json") and entry.name.startswith("runs/"):
            content = _read_json(storage.join(root_uri, entry.name))
            if names := _named(content):
                named["/".join(content["base_uri"].split("/")[-2:])] |= names
    return named


def _record(name: str) -> str:
    """Name the record without which bulk does not exist for its readers; empty for files that need none."""
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    if suffix == ".tfrecord":
        return f"{name}.json"
    return f"checkpoints/{stem}.json" if suffix == ".safetensors" and name.startswith("checkpoints/") else ""


def _in_folder(
    component: str, uri: str, entries: list[storage.Entry], oldest: float, named: set[str]
) -> Iterator[Leftover]:
    """Yield the leftovers in `<root>/<component>/<key>/`; the names of `entries` are relative to it."""
    names = {entry.name for entry in entries}
    is_finished = FINISHED in names
    if is_finished:
        named = named | _named(_read_json(storage.join(uri, FINISHED)))
    is_abandoned = not is_finished and all(entry.modified < oldest for entry in entries)
    for entry in entries:
        record = _record(entry.name)
        if is_finished:
            beside = COMPONENTS[component].beside
            reason = f"not named by {FINISHED}" if beside and entry.name.startswith(beside) else ""
        elif record and record not in names:
            reason = "without its record"
        else:
            reason = f"never finished: no {FINISHED}" if is_abandoned else ""
        if reason and entry.name not in named:
            yield Leftover(storage.join(uri, entry.name), entry.num_bytes, entry.modified, reason)


def find(root_uri: str, hours: float) -> list[Leftover]:
    """Find leftovers under a root that are older than some hours.

    Raises:
        StorageError: there is nothing at all under the root.
    """
    oldest = time.time() - 3600 * hours
    entries = storage.list_files(root_uri, hidden=True)
    uploads = storage.list_uploads(root_uri)
    if not entries and not uploads:
        raise StorageError(f"{root_uri}: no files there. Check the path for spelling")
    found, folders = [], defaultdict(list)
    for entry in entries:
        uri, (component, *rest) = storage.join(root_uri, entry.name), entry.name.split("/")
        if temporary.PATTERN.fullmatch(entry.name.rpartition("/")[2]):
            found.append(Leftover(uri, entry.num_bytes, entry.modified, "half written"))
        elif not rest and temporary.PROBE.fullmatch(component):
            found.append(Leftover(uri, entry.num_bytes, entry.modified, "a probe whether one can write"))
        elif component in COMPONENTS and COMPONENTS[component].keeps and len(rest) > 1:
            inside = storage.Entry("/".join(rest[1:]), entry.num_bytes, entry.version, entry.modified)
            folders[component, rest[0]].append(inside)
    by_runs = _named_by_runs(root_uri, entries) if folders else {}
    for (component, key), inside in folders.items():
        folder = f"{component}/{key}"
        uri = storage.join(root_uri, folder)
        found += _in_folder(component, uri, inside, oldest, by_runs.get(folder, set()))
    found += [
        Leftover(storage.join(root_uri, u.name), u.num_bytes, u.modified, "unfinished upload", u.version)
        for u in uploads
    ]
    return [leftover for leftover in found if leftover.modified < oldest]


def delete(leftovers: list[Leftover]) -> None:
    """Delete leftovers, records before what they record: what is half deleted must not look whole."""
    for leftover in sorted(leftovers, key=lambda one: not one.uri.endswith(".json")):
        if leftover.upload:
            storage.abort_upload(leftover.uri, leftover.upload)
        else:
            storage.delete(leftover.uri)
