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
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetSchema
from privacy.mechanisms import UnitOfPrivacy
from service.domain.errors import InputRefused
from service.walkthrough.declaration import UploadRefused, declare, round_count
from training.utility import Labelled
from workers.intake import read_upload
from workers.intake.archive import open_archive
from workers.intake.limits import Limits
from workers.intake.table import read_table

DATA_VARIABLE = "KAIMA_DATA"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_NAMES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")  # fmt: skip
_MNIST_PLACES = (Path("data"), Path("../shared/data"))
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
    Raises: click.UsageError or click.ClickException saying what to give or to install.
    """
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
        raise click.UsageError(
            f"--test {test} was refused: {name} brings its own test images. Give --test same."
        )
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


def _mnist_path() -> Path:
    places = [Path(os.environ[DATA_VARIABLE])] if os.environ.get(DATA_VARIABLE) else []
    for place in (*places, *_MNIST_PLACES):
        found = place if place.suffix == ".npz" else place / "mnist.npz"
        if found.is_file():
            return found
    raise click.ClickException(
        "MNIST was not found. Put mnist.npz (train_images, train_labels, test_images, test_labels) "
        f"into ./data, name its folder in {DATA_VARIABLE}, or give --data PATH.npz."
    )


def _npz(path: Path) -> dict[str, NDArray[np.integer]]:
    wanted = ("train_images", "train_labels", "test_images", "test_labels")
    if not path.is_file():
        raise click.ClickException(f"{path} was refused: there is no such file.")
    with np.load(path, allow_pickle=False) as arrays:
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise click.ClickException(
                f"{path.name} was refused: it has no {', '.join(missing)}. Give the four arrays."
            )
        return {name: arrays[name] for name in wanted}


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
    raise click.ClickException(
        f"Fashion-MNIST was not found in {FASHION_FOLDER}. On Debian or Ubuntu: "
        f"apt-get install dataset-fashion-mnist. Elsewhere, put its four .gz files into a folder "
        f"and name that in {DATA_VARIABLE}."
    )


def _idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file of bytes: two zero bytes, type 8, number of axes, their sizes, the bytes."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\x00\x00\x08":
        raise click.ClickException(f"{path.name} was refused: it is no idx file of bytes.")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _upload(
    path: Path, *, label: str | None, test: str, unit: UnitOfPrivacy, ids_are_per_file: bool
) -> ImageSet:
    if label is None:
        raise click.UsageError("--label is missing: name the column of the CSV that holds it.")
    notes: tuple[str, ...] = ()
    try:
        schema = declare(path, label=label, labels=(), unit=unit).schema
        key = secrets.token_bytes(32)  # forgotten at the end: it only tells persons apart here
        train = _read(path, schema, key)
        if test == "same":
            train, judged = _divided(train, path)
        else:
            read = _read(Path(test), schema, key)
            judged, notes = _others(read, train, ids_are_per_file=ids_are_per_file)
    except UploadRefused as error:
        raise click.ClickException(str(error)) from None
    except InputRefused as error:
        raise click.ClickException(error.sentence) from None
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
    if not path.is_file():
        raise click.ClickException(f"{path} was refused: there is no such file.")
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
    return _File(Labelled.of(images, labels, persons), digests, splits)


def _divided(whole: _File, path: Path) -> tuple[_File, _File]:
    """Divide a set by its split column."""
    in_train = np.isin(whole.splits, sorted(_TRAIN_SPLITS))
    in_test = np.isin(whole.splits, sorted(_TEST_SPLITS))
    if not in_train.any() or not in_test.any():
        raise click.ClickException(
            f"{path.name} was refused: --test same needs a column split with 'train' and with "
            f"'test' or 'val'; it has {', '.join(np.unique(whole.splits)) or 'none'}. "
            "Add the column, or give --test PATH.zip."
        )
    parts = [replace(whole, records=whole.records.take(rows)) for rows in (in_train, in_test)]
    both = np.intersect1d(parts[0].records.persons, parts[1].records.persons)
    if len(both) > 0:
        raise click.ClickException(
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
        raise click.ClickException(
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
