"""Opens a release bundle's zip as a read-only set of named files, without unpacking it to disk.

Every byte of the archive must belong to an entry, the two headers of an entry must agree, and a
zip as long as the canonical one must be the canonical one (`privacy.zip_writer`). Duplicates,
links, names that climb out, encryption and extra bytes become problems that name their file.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from privacy.archives import (
    CHUNK_BYTES,
    OpenBundle,
    Problem,
    UnreadableFile,
    name_problem,
    printable,
)
from privacy.zip_writer import (
    CENTRAL,
    END,
    END64,
    END64_LOCATOR,
    FULL_32,
    LOCAL,
    MARK,
    UTF8_NAMES,
    Entry,
    directory,
    local_header,
)

MAX_FILES = 2_000_000
MAX_TOTAL_BYTES = 1 << 40
_FLAG_DESCRIPTOR = 1 << 3
_ALLOWED_FLAGS = 0b110 | _FLAG_DESCRIPTOR | UTF8_NAMES
# Zip64 sizes, and the times and owners that common zip tools add.
_ALLOWED_EXTRAS = frozenset({0x0001, 0x5455, 0x7875, 0x000A})
# What zipfile raises for directories that were tampered with.
_BROKEN_ZIP = (
    zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error, OSError,
)  # fmt: skip
_DESCRIPTOR_BYTES = (12, 16, 20, 24)


@dataclass
class _Found:
    files: dict[str, zipfile.ZipInfo] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def open_zip(stream: BinaryIO, *, name: str) -> OpenBundle:
    """Open a seekable zip; nothing is extracted, and every byte of it must belong to an entry.

    `name` is what to call the archive itself in a problem.
    """
    try:
        archive = zipfile.ZipFile(stream)
    except _BROKEN_ZIP as error:
        problem = Problem(name, f"is no zip that can be read ({error})")
        return OpenBundle(frozenset(), frozenset(), (problem,), _read_nothing)
    entries = archive.infolist()
    found = _sort_entries(entries)
    layout = _layout_problem(stream, archive)
    if layout is not None:
        found.problems.append(Problem(layout.file or name, layout.reason))
    elif not found.problems and _differs_from_canonical(stream, found.files):
        found.problems.append(Problem(name, "is not byte for byte the archive as published"))

    def read(file: str) -> Iterator[bytes]:
        return _read_entry(stream, found.files[file])

    return OpenBundle(frozenset(found.files), frozenset(found.folders), tuple(found.problems), read)


def _read_nothing(name: str) -> Iterator[bytes]:
    raise UnreadableFile(f"{name} cannot be read")


def _sort_entries(entries: list[zipfile.ZipInfo]) -> _Found:
    """Tell files from folders, and report every entry that a bundle cannot hold."""
    found = _Found()
    seen: set[str] = set()
    if len(entries) > MAX_FILES or sum(info.file_size for info in entries) > MAX_TOTAL_BYTES:
        found.problems.append(Problem("SHA256SUMS", "is in an archive larger than any bundle"))
        return found
    for info in entries:
        name = info.filename.removesuffix("/")
        reason = _info_problem(info) or (name in seen and "is in the archive twice") or None
        seen.add(name)
        if reason:
            found.problems.append(Problem(printable(info.orig_filename), reason))
        elif info.is_dir():
            found.folders.add(name)
        else:
            found.files[name] = info
    return found


def _info_problem(info: zipfile.ZipInfo) -> str | None:
    """Return the first reason why an entry may not be in a bundle, or None if it may."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    plain = stat.S_IFDIR if info.is_dir() else stat.S_IFREG
    reasons = {
        # A name with a zero byte in it is cut short by some readers and not by others.
        "has a name that two readers would read differently": info.orig_filename != info.filename,
        "is a link; a bundle holds plain files only": kind == stat.S_IFLNK,
        "is no plain file": kind not in {0, plain},
        "is encrypted or uses a feature that a bundle does not need": bool(
            info.flag_bits & ~_ALLOWED_FLAGS
        ),
        "is compressed in a way that a bundle does not use": (
            info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        ),
        "is a folder with bytes of its own": info.is_dir() and bool(info.file_size),
        "carries extra bytes in the archive's directory": (
            bool(info.comment) or not _is_known_extra(info.extra)
        ),
    }
    broken = (reason for reason, holds in reasons.items() if holds)
    return next(broken, None) or name_problem(info.filename.removesuffix("/"))


def _is_known_extra(extra: bytes) -> bool:
    """Return whether `extra` is a sequence of whole, known fields and nothing else."""
    while extra:
        if len(extra) < 4:
            return False
        kind, length = struct.unpack_from("<2H", extra)
        if kind not in _ALLOWED_EXTRAS or len(extra) < 4 + length:
            return False
        extra = extra[4 + length :]
    return True


def _layout_problem(stream: BinaryIO, archive: zipfile.ZipFile) -> Problem | None:
    """Report the first bytes of the archive that belong to no entry, or headers that disagree.

    A problem of the archive as a whole has an empty file name.
    """
    position = 0
    entries = sorted(archive.infolist(), key=lambda info: info.header_offset)
    starts = [info.header_offset for info in entries] + [archive.start_dir]
    for info, following in zip(entries, starts[1:], strict=True):
        if info.header_offset != position:
            return Problem("", f"holds bytes that belong to no file at {position}")
        end = _end_of_entry(stream, info)
        if end is None:
            return Problem(printable(info.filename), "has two headers that disagree")
        gap = following - end
        has_descriptor = bool(info.flag_bits & _FLAG_DESCRIPTOR)
        if not (gap in _DESCRIPTOR_BYTES if has_descriptor else gap == 0):
            return Problem(printable(info.filename), "is followed by bytes of no file")
        if has_descriptor and not _is_descriptor(_bytes_at(stream, end, gap), info):
            return Problem(printable(info.filename), "has a descriptor that disagrees")
        position = following
    if position != archive.start_dir:
        return Problem("", "holds bytes that belong to no file")
    return _tail_problem(stream, archive)


