"""Writes croissant.json: the bundle as machine-readable metadata, Croissant 1.1 with RAI and PROV.

Only the certificate, the owner's declarations and digests of files in the bundle are described.
What the set was derived from is named by its salted commitment, never by an id or a digest.
"""

import json
from pathlib import Path
from typing import Any

from privacy.checksums import digest_of
from privacy.manifests import ReleaseCertificate
from service.domain.declarations import DUO_TERMS, ReleaseDeclaration, duo_purl
from workers.bundling.modality import Modality
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


def write(
    root: Path,
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    *,
    modality: Modality[Any],
) -> None:
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
        "description": summary(certificate, declared, modality=modality),
        "version": certificate.version,
        "datePublished": certificate.published_at[:10],
        "license": licence_address(declared) or "Terms in README.md",
        "citeAs": citation(certificate, declared, modality=modality),
        "url": f"urn:kaima:release:{certificate.release_id}",
        "publisher": {"@type": "sc:Organization", "name": certificate.publisher},
        "creator": {"@type": "sc:Organization", "name": certificate.publisher},
        "keywords": ["synthetic", "differential privacy", *modality.TAGS, *declared.keywords],
        **_responsible_use(certificate, declared, modality=modality),
        **_provenance(certificate),
        **_use_terms(declared),
        "distribution": [
            _file_object(root, path, kind) for path, kind in modality.files(certificate).items()
        ],
        "recordSet": modality.record_sets(certificate),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (root / NAME).write_text(f"{text}\n", encoding="utf-8")


def _responsible_use(
    certificate: ReleaseCertificate, declared: ReleaseDeclaration, *, modality: Modality[Any]
) -> dict[str, Any]:
    """Return the fields of the RAI vocabulary; each says what was done, nothing measured."""
    own = modality.responsible_use(certificate)
    limitations = [declared.limitations] if declared.limitations else []
    return {
        **own,
        "rai:dataCollectionType": ["Synthetic data generation"],
        "rai:hasSyntheticData": True,
        "rai:dataLimitations": [*own["rai:dataLimitations"], *limitations],
        "rai:dataUseCases": [
            declared.intended_use
            or "Developing and testing software, teaching, pre-training before access to real data"
        ],
        "rai:dataSocialImpact": (
            f"Lets others work with {modality.MANY} of a kind that could not be shared; may give "
            "false confidence where they are taken for real data."
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


def record_set(key: str, description: str, *, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a set of records with these fields."""
    return {
        "@type": "cr:RecordSet",
        "@id": key,
        "name": key,
        "description": description,
        "field": fields,
    }


def field(key: str, column: str, *, kind: str, source: str, name: str = "") -> dict[str, Any]:
    """Return a field that is a column of a file; `name` in its address if the column's is odd."""
    return {
        "@type": "cr:Field",
        "@id": f"{key}/{name or column}",
        "name": name or column,
        "dataType": kind,
        "source": {"fileObject": {"@id": source}, "extract": {"column": column}},
    }
