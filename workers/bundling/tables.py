"""The part of a bundle that is particular to a table: its formats, words and record sets."""

from pathlib import Path
from typing import Any

from privacy.manifests import ReleaseCertificate
from privacy.table_schema import Column, TableSchema
from service.domain.declarations import ReleaseDeclaration
from service.spreadsheets import escaped
from workers.bundling import datapackage, marginals, table_files, table_preview
from workers.bundling.croissant import field, record_set
from workers.bundling.modality import Progress
from workers.bundling.records import plain_names
from workers.bundling.table_rows import SyntheticTable, levels

ONE, MANY = "row", "rows"
CITED_AS = "synthetic table"
TAGS: tuple[str, ...] = ("tabular",)
TASK = "tabular-classification"
PAGES = {"FORMATS.md": "FORMATS.table.md", "preview.html": "preview.html"}
_WRITERS = {
    table_files.PARQUET: table_files.write_parquet,
    table_files.CSV: table_files.write_csv,
}
_LEVELS_SHOWN = 12
_CROISSANT_TYPES = {"integer": "sc:Integer", "number": "sc:Float"}


def write_formats(
    root: Path,
    synthetic: SyntheticTable,
    *,
    certificate: ReleaseCertificate,
    declared: ReleaseDeclaration,
    progress: Progress,
) -> None:
    """Write every chosen format of every split, and the data package over them."""
    total = len(certificate.formats) * len(synthetic.splits)
    files = [(name, split) for name in certificate.formats for split in synthetic.splits]
    for done, (name, split) in enumerate(files):
        progress(done, total)
        _WRITERS[name](root, synthetic, split)
    schema = synthetic.schema
    datapackage.write(root, schema, certificate=certificate, declared=declared)
    if synthetic.marginals:
        marginals.write(root, synthetic.marginals, schema=schema)


def count(certificate: ReleaseCertificate) -> int:
    """Return how many rows the release has."""
    return certificate.image_count


def schema_of(certificate: ReleaseCertificate) -> TableSchema:
    """Return what is declared of the table.  Raises: TypeError for another kind of records."""
    if not isinstance(certificate.declared, TableSchema):
        raise TypeError(f"the release {certificate.release_id} declares no table")
    return certificate.declared


def sentence(certificate: ReleaseCertificate) -> str:
    """Return what the set is."""
    return (
        f"{count(certificate)} synthetic rows of {len(schema_of(certificate).columns)} columns, made "
        "by a differentially private generator. No row describes a patient."
    )


def configs(certificate: ReleaseCertificate) -> list[dict[str, Any]]:
    """Return where dataset hubs find the rows: one format of them, as both hold the same."""
    if table_files.PARQUET in certificate.formats:
        path = table_files.parquet_name
    else:
        path = table_files.csv_name
    files = [{"split": split, "path": path(split)} for split in certificate.splits]
    return [{"config_name": "default", "data_files": files}]


def page_facts(synthetic: SyntheticTable, certificate: ReleaseCertificate) -> dict[str, Any]:
    """Return what the pages tell of columns, constraints and how the synthetic rows are spread."""
    counts, broken = table_preview.counts_of(synthetic)
    return {
        "about_records": "about_table.md",
        "preview": "preview.html",
        "columns": [(column, _values(column)) for column in synthetic.schema.columns],
        "constraints": [(c, broken[c.name]) for c in synthetic.schema.constraints],
        "spreads": table_preview.spreads(synthetic, counts),
        "rows": table_preview.first_rows(synthetic),
        "csv_types": _csv_types(synthetic.schema),
        "escapes": [
            word
            for column in synthetic.schema.columns
            for word in (column.name, *levels(column))
            if escaped(word) != word
        ],
        "formats": certificate.formats,
        "pictures": [],
        "has_marginals": bool(synthetic.marginals),
    }


def _values(column: Column) -> str:
    """Return what a cell may hold, in words."""
    if column.is_numeric:
        found = f"{column.edges[0]:g} to {column.edges[-1]:g}"
    else:
        words = levels(column)
        more = len(words) - _LEVELS_SHOWN
        found = ", ".join(words[:_LEVELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{found}, or missing" if column.missing else found


def _csv_types(schema: TableSchema) -> dict[str, str]:
    """Return the types by which pandas reads the CSV file as what it is."""
    names = {"integer": "Int64", "number": "float64"}
    return {escaped(column.name): names.get(column.kind, "str") for column in schema.columns}


def responsible_use(certificate: ReleaseCertificate) -> dict[str, Any]:
    """Return how the rows were made and what they are not; nothing measured."""
    unit = "person" if certificate.unit == "person" else "row"
    return {
        "rai:dataCollection": (
            "No row was collected. Each was drawn from a generator that was fitted to a private "
            f"table under ({certificate.epsilon:.6g}, {certificate.delta:.3g})-differential "
            f"privacy per {unit}."
        ),
        "rai:dataAnnotationProtocol": [
            "Cells were drawn together by the generator; nobody filled in or checked a row."
        ],
        "rai:dataBiases": [
            (
                "What the private records under-represent is likely to be poorer here as well, and "
                "noise for privacy blurs rare combinations most."
            )
        ],
        "rai:dataLimitations": [
            (
                "Not for decisions about patients. Relations between columns may be missing or "
                "invented; p-values and intervals computed as if these rows were real are wrong. "
                "A result found here must be confirmed on real records."
            )
        ],
        "rai:personalSensitiveInformation": [
            (
                f"No row describes a patient. What the set reveals about any one {unit} is bounded "
                "by epsilon and delta, stated in certificate.json."
            )
        ],
    }


def files(certificate: ReleaseCertificate) -> dict[str, str]:
    """Return path -> media type of the files that hold rows."""
    found: dict[str, str] = {}
    for split in certificate.splits:
        if table_files.PARQUET in certificate.formats:
            found[table_files.parquet_name(split)] = "application/x-parquet"
        if table_files.CSV in certificate.formats:
            found[table_files.csv_name(split)] = "text/csv"
    return found


def record_sets(certificate: ReleaseCertificate) -> list[dict[str, Any]]:
    """Return one set of records per split, with the columns as fields."""
    is_parquet = table_files.PARQUET in certificate.formats
    return [_record_set(certificate, split, is_parquet=is_parquet) for split in certificate.splits]


def _record_set(certificate: ReleaseCertificate, split: str, *, is_parquet: bool) -> dict[str, Any]:
    source = table_files.parquet_name(split) if is_parquet else table_files.csv_name(split)
    schema = schema_of(certificate).released
    fields = column_fields(schema, split, source=source, is_parquet=is_parquet)
    return record_set(split, f"One record per synthetic row of the split {split!r}.", fields=fields)


def column_fields(
    schema: TableSchema, split: str, *, source: str, is_parquet: bool
) -> list[dict[str, Any]]:
    """Return the columns as fields of Croissant; in CSV their names are escaped."""
    names = plain_names([column.name for column in schema.columns], instead="column")
    fields = []
    for column, name in zip(schema.columns, names, strict=True):
        made = field(
            split,
            column.name if is_parquet else escaped(column.name),
            kind=_CROISSANT_TYPES.get(column.kind, "sc:Text"),
            source=source,
            name=name,
        )
        made["description"] = _told(column, name)
        fields.append(made)
    return fields


def _told(column: Column, name: str) -> str:
    """Return a column's description with its unit, and its name where the field has another."""
    said = column.name if name != column.name or not column.description else ""
    parts = [part for part in (said, column.description) if part]
    return ": ".join(parts) + (f" [{column.unit}]" if column.unit else "")
