"""Writes croissant.json: the bundle as machine-readable metadata, Croissant 1.1 with RAI and PROV.

Only the certificate, the owner's declarations and digests of files in the bundle are described.
What the set was derived from is named by its salted commitment, never by an id or a digest.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privacy.checksums import digest_of
from privacy.manifests import ReleaseCertificate
from service.domain.declarations import DUO_TERMS, ReleaseDeclaration, duo_purl
from workers.bundling import image_folder, medmnist, parquet_files
from workers.bundling.words import citation, licence_address, summary, title

NAME = "croissant.json"

# The context that the standard's readers expect (Croissant 1.1), and PROV beside it.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write(root: Path, certificate: ReleaseCertificate, declared: ReleaseDeclaration) -> None:
    """Write croissant.json over the files that are in `root` already."""
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.1",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": certificate.name,
        "alternateName": title(certificate, declared),
        "description": summary(certificate, declared),
        "version": certificate.version,
        "datePublished": certificate.published_at[:10],
        "license": licence_address(declared) or "Terms in README.md",
        "citeAs": citation(certificate, declared),
        "url": f"urn:kaima:release:{certificate.release_id}",
        "publisher": {"@type": "sc:Organization", "name": certificate.publisher},
        "creator": {"@type": "sc:Organization", "name": certificate.publisher},
        "keywords": ["synthetic", "differential privacy", "radiograph", *declared.keywords],
        **_responsible_use(certificate, declared),
        **_provenance(certificate),
        **_use_terms(declared),
        "distribution": [
            _file_object(root, path, kind) for path, kind in _files(certificate).items()
        ],
        "recordSet": _record_sets(certificate),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (root / NAME).write_text(f"{text}\n", encoding="utf-8")


def _responsible_use(
    certificate: ReleaseCertificate, declared: ReleaseDeclaration
) -> dict[str, Any]:
    """Return the fields of the RAI vocabulary; each says what was done, nothing measured."""
    unit = "person" if certificate.unit == "person" else "image"
    return {
        "rai:dataCollection": (
            "No image was collected. Each was drawn from a generator that was fitted to private "
            f"radiographs under ({certificate.epsilon:.6g}, {certificate.delta:.3g})-differential "
            f"privacy per {unit}."
        ),
        "rai:dataCollectionType": ["Synthetic data generation"],
        "rai:hasSyntheticData": True,
        "rai:dataAnnotationProtocol": [
            (
                f"Labels ({certificate.declared.label}) were given to the generator as the condition "
                "of each image; nobody graded the synthetic images."
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
            ),
            *([declared.limitations] if declared.limitations else []),
        ],
        "rai:dataUseCases": [
            declared.intended_use
            or "Developing and testing software, teaching, pre-training before access to real data"
        ],
        "rai:personalSensitiveInformation": [
            (
                "No image shows a patient. What the set reveals about any one "
                f"{unit} is bounded by epsilon and delta, stated in certificate.json."
            )
        ],
        "rai:dataSocialImpact": (
            "Lets others work with images of a kind that could not be shared; may give false "
            "confidence where it is taken for real data."
        ),
        "rai:dataReleaseMaintenancePlan": declared.maintenance
        or (
            "Versions follow MAJOR.MINOR.PATCH. A release may be revoked by its publisher; "
            "`kaima verify` checks these files, not whether they were revoked since."
        ),
    }


def _provenance(certificate: ReleaseCertificate) -> dict[str, Any]:
    """Return what PROV calls derivation and generation, in names that reveal nothing."""
    sources = {
        "dataset": "Private records, which stay with the publisher",
        "generator": "The fitted generator, which stays with the publisher",
    }
    return {
        "prov:wasDerivedFrom": [
            {
                "@id": f"urn:kaima:commitment:{certificate.commitments[name]}",
                "@type": "prov:Entity",
                "name": words,
            }
            for name, words in sources.items()
            if name in certificate.commitments
        ],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "name": f"Sampling from a differentially private generator ({certificate.generator})",
            "prov:wasAssociatedWith": {"@type": "prov:Agent", "name": certificate.publisher},
        },
    }


def _use_terms(declared: ReleaseDeclaration) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if declared.doi:
        found["identifier"] = f"https://doi.org/{declared.doi}"
    if not declared.duo:
        return found
    terms = [
        {
            "@type": "sc:DefinedTerm",
            "@id": duo_purl(code),
            "name": DUO_TERMS[code][0],
            "description": declared.duo_details.get(code) or DUO_TERMS[code][1],
            "termCode": code,
        }
        for code in declared.duo
    ]
    return {**found, "usageInfo": terms}


def _files(certificate: ReleaseCertificate) -> dict[str, str]:
    """Return path -> media type of the files that hold records for programs."""
    files: dict[str, str] = {}
    for split in certificate.splits:
        if parquet_files.NAME in certificate.formats:
            path = f"{parquet_files.NAME}/{parquet_files.file_name(split)}"
            files[path] = "application/x-parquet"
        for name in (image_folder.NAME, "dicom"):
            if name in certificate.formats:
                files[f"{name}/{split}/{image_folder.TABLE}"] = "application/jsonlines"
    if medmnist.NAME in certificate.formats:
        files[f"{medmnist.NAME}/{certificate.name}.npz"] = "application/x-npz"
    return files


def _file_object(root: Path, path: str, media_type: str) -> dict[str, Any]:
    with (root / path).open("rb") as stream:
        digest = digest_of(iter(lambda: stream.read(1 << 20), b""))
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{(root / path).stat().st_size} B",
        "encodingFormat": media_type,
        "sha256": digest,
    }


def _record_sets(certificate: ReleaseCertificate) -> list[dict[str, Any]]:
    sets = [_labels(certificate)]
    for split in certificate.splits:
        if parquet_files.NAME in certificate.formats:
            source = f"{parquet_files.NAME}/{parquet_files.file_name(split)}"
            image = _field(split, "image", "sc:ImageObject", source=source)
            image["source"]["transform"] = {"jsonPath": "bytes"}
            label = _field(split, "label", "sc:Integer", source=source)
            label["references"] = {"field": {"@id": "labels/index"}}
            sets.append(_record_set(split, split, [image, label]))
        for name in (image_folder.NAME, "dicom"):
            if name in certificate.formats:
                source = f"{name}/{split}/{image_folder.TABLE}"
                key = f"{name}-{split}"
                fields = [
                    _field(key, column, "sc:Text", source=source) for column in image_folder.COLUMNS
                ]
                sets.append(_record_set(key, split, fields))
    return sets


def _labels(certificate: ReleaseCertificate) -> dict[str, Any]:
    rows: list[Mapping[str, Any]] = [
        {"labels/index": index, "labels/name": label}
        for index, label in enumerate(certificate.declared.labels)
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": f"The declared labels: {certificate.declared.label}.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "labels/index"},
        "field": [
            {"@type": "cr:Field", "@id": "labels/index", "name": "index", "dataType": "sc:Integer"},
            {"@type": "cr:Field", "@id": "labels/name", "name": "name", "dataType": "sc:Text"},
        ],
        "data": rows,
    }


def _record_set(key: str, split: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": key,
        "name": key,
        "description": f"One record per synthetic image of the split {split!r}.",
        "field": fields,
    }


def _field(key: str, column: str, kind: str, *, source: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{key}/{column}",
        "name": column,
        "dataType": kind,
        "source": {"fileObject": {"@id": source}, "extract": {"column": column}},
    }
