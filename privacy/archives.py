"""Opens a folder as a read-only set of named files; says which names a bundle may hold.

Whatever could make two readers see different files (links, names that climb out, special files)
is reported as a problem. Zips are opened by `privacy.zip_reader`, under the same rules. What the
files should contain is decided in `privacy.bundle`.
"""

import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
_MAX_NAME_BYTES = 1024


@dataclass(frozen=True)
class Problem:
    """A file of a bundle, and why the bundle is refused because of it."""

    file: str
    reason: str


@dataclass(frozen=True)
class OpenBundle:
    """The files of a bundle by name; `read` yields one file's bytes in chunks.

    `folders` are names of folders that stand on their own, without a trailing slash.
    """

    files: frozenset[str]
    folders: frozenset[str]
    problems: tuple[Problem, ...]
    read: Callable[[str], Iterator[bytes]]


class UnreadableFile(Exception):
    """A file of a bundle cannot be read as what it claims to be; the text is the reason."""


def name_problem(name: str) -> str | None:
    """Return why `name` may not name a file of a bundle, or None if it may."""
    if not name or len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES:
        return f"a name has 1 to {_MAX_NAME_BYTES} bytes"
    if "\\" in name or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "a name holds no backslash and no control character"
    if any(0xD800 <= ord(c) < 0xE000 for c in name):
        return "a name is valid UTF-8"
    if any(part in {"", ".", ".."} for part in name.split("/")):
        return "a name is a plain path inside the bundle"
    return None


def find_collisions(names: Iterable[str]) -> tuple[Problem, ...]:
    """Return the names that some systems take for one another: one file would replace the other."""
    seen: dict[str, str] = {}
    problems = []
    for name in sorted(names):
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            reason = f"is the same name as {printable(other)} where case does not count"
            problems.append(Problem(printable(name), reason))
    return tuple(problems)


def open_folder(path: Path) -> OpenBundle:
    """Open a folder; links, hard links and anything that is no plain file become problems."""
    files: set[str] = set()
    folders: set[str] = set()
    problems: list[Problem] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            with os.scandir(path / prefix) as scan:
                entries = sorted(scan, key=lambda item: item.name)
        except OSError as error:
            problems.append(Problem(printable(prefix), f"cannot be listed ({error.strerror})"))
            continue
        for entry in entries:
            name = f"{prefix}{entry.name}"
            reason = name_problem(name) or _entry_problem(entry)
            if reason:
                problems.append(Problem(printable(name), reason))
            elif entry.is_dir(follow_symlinks=False):
                folders.add(name)
                pending.append(f"{name}/")
            else:
                files.add(name)

    def read(name: str) -> Iterator[bytes]:
        return _read_plain_file(path / name)

    return OpenBundle(frozenset(files), frozenset(folders), tuple(problems), read)


def _entry_problem(entry: os.DirEntry[str]) -> str | None:
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return "is a link; a bundle holds plain files only"
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        return "is no plain file"
    if status.st_nlink > 1:
        return "is a hard link to a file that can change elsewhere; copy the bundle first"
    return None


def _read_plain_file(path: Path) -> Iterator[bytes]:
    try:
        # A link put in its place since the listing is refused by the system, not followed.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise UnreadableFile(f"cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnreadableFile("is no plain file")
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def printable(name: str) -> str:
    """Return a name that can be shown: a hostile one with odd characters escaped, and bounded."""
    if name_problem(name) is None:
        return name
    return name[:200].encode("unicode_escape", "backslashreplace").decode("ascii")
