"""The documents of a bundle that people read: card, sheet of formats and gallery page."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from privacy.manifests import ReleaseCertificate
from service.domain.declarations import DUO_TERMS, ReleaseDeclaration
from workers.bundling.modality import Modality, Records_contra

CARD = "README.md"
_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>#|"})


def title(certificate: ReleaseCertificate, declared: ReleaseDeclaration) -> str:
    """Return what the set is called: in the owner's words, or by its name."""
    return declared.title or certificate.name


def summary(
    certificate: ReleaseCertificate, declared: ReleaseDeclaration, *, modality: Modality[Any]
) -> str:
    """Return what the set is in a sentence, and the owner's own words after it."""
    return f"{modality.sentence(certificate)} {declared.description}".strip()


def citation(
    certificate: ReleaseCertificate, declared: ReleaseDeclaration, *, modality: Modality[Any]
) -> str:
    """Return how to cite the release: in the owner's words, or in ours."""
    authors = ", ".join(declared.authors) or certificate.publisher
    year = declared.year or certificate.published_at[:4]
    place = f"https://doi.org/{declared.doi}" if declared.doi else certificate.release_id
    return declared.citation or (
        f"{authors} ({year}). {title(certificate, declared)}, version {certificate.version} "
        f"[{modality.CITED_AS}]. {certificate.publisher}. {place}"
    )


def licence_address(declared: ReleaseDeclaration) -> str:
    """Return where the declared licence can be read, or nothing where the terms alone rule."""
    return f"https://spdx.org/licenses/{declared.licence}.html" if declared.licence else ""


def write(
    root: Path,
    synthetic: Records_contra,
    *,
    modality: Modality[Records_contra],
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    terms: str,
) -> None:
    """Write the card, and the pages of the modality: sheet of formats and gallery."""
    given: dict[str, Any] = {
        "certificate": certificate,
        "schema": certificate.declared,
        "declared": declared,
        "unit": "person" if certificate.unit == "person" else modality.ONE,
        "one": modality.ONE,
        "many": modality.MANY,
        "header": _header(certificate, declared, modality=modality),
        "summary": summary(certificate, declared, modality=modality),
        "title": title(certificate, declared),
        "licence_address": licence_address(declared),
        "citation": citation(certificate, declared, modality=modality),
        "duo": {
            code: (*DUO_TERMS[code], declared.duo_details.get(code, "")) for code in declared.duo
        },
        "terms": terms,
        "split": next(iter(certificate.splits)),
        **modality.page_facts(synthetic, certificate),
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
    for name, template in {CARD: CARD, **modality.PAGES}.items():
        text = pages.get_template(template).render(given)
        (root / name).write_text(text, encoding="utf-8")


def _header(
    certificate: ReleaseCertificate, declared: ReleaseDeclaration, *, modality: Modality[Any]
) -> str:
    """Return the YAML header that dataset hubs and the `datasets` library read."""
    header: dict[str, Any] = {
        "pretty_name": title(certificate, declared),
        "version": certificate.version,
        **_licence(declared),
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "task_categories": [modality.TASK],
        "size_categories": [_size_category(modality.count(certificate))],
        "tags": [
            "synthetic", "differential-privacy", *modality.TAGS, "medical",
            *declared.duo, *declared.keywords,
        ],
        "configs": modality.configs(certificate),
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


def _size_category(count: int) -> str:
    for limit, name in ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if count < limit:
            return name
    return "100K<n<1M" if count < 1_000_000 else "1M<n<10M"
