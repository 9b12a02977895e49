"""The part of a bundle that is particular to rows with images: their formats, words and record sets."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from privacy.image_parts import image_schema
from privacy.manifests import ReleaseCertificate
from privacy.table_schema import TableSchema
from service.domain.declarations import ReleaseDeclaration
from workers.bundling import datapackage, joint_files, tables
from workers.bundling.croissant import field, record_set
from workers.bundling.joint_files import FILE_NAME, IMAGE, IMAGE_FOLDER, PARQUET, metadata_name
from workers.bundling.joint_rows import FOLDER, SyntheticJoint
from workers.bundling.modality import Progress
from workers.bundling.records import Record
from workers.bundling.table_files import parquet_name

ONE, MANY = "row with its image", "rows with images"
CITED_AS = "synthetic radiographs with their table"
TAGS: tuple[str, ...] = ("radiograph", "tabular")
TASK = "image-classification"
PAGES = {"FORMATS.md": "FORMATS.joint.md", "preview.html": "preview.html"}

_PICTURES, _PAGE_BYTES = 24, 8 << 20
_PACKED = {
    IMAGE_FOLDER: datapackage.Form(metadata_name, (FILE_NAME,)),
    PARQUET: datapackage.Form(parquet_name),
}


def write_formats(
    root: Path,
    synthetic: SyntheticJoint,
    *,
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    progress: Progress,
) -> None:
    """Write every chosen format of every split in one pass, and the data package over them."""
    done = 0
    for split in synthetic.splits:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(joint_files.WRITERS[name](root, synthetic, split))
                for name in certificate.formats
            ]
            for batch in synthetic.batches(split):
                for writer in writers:
                    writer.add(batch)
                done += batch.rows.num_rows
                progress(done, len(synthetic))
    datapackage.write(
        root, synthetic.schema, certificate=certificate, declared=declared, forms=_PACKED
    )


def count(certificate: ReleaseCertificate) -> int:
    """Return how many rows with images the release has."""
    return certificate.image_count


def schema_of(certificate: ReleaseCertificate) -> TableSchema:
    """Return what is declared.  Raises: TypeError for another kind of records."""
    schema = tables.schema_of(certificate)
    if schema.images is None:
        raise TypeError(f"the release {certificate.release_id} declares no images")
    return schema


def sentence(certificate: ReleaseCertificate) -> str:
    """Return what the set is."""
    schema = schema_of(certificate)
    images = image_schema(schema)
    return (
        f"{count(certificate)} synthetic rows of {len(schema.columns)} columns, each with a synthetic "
        f"radiograph of {images.height} x {images.width} pixels, {images.bit_depth} bits, made by a "
        "differentially private generator. No row describes a patient and no image shows one."
    )


def configs(certificate: ReleaseCertificate) -> list[dict[str, Any]]:
    """Return where dataset hubs find the rows: one format of them, as both hold the same."""
    if PARQUET in certificate.formats:
        files = [
            {"split": split, "path": f"{PARQUET}/{split}-*.parquet"} for split in certificate.splits
        ]
        return [{"config_name": "default", "data_files": files}]
    return [{"config_name": "default", "data_dir": IMAGE_FOLDER}]


def page_facts(synthetic: SyntheticJoint, certificate: ReleaseCertificate) -> dict[str, Any]:
    """Return what the pages tell of columns and cells, and the first images with their rows."""
    facts = tables.page_facts(synthetic.table, certificate)
    counts = np.bincount(synthetic.cells, minlength=len(synthetic.declared.labels)).tolist()
    return {
        **facts,
        "about_records": "about_joint.md",
        "csv_types": {FILE_NAME: "str", **facts["csv_types"]},
        "images": synthetic.declared,
        "condition_on": synthetic.schema.images.condition_on if synthetic.schema.images else (),
        "cells": list(zip(synthetic.declared.labels, counts, strict=True)),
        "pictures": list(_pictures(synthetic, facts["rows"])),
    }


def _pictures(synthetic: SyntheticJoint, rows: list[list[str]]) -> Iterator[dict[str, Any]]:
    """Yield the first images, whose rows the page shows: their numbers, cells and data addresses."""
    left = _PAGE_BYTES
    for number in range(min(_PICTURES, len(rows))):
        cell = int(synthetic.cells[number])
        record = Record(number, "", cell, FOLDER, np.asarray(synthetic.images[number]))
        left -= len(record.png)
        if left < 0:
            return
        yield {
            "name": record.name,
            "cell": synthetic.declared.labels[cell],
            "address": f"data:image/png;base64,{b64encode(record.png).decode()}",
        }


def responsible_use(certificate: ReleaseCertificate) -> dict[str, Any]:
    """Return how rows and images were made and what they are not; nothing measured."""
    of_rows = tables.responsible_use(certificate)
    part = schema_of(certificate).images
    named = ", ".join(part.condition_on) if part else ""
    return {
        **of_rows,
        "rai:dataCollection": (
            "No row and no image was collected. Each row was drawn from a generator that was fitted to "
            "a private table with radiographs, and an image was drawn for it, under "
            f"({certificate.epsilon:.6g}, {certificate.delta:.3g})-differential privacy per person."
        ),
        "rai:dataAnnotationProtocol": [
            (
                "Cells were drawn together by the generator, and the image was drawn for what the row "
                f"holds in {named}; nobody filled in a row or graded an image."
            )
        ],
        "rai:dataLimitations": [
            *of_rows["rai:dataLimitations"],
            (
                f"Not for diagnosis. An image depends on its row through {named} alone: what it shows "
                "says nothing of the row's other columns. Fine detail may be missing or invented."
            ),
        ],
        "rai:personalSensitiveInformation": [
            (
                "No row describes a patient and no image shows one. What the set reveals about any one "
                "person is bounded by epsilon and delta, stated in certificate.json."
            )
        ],
    }


def files(certificate: ReleaseCertificate) -> dict[str, str]:
    """Return path -> media type of the files that hold rows."""
    found: dict[str, str] = {}
    for split in certificate.splits:
        if PARQUET in certificate.formats:
            found[parquet_name(split)] = "application/x-parquet"
        if IMAGE_FOLDER in certificate.formats:
            found[metadata_name(split)] = "text/csv"
    return found


def record_sets(certificate: ReleaseCertificate) -> list[dict[str, Any]]:
    """Return one set of records per split: the image, or its file's name, and the columns."""
    is_parquet = PARQUET in certificate.formats
    sets = []
    for split in certificate.splits:
        source = parquet_name(split) if is_parquet else metadata_name(split)
        if is_parquet:
            first = field(split, IMAGE, kind="sc:ImageObject", source=source)
            first["source"]["transform"] = {"jsonPath": "bytes"}
        else:
            first = field(split, FILE_NAME, kind="sc:Text", source=source)
        about = f"One record per synthetic row, with its image, of the split {split!r}."
        columns = tables.column_fields(
            schema_of(certificate), split, source=source, is_parquet=is_parquet
        )
        sets.append(record_set(split, about, fields=[first, *columns]))
    return sets
