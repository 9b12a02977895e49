"""Writes one .npz in the layout of MedMNIST: <split>_images, <split>_labels; nothing pickled."""

import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from workers.bundling.records import SyntheticSet

NAME = "medmnist"
_CHUNK_BYTES = 8 << 20
_DEFLATED = zipfile.ZIP_DEFLATED


def label_type(kinds: int) -> type[np.uint8] | type[np.uint16]:
    """Return the type of the labels: that of MedMNIST unless there are more than it can count."""
    return np.uint8 if kinds <= 256 else np.uint16


def write_npz(root: Path, synthetic: SyntheticSet, *, name: str) -> None:
    """Write medmnist/<name>.npz: images (n, height, width), labels (n, 1), label_names (labels,).

    Images pass through in pieces of a few megabytes. Equal sets give equal bytes: the archive
    carries no time.
    """
    folder = root / NAME
    folder.mkdir(mode=0o755)
    kinds = label_type(len(synthetic.schema.labels))
    height, width = synthetic.images.shape[1:]
    rows = max(1, _CHUNK_BYTES // (height * width * synthetic.images.itemsize))
    with zipfile.ZipFile(folder / f"{name}.npz", "x", compression=_DEFLATED) as archive:
        for split in synthetic.splits:
            numbers = synthetic.numbers(split)
            with archive.open(f"{split}_images.npy", "w", force_zip64=True) as target:
                _write_header(target, (len(numbers), height, width), synthetic.images.dtype)
                for start in range(0, len(numbers), rows):
                    target.write(synthetic.images[numbers[start : start + rows]].tobytes())
            labels = synthetic.labels[numbers].astype(kinds)[:, None]
            _write_array(archive, f"{split}_labels", labels)
        _write_array(archive, "label_names", np.asarray(synthetic.schema.labels, dtype=np.str_))


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[np.generic]) -> None:
    with archive.open(f"{name}.npy", "w") as target:
        np.lib.format.write_array(target, array, allow_pickle=False)


def _write_header(target: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    descriptor = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descriptor, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(target, header)
