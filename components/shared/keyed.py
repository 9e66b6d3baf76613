"""A folder of results that is named by what they depend on: its files are found there, or computed into it.

`<root>/<component>/<key>/manifest.json` is published last. Who finds it can take what it names.
"""

from dataclasses import dataclass, replace
from typing import Any

from components.shared import manifest, storage
from components.shared.errors import DataError
from components.shared.manifest import FileEntry, Kind, Manifest
from components.shared.runlog import RunLog

FINISHED = "manifest.json"


@dataclass(frozen=True)
class KeyedFolder:
    """The folder of one result."""

    kind: Kind
    uri: str

    @property
    def key(self) -> str:
        """16 hexadecimal digits."""
        return self.uri.rpartition("/")[2]

    @property
    def finished_uri(self) -> str:
        return storage.join(self.uri, FINISHED)

    def find(self, log: RunLog) -> Manifest | None:
        """Return the finished result, placed in this folder wherever the root was when it was made.

        None when there is none yet, or when files that it names are gone: they are to be made again.

        Raises:
            DataError: the manifest is damaged, or a file has another size. Readers compare digests.
        """
        if not storage.exists(self.finished_uri):
            return None
        found = replace(manifest.load(self.finished_uri, self.kind), base_uri=self.uri)
        sizes = {entry.name: entry.num_bytes for entry in storage.list_files(self.uri)}
        lost = sorted(found.files.keys() - sizes.keys())
        if lost:
            log.warning(f"{self.uri}: {lost[0]} is gone ({len(lost)} files). Making it again")
            return None
        for name, entry in found.files.items():
            if sizes[name] != entry["num_bytes"]:
                raise DataError(
                    f"{found.uri(name)}: expected {entry['num_bytes']:,} bytes, got {sizes[name]:,}. "
                    "The file was changed; remove it and run again"
                )
        log.info("found finished", uri=self.uri, digest=found.digest)
        return found

    def finish(self, files: dict[str, FileEntry], content: Any, info: dict[str, Any]) -> Manifest:
        """Publish the manifest of files that are there, last of all; errors as `manifest.save`."""
        made = Manifest(self.kind, self.uri, files, content, info)
        manifest.save(made, self.finished_uri)
        return made


def folder(root_uri: str, component: str, kind: Kind, depends_on: dict[str, Any]) -> KeyedFolder:
    """Name the folder of a result by the digest of everything that its bytes depend on.

    Args:
        root_uri: where all components keep their results.
        component: its name.
        kind: of the result.
        depends_on: plain JSON values.
    """
    key = manifest.digest_of(depends_on)[:16]
    return KeyedFolder(kind, storage.join(storage.absolute(root_uri), component, key))
