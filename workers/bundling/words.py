"""The documents of a bundle that people read: card, sheet of formats and gallery page."""

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from privacy.manifests import ReleaseCertificate
from service.domain.declarations import DUO_TERMS, ReleaseDeclaration
from workers.bundling.records import Record, SyntheticSet

CARD, FORMAT_SHEET, GALLERY = "README.md", "FORMATS.md", "gallery.html"
# As many pictures as a person looks at; the page carries them inside.
_PER_LABEL, _PICTURES, _PAGE_BYTES = 12, 240, 8 << 20
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>#|"})


def title(certificate: ReleaseCertificate, declared: ReleaseDeclaration) -> str:
    """Return what the set is called: in the owner's words, or by its name."""
    return declared.title or certificate.name


def summary(certificate: ReleaseCertificate, declared: ReleaseDeclaration) -> str:
    """Return what the set is in a sentence, and the owner's own words after it."""
    schema = certificate.declared
    sentence = (
        f"{certificate.image_count} synthetic radiographs of {schema.height} x {schema.width} "
        f"pixels, {schema.bit_depth} bits, made by a differentially private generator. "
        "No image shows a patient."
    )
    return f"{sentence} {declared.description}".strip()


def citation(certificate: ReleaseCertificate, declared: ReleaseDeclaration) -> str:
    """Return how to cite the release: in the owner's words, or in ours."""
    authors = ", ".join(declared.authors) or certificate.publisher
    year = declared.year or certificate.published_at[:4]
    place = f"https://doi.org/{declared.doi}" if declared.doi else certificate.release_id
    return declared.citation or (
        f"{authors} ({year}). {title(certificate, declared)}, version {certificate.version} "
        f"[synthetic radiographs]. {certificate.publisher}. {place}"
    )


def licence_address(declared: ReleaseDeclaration) -> str:
    """Return where the declared licence can be read, or nothing where the terms alone rule."""
    return f"https://spdx.org/licenses/{declared.licence}.html" if declared.licence else ""


def write(
    root: Path,
    synthetic: SyntheticSet,
    *,
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    terms: str,
) -> None:
    """Write README.md, FORMATS.md and gallery.html."""
    given: dict[str, Any] = {
        "certificate": certificate,
        "schema": certificate.declared,
        "declared": declared,
        "unit": "person" if certificate.unit == "person" else "image",
        "header": _header(certificate, declared),
        "summary": summary(certificate, declared),
        "title": title(certificate, declared),
        "licence_address": licence_address(declared),
        "citation": citation(certificate, declared),
        "duo": {
            code: (*DUO_TERMS[code], declared.duo_details.get(code, "")) for code in declared.duo
        },
        "folders": dict(zip(certificate.declared.labels, synthetic.folders, strict=True)),
        "terms": terms,
        "split": next(iter(certificate.splits)),
    }
    pages = Environment(
        loader=PackageLoader("workers.bundling"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters["md"] = lambda text: str(text).translate(_MARKDOWN)
    for name in (CARD, FORMAT_SHEET):
        (root / name).write_text(pages.get_template(name).render(given), encoding="utf-8")
    shown = dict(_pictures(synthetic))
    (root / GALLERY).write_text(
        pages.get_template(GALLERY).render(given, pictures=shown), encoding="utf-8"
    )


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


def _header(certificate: ReleaseCertificate, declared: ReleaseDeclaration) -> str:
    """Return the YAML header that dataset hubs and the `datasets` library read."""
    header: dict[str, Any] = {
        "pretty_name": title(certificate, declared),
        "version": certificate.version,
        **_licence(declared),
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "task_categories": ["image-classification"],
        "size_categories": [_size_category(certificate.image_count)],
        "tags": [
            "synthetic", "differential-privacy", "radiograph", "medical",
            *declared.duo, *declared.keywords,
        ],
        "configs": _configs(certificate),
    }  # fmt: skip
    if not header["configs"]:
        del header["configs"]
    # Every JSON value is a YAML value.
    return "\n".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()
    )


def _licence(declared: ReleaseDeclaration) -> dict[str, str]:
    if not declared.licence:
        return {"license": "other", "license_name": "terms-of-use-below"}
    # Hubs know these by their SPDX names in lower case, but for one.
    return {"license": {"ODbL-1.0": "odbl"}.get(declared.licence, declared.licence.lower())}


def _configs(certificate: ReleaseCertificate) -> list[dict[str, Any]]:
    configs: list[dict[str, Any]] = []
    if "parquet" in certificate.formats:
        files = [
            {"split": split, "path": f"parquet/{split}-*.parquet"} for split in certificate.splits
        ]
        configs.append({"config_name": "default", "data_files": files})
    if "imagefolder" in certificate.formats:
        name = "imagefolder" if configs else "default"
        configs.append({"config_name": name, "data_dir": "imagefolder"})
    return configs


def _size_category(count: int) -> str:
    for limit, name in ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if count < limit:
            return name
    return "100K<n<1M"
