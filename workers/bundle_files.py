"""The files of a release bundle, each written from synthetic records and public declarations only.

A bundle's contents are this list and nothing else: images/<label>/NNNNN.png and metadata.csv (an
imagefolder), <name>.npz (MedMNIST-style), README.md (a dataset card), certificate.json,
public_key.pem, SHA256SUMS and SHA256SUMS.sig. Neither a digest nor a count of anything private can
enter, because no function here is given a private document.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from privacy.manifests import DatasetSchema, ReleaseCertificate

_PLAIN_LABEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")

Progress = Callable[[int, int], None]


def folder_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return one folder name per label: the label itself where that is a plain file name."""
    names = [
        label if _PLAIN_LABEL.match(label) else f"label-{index}"
        for index, label in enumerate(labels)
    ]
    folded = [name.casefold() for name in names]
    if len(set(folded)) == len(folded):
        return tuple(names)
    return tuple(f"label-{index}" for index in range(len(labels)))


def write_images(
    folder: Path,
    images: NDArray[np.generic],
    labels: NDArray[np.integer],
    *,
    schema: DatasetSchema,
    progress: Progress,
) -> None:
    """Write images/<label>/NNNNN.png and metadata.csv.

    Shapes: images (samples, height, width) uint8 or uint16; labels (samples,) index of the label.
    """
    names = folder_names(schema.labels)
    for name in names:
        (folder / "images" / name).mkdir(parents=True, mode=0o755)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["file_name", "label"])
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = f"images/{names[int(label)]}/{index:05d}.png"
            Image.fromarray(np.ascontiguousarray(image)).save(folder / path, format="PNG")
            table.writerow([path, schema.labels[int(label)]])
            if index % 100 == 0:
                progress(index, len(images))


def write_npz(
    path: Path,
    images: NDArray[np.generic],
    labels: NDArray[np.integer],
    *,
    schema: DatasetSchema,
) -> None:
    """Write train_images (samples, height, width), train_labels (samples, 1) and label_names."""
    np.savez_compressed(
        path,
        train_images=images,
        train_labels=np.asarray(labels, dtype=np.int16)[:, None],
        label_names=np.asarray(schema.labels, dtype=np.str_),
    )


def dataset_card(certificate: ReleaseCertificate, *, terms: str) -> str:
    """Return README.md: a YAML header for dataset hubs, then what the certificate says in words."""
    unit = "person" if certificate.unit == "person" else "image"
    header = {
        "pretty_name": certificate.name,
        "version": certificate.version,
        "license": "other",
        "license_name": "terms-of-use-below",
        "task_categories": ["image-classification"],
        "size_categories": [_size_category(certificate.image_count)],
        "tags": ["synthetic", "differential-privacy", "radiograph"],
    }
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())
    declared = certificate.declared
    counts = "\n".join(f"| {label} | {count} |" for label, count in certificate.labels.items())
    statements = "\n".join(f"- {statement}" for statement in certificate.statements)
    return f"""---
{yaml}
---

# {certificate.name} {certificate.version}

{certificate.image_count} synthetic radiographs of {declared.height} x {declared.width} pixels,
{declared.bit_depth} bits, made by a differentially private generator. No image shows a patient.

Published by {certificate.publisher} on {certificate.published_at[:10]}.

## Privacy

| | |
|---|---|
| epsilon of this release | {certificate.epsilon:.6g} per {unit} |
| delta | {certificate.delta:.3g} |
| neighbouring relation | add or remove one {unit} |
| cumulative epsilon of the cohort at publication | {certificate.cohort_epsilon:.6g} |
| tier | {certificate.tier} |
| verdict | {certificate.verdict} |

{statements}

`kaima verify` checks every file here against SHA256SUMS and its signature, and derives epsilon
again from the mechanisms in certificate.json. Give it the publisher's public key, which you should
have from the publisher and not from this folder.

## Labels

Labels of synthetic images are spread evenly over the declared set of `{declared.label}`; they say
nothing about how common a label is among patients.

| {declared.label} | images |
|---|---|
{counts}

## Files

- `images/<label>/NNNNN.png` with `metadata.csv` (`file_name`, `label`)
- `{certificate.name}.npz` with `train_images`, `train_labels` and `label_names`
- `certificate.json`, `public_key.pem`, `SHA256SUMS`, `SHA256SUMS.sig`

## Terms

{terms}
"""


def _size_category(count: int) -> str:
    for limit, name in ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if count < limit:
            return name
    return "100K<n<1M"
