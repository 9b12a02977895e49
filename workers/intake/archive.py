"""Read a zip that may be hostile, without ever writing one of its files under its own name.

Every entry is judged from the directory before a byte is unpacked. Contents are handed out one file
at a time, in memory, never more than was announced. Where names of files may not be shown, refusals
count the entries of the directory from 1, as `unzip -l` lists them.
"""

import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from workers.intake.limits import Limits
from workers.intake.refusal import refused

UPLOAD = "the upload"
SAFE_PATHS = "relative paths with forward slashes inside the archive"
_LOCAL_HEADER = b"PK\x03\x04"
_NESTED_SUFFIX = re.compile(
    r"\.(zip|npz|jar|tar|tgz|tbz2?|txz|gz|bz2|xz|lzma|zst|7z|rar|cab|iso|dmg|lz4?|z)$",
    re.IGNORECASE,
)
# Files that operating systems and viewers add to an archive by themselves.
_CLUTTER = re.compile(r"(^|/)(__MACOSX/.*|\.DS_Store|Thumbs\.db|desktop\.ini|DICOMDIR)$")
# Bytes of directory that one entry may take: 46 fixed, the rest for its name and extra fields.
_DIRECTORY_BYTES_PER_ENTRY = 160
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FLAG_ENCRYPTED = 0x1
_LOCAL_HEADER_BYTES = 30
# What zipfile raises over a directory that contradicts itself.
_BROKEN = (
    zipfile.BadZipFile,
    NotImplementedError,
    OverflowError,
    ValueError,
    EOFError,
    OSError,
    struct.error,
)


class _Entry(NamedTuple):
    """One entry of the directory, and what refusals call it."""

    called: str
    info: zipfile.ZipInfo


class Archive:
    """A zip whose directory was found harmless. Names are those inside the zip."""

    def __init__(self, archive: zipfile.ZipFile, entries: dict[str, _Entry]) -> None:
        self._archive = archive
        self._entries = entries

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files, in the order of the zip; folders and clutter left out."""
        return tuple(self._entries)

    def size(self, name: str) -> int:
        """Return the unpacked size of a file in bytes, as announced."""
        return self._entries[name].info.file_size

    def called(self, name: str) -> str:
        """Return what refusals call a file: its name, or its number where names are not shown."""
        return self._entries[name].called

    def read(self, name: str, *, limit_bytes: int) -> bytes:
        """Return the content of a file. Raises: InputRefused if it is larger, or broken."""
        if self.size(name) > limit_bytes:
            raise refused(
                "the file is too large",
                file=self.called(name),
                value=f"{self.size(name)} bytes",
                limit=f"{limit_bytes} bytes",
                remedy="Upload images at the declared size.",
            )
        with self.open(name) as stream:
            return stream.read()

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file as a stream. Raises: InputRefused if its bytes contradict the directory."""
        try:
            with self._archive.open(self._entries[name].info) as stream:
                yield stream
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise refused(
                "its bytes do not match what the zip says about it",
                file=self.called(name),
                value=type(error).__name__,
                limit="an intact zip entry",
                remedy="Make the zip again and upload it again.",
            ) from None


@contextmanager
def open_archive(path: Path, limits: Limits, *, show_names: bool = True) -> Iterator[Archive]:
    """Open the zip at `path` after judging every entry.

    Without `show_names`, a refusal calls a file "entry 7 of the zip": its name may be a patient's.
    Raises: InputRefused for what is not a plain zip, links, unsafe or repeated names, nested
        archives, encryption, unusual compression, overlapping entries and bombs.
    """
    _check_is_zip(path)
    _check_directory_size(path, limits)
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise _broken_zip(type(error).__name__) from None
    with archive:
        entries = [
            _Entry(info.orig_filename if show_names else f"entry {number} of the zip", info)
            for number, info in enumerate(archive.infolist(), 1)
        ]
        if len(entries) > limits.archive_entries:
            raise _too_many_entries(len(entries), limits)
        for entry in entries:
            _check_entry(entry, limits)
        _check_distinct(entries)
        _check_expansion(entries, path.stat().st_size, limits)
        _check_layout(entries, path, archive.start_dir)
        files = {
            entry.info.filename: entry
            for entry in entries
            if not entry.info.is_dir() and not _CLUTTER.search(entry.info.filename)
        }
        if not files:
            raise refused(
                "the archive is empty",
                file=UPLOAD,
                value="0 files",
                limit="at least one image and a CSV",
                remedy="Put the images and labels.csv into the zip.",
            )
        yield Archive(archive, files)


def check_name(name: str, limits: Limits, *, called: str) -> None:
    """Refuse a path that is absolute, climbs, or could mean different files to different programs.

    `called` is what the refusal calls the file.
    """
    what = unsafe_path(name, limits)
    if what is not None:
        raise refused(
            what,
            file=called,
            value=called,
            limit=SAFE_PATHS,
            remedy="Rename the file and make the zip again.",
        )


def unsafe_path(name: str, limits: Limits) -> str | None:
    """Say what is wrong with a path, without showing it; None where nothing is."""
    if name.startswith(("/", "\\")) or re.match(r"^[A-Za-z]:", name):
        return "the path is absolute"
    if ".." in re.split(r"[/\\]", name):
        return "the path leaves the archive with '..'"
    if "\\" in name:
        return "the path holds a backslash"
    if not name or any(unicodedata.category(character) == "Cc" for character in name):
        return "the name is empty or holds control characters"
    if len(name) > limits.name_characters:
        return f"the name is longer than {limits.name_characters} characters"
    return None


