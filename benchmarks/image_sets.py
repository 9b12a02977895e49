"""The image sets that utility is measured on: MNIST, Fashion-MNIST, or an upload's zip.

A zip is read by the same intake code as an upload, at its native size. Persons never stand on both
sides: a zip whose split column puts one on both is refused by intake, and a separate test zip loses
the persons that the training zip holds as well.
"""

import gzip
import hashlib
import os
import secrets
import tempfile
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.refusals import Refused, refusing
from privacy.manifests import DatasetSchema
from privacy.mechanisms import UnitOfPrivacy
from service.walkthrough.declaration import declare, round_count
from training.utility import Labelled
from workers.intake import read_upload
from workers.intake.archive import open_archive
from workers.intake.limits import Limits
from workers.intake.table import read_table

DATA_VARIABLE = "KAIMA_DATA"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_NAMES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")  # fmt: skip
_MNIST_PLACES = (Path("data"), Path("../shared/data"))
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_FOUR = ", ".join(_ARRAYS)
_TEST_SPLITS = frozenset({"test", "val", "valid", "validation", "holdout"})
_TRAIN_SPLITS = frozenset({"train", "training"})


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Real images to learn from and real images of other persons to be judged on."""

    name: str
    test_name: str
    train: Labelled
    test: Labelled
    schema: DatasetSchema
    digest: str  # of the training records; private, names files in the output folder only
    notes: tuple[str, ...] = ()


def load(
    data: str,
    *,
    label: str | None,
    test: str,
    unit: UnitOfPrivacy,
    train_count: int | None = None,
    ids_are_per_file: bool = False,
) -> ImageSet:
    """Read a set by its name or path.

    `train_count` keeps the first so many training images (the 55,000 of a published protocol).
    `ids_are_per_file`: one id in two zips means two persons, unless they share an image.
    Raises: Refused saying what to give or to install.
    """
    with refusing():
        found = _load(
            data,
            label=label,
            test=test,
            unit=unit,
            train_count=train_count,
            ids_are_per_file=ids_are_per_file,
        )
    _check_alike(found)
    return found


def _load(
    data: str,
    *,
    label: str | None,
    test: str,
    unit: UnitOfPrivacy,
    train_count: int | None,
    ids_are_per_file: bool,
) -> ImageSet:
    has_persons = data not in {"mnist", "fashion_mnist"} and not data.endswith(".npz")
    if unit is UnitOfPrivacy.PERSON and not has_persons:
        raise Refused(
            f"--unit person was refused: {Path(data).name} does not say which images are of one "
            "person. Give --unit record, or a zip with a column patient_id."
        )
    if data == "fashion_mnist":
        return _arrays(data, _fashion(), names=FASHION_NAMES, test=test, kept=train_count)
    path = _mnist_path() if data == "mnist" else Path(data)
    if path.suffix == ".npz":
        names = tuple(str(digit) for digit in range(10)) if data == "mnist" else None
        arrays = _npz(path)
        shown = "mnist" if data == "mnist" else path.stem
        return _arrays(shown, arrays, names=names, test=test, kept=train_count)
    return _upload(path, label=label, test=test, unit=unit, ids_are_per_file=ids_are_per_file)


def _arrays(
    name: str,
    arrays: dict[str, NDArray[np.integer]],
    *,
    names: tuple[str, ...] | None,
    test: str,
    kept: int | None,
) -> ImageSet:
    if test != "same":
        raise Refused(
            f"--test {test} was refused: {name} brings its own test images. Give --test same."
        )
    for part in ("train", "test"):
        _check_arrays(name, part, arrays)
    train = Labelled.of(arrays["train_images"][:kept], arrays["train_labels"][:kept])
    labels = names or tuple(str(kind) for kind in range(int(arrays["train_labels"].max()) + 1))
    schema = DatasetSchema(
        unit=UnitOfPrivacy.RECORD,
        declared_count=round_count(len(train)),
        height=train.images.shape[1],
        width=train.images.shape[2],
        label="label",
        labels=labels,
    )
    return ImageSet(
        name=name,
        test_name="same",
        train=train,
        test=Labelled.of(arrays["test_images"], arrays["test_labels"]),
        schema=schema,
        digest=_digest(train),
        notes=("every image is its own unit: the set names no persons",),
    )


def _check_arrays(name: str, part: str, arrays: dict[str, NDArray[np.integer]]) -> None:
    """Refuse arrays that hold no grey-level images of 8 or 16 bits with one label each."""
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.ndim != 3 or images.dtype not in (np.uint8, np.uint16) or len(images) == 0:
        raise Refused(
            f"{name} was refused: {part}_images is {images.dtype} of shape {images.shape}. Give "
            "(images, height, width) of uint8 or uint16."
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise Refused(
            f"{name} was refused: {part}_labels is {labels.dtype} of shape {labels.shape}. Give "
            f"{len(images)} whole numbers from 0."
        )


def _check_alike(found: ImageSet) -> None:
    """Refuse test images that what was learnt cannot be judged on."""
    train, test = found.train, found.test
    if train.images.shape[1:] != test.images.shape[1:] or train.images.dtype != test.images.dtype:
        raise Refused(
            f"The test images were refused: they are {test.images.shape[1:]} of "
            f"{test.images.dtype}, those to learn from {train.images.shape[1:]} of "
            f"{train.images.dtype}. Bring both to one size and depth."
        )
    kinds = len(found.schema.labels)
    if len(test) == 0 or test.labels.max() >= kinds:
        raise Refused(
            f"The test images were refused: there are {len(test)}, with labels beyond the {kinds} "
            "of the training images. Give test images with the same labels."
        )
    if kinds < 2:
        raise Refused("The set was refused: it has one label only. Give at least two.")


def _mnist_path() -> Path:
    places = [Path(os.environ[DATA_VARIABLE])] if os.environ.get(DATA_VARIABLE) else []
    for place in (*places, *_MNIST_PLACES):
        found = place if place.suffix == ".npz" else place / "mnist.npz"
        if found.is_file():
            return found
    raise Refused(
        "MNIST was not found. Put mnist.npz (train_images, train_labels, test_images, test_labels) "
        f"into ./data, name its folder in {DATA_VARIABLE}, or give --data PATH.npz."
    )


def _npz(path: Path) -> dict[str, NDArray[np.integer]]:
    wanted = _ARRAYS
    if not path.is_file():
        raise Refused(f"{path.name} was refused: there is no such file. Give --data PATH.npz.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in wanted if name not in arrays]
            if not missing:
                return {name: arrays[name] for name in wanted}
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise Refused(
            f"{path.name} was refused: it is no .npz of plain arrays ({error}). Give {_FOUR}."
        ) from None
    raise Refused(f"{path.name} was refused: it has no {', '.join(missing)}. Give {_FOUR}.")


def _fashion() -> dict[str, NDArray[np.integer]]:
    given = os.environ.get(DATA_VARIABLE)
    folders = [Path(given) / "fashion-mnist", Path(given)] if given else []
    for folder in (*folders, FASHION_FOLDER):
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            return {
                "train_images": _idx(folder / "train-images-idx3-ubyte.gz"),
                "train_labels": _idx(folder / "train-labels-idx1-ubyte.gz"),
                "test_images": _idx(folder / "t10k-images-idx3-ubyte.gz"),
                "test_labels": _idx(folder / "t10k-labels-idx1-ubyte.gz"),
            }
    raise Refused(
        f"Fashion-MNIST was not found in {FASHION_FOLDER}. On Debian or Ubuntu: "
        f"apt-get install dataset-fashion-mnist. Elsewhere, put its four .gz files into a folder "
        f"and name that in {DATA_VARIABLE}."
    )


def _idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of bytes: two zero bytes, type 8, number of axes, their sizes, the bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Refused(
            f"{path.name} was refused: it is broken ({error}). Install it anew."
        ) from None
    if content[:3] != b"\x00\x00\x08":
        raise Refused(f"{path.name} was refused: it is no idx file of bytes.")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _upload(
    path: Path, *, label: str | None, test: str, unit: UnitOfPrivacy, ids_are_per_file: bool
) -> ImageSet:
    if label is None:
        raise Refused("--label is missing: name the column of the CSV that holds it.")
    for place in (path, *([] if test == "same" else [Path(test)])):
        if not place.is_file() or not zipfile.is_zipfile(place):
            raise Refused(
                f"{place.name} was refused: there is no such zip. Give mnist, fashion_mnist, or the "
                "path of a .zip or .npz."
            )
    notes: tuple[str, ...] = ()
    schema = declare(path, label=label, labels=(), unit=unit).images
    key = secrets.token_bytes(32)  # forgotten at the end: it only tells persons apart here
    train = _read(path, schema, key)
    if test == "same":
        train, judged = _divided(train, path)
    else:
        read = _read(Path(test), schema, key)
        judged, notes = _others(read, train, ids_are_per_file=ids_are_per_file)
    count = round_count(len(np.unique(train.records.persons)))
    return ImageSet(
        name=path.stem,
        test_name="same" if test == "same" else Path(test).stem,
        train=train.records,
        test=judged.records,
        schema=schema.model_copy(update={"declared_count": count}),
        digest=_digest(train.records),
        notes=notes,
    )


@dataclass(frozen=True, eq=False)
class _File:
    """What one zip holds; `digests` (persons, 32) are keyed, `splits` are lower-case words."""

    records: Labelled
    digests: NDArray[np.uint8]
    splits: NDArray[np.str_]


def _read(path: Path, schema: DatasetSchema, key: bytes) -> _File:
    """Read a zip as an upload is read, and the split column that intake only checks."""
    limits = Limits(
        minimum_units=1, declared_count_factor=1_000_000
    )  # nothing is trained on it yet
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        read_upload(path, schema=schema, tenant_key=key, out=out, limits=limits)
        images, labels, persons, digests = (
            np.load(out / f"{blob}.npy", allow_pickle=False)
            for blob in ("images", "labels", "persons", "person_digests")
        )
    with open_archive(path, limits) as archive:
        (table_name,) = (member for member in archive.names if member.lower().endswith(".csv"))
        content = archive.read(table_name, limit_bytes=limits.table_bytes)
    table = read_table(content, name=table_name, schema=schema, limits=limits, person="optional")
    splits = np.array([(row.split or "").lower() for row in table.rows], dtype=np.str_)
    persons, order = _by_first_image(persons)
    return _File(Labelled.of(images, labels, persons), digests[order], splits)


def _by_first_image(
    persons: NDArray[np.integer],
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Number persons by their first image, and return the old numbers in the new order.

    Intake numbers them by keyed digests, and this key is drawn anew: every run would take the same
    file for another set, teach its real baseline again and count no earlier configuration.
    """
    old, first, inverse = np.unique(persons, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return np.argsort(order)[inverse], old[order]


def _divided(whole: _File, path: Path) -> tuple[_File, _File]:
    """Divide a set by its split column."""
    in_train = np.isin(whole.splits, sorted(_TRAIN_SPLITS))
    in_test = np.isin(whole.splits, sorted(_TEST_SPLITS))
    if not in_train.any() or not in_test.any():
        raise Refused(
            f"{path.name} was refused: --test same needs a column split with 'train' and with "
            f"'test' or 'val'; it has {', '.join(np.unique(whole.splits)) or 'none'}. "
            "Add the column, or give --test PATH.zip."
        )
    parts = [replace(whole, records=whole.records.take(rows)) for rows in (in_train, in_test)]
    both = np.intersect1d(parts[0].records.persons, parts[1].records.persons)
    if len(both) > 0:
        raise Refused(
            f"{path.name} was refused: {len(both)} persons stand in two splits. "
            "Move each person to one split."
        )
    return parts[0], parts[1]


def _others(test: _File, train: _File, *, ids_are_per_file: bool) -> tuple[_File, tuple[str, ...]]:
    """Return the test records of persons that the training file does not hold.

    Nobody who shares an image with the training file is tested on either.
    """
    images = {image.tobytes() for image in train.records.images}
    is_copy = np.array([image.tobytes() in images for image in test.records.images], dtype=bool)
    is_known = np.zeros(len(test.digests), dtype=bool)
    is_known[test.records.persons[is_copy]] = True
    if not ids_are_per_file:
        digests = {row.tobytes() for row in train.digests}
        is_known |= np.array([row.tobytes() in digests for row in test.digests], dtype=bool)
    kept = test.records.take(~is_known[test.records.persons])
    if len(kept) == 0:
        raise Refused(
            "The test file was refused: every person in it is in the training file as well. Give "
            "images of other persons; if each file numbers its persons anew, add --ids-are-per-file."
        )
    dropped = int(np.sum(is_known))
    note = f"{dropped} test persons were left out: the training file holds them as well"
    return replace(test, records=kept), (note,) if dropped else ()


def _digest(records: Labelled) -> str:
    content = hashlib.sha256(str(records.images.shape).encode())
    for array in (records.images, records.labels, records.persons):
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()
