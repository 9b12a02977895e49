"""A table's images seen as a set of images: cells as labels, and what cannot be declared."""

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from privacy.image_parts import cells_of, image_labels, image_schema
from privacy.manifests import DatasetManifest, DatasetSchema
from privacy.table_schema import TableSchema


def declared(**changes):
    document = {
        "declared_count": 1000,
        "person": "patient_id",
        "columns": [
            {"name": "age", "kind": "number", "edges": [-5, 10, 20, 30]},
            {"name": "sex", "kind": "category", "levels": ["f", "m"], "missing": True},
            {"name": "bmi", "kind": "number", "edges": list(range(41))},
        ],
        "images": {"height": 16, "width": 24, "bit_depth": 16, "condition_on": ["sex", "age"]},
    }
    return TableSchema.model_validate(document | changes)


def images(**changes):
    return {"height": 16, "width": 24, "condition_on": ["sex"]} | changes


def test_a_schema_with_images_is_of_the_third_kind_and_travels_as_a_table_does():
    schema = declared()
    assert schema.modality == "joint"
    assert declared(images=None).modality == "table"
    manifest = DatasetManifest(
        dataset_id="d", version_number=1, declared=schema, source_format="zip", record_count=1,
        person_count=1, duplicated_person_count=0, dropped=(), blobs={},
    )  # fmt: skip
    again = DatasetManifest.model_validate_json(manifest.canonical())
    assert again.declared == schema
    assert again.declared.modality == "joint"


def test_cells_are_numbered_row_by_row_in_the_order_of_the_named_columns():
    schema = declared()
    part = image_schema(schema)
    assert isinstance(part, DatasetSchema)
    assert (part.height, part.width, part.bit_depth) == (16, 24, 16)
    assert (part.unit, part.declared_count) == (schema.unit, 1000)
    assert cells_of(schema) == len(part.labels) == 9
    assert part.labels[:4] == (
        "sex f, age -5 to under 10",
        "sex f, age 10 to under 20",
        "sex f, age 20 to 30",
        "sex m, age -5 to under 10",
    )
    codes = np.array([[0, 0, 5], [2, 0, 6], [0, 1, 7], [2, 2, 8]], dtype=np.int16)
    labels = image_labels(schema, codes)
    assert labels.dtype == np.int16
    assert labels.tolist() == [0, 2, 3, 8]
    for row, label in zip(codes, labels, strict=True):
        assert schema.columns[0].names[row[0]] in part.labels[label]
        assert schema.columns[1].names[row[1]] in part.labels[label]


def test_long_names_are_cut_and_stay_distinct():
    long = "a description that goes on and on until it nearly cannot be read"
    columns = [
        {"name": f"{long[:50]} {n}", "kind": "category", "levels": [long[:-1] + c for c in "ab"]}
        for n in range(2)
    ]
    names = [column["name"] for column in columns]
    part = image_schema(declared(columns=columns, images=images(condition_on=names)))
    assert len(set(part.labels)) == 4
    assert all(len(label) <= 64 for label in part.labels)


def number(edges):
    return {"name": "dose", "kind": "number", "edges": edges}


def category(name, *levels):
    return {"name": name, "kind": "category", "levels": list(levels)}


ALIKE = {
    "bins that are written alike": [number([1_000_000, 1_000_001, 1_000_002, 1_000_003])],
    "a level that holds another column's words": [
        category("a", "p", "p, b q"),
        category("b", "r", "q, b r"),
    ],
    "a column that looks like a number of a cell": [
        category("cell 1:", "cell 1: x", "x"),
        number([1_000_000, 1_000_001, 1_000_002, 1_000_003]),
    ],
}


@pytest.mark.parametrize("case", ALIKE)
def test_cells_that_read_alike_are_told_apart_by_their_numbers(case):
    names = [column["name"] for column in ALIKE[case]]
    schema = declared(columns=ALIKE[case], images=images(condition_on=names))
    labels = image_schema(schema).labels
    assert len(set(labels)) == len(labels) == cells_of(schema)
    assert all(label.startswith(f"cell {n}: {names[0]} ") for n, label in enumerate(labels))
    assert all(len(label) <= 64 for label in labels)


def test_a_column_that_means_something_else_among_images_can_be_named():
    columns = [{"name": "split", "kind": "category", "levels": ["a", "b"]}]
    part = image_schema(declared(columns=columns, images=images(condition_on=["split"])))
    assert part.labels == ("split a", "split b")


def test_a_table_without_images_has_no_cells():
    for asked in (cells_of, image_schema):
        with pytest.raises(InvalidParameter, match=r"Declare \[images\]"):
            asked(declared(images=None))


REFUSED = {
    "visits": (
        {
            "columns": [{"name": "visit", "kind": "ordinal", "levels": ["0", "1"]}],
            "images": images(condition_on=["visit"]),
            "visits": {"order": "visit"},
        },
        "images and visits cannot be declared together",
    ),
    "record": ({"unit": "record", "person": ""}, "need unit = 'person'"),
    "cells": (
        {"images": images(condition_on=["sex", "bmi"])},
        "have 120 cells together, and at most 64 can be learnt: name fewer columns",
    ),
    "twice": ({"images": images(condition_on=["sex", "sex"])}, "names a column twice"),
    "file is a column": ({"images": images(column="age")}, "the image column 'age' names files"),
    "file is the person": ({"images": images(column="patient_id")}, "neither one of the columns"),
    "no such column": ({"images": images(condition_on=["size"])}, "no such column"),
    "taken in a release": (
        {
            "columns": [{"name": "Image", "kind": "category", "levels": ["a"]}],
            "images": images(condition_on=["Image"]),
        },
        "the column 'Image' is added to images in a release: rename yours",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_images_that_no_row_can_be_drawn_with_are_refused_when_the_schema_is_read(case):
    changes, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        declared(**changes)
