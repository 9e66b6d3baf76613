"""Releases taken apart and packed again, with what a test wants to be wrong."""

import gzip
import io
import tarfile
import zlib
from pathlib import Path

from components.ingest.devkit import META_MAT, VALIDATION_TRUTH
from components.shared.release import DEVKIT_TAR

Members = list[tuple[str, bytes]]


def unpack(data: bytes) -> Members:
    """List names and bytes of the files in a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar.getmembers() if m.isreg()]


def pack(members: Members, **options: int) -> bytes:
    """Make a tar; one name may be there twice."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **{"format": tarfile.USTAR_FORMAT, **options}) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def edit(path: Path, change) -> None:
    """Pack a tar again with other members: `change` takes and returns the list of them."""
    path.write_bytes(pack(change(unpack(path.read_bytes()))))


def edit_devkit(release: Path, change) -> None:
    """Pack the devkit again; `change` is given its meta.mat and ground truth and returns them or other members."""
    members = dict(unpack(gzip.decompress((release / DEVKIT_TAR).read_bytes())))
    changed = change(members[META_MAT], members[VALIDATION_TRUTH])
    if isinstance(changed, tuple):
        changed = list(zip((META_MAT, VALIDATION_TRUTH), changed, strict=True))
    (release / DEVKIT_TAR).write_bytes(gzip.compress(pack(changed)))


def mat_elements(meta_mat: bytes) -> list[bytes]:
    """Uncompress the elements of a MAT-file."""
    at, found = 128, []
    while at < len(meta_mat):
        size = int.from_bytes(meta_mat[at + 4 : at + 8], "little")
        found.append(zlib.decompress(meta_mat[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


def mat_file(header: bytes, elements: list[bytes]) -> bytes:
    """Compress the elements of a MAT-file, with good checksums."""
    packed = [zlib.compress(element) for element in elements]
    return header + b"".join((15).to_bytes(4, "little") + len(p).to_bytes(4, "little") + p for p in packed)
