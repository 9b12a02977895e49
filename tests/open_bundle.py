"""Open a release bundle with the tools that its readers have, and compare what each of them sees.

    python -m tests.open_bundle BUNDLE...

A BUNDLE is a downloaded .zip or the folder it was unpacked to. Each format is opened by the library
that people use for it, without a network and with caches in a temporary folder; images and labels, or
the rows of a table, must be equal in all of them, and in the same order but where a tool reads folder
by folder.
Exit code: 0 equal, 1 not.
"""

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Read by the libraries when they are imported, so before any of them is.
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

Seen = tuple[str, str]
"""Label and digest of the pixels of one image."""


@dataclass
class Row:
    """What one tool saw in one split."""

    tool: str
    opened: str
    split: str
    records: list | None
    in_order: bool = True
    reason: str = ""
    what: str = "images or labels"


def seen(label: str, pixels) -> Seen:
    """Return an image as what is compared: its label, and a digest of type, shape and bytes."""
    pixels = np.ascontiguousarray(pixels)
    form = f"{pixels.dtype.str.lstrip('<=|')} {pixels.shape} ".encode()
    return label, hashlib.sha256(form + pixels.tobytes()).hexdigest()


def pixels_of(picture, depth: int):
    """Return the pixels of a PIL image in the declared depth; PIL may hold 16 bits in 32."""
    return np.asarray(picture).astype(np.uint8 if depth == 8 else np.uint16)


def with_datasets_imagefolder(root: Path, split: str, facts: dict) -> Iterator[Seen]:
    import datasets

    loaded = datasets.load_dataset("imagefolder", data_dir=str(root / "imagefolder"))[split]
    for row in loaded:
        yield seen(row["label"], pixels_of(row["image"], facts["depth"]))


def with_datasets_parquet(root: Path, split: str, facts: dict) -> Iterator[Seen]:
    import datasets

    loaded = datasets.load_dataset("parquet", data_dir=str(root / "parquet"))[split]
    names = loaded.features["label"]
    for row in loaded:
        label = names.int2str(row["label"])
        yield seen(label, pixels_of(row["image"], facts["depth"]))


def with_datasets_card(root: Path, split: str, facts: dict) -> Iterator[Seen]:
    import datasets

    loaded = datasets.load_dataset(str(root))[split]
    for row in loaded:
        label = row["label"]
        label = label if isinstance(label, str) else loaded.features["label"].int2str(label)
        yield seen(label, pixels_of(row["image"], facts["depth"]))


def with_numpy(root: Path, split: str, facts: dict) -> Iterator[Seen]:
    with np.load(root / "medmnist" / f"{facts['name']}.npz", allow_pickle=False) as arrays:
        names = arrays["label_names"]
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    assert labels.shape == (len(images), 1)
    for pixels, label in zip(images, labels[:, 0], strict=True):
        yield seen(str(names[label]), pixels)


def with_pydicom(root: Path, split: str, facts: dict) -> Iterator[Seen]:
    import pydicom

    for path in sorted((root / "dicom" / split).rglob("*.dcm"), key=lambda path: path.stem):
        image = pydicom.dcmread(path)
        if image.SyntheticData != "YES":
            raise ValueError(f"{path.name} does not say that it is synthetic")
        yield seen(image.ImageComments.removeprefix(f"{facts['label']} = "), image.pixel_array)


def with_mlcroissant(root: Path, split: str, facts: dict) -> Iterator[Seen]:
    import mlcroissant

    dataset = open_croissant(root / "croissant.json")
    names = {row["labels/index"]: text(row["labels/name"]) for row in dataset.records("labels")}
    if split in {record_set.id for record_set in dataset.metadata.record_sets}:
        for row in dataset.records(split):
            pixels = pixels_of(row[f"{split}/image"], facts["depth"])
            yield seen(names[row[f"{split}/label"]], pixels)
        return
    from PIL import Image

    key = f"imagefolder-{split}"
    if key not in {record_set.id for record_set in dataset.metadata.record_sets}:
        raise mlcroissant.ValidationError("no record set of images: neither Parquet nor PNG inside")
    for row in dataset.records(key):
        path = root / "imagefolder" / split / text(row[f"{key}/file_name"])
        with Image.open(path) as picture:
            yield seen(text(row[f"{key}/label"]), pixels_of(picture, facts["depth"]))


def with_torchvision_style(root: Path, split: str, facts: dict) -> Iterator[Seen]:
    """Read folders as torchvision's ImageFolder does: a class per folder, in the order of names."""
    from PIL import Image

    folder = root / "imagefolder" / split
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not classes:
        raise FileNotFoundError(f"{folder} has no folder of a class")
    for name in classes:
        pictures = sorted(path for path in (folder / name).rglob("*.png"))
        if not pictures:
            raise FileNotFoundError(f"{name} has no picture; ImageFolder refuses that")
        for path in pictures:
            with Image.open(path) as picture:
                yield seen(facts["labels"][name], pixels_of(picture, facts["depth"]))


@dataclass(frozen=True)
class Tool:
    """A way to open one format; `in_order` says whether it keeps the order of the set."""

    name: str
    format: str
    opened: str
    read: Callable[[Path, str, dict], Iterator[Seen]]
    in_order: bool = True


TOOLS = (
    Tool("numpy", "medmnist", "medmnist/*.npz", with_numpy),
    Tool("datasets", "imagefolder", "imagefolder/", with_datasets_imagefolder, in_order=False),
    Tool("datasets", "parquet", "parquet/", with_datasets_parquet),
    Tool("datasets", "", "README.md", with_datasets_card),
    Tool("pydicom", "dicom", "dicom/", with_pydicom),
    Tool("mlcroissant", "", "croissant.json", with_mlcroissant),
    Tool("ImageFolder", "imagefolder", "imagefolder/", with_torchvision_style, in_order=False),
)


