"""Writes datapackage.json: the table as a Frictionless Data Package 2.0, with a Table Schema.

Every column's type, levels, bounds, unit and whether cells may be missing, as they were declared;
nothing is inferred from cells. https://datapackage.org/standard/
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from privacy.checksums import digest_of
from privacy.manifests import ReleaseCertificate
from privacy.table_schema import Column, TableSchema
from service.domain.declarations import ReleaseDeclaration
from service.spreadsheets import escaped
from workers.bundling.table_files import CSV, PARQUET, csv_name, parquet_name
from workers.bundling.table_rows import levels
from workers.bundling.words import licence_address, title

NAME = "datapackage.json"
_PROFILES = "https://datapackage.org/profiles/2.0"
_DIALECT = {
    "$schema": f"{_PROFILES}/tabledialect.json",
    "delimiter": ",",
    "lineTerminator": "\n",
    "quoteChar": '"',
    "doubleQuote": True,
    "header": True,
}


class Form(NamedTuple):
    """The file of a split in one format, and columns of text before those of the table."""

    path: Callable[[str], str]
    before: tuple[str, ...] = ()


_FORMS = {CSV: Form(csv_name), PARQUET: Form(parquet_name)}


def write(
    root: Path,
    schema: TableSchema,
    *,
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    forms: Mapping[str, Form] | None = None,
) -> None:
    """Write datapackage.json over the files that are in `root` already.

    `forms` says which files are tables, if others than those of a table alone.
    """
    forms = forms or _FORMS
    document: dict[str, Any] = {
        "$schema": f"{_PROFILES}/datapackage.json",
        "name": certificate.name,
        "id": f"urn:kaima:release:{certificate.release_id}",
        "title": title(certificate, declared),
        "description": (
            "Synthetic rows, drawn from a differentially private generator. No row describes a "
            "patient; README.md says more."
        ),
        "version": certificate.version,
        "created": certificate.published_at,
        "licenses": [_licence(declared)],
        "contributors": [{"title": certificate.publisher, "roles": ["publisher"]}],
        "keywords": ["synthetic", "differential privacy", *declared.keywords],
        "resources": [
            _resource(root, schema, split=split, name=name, form=form)
            for split in certificate.splits
            for name, form in forms.items()
            if name in certificate.formats
        ],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (root / NAME).write_text(f"{text}\n", encoding="utf-8")


def _licence(declared: ReleaseDeclaration) -> dict[str, str]:
    if not declared.licence:
        return {"title": "Terms in README.md", "path": "README.md"}
    return {"name": declared.licence, "path": licence_address(declared)}


def _resource(
    root: Path, schema: TableSchema, *, split: str, name: str, form: Form
) -> dict[str, Any]:
    path = form.path(split)
    is_csv = path.endswith(".csv")
    with (root / path).open("rb") as stream:
        digest = digest_of(iter(lambda: stream.read(1 << 20), b""))
    found: dict[str, Any] = {
        "$schema": f"{_PROFILES}/dataresource.json",
        "name": f"{split}-{name}",
        # A file of typed columns; tools that read tables by a schema want the CSV file beside it.
        "type": "table" if is_csv else "file",
        "path": path,
        "format": CSV if is_csv else PARQUET,
        "mediatype": "text/csv" if is_csv else "application/vnd.apache.parquet",
        "bytes": (root / path).stat().st_size,
        "hash": f"sha256:{digest}",
    }
    if is_csv:
        found |= {
            "encoding": "utf-8",
            "dialect": _DIALECT,
            "schema": _table_schema(schema, form.before),
        }
    return found


def _table_schema(schema: TableSchema, before: tuple[str, ...]) -> dict[str, Any]:
    named: list[dict[str, Any]] = [
        {"name": name, "type": "string", "constraints": {"required": True}} for name in before
    ]
    return {
        "$schema": f"{_PROFILES}/tableschema.json",
        "fields": named + [_field(column) for column in schema.columns],
        "missingValues": [""],
    }


def _field(column: Column) -> dict[str, Any]:
    """Return a column as it stands in CSV, where texts are escaped."""
    constraints: dict[str, Any] = {"required": not column.missing}
    found: dict[str, Any] = {"name": escaped(column.name)}
    if column.is_numeric:
        found["type"] = column.kind
        whole = column.kind == "integer"
        constraints["minimum"] = int(column.edges[0]) if whole else column.edges[0]
        constraints["maximum"] = int(column.edges[-1]) if whole else column.edges[-1]
    else:
        words = [escaped(word) for word in levels(column)]
        found |= {"type": "string", "categories": words}
        found["categoriesOrdered"] = column.kind == "ordinal"
        constraints["enum"] = words
    if column.description:
        found["description"] = column.description
    if column.unit:
        found["unit"] = column.unit
    return found | {"constraints": constraints}
