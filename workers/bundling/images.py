"""The part of a bundle that is particular to images: their formats, words and record sets."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from privacy.manifests import DatasetSchema, ReleaseCertificate
from service.domain.declarations import ReleaseDeclaration
from workers.bundling import dicom_files, image_folder, medmnist
from workers.bundling import parquet_files as parquet
from workers.bundling.croissant import field, record_set
from workers.bundling.modality import Progress
from workers.bundling.records import Record, SyntheticSet

ONE, MANY = "image", "images"
CITED_AS = "synthetic radiographs"
TAGS: tuple[str, ...] = ("radiograph",)
TASK = "image-classification"
PAGES = {"FORMATS.md": "FORMATS.md", "gallery.html": "gallery.html"}

# As many pictures as a person looks at; the page carries them inside.
_PER_LABEL, _PICTURES, _PAGE_BYTES = 12, 240, 8 << 20


class _Writer(Protocol):
    def add(self, record: Record) -> None: ...

    def close(self) -> None: ...


def write_formats(
    root: Path,
    synthetic: SyntheticSet,
    *,
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    progress: Progress,
) -> None:
    """Write every chosen format in one pass.

    Each image is encoded once and handed to all formats, so that they cannot differ and memory
    holds one row group, however large the set.
    """
    chosen = certificate.formats
    writers: list[_Writer] = []
    if image_folder.NAME in chosen:
        writers.append(image_folder.ImageFolderWriter(root, synthetic))
    if parquet.NAME in chosen:
        writers.append(parquet.ParquetWriter(root, synthetic))
    if dicom_files.NAME in chosen:
        shared = dicom_files.describe(certificate, synthetic.schema, declared)
        writers.append(dicom_files.DicomWriter(root, synthetic, shared=shared))
    for record in synthetic.records():
        for writer in writers:
            writer.add(record)
        if record.number % 100 == 0:
            progress(record.number, len(synthetic.labels))
    for writer in writers:
        writer.close()
    if medmnist.NAME in chosen:
        medmnist.write_npz(root, synthetic, name=certificate.name)


def count(certificate: ReleaseCertificate) -> int:
    """Return how many images the release has."""
    return certificate.image_count


def schema_of(certificate: ReleaseCertificate) -> DatasetSchema:
    """Return what is declared of the images.  Raises: TypeError for another kind of records."""
    if not isinstance(certificate.declared, DatasetSchema):
        raise TypeError(f"the release {certificate.release_id} declares no images")
    return certificate.declared


def sentence(certificate: ReleaseCertificate) -> str:
    """Return what the set is."""
    schema = schema_of(certificate)
    return (
        f"{certificate.image_count} synthetic radiographs of {schema.height} x {schema.width} "
        f"pixels, {schema.bit_depth} bits, made by a differentially private generator. "
        "No image shows a patient."
    )


def configs(certificate: ReleaseCertificate) -> list[dict[str, Any]]:
    """Return where dataset hubs find the images."""
    found: list[dict[str, Any]] = []
    if parquet.NAME in certificate.formats:
        files = [
            {"split": split, "path": f"parquet/{split}-*.parquet"} for split in certificate.splits
        ]
        found.append({"config_name": "default", "data_files": files})
    if image_folder.NAME in certificate.formats:
        name = image_folder.NAME if found else "default"
        found.append({"config_name": name, "data_dir": image_folder.NAME})
    return found


def page_facts(synthetic: SyntheticSet, certificate: ReleaseCertificate) -> dict[str, Any]:
    """Return the pictures of the gallery, and which folder holds which label."""
    del certificate
    return {
        "about_records": "about_images.md",
        "preview": "gallery.html",
        "folders": dict(zip(synthetic.schema.labels, synthetic.folders, strict=True)),
        "pictures": dict(_pictures(synthetic)),
    }


def _pictures(synthetic: SyntheticSet) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the first images of each label: their names, and themselves as data addresses."""
    labels = synthetic.schema.labels
    each = max(1, min(_PER_LABEL, _PICTURES // len(labels)))
    left = _PAGE_BYTES
    for index, label in enumerate(labels):
        shown = []
        for number in np.flatnonzero(synthetic.labels == index)[:each]:
            pixels = synthetic.images[number]
            png = Record(int(number), "", index, synthetic.folders[index], pixels).png
            left -= len(png)
            if left < 0:
                break
            shown.append((f"{number:06d}", f"data:image/png;base64,{b64encode(png).decode()}"))
        yield label, shown


def responsible_use(certificate: ReleaseCertificate) -> dict[str, Any]:
    """Return how the images were made and what they are not; nothing measured."""
    unit = "person" if certificate.unit == "person" else "image"
    label = schema_of(certificate).label
    return {
        "rai:dataCollection": (
            "No image was collected. Each was drawn from a generator that was fitted to private "
            f"radiographs under ({certificate.epsilon:.6g}, {certificate.delta:.3g})-differential "
            f"privacy per {unit}."
        ),
        "rai:dataAnnotationProtocol": [
            (
                f"Labels ({label}) were given to the generator as the condition of each image; "
                "nobody graded the synthetic images."
            )
        ],
        "rai:dataBiases": [
            (
                "Labels are spread evenly over the declared set and say nothing about how common they "
                "are among patients. What the private records under-represent is likely to be poorer "
                "here as well, and noise for privacy blurs rare appearances most."
            )
        ],
        "rai:dataLimitations": [
            (
                "Not for diagnosis. Fine detail may be missing or invented. A model trained on these "
                "images must be tested on real ones before use."
            )
        ],
        "rai:personalSensitiveInformation": [
            (
                "No image shows a patient. What the set reveals about any one "
                f"{unit} is bounded by epsilon and delta, stated in certificate.json."
            )
        ],
    }


def files(certificate: ReleaseCertificate) -> dict[str, str]:
    """Return path -> media type of the files that hold images or list them."""
    found: dict[str, str] = {}
    for split in certificate.splits:
        if parquet.NAME in certificate.formats:
            path = f"{parquet.NAME}/{parquet.file_name(split)}"
            found[path] = "application/x-parquet"
        for name in (image_folder.NAME, dicom_files.NAME):
            if name in certificate.formats:
                found[f"{name}/{split}/{image_folder.TABLE}"] = "application/jsonlines"
    if medmnist.NAME in certificate.formats:
        found[f"{medmnist.NAME}/{certificate.name}.npz"] = "application/x-npz"
    return found


def record_sets(certificate: ReleaseCertificate) -> list[dict[str, Any]]:
    """Return the labels, and one set of records per split and format that Croissant can read."""
    sets = [_labels(schema_of(certificate))]
    for split in certificate.splits:
        about = f"One record per synthetic image of the split {split!r}."
        if parquet.NAME in certificate.formats:
            source = f"{parquet.NAME}/{parquet.file_name(split)}"
            image = field(split, "image", kind="sc:ImageObject", source=source)
            image["source"]["transform"] = {"jsonPath": "bytes"}
            label = field(split, "label", kind="sc:Integer", source=source)
            label["references"] = {"field": {"@id": "labels/index"}}
            sets.append(record_set(split, about, fields=[image, label]))
        for name in (image_folder.NAME, dicom_files.NAME):
            if name in certificate.formats:
                source = f"{name}/{split}/{image_folder.TABLE}"
                key = f"{name}-{split}"
                fields = [
                    field(key, column, kind="sc:Text", source=source)
                    for column in image_folder.COLUMNS
                ]
                sets.append(record_set(key, about, fields=fields))
    return sets


def _labels(schema: DatasetSchema) -> dict[str, Any]:
    rows: list[Mapping[str, Any]] = [
        {"labels/index": index, "labels/name": label} for index, label in enumerate(schema.labels)
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": f"The declared labels: {schema.label}.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "labels/index"},
        "field": [
            {"@type": "cr:Field", "@id": "labels/index", "name": "index", "dataType": "sc:Integer"},
            {"@type": "cr:Field", "@id": "labels/name", "name": "name", "dataType": "sc:Text"},
        ],
        "data": rows,
    }