def open_croissant(path: Path):
    """Return the dataset of a Croissant file.  Raises: ValueError if it has an error or warning."""
    import mlcroissant

    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger("absl").addHandler(handler)
    try:
        dataset = mlcroissant.Dataset(str(path))
    finally:
        logging.getLogger("absl").removeHandler(handler)
    report = dataset.metadata.ctx.issues.report() + log.getvalue()
    if report.strip():
        raise ValueError(f"croissant.json: {report.strip()}")
    return dataset


def text(value: bytes | str) -> str:
    """Return what mlcroissant read as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def open_bundle(root: Path) -> list[Row]:
    """Open an unpacked bundle with every tool that has something to open in it."""
    certificate = json.loads((root / "certificate.json").read_text(encoding="utf-8"))
    if not certificate.get("formats"):
        reason = "the bundle is of layout 1, which does not name its formats"
        return [Row("-", "certificate.json", "-", None, reason=reason)]
    declared = certificate["declared"]
    if "columns" in declared:
        from tests.open_joint import open_joint
        from tests.open_table import open_table

        rows = (open_joint if declared.get("images") else open_table)(root, certificate)
        for split in certificate["splits"]:
            compare([row for row in rows if row.split == split])
        return rows
    facts = {
        "name": certificate["name"],
        "label": declared["label"],
        "depth": declared["bit_depth"],
        "labels": folder_labels(root),
    }
    rows = []
    for split in certificate["splits"]:
        for tool in TOOLS:
            if tool.format and tool.format not in certificate["formats"]:
                continue
            if not tool.format and not {"imagefolder", "parquet"} & set(certificate["formats"]):
                continue
            row = Row(tool.name, tool.opened, split, None, tool.in_order)
            try:
                with quiet():
                    row.records = list(tool.read(root, split, facts))
            except Exception as error:  # noqa: BLE001 - whatever a tool raises is its finding
                row.reason = f"{type(error).__name__}: {error}"
            if row.records is not None and len(row.records) != certificate["splits"][split]:
                row.reason = f"{certificate['splits'][split]} images are certified"
            rows.append(row)
        compare([row for row in rows if row.split == split])
    return rows


def folder_labels(root: Path) -> dict[str, str]:
    """Return the label of each folder, from the tables of the splits."""
    labels = {}
    for table in root.glob("imagefolder/*/metadata.jsonl"):
        with table.open(encoding="utf-8") as stream:
            for row in map(json.loads, stream):
                labels[row["file_name"].partition("/")[0]] = row["label"]
    return labels


def compare(rows: list[Row]) -> None:
    """Give a reason to every row whose images or labels are not those of the first that opened."""
    opened = [row for row in rows if row.records]
    for row in opened[1:]:
        mine, others = row.records or [], opened[0].records or []
        if not row.in_order:
            mine, others = sorted(mine), sorted(others)
        if mine != others and not row.reason:
            differing = sum(a != b for a, b in zip(mine, others, strict=False))
            row.reason = f"{differing} {row.what} differ from {opened[0].tool}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and deprecations of the libraries out of the table."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def isolate(scratch: Path) -> None:
    """Keep the libraries off the network and their caches in `scratch`; before they are loaded."""
    os.environ.update(OFFLINE, HF_HOME=str(scratch / "hub"), CROISSANT_CACHE=str(scratch / "mlc"))
    if "datasets" in sys.modules:
        import datasets

        datasets.config.HF_DATASETS_CACHE = scratch / "hub" / "datasets"
    import datasets

    datasets.disable_progress_bars()


def main(arguments: list[str] | None = None) -> int:
    """Print a table of what each tool saw."""
    parser = argparse.ArgumentParser(prog="python -m tests.open_bundle", description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    bundles: list[Path] = parser.parse_args(arguments).bundles
    absent = [str(bundle) for bundle in bundles if not bundle.exists()]
    if absent:
        parser.error(f"there is no {', '.join(absent)}")
    differing = 0
    with tempfile.TemporaryDirectory(prefix="kaima-open-") as folder:
        isolate(Path(folder))
        for number, bundle in enumerate(bundles):
            rows = open_bundle(unpacked(bundle, Path(folder) / str(number)))
            show(bundle, rows)
            differing += any(row.reason for row in rows) or not rows
    return 1 if differing else 0


def unpacked(bundle: Path, folder: Path) -> Path:
    """Return the folder of a bundle, unpacking a zip to `folder`."""
    if bundle.is_dir():
        return bundle.resolve()
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    return folder


def show(bundle: Path, rows: list[Row]) -> None:
    """Write the table of one bundle."""
    lines = [("tool", "opened", "split", "records", "result")]
    for row in rows:
        count = "-" if row.records is None else str(len(row.records))
        lines.append((row.tool, row.opened, row.split, count, row.reason or "equal"))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    sys.stdout.write(f"{bundle}\n")
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        sys.stdout.write("  ".join([*cells, line[4]]).rstrip() + "\n")
    failed = sum(bool(row.reason) for row in rows)
    whole = "All images and labels are equal, bit for bit."
    if any(row.what == "rows" for row in rows):
        whole = "All rows are equal, value for value."
    sys.stdout.write(f"{failed} of {len(rows)} differ.\n" if failed or not rows else f"{whole}\n")


if __name__ == "__main__":
    sys.exit(main())