def _check_is_zip(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(4)
    # A zip with other bytes before it is two files in one; only one of them was looked at.
    if start != _LOCAL_HEADER:
        raise refused(
            "it is no zip or npz file",
            file=UPLOAD,
            value="empty file" if not start else f"first bytes {start.hex()}",
            limit="a zip of PNG, JPEG or DICOM files with a CSV, or an npz",
            remedy="See the upload formats in the documentation.",
        )


def _check_directory_size(path: Path, limits: Limits) -> None:
    """Judge the size of the directory before zipfile loads it: a count bomb needs no content."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - 66_000))
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise _broken_zip("no end record")
    count, directory_bytes = struct.unpack_from("<H", tail, at + 10)[0], 0
    directory_bytes = struct.unpack_from("<L", tail, at + 12)[0]
    wide = tail.rfind(b"PK\x06\x06", 0, at)
    if wide >= 0 and at - wide >= 56:
        count, directory_bytes = struct.unpack_from("<QQ", tail, wide + 32)
    if count > limits.archive_entries:
        raise _too_many_entries(count, limits)
    allowed = max(limits.archive_entries * _DIRECTORY_BYTES_PER_ENTRY, 65_536)
    if directory_bytes > allowed:
        raise refused(
            "the directory of the zip is too large",
            file=UPLOAD,
            value=f"{directory_bytes} bytes",
            limit=f"{allowed} bytes",
            remedy="Use fewer files and shorter names.",
        )


def _check_entry(named: _Entry, limits: Limits) -> None:
    called, entry = named
    name = entry.filename
    # zipfile cuts names at a NUL byte; the name as written is the one to judge.
    check_name(entry.orig_filename.rstrip("/") or "/", limits, called=called)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise refused(
            "it is a link or a special file",
            file=called,
            value="symbolic link" if kind == stat.S_IFLNK else "special file",
            limit="plain files",
            remedy="Put the file itself into the zip (zip without --symlinks).",
        )
    if entry.flag_bits & _FLAG_ENCRYPTED:
        raise refused(
            "it is encrypted",
            file=called,
            value="encrypted",
            limit="files without a password",
            remedy="Make the zip without a password; the transfer itself is encrypted.",
        )
    if entry.compress_type not in _METHODS:
        raise refused(
            "its compression is not supported",
            file=called,
            value=f"method {entry.compress_type}",
            limit="stored (0) or deflate (8)",
            remedy="Make the zip with ordinary deflate compression.",
        )
    if _NESTED_SUFFIX.search(name) and not _CLUTTER.search(name):
        raise refused(
            "it is an archive inside the archive",
            file=called,
            value=Path(name).suffix,
            limit="images and one CSV",
            remedy="Unpack it and put its images into the zip directly.",
        )


def _check_distinct(entries: list[_Entry]) -> None:
    seen: set[str] = set()
    for called, entry in entries:
        # Two names that one file system would merge are one name.
        name = unicodedata.normalize("NFC", entry.filename).casefold()
        if name in seen:
            raise refused(
                "the name occurs twice in the zip",
                file=called,
                value="2 entries of one name",
                limit="distinct names, letter case ignored",
                remedy="Rename one of them and make the zip again.",
            )
        seen.add(name)


def _check_expansion(entries: list[_Entry], size: int, limits: Limits) -> None:
    total = sum(entry.info.file_size for entry in entries)
    if total > limits.expanded_bytes:
        raise refused(
            "the archive unpacks to too much",
            file=UPLOAD,
            value=f"{total} bytes",
            limit=f"{limits.expanded_bytes} bytes",
            remedy="Upload images at the declared size, in several datasets if need be.",
        )
    packed = [(called, entry.file_size, entry.compress_size) for called, entry in entries]
    for called, unpacked_bytes, packed_bytes in [*packed, (UPLOAD, total, size)]:
        ratio = unpacked_bytes / max(packed_bytes, 1)
        if unpacked_bytes > limits.ratio_free_bytes and ratio > limits.expansion_ratio:
            raise refused(
                "it unpacks like a zip bomb",
                file=called,
                value=f"{ratio:.0f} times its packed size",
                limit=f"{limits.expansion_ratio} times",
                remedy="Upload the images themselves, without padding.",
            )


def _check_layout(entries: list[_Entry], path: Path, directory_at: int) -> None:
    """Refuse entries that share bytes: the trick behind bombs of few bytes and many files."""
    with path.open("rb") as stream:
        free_from = 0
        for called, entry in sorted(entries, key=lambda each: each.info.header_offset):
            if entry.header_offset < 0:
                raise _broken_zip("an entry that starts before the file")
            stream.seek(entry.header_offset)
            header = stream.read(_LOCAL_HEADER_BYTES)
            if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(_LOCAL_HEADER):
                raise _broken_zip("an entry without its header")
            name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
            start = entry.header_offset
            end = start + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes + entry.compress_size
            if start < free_from or end > directory_at:
                raise refused(
                    "its bytes overlap those of another entry",
                    file=called,
                    value=f"bytes {start} to {end}",
                    limit="entries one after the other",
                    remedy="Make the zip again with an ordinary program.",
                )
            free_from = end


def _too_many_entries(count: int, limits: Limits) -> Exception:
    return refused(
        "the archive holds too many files",
        file=UPLOAD,
        value=f"{count} files",
        limit=f"{limits.archive_entries} files",
        remedy="Upload an npz, or split the dataset.",
    )


def _broken_zip(reason: str) -> Exception:
    return refused(
        "it is no intact zip",
        file=UPLOAD,
        value=reason,
        limit="a complete zip or npz file",
        remedy="Make the file again and upload it again.",
    )
