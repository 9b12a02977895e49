"""Read a released set to edit: a bundle (folder or zip), or an .npz with images and labels."""

import json
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from training.editing.attributes import BRIGHTNESS, Attribute
from training.editing.editor import Editor, fit_editor
from training.editing.rulers import knee_attributes

_CERTIFICATE = "certificate.json"
_MOST_BYTES = 4 << 30
_RULED = frozenset({"kl_grade", "kl", "kellgren_lawrence"})  # labels of knees: rulers apply


@dataclass(frozen=True, eq=False)
class ReleasedSet:
    """Shapes: images (N, H, W) 8 or 16 bits; labels (N,) indices into `names`. `digest` of the file."""

    name: str
    label: str
    names: tuple[str, ...]
    images: NDArray[np.integer]
    labels: NDArray[np.integer]

    @property
    def is_of_knees(self) -> bool:
        """Tell whether its label says that these are knees."""
        return self.label.lower() in _RULED

    def editor(self, *, knees: bool | None = None) -> Editor:
        """Return an editor fitted to the set; `knees` overrides what the label says."""
        wanted = self.is_of_knees if knees is None else knees
        found: tuple[Attribute, ...] = knee_attributes() if wanted else ()
        return fit_editor(self.images, self.labels, self.names, attributes=(*BRIGHTNESS, *found))


def read_released_set(path: Path) -> ReleasedSet:
    """Read images and labels.  Raises: InvalidParameter saying what is missing."""
    if path.suffix == ".npz":
        return _from_arrays(path.name, path.read_bytes(), label="label")
    if path.is_dir():
        files = {str(f.relative_to(path)): f for f in path.rglob("*") if f.is_file()}
        npz = _only([name for name in files if _is_set(name)], path)
        certificate = files.get(_CERTIFICATE)
        told = json.loads(certificate.read_text("utf-8")) if certificate else {}
        return _from_arrays(path.name, files[npz].read_bytes(), label=_label(told))
    try:
        with zipfile.ZipFile(path) as archive:
            named = {member.filename: member for member in archive.infolist()}
            npz = _only([name for name in named if _is_set(name)], path)
            if named[npz].file_size > _MOST_BYTES:
                raise InvalidParameter(
                    f"{path.name} was refused: {npz} would take {named[npz].file_size:,} bytes; the "
                    f"limit is {_MOST_BYTES:,}."
                )
            inside = [name for name in named if name.split("/")[-1] == _CERTIFICATE]
            told = json.loads(archive.read(inside[0])) if inside else {}
            return _from_arrays(path.stem, archive.read(npz), label=_label(told))
    except (zipfile.BadZipFile, OSError, json.JSONDecodeError) as error:
        raise InvalidParameter(
            f"{path.name} was refused: it is no release bundle ({error}). Give a bundle's folder or "
            "zip, or an .npz with images and labels."
        ) from None


def _is_set(name: str) -> bool:
    return name.endswith(".npz")


def _only(names: list[str], path: Path) -> str:
    if len(names) != 1:
        raise InvalidParameter(
            f"{path.name} was refused: it holds {len(names)} .npz files, one was expected. Give a "
            "release bundle, or the .npz itself."
        )
    return names[0]


def _label(certificate: dict[str, object]) -> str:
    declared = certificate.get("declared")
    return str(declared.get("label", "label")) if isinstance(declared, dict) else "label"


def _from_arrays(name: str, content: bytes, *, label: str) -> ReleasedSet:
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InvalidParameter(f"{name} was refused: it is no readable .npz ({error}).") from None
    splits = [key.removesuffix("_images") for key in found if key.endswith("_images")]
    images = [found[f"{s}_images"] for s in splits] or [found[k] for k in ("images",) if k in found]
    labels = [found[f"{s}_labels"] for s in splits if f"{s}_labels" in found]
    labels = labels or [found[key] for key in ("labels",) if key in found]
    if not images or len(images) != len(labels):
        raise InvalidParameter(
            f"{name} was refused: it needs images and labels (or train_images, train_labels); it has "
            f"{', '.join(sorted(found)) or 'nothing'}."
        )
    pictures, kinds = np.concatenate(images), np.concatenate([part.reshape(-1) for part in labels])
    if pictures.ndim != 3 or pictures.dtype not in (np.uint8, np.uint16):
        raise InvalidParameter(
            f"{name} was refused: images of shape {pictures.shape} and type {pictures.dtype}; "
            "8- or 16-bit grey images (N, H, W) were expected."
        )
    names = tuple(str(n) for n in found.get("label_names", np.unique(kinds)))
    if "label_names" not in found:
        kinds = np.unique(kinds, return_inverse=True)[1]
    return ReleasedSet(name, label, names, pictures, kinds.astype(np.int64))
