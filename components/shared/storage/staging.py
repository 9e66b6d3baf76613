"""A bounded cache on local disk for files of an object store: fetched in parallel and verified.

The cache is a folder of files named by their sha256, which the processes of a machine may share.
When it exceeds its limit, `ALEXNET_CACHE_GB` (default 100), the least recently used files are
deleted. `stage_files` pins its files until the process ends; `stage` pins its file for one minute.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from components.shared import settings
from components.shared.errors import DataError, StorageError, UsageError
from components.shared.storage import temporary
from components.shared.storage.base import disk_errors, file_sha256, is_local, local_path
from components.shared.storage.registry import backend_of

NUM_THREADS = 8
FRESH_SECONDS = 60
STALE_SECONDS = 24 * 3600  # age after which a partial download counts as abandoned


@dataclass(frozen=True)
class Wanted:
    """A file to stage, and what it must be."""

    uri: str
    num_bytes: int
    sha256: str


def bound_bytes() -> float:
    """Return the bound of the cache.

    Raises:
        UsageError: the environment variable is not a number.
    """
    text = settings.CACHE_GB.get()
    try:
        return float(text) * 1e9
    except ValueError:
        raise UsageError(f"{settings.CACHE_GB.name}: expected a number of gigabytes, got {text!r}") from None


class Cache:
    """The folder, as this process sees it.

    A process holds a lock on a file that lists what it may not lose. The lock ends with the process, however it ends,
    and whoever can take it knows that the list is of no use any more.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: int | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        with (self.folder / ".lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def reserve(self, wanted: dict[str, int], hold: bool) -> None:
        """Make room for files.

        Args:
            wanted: sizes by digest.
            hold: whether they stay until this process ends.

        Raises:
            StorageError: the disk is too small for them.
        """
        with self._alone():
            if hold:
                self._hold(wanted)
            here = self._files()
            for digest in wanted.keys() & here.keys():
                os.utime(self.folder / digest)
            needed = sum(num_bytes for digest, num_bytes in wanted.items() if digest not in here)
            total = sum(status.st_size for status in here.values())
            excess = max(total + needed - bound_bytes(), needed - shutil.disk_usage(self.folder).free)
            kept = self._kept() | set(wanted)
            for name, status in sorted(here.items(), key=lambda item: item[1].st_mtime):
                age = time.time() - status.st_mtime
                if name.startswith("."):
                    is_waste = name.endswith(".part") and age > STALE_SECONDS
                else:
                    is_waste = excess > 0 and age > FRESH_SECONDS and name not in kept
                if is_waste:
                    (self.folder / name).unlink(missing_ok=True)
                    excess -= status.st_size
            free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise StorageError(
                f"{self.folder}: {needed:,} bytes are needed there, {free:,} are free. "
                "Free space, or set TMPDIR to a folder on a larger disk"
            )

    def _files(self) -> dict[str, os.stat_result]:
        found: dict[str, os.stat_result] = {}
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # a download that ended meanwhile
                found[path.name] = path.stat()
        return found

    def _hold(self, names: dict[str, int]) -> None:
        if self._held is None:
            # A bare descriptor: it is never closed, and the system ends the lock with the process.
            self._held = os.open(self.folder / f".held-{secrets.token_hex(8)}", os.O_CREAT | os.O_WRONLY)
            fcntl.flock(self._held, fcntl.LOCK_EX)
        os.write(self._held, "".join(f"{name}\n" for name in names).encode())

    def _kept(self) -> set[str]:
        """List what living processes hold; the lists of others are removed."""
        kept: set[str] = set()
        for path in self.folder.glob(".held-*"):
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    kept.update(file.read().decode().split())
                else:
                    path.unlink()
        return kept

    def fetch(self, wanted: Wanted) -> Path:
        """Return a file's copy in the cache, fetched if it is not there or damaged; wrong bytes are fetched once more.

        Raises:
            DataError: the store holds other bytes than wanted.
        """
        path = self.folder / wanted.sha256
        for _ in range(2):
            if path.is_file() and not _difference(path, wanted):
                return path
            self._download(wanted.uri, path)
        return _verified(path, wanted)

    def _download(self, uri: str, path: Path) -> None:
        aside = path.with_name(temporary.part())
        try:
            # A store's own failures are StorageErrors already: what is left is of the disk.
            with backend_of(uri) as backend, disk_errors(str(self.folder)):
                with aside.open("w+b") as sink:
                    backend.download(uri, sink)
                aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


_caches: dict[Path, Cache] = {}
_opening = threading.Lock()


def _cache(folder: Path | None) -> Cache:
    folder = folder or Path(tempfile.gettempdir()) / "alexnet-stage"
    with _opening, disk_errors(str(folder)):
        return _caches.setdefault(folder, Cache(folder))


def _difference(path: Path, wanted: Wanted) -> str:
    """Say how a file differs from what is wanted; empty if it does not."""
    found = path.stat().st_size
    if found != wanted.num_bytes:
        return f"expected {wanted.num_bytes:,} bytes, got {found:,}"
    return "" if file_sha256(path) == wanted.sha256 else "sha256 differs from the manifest"


def _verified(path: Path, wanted: Wanted) -> Path:
    if not path.is_file():
        raise StorageError(f"{wanted.uri}: not found. Its manifest promises it; run the step that made it again")
    if difference := _difference(path, wanted):
        raise DataError(f"{wanted.uri}: {difference}. The file changed; remove it and run the step that made it again")
    return path


def _stage(files: Sequence[Wanted], cache_dir: Path | None, progress: Callable[[int], None], hold: bool) -> list[Path]:
    remote = {file.sha256: file.num_bytes for file in files if not is_local(file.uri)}
    cache = _cache(cache_dir) if remote else None
    if cache:
        cache.reserve(remote, hold)

    def one(file: Wanted) -> Path:
        return cache.fetch(file) if cache and not is_local(file.uri) else _verified(local_path(file.uri), file)

    paths: list[Path] = []
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for path in pool.map(one, files):
            paths.append(path)
            progress(len(paths))
    return paths


def stage_files(
    files: Sequence[Wanted], cache_dir: Path | None = None, progress: Callable[[int], None] = lambda _: None
) -> list[Path]:
    """Bring files to local disk, several at a time, and verify them.

    Args:
        files: what is wanted; local files are verified where they lie.
        cache_dir: folder for copies of remote files; the default is under the system's temporary folder.
        progress: called with the number of files that are done.

    Returns:
        Their paths, in order. They stay until this process ends.

    Raises:
        DataError: size or digest differ, twice for what was fetched.
        StorageError: a file is not there, or the disk is too small for all.
    """
    return _stage(files, cache_dir, progress, hold=True)


def stage(uri: str, num_bytes: int, digest: str, cache_dir: Path | None = None) -> Path:
    """Bring one file to local disk and verify it; to be opened within a minute. Errors as `stage_files`.

    Args:
        uri: the file; a local one is verified where it lies.
        num_bytes: expected size.
        digest: expected sha256, hexadecimal.
        cache_dir: as for `stage_files`.
    """
    return _stage([Wanted(uri, num_bytes, digest)], cache_dir, lambda _: None, hold=False)[0]
