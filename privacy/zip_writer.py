"""Writes a bundle's zip in its one canonical form, byte for byte the same for the same files.

Entries are stored in name order with one date, one mode and no extra field but zip64 sizes; a
comment marks the archive. A zip of that very length must therefore have those very bytes, which is
how `privacy.zip_reader` notices a change to any byte of a published zip, headers included.
Format: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.4.
"""

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from privacy.archives import open_folder
from privacy.errors import InvalidParameter

MARK = b"Kaima release bundle"
_DOS_DATE = (1 << 5) | 1  # 1980-01-01, the earliest date a zip can hold
_UNIX_REGULAR_FILE = (stat.S_IFREG | 0o644) << 16
_VERSION, _ZIP64_VERSION = 20, 45
_MADE_BY_UNIX = (3 << 8) | _ZIP64_VERSION
UTF8_NAMES = 1 << 11
FULL_32, _FULL_16 = 0xFFFFFFFF, 0xFFFF
LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
END64_LOCATOR = struct.Struct("<4sLQL")


@dataclass(frozen=True)
class Entry:
    """One file of a canonical zip."""

    name: bytes
    size: int
    crc: int
    offset: int


def write_zip(folder: Path, path: Path) -> None:
    """Write the files of `folder` to the zip `path` in its one canonical form, streaming.

    Raises: InvalidParameter if the folder holds a link or anything that is no plain file.
    """
    source = open_folder(folder)
    if source.problems:
        first = source.problems[0]
        raise InvalidParameter(f"The folder was refused: {first.file} {first.reason}.")
    entries: list[Entry] = []
    with path.open("xb") as target:
        for name in sorted(source.files):
            size, crc = 0, 0
            for chunk in source.read(name):
                size, crc = size + len(chunk), zlib.crc32(chunk, crc)
            entry = Entry(name.encode(), size, crc, target.tell())
            target.write(local_header(entry))
            target.writelines(source.read(name))
            if target.tell() != entry.offset + len(local_header(entry)) + size:
                raise InvalidParameter(f"The folder was refused: {name} changed while it was read.")
            entries.append(entry)
        target.writelines(directory(entries, start=target.tell()))


def local_header(entry: Entry) -> bytes:
    """Return the bytes that stand before the entry's data."""
    extra = _zip64_extra(entry.size, entry.size) if entry.size >= FULL_32 else b""
    size = FULL_32 if extra else entry.size
    header = LOCAL.pack(
        b"PK\x03\x04", _ZIP64_VERSION if extra else _VERSION, UTF8_NAMES, 0, 0, _DOS_DATE, entry.crc, size, size,
        len(entry.name), len(extra),
    )  # fmt: skip
    return header + entry.name + extra


def directory(entries: list[Entry], *, start: int) -> Iterator[bytes]:
    """Yield the central directory and its end records, the zip64 ones where they are needed."""
    length = 0
    for entry in entries:
        is_large, is_far = entry.size >= FULL_32, entry.offset >= FULL_32
        extra = _zip64_extra(
            *((entry.size, entry.size) if is_large else ()), *((entry.offset,) if is_far else ())
        )
        size = FULL_32 if is_large else entry.size
        record = CENTRAL.pack(
            b"PK\x01\x02", _MADE_BY_UNIX, _ZIP64_VERSION if extra else _VERSION, UTF8_NAMES,
            0, 0, _DOS_DATE, entry.crc, size, size,
            len(entry.name), len(extra), 0, 0, 0, _UNIX_REGULAR_FILE,
            FULL_32 if is_far else entry.offset,
        ) + entry.name + extra  # fmt: skip
        length += len(record)
        yield record
    count = len(entries)
    if count >= _FULL_16 or max(length, start) >= FULL_32:
        yield END64.pack(
            b"PK\x06\x06", 44, _MADE_BY_UNIX, _ZIP64_VERSION, 0, 0, count, count, length, start
        )
        yield END64_LOCATOR.pack(b"PK\x06\x07", 0, start + length, 1)
    short = min(count, _FULL_16)
    yield END.pack(
        b"PK\x05\x06", 0, 0, short, short, min(length, FULL_32), min(start, FULL_32), len(MARK)
    )
    yield MARK


def _zip64_extra(*values: int) -> bytes:
    if not values:
        return b""
    body = struct.pack(f"<{len(values)}Q", *values)
    return struct.pack("<2H", 1, len(body)) + body