def _end_of_entry(stream: BinaryIO, info: zipfile.ZipInfo) -> int | None:
    """Return where the data of an entry end; None if its local header disagrees with `info`."""
    header = _bytes_at(stream, info.header_offset, LOCAL.size)
    if len(header) < LOCAL.size:
        return None
    signature, _version, flags, method, time, date, crc, packed, size, names, extras = LOCAL.unpack(
        header
    )
    year, month, day, hour, minute, second = info.date_time
    told = [signature, flags, method, date, time]
    expected = [
        b"PK\x03\x04",
        info.flag_bits,
        info.compress_type,
        ((year - 1980) << 9) | (month << 5) | day,
        (hour << 11) | (minute << 5) | (second // 2),
    ]
    tail = _bytes_at(stream, info.header_offset + LOCAL.size, names + extras)
    name, extra = tail[:names], tail[names:]
    encoding = "utf-8" if info.flag_bits & UTF8_NAMES else "cp437"
    if told != expected or name != info.orig_filename.encode(encoding, "surrogateescape"):
        return None
    if not _is_known_extra(extra):
        return None
    if not info.flag_bits & _FLAG_DESCRIPTOR and not (
        crc == info.CRC
        and packed in {info.compress_size, FULL_32}
        and size in {info.file_size, FULL_32}
    ):
        return None
    return info.header_offset + LOCAL.size + int(names) + int(extras) + info.compress_size


def _is_descriptor(content: bytes, info: zipfile.ZipInfo) -> bool:
    body = content.removeprefix(b"PK\x07\x08")
    if len(body) not in {12, 20}:
        return False
    shape = "<3L" if len(body) == 12 else "<L2Q"
    return struct.unpack(shape, body) == (info.CRC, info.compress_size, info.file_size)


def _tail_problem(stream: BinaryIO, archive: zipfile.ZipFile) -> Problem | None:
    """Report bytes between or after the directory's records, and comments that are not ours."""
    if archive.comment not in {b"", MARK}:
        return Problem("", "carries a comment")
    sizes = (
        CENTRAL.size + len(_raw_name(info)) + len(info.extra) + len(info.comment)
        for info in archive.infolist()
    )
    end = archive.start_dir + sum(sizes)
    if _bytes_at(stream, end, 4) == b"PK\x06\x06":
        end += END64.size + END64_LOCATOR.size
    total = stream.seek(0, os.SEEK_END)
    if _bytes_at(stream, end, 4) != b"PK\x05\x06" or total != end + END.size + len(archive.comment):
        return Problem("", "holds bytes that belong to no file at its end")
    return None


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    encoding = "utf-8" if info.flag_bits & UTF8_NAMES else "cp437"
    return info.orig_filename.encode(encoding, "surrogateescape")


def _read_entry(stream: BinaryIO, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes of one entry, and refuse a stream that is longer than its file."""
    end = _end_of_entry(stream, info)
    if end is None:
        raise UnreadableFile("has two headers that disagree")
    position, left = end - info.compress_size, info.compress_size
    unpack = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type else None
    size, crc = 0, 0
    try:
        while left:
            raw = _bytes_at(stream, position, min(left, CHUNK_BYTES))
            if not raw:
                raise UnreadableFile("is cut short")
            position, left = position + len(raw), left - len(raw)
            for chunk in _unpacked(raw, unpack):
                size, crc = size + len(chunk), zlib.crc32(chunk, crc)
                if size > info.file_size:
                    raise UnreadableFile("is longer than the archive says")
                yield chunk
    except zlib.error as error:
        raise UnreadableFile("cannot be decompressed") from error
    if size != info.file_size or (unpack and (not unpack.eof or unpack.unused_data)):
        raise UnreadableFile("is not as long as the archive says")
    if crc != info.CRC:
        raise UnreadableFile("does not match its checksum in the archive")


def _unpacked(raw: bytes, unpack: "zlib._Decompress | None") -> Iterator[bytes]:
    """Yield `raw`, decompressed a bounded piece at a time."""
    if unpack is None:
        yield raw
        return
    while raw:
        piece = unpack.decompress(raw, CHUNK_BYTES)
        if piece:
            yield piece
        raw = unpack.unconsumed_tail
        if unpack.eof:
            return


def _differs_from_canonical(stream: BinaryIO, files: dict[str, zipfile.ZipInfo]) -> bool:
    """Return whether an archive of the canonical form's length differs from it in any header."""
    entries: list[Entry] = []
    offset = 0
    for name in sorted(files):
        info = files[name]
        entry = Entry(name.encode(), info.file_size, info.CRC, offset)
        entries.append(entry)
        offset += len(local_header(entry)) + entry.size
    records = b"".join(directory(entries, start=offset))
    if stream.seek(0, os.SEEK_END) != offset + len(records):
        return False
    if _bytes_at(stream, offset, len(records)) != records:
        return True
    headers = ((entry, local_header(entry)) for entry in entries)
    return any(_bytes_at(stream, entry.offset, len(wanted)) != wanted for entry, wanted in headers)


def _bytes_at(stream: BinaryIO, position: int, length: int) -> bytes:
    # Offsets come from the archive; one that no file can have reads as "nothing there".
    if not 0 <= position < MAX_TOTAL_BYTES:
        return b""
    stream.seek(position)
    return stream.read(length)
