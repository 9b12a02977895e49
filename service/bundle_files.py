"""The files of a verified bundle, for whoever compares what its formats hold."""

import json
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from privacy import checksums

_CHECKSUMS = "SHA256SUMS"
# What decoders raise for files that are not what they claim to be.
UNDECODABLE = (
    AttributeError, EOFError, LookupError, NotImplementedError, OSError, RuntimeError, TypeError,
    ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_CHUNK_BYTES = 4 << 20


class Unlike(Exception):
    """A file of a format is not what it should be. `file` names it; the text is the reason."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(reason)
        self.file = file


@dataclass
class FormatCheck:
    """What was found in one format. `reason` says why it was not checked."""

    format: str
    checked: bool
    images: int = 0
    rows: int = 0
    reason: str | None = None


@dataclass
class Comparison:
    """All formats of a bundle, and the files that differ from another format's."""

    formats: list[FormatCheck] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class BundleFiles:
    """A folder or zip, with the certificate that was verified in it.

    `names` are the files that it lists, `seen` those that were read so far.
    """

    read: Callable[[str], bytes]
    on_disk: Callable[[str], Path]
    certificate: dict[str, Any]
    names: frozenset[str]
    seen: set[str]
    uids: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, path: Path, stack: ExitStack) -> "BundleFiles":
        """Open `path`; what a library wants as a file is unpacked to a temporary folder."""
        if path.is_dir():
            names, seen, listed = _listed((path / _CHECKSUMS).read_bytes())
            return cls(
                read=lambda name: (path / listed(name)).read_bytes(),
                on_disk=lambda name: path / listed(name),
                certificate=json.loads((path / "certificate.json").read_bytes()),
                names=names,
                seen=seen,
            )
        archive = stack.enter_context(zipfile.ZipFile(path))
        names, seen, listed = _listed(archive.read(_CHECKSUMS))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kaima-")))

        def unpack(name: str) -> Path:
            target = folder / name.replace("/", "_")
            with archive.open(listed(name)) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK_BYTES)
            return target

        return cls(
            read=lambda name: archive.read(listed(name)),
            on_disk=unpack,
            certificate=json.loads(archive.read("certificate.json")),
            names=names,
            seen=seen,
        )

    def read_once(self, name: str) -> bytes:
        """Return the content of a file that one row names.  Raises: Unlike if two rows do."""
        if name in self.seen:
            raise Unlike(name, "is named by more than one row")
        return self.read(name)

    def strays(self) -> list[tuple[str, str]]:
        """Return the files in folders that belong to no certified format, each with the reason."""
        formats = set(self.certificate.get("formats", ()))
        if not formats:  # layout 1 has one format and does not name it
            return []
        folders = {name: name.partition("/")[0] for name in self.names if "/" in name}
        return [
            (name, "belongs to no format that is certified")
            for name, folder in sorted(folders.items())
            if folder not in formats
        ]

    def unread(self, name: str) -> list[tuple[str, str]]:
        """Return the files in the folder of a format that no row and no split led to."""
        mine = (file for file in self.names if file.startswith(f"{name}/"))
        return [(file, "is named by no row") for file in sorted(set(mine) - self.seen)]


def _listed(listing: bytes) -> tuple[frozenset[str], set[str], Callable[[str], str]]:
    """Return the listed names, those asked for so far, and how to ask for one.

    To ask is to check that a name is one whose digest was verified, and no path to elsewhere.
    """
    names = frozenset(checksums.read(listing) or ())
    seen: set[str] = set()

    def check(name: str) -> str:
        if name not in names:
            raise Unlike(name, f"is not listed in {_CHECKSUMS}")
        seen.add(name)
        return name

    return names, seen, check
