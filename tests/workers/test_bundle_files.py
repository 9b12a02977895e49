"""The files of a bundle."""

import csv

import numpy as np
import pytest
from PIL import Image

from privacy.manifests import DatasetSchema
from workers import bundle_files


def schema(labels: tuple[str, ...], *, bit_depth: int = 8) -> DatasetSchema:
    return DatasetSchema(
        declared_count=100, height=8, width=8, bit_depth=bit_depth, label="grade", labels=labels
    )


def ignore(step: int, total: int) -> None:
    del step, total


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("0", "1"), ("0", "1")),
        (("a/b", "../c", "d"), ("label-0", "label-1", "d")),
        ((".", "..", "x y"), ("label-0", "label-1", "label-2")),
        (("Normal", "normal"), ("label-0", "label-1")),
        (("label-1", "a/b"), ("label-0", "label-1")),
    ],
)
def test_no_label_becomes_a_path_outside_its_folder_or_another_labels_folder(labels, expected):
    names = bundle_files.folder_names(labels)
    assert names == expected
    assert len({name.casefold() for name in names}) == len(labels)


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_images_come_back_from_png_as_they_were(tmp_path, bit_depth):
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2**bit_depth, (6, 8, 8)).astype(dtype)
    labels = np.array([0, 1, 0, 1, 0, 1], dtype=np.int16)
    declared = schema(("no", "yes"), bit_depth=bit_depth)
    bundle_files.write_images(tmp_path, images, labels, schema=declared, progress=ignore)
    rows = list(csv.DictReader((tmp_path / "metadata.csv").open(encoding="utf-8")))
    assert [row["label"] for row in rows] == ["no", "yes"] * 3
    for row, image in zip(rows, images, strict=True):
        with Image.open(tmp_path / row["file_name"]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)


def test_the_npz_reads_without_pickle_and_has_one_column_of_labels(tmp_path):
    images = np.zeros((4, 8, 8), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1], dtype=np.int16)
    bundle_files.write_npz(tmp_path / "x.npz", images, labels, schema=schema(("no", "yes")))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert arrays["train_images"].shape == (4, 8, 8)
        assert arrays["train_labels"].shape == (4, 1)
        assert list(arrays["label_names"]) == ["no", "yes"]
