"""The headers of a tar, one after the other: name, offset and size of every member, and none of their bytes.

Names are whole, whether they stand in the plain header or in those of GNU tar and POSIX pax. What a reader could
take in two ways is refused: a name twice, links, holes, members behind the end of the archive.
"""

import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from components.shared.errors import DataError

BLOCK = 512
MAX_EXTENDED_BYTES = 1 << 20  # of one extended header; a path has 4,096 bytes at most
END_CHUNK_BYTES = 1 << 20
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
EXTENDED = (  # they say something of the next member
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a file with holes (GNU sparse)",
}

Read = Callable[[int, int], bytes]  # offset, number of bytes -> bytes; fewer only where the file ends


class Member(NamedTuple):
    """A regular file of a tar."""

    path: str  # as the tar has it, with folders
    offset: int  # of the first byte, in the file that holds the tar
    num_bytes: int

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


def _pax_records(data: bytes) -> dict[str, str]:
    """Decode the records of a pax header, lines `<length> <key>=<value>`; ValueError where they are damaged."""
    records, at = {}, 0
    while at < len(data):
        digits = data[at : at + 20].partition(b" ")[0]
        record = data[at : at + int(digits)] if digits.isdigit() else b""
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not digits.isdigit() or len(record) != int(digits) or not record.endswith(b"\n") or not equals:
            raise ValueError(f"no record of a pax header at its byte {at}")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at += len(record)
    return records


def _extended(where: str, at: int, info: tarfile.TarInfo, data: bytes) -> dict[str, str]:
    """Return the fields of an extended header for the next member, by their pax names."""
    if info.type == tarfile.GNUTYPE_LONGLINK:
        return {}  # the target of a link, and links are refused
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    try:
        records = _pax_records(data)
        if holes := [key for key in records if key.startswith("GNU.sparse.")]:
            raise ValueError(f"{records.get('GNU.sparse.name', 'a member')} has holes ({holes[0]})")
        if not re.fullmatch("[0-9]{1,18}", records.get("size", "0")):
            raise ValueError(f"size={records['size']!r}")
        used = {key: records[key] for key in ("path", "size") if key in records}
        if used and info.type == tarfile.XGLTYPE:
            raise ValueError(f"it gives all members one {next(iter(used))}")
    except ValueError as error:
        raise DataError(f"{where}: pax header at offset {at:,}: {error}. Pack or fetch the file again") from error
    return used


def _header(where: str, at: int, end: int, header: bytes, extended: dict[str, str]) -> tarfile.TarInfo:
    """Decode a header together with the extended ones before it, and check that its data can be there."""
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise DataError(
            f"{where}: expected a tar header at offset {at:,}, got {header[:8].hex(' ') or 'the end'} "
            f"({error}). The download is damaged; fetch the file again"
        ) from error
    if info.type not in EXTENDED:
        info.name, info.size = extended.get("path", info.name), int(extended.get("size", info.size))
        _check_member(where, at, info)
    if info.isdir():
        info.size = 0  # whatever it says, a folder has no data
    if info.size < 0 or at + BLOCK + info.size > end:
        raise DataError(
            f"{where}: truncated: member {info.name} at offset {at:,} needs {info.size:,} bytes, "
            f"{max(0, end - at - BLOCK):,} are there. Fetch the file again"
        )
    if info.type in EXTENDED and info.size > MAX_EXTENDED_BYTES:
        raise DataError(f"{where}: a name of {info.size:,} bytes at offset {at:,}. Fetch the file again")
    return info


def _check_member(where: str, at: int, info: tarfile.TarInfo) -> None:
    if info.type not in REGULAR and not info.isdir():
        kind = KINDS.get(info.type, f"of type {info.type!r}")
        raise DataError(
            f"{where}: {info.name} at offset {at:,} is {kind}, neither file nor folder. "
            "The release has no such thing; pack or fetch the file again"
        )
    if not info.name.isprintable():
        raise DataError(f"{where}: name {info.name!a} at offset {at:,} is not printable text. Fetch the file again")
    if info.name.startswith("/") or ".." in PurePosixPath(info.name).parts:
        raise DataError(f"{where}: {info.name} at offset {at:,} leaves the folder of the archive. Fetch the file again")


def _check_end(where: str, at: int, end: int, read: Read) -> None:
    first = at
    while at < end and (part := read(at, min(end - at, END_CHUNK_BYTES))):
        if rest := part.lstrip(b"\0"):
            raise DataError(
                f"{where}: the archive ends at offset {first:,}, but data follows at offset "
                f"{at + len(part) - len(rest):,}, which would be ignored. The file is damaged, or several archives "
                "were joined; fetch it again"
            )
        at += len(part)


def walk(where: str, start: int, end: int, read: Read, *, needs_end: bool = False) -> Iterator[Member]:
    """Yield the regular members of a tar, from its headers alone.

    Args:
        where: the tar, for messages.
        start: offset of the tar in its file.
        end: offset behind it.
        read: reads bytes of the file.
        needs_end: refuse a tar without its end-of-archive block: where no count tells that members are missing.

    Raises:
        DataError: a header is damaged, the tar is truncated, or holds what is neither file nor folder.
    """
    at, extended = start, {}
    while at < end:
        header = read(at, BLOCK)
        if header == bytes(BLOCK):
            _check_end(where, at, end, read)
            break
        info = _header(where, at, end, header, extended)
        data_at = at + BLOCK
        if info.type in EXTENDED:
            extended |= _extended(where, at, info, read(data_at, info.size))
        else:
            if not info.isdir():
                yield Member(info.name, data_at, info.size)
            extended = {}
        at = data_at + -(-info.size // BLOCK) * BLOCK
    else:
        if needs_end:
            raise DataError(f"{where}: truncated: no end-of-archive block behind the last member. Fetch the file again")
    if extended:
        raise DataError(f"{where}: truncated: ends behind the name of a member, {extended}. Fetch the file again")


def by_name(where: str, members: Iterable[Member]) -> dict[str, Member]:
    """Map names without folders to the members of a tar.

    Raises:
        DataError: a name is there twice; names both places.
    """
    found: dict[str, Member] = {}
    for member in members:
        first = found.setdefault(member.name, member)
        if first is not member:
            raise DataError(
                f"{where}: {member.name} is there twice: {first.path} at offset {first.offset:,} and {member.path} "
                f"at offset {member.offset:,}. Which one is meant cannot be told; pack or fetch the file again"
            )
    return found
