"""Move big files between a user's disk and the service: in parts, resumable, never in memory.

What a part or a URL is for is `service.client`'s business; this file only moves bytes.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from service.connection import RETRIES, wait

BLOCK_BYTES = 256 * 1024
SUFFIXES = (".zip", ".npz", ".csv", ".parquet")


class TransferRefused(Exception):
    """A file cannot be sent, or what arrived is not what was promised."""


ByteProgress = Callable[[int, int], None]
"""Told after each block how many bytes are done, of how many."""


class Source:
    """A file, or a folder that is zipped on the fly, as one stream of known length."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            if not any(found.is_file() for found in path.rglob("*")):
                raise TransferRefused(
                    f"The upload of {path} was refused: the folder holds no files. Give the "
                    "folder with the images and their CSV."
                )
            self.suffix = ".zip"
            # Zipping twice costs reading twice; keeping a copy of patients' images on disk or in
            # memory would cost more.
            self.size_bytes = sum(len(block) for block in zip_folder(path))
        elif path.is_file():
            self.suffix = path.suffix.lower()
            self.size_bytes = path.stat().st_size
        else:
            raise TransferRefused(
                f"The upload of {path} was refused: there is no such file or folder. "
                "Give the path of a .zip, an .npz, a folder of DICOM files, a .csv or a .parquet."
            )
        if self.suffix not in SUFFIXES:
            raise TransferRefused(
                f"The upload of {path.name} was refused: its suffix is {self.suffix or 'missing'}; "
                f"it must be one of {', '.join(SUFFIXES)}. Zip images with their CSV."
            )
        if self.size_bytes == 0:
            raise TransferRefused(
                f"The upload of {path.name} was refused: it holds 0 bytes. Check how it was made."
            )

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes in order."""
        if self.path.is_dir():
            yield from zip_folder(self.path)
            return
        with self.path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block

    def watched_blocks(self, progress: ByteProgress | None) -> Iterator[bytes]:
        """Yield the bytes in order, telling `progress` after each block."""
        done = 0
        for block in self.blocks():
            yield block
            done += len(block)
            if progress is not None:
                progress(done, self.size_bytes)

    def parts(self, part_size_bytes: int) -> Iterator[bytes]:
        """Yield the bytes in parts of `part_size_bytes`; only one part is in memory at a time."""
        part = bytearray()
        for block in self.blocks():
            part += block
            while len(part) >= part_size_bytes:
                yield bytes(part[:part_size_bytes])
                del part[:part_size_bytes]
        if part:
            yield bytes(part)


class _Outbox(io.RawIOBase):
    """A write-only stream that hands on what was written, so a zip can be made without a file."""

    def __init__(self) -> None:
        super().__init__()
        self._pending = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        block = bytes(data)  # type: ignore[call-overload]
        self._pending += block
        return len(block)

    def take(self) -> bytes:
        block = bytes(self._pending)
        self._pending.clear()
        return block


def zip_folder(folder: Path) -> Iterator[bytes]:
    """Yield an uncompressed zip of every file below `folder`, in a fixed order.

    Links are refused, because they would carry files from outside the folder along. The dates are
    left out, so that the same folder gives the same bytes.
    """
    outbox = _Outbox()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                raise TransferRefused(
                    f"The upload of {folder} was refused: {path.relative_to(folder)} is a link. "
                    "Replace it by the file itself."
                )
            if not path.is_file():
                continue
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            info.file_size = path.stat().st_size
            with path.open("rb") as stream, archive.open(info, "w") as entry:
                while block := stream.read(BLOCK_BYTES):
                    entry.write(block)
                    yield outbox.take()
    yield outbox.take()


def put_parts(
    storage: httpx.Client,
    source: Source,
    *,
    part_size_bytes: int,
    fresh_url: Callable[[int], str],
    progress: ByteProgress | None = None,
) -> list[tuple[int, str]]:
    """PUT every part to a URL of its own; return part numbers with their ETags.

    Raises: TransferRefused if object storage refuses a part; httpx.TransportError if it is away.
    """
    done, parts = 0, []
    for number, part in enumerate(source.parts(part_size_bytes), start=1):
        parts.append((number, _put_part(storage, number, part, fresh_url)))
        done += len(part)
        if progress is not None:
            progress(done, source.size_bytes)
    return parts


def _put_part(
    storage: httpx.Client, number: int, part: bytes, fresh_url: Callable[[int], str]
) -> str:
    status = 0
    for attempt in range(RETRIES + 1):
        try:
            response = storage.put(fresh_url(number), content=part)
        except httpx.TransportError:
            if attempt == RETRIES:
                raise
        else:
            if response.status_code == 200:
                return response.headers["ETag"]
            status = response.status_code
        wait(attempt)
    raise TransferRefused(
        f"The upload of part {number} was refused by object storage with status {status}, "
        f"{RETRIES + 1} times. Start the upload again; tell the operator if it recurs."
    )


def download_to(
    path: Path,
    *,
    http: httpx.Client,
    fresh_url: Callable[[], str],
    size_bytes: int,
    sha256: str,
    progress: ByteProgress | None = None,
    attempts: int = 5,
) -> Path:
    """Download to `path`, going on from `path`.part where an earlier try stopped.

    `fresh_url` is called before each try, because a presigned URL lives for minutes only.
    Raises: TransferRefused if the bytes that arrived are not the ones promised (they are removed),
    or if nothing came through.
    """
    partial = path.with_name(path.name + ".part")
    last_error = ""
    for _ in range(attempts):
        if _size(partial) < size_bytes:
            try:
                _append_range(partial, http, fresh_url(), size_bytes, progress)
            except httpx.TransportError as error:
                last_error = f"{type(error).__name__}: {error}"
        if _size(partial) >= size_bytes:
            break
    else:
        raise TransferRefused(
            f"The download stopped at {_size(partial)} of {size_bytes} bytes ({last_error}). "
            "Run the same command again: it goes on from there."
        )
    digest = _file_digest(partial)
    if digest != sha256:
        partial.unlink()
        raise TransferRefused(
            f"The download was refused: its SHA-256 is {digest}, the service promised {sha256}. "
            "The file was removed; run the command again, and tell the operator if it recurs."
        )
    partial.replace(path)
    return path


def _append_range(
    partial: Path, http: httpx.Client, url: str, size_bytes: int, progress: ByteProgress | None
) -> None:
    offset = _size(partial)
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    with http.stream("GET", url, headers=headers) as response:
        if response.status_code not in {200, 206}:
            raise TransferRefused(
                f"The download was refused by object storage with status {response.status_code}. "
                "The link may have expired, or the release been taken away: try again."
            )
        # A store without Range support answers 200 with the whole object: start over then.
        mode = "ab" if response.status_code == 206 else "wb"
        done = offset if mode == "ab" else 0
        with partial.open(mode) as stream:
            for block in response.iter_raw(BLOCK_BYTES):
                stream.write(block)
                done += len(block)
                if done > size_bytes:
                    break
                if progress is not None:
                    progress(done, size_bytes)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
