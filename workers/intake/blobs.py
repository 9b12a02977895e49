"""Write the npy blobs of a dataset version: all of them or none, in bounded memory."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

IMAGES = "images.npy"
LABELS = "labels.npy"
PERSONS = "persons.npy"
PERSON_DIGESTS = "person_digests.npy"
DUPLICATED_PERSONS = "duplicated_persons.npy"


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a folder whose files move to `out` if the block succeeds, and vanish if it raises."""
    existed = out.is_dir()
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="intake-", dir=out))
    try:
        yield folder
        for file in sorted(folder.iterdir()):
            file.replace(out / file.name)
        folder.rmdir()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed and not any(out.iterdir()):
            out.rmdir()
        raise


class ImageWriter:
    """Appends images to an npy file whose final shape is known beforehand."""

    def __init__(
        self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[np.generic]
    ) -> None:
        self._stream = path.open("wb")
        self._left = shape[0]
        self._dtype = dtype
        header = {
            "descr": npy.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        npy.write_array_header_1_0(self._stream, header)

    def append(self, images: NDArray[np.generic]) -> None:
        """Append images; shape (images, height, width) or (height, width)."""
        self._left -= len(images) if images.ndim == 3 else 1  # a stack of images
        self._stream.write(np.ascontiguousarray(images, self._dtype).tobytes())

    def close(self) -> None:
        """Close the file. Raises: ValueError if the announced shape was not filled."""
        self._stream.close()
        if self._left:
            raise ValueError(f"{self._left} announced images were not written to the blob")


def write_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write one npy blob, never with pickle."""
    np.save(path, array, allow_pickle=False)


def digest_blobs(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every blob in `folder`, as lower-case hex."""
    digests = {}
    for file in sorted(folder.iterdir()):
        with file.open("rb") as stream:
            digests[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests
