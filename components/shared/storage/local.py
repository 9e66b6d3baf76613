"""Files of this machine's disks. Only `registry` imports this module."""

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from pathlib import Path

from components.shared.errors import StorageError
from components.shared.storage import temporary
from components.shared.storage.base import CHUNK_BYTES, Entry, Sink, local_path, make_parent

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)
AT_FDCWD, RENAME_NOREPLACE = -100, 1  # of Linux, for renameat2


def _claim(aside: Path, target: Path) -> None:
    """Give a file a name that is not taken: the name is never half there, and never taken from another file.

    Raises:
        FileExistsError: the name is taken.
        StorageError: the file system has no way to do that.
    """
    try:
        os.link(aside, target)
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        reason = error.strerror
    # exFAT, FAT and many network and FUSE mounts have no hard links; most can rename without replacing (Linux only).
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename and rename(AT_FDCWD, os.fsencode(aside), AT_FDCWD, os.fsencode(target), RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno() if rename else errno.ENOSYS
    if number not in (errno.EINVAL, *NO_LINKS):
        raise OSError(number, os.strerror(number), str(target))
    raise StorageError(
        f"{target}: its file system has neither hard links ({reason}) nor a rename that keeps what is there "
        f"({os.strerror(number)}), and nothing may be overwritten. Choose a root on another file system"
    )


class Local:
    """Files of this machine."""

    def exists(self, uri: str) -> bool:
        return local_path(uri).is_file()

    def entries(self, uri: str) -> list[Entry]:
        base = local_path(uri)
        entries: list[Entry] = []
        for path in base.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process may have finished with it
                found = path.stat()
                if stat.S_ISREG(found.st_mode):
                    version = f"{found.st_ino}-{found.st_mtime_ns}"
                    entries.append(Entry(path.relative_to(base).as_posix(), found.st_size, version, found.st_mtime))
        return entries

    def download(self, uri: str, sink: Sink) -> None:
        with local_path(uri).open("rb") as file:
            shutil.copyfileobj(file, sink, CHUNK_BYTES)

    def read_range(self, uri: str, offset: int, num_bytes: int) -> bytes:
        with local_path(uri).open("rb", buffering=0) as file:
            parts: list[bytes] = []
            while num_bytes > 0 and (part := os.pread(file.fileno(), num_bytes, offset)):  # at most 2 GiB a call
                parts.append(part)
                offset, num_bytes = offset + len(part), num_bytes - len(part)
            return b"".join(parts)

    def create(self, uri: str, source: Path) -> bool:
        target = local_path(uri)
        make_parent(target)
        aside = target.with_name(temporary.beside(target.name))
        try:
            try:
                os.link(source, aside)
            except OSError as error:
                if error.errno not in (errno.EXDEV, *NO_LINKS):  # only the link itself tells whether it can be made
                    raise
                shutil.copyfile(source, aside)
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            _claim(aside, target)
        except FileExistsError:
            return False
        finally:
            aside.unlink(missing_ok=True)
        return True

    def delete(self, uri: str) -> None:
        local_path(uri).unlink(missing_ok=True)

    def list_uploads(self, uri: str) -> list[Entry]:
        return []  # what a writer leaves here is a hidden file

    def abort_upload(self, uri: str, upload: str) -> None:
        """There is none."""

    def close(self) -> None:
        """There is nothing open."""
