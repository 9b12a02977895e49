"""Say what a dataset holds in plain words, images or a table; the templates' filters."""

from typing import Any

from privacy.foresight import PERSONS_UNKNOWN
from privacy.manifests import read_declared
from privacy.mechanisms import UnitOfPrivacy
from privacy.table_schema import Column, Constraint, TableSchema
from service.domain.datasets import DeclaredSchema
from service.pages.session import blueprint

_KINDS = {
    "category": "category",
    "ordinal": "ordered category",
    "integer": "whole number",
    "number": "number",
}
_ROLES = {"feature": "", "target": "target", "quasi_identifier": "quasi-identifier"}
_RECORDS = {"image": "images", "table": "rows", "joint": "rows with images"}
_SHOWN = 12


@blueprint.app_template_filter("records")
def records(schema: DeclaredSchema) -> str:
    """Return what the records are called."""
    return _RECORDS[schema.modality]


@blueprint.app_template_filter("unit_name")
def unit_name(schema: DeclaredSchema) -> str:
    """Return the word for one unit of privacy."""
    if schema.unit is UnitOfPrivacy.PERSON:
        return "person"
    return "row" if isinstance(schema, TableSchema) else "image"


@blueprint.app_template_filter("per_unit")
def per_unit(schema: DeclaredSchema) -> str:
    """Return whose presence is hidden."""
    return f"per {unit_name(schema)}"


@blueprint.app_template_filter("about_unit")
def about_unit(schema: DeclaredSchema) -> str:
    """Return what nobody can check of the unit of privacy; empty where there is nothing."""
    return PERSONS_UNKNOWN if unit_name(schema) == "row" else ""


@blueprint.app_template_filter("shape_words")
def shape_words(schema: DeclaredSchema) -> str:
    """Return how large one record is."""
    if isinstance(schema, TableSchema):
        count, part = len(schema.columns), schema.images
        columns = f"{count} column{'' if count == 1 else 's'}"
        return columns + (f" and {part.height} × {part.width} pixels" if part else "")
    return f"{schema.height} × {schema.width} pixels"


@blueprint.app_template_filter("declared_schema")
def declared_schema(document: Any) -> DeclaredSchema | None:
    """Return the declaration that a certificate names; None where it cannot be read any more."""
    try:
        return read_declared(document)
    except ValueError:
        return None


@blueprint.app_template_filter("column_kind")
def column_kind(column: Column) -> str:
    """Return what a column holds: its kind, its unit, its part in the table."""
    words = [_KINDS[column.kind], column.unit, _ROLES[column.role]]
    return ", ".join(word for word in words if word)


@blueprint.app_template_filter("column_values")
def column_values(column: Column) -> str:
    """Return the domain of a column: its bins between bounds, or its levels."""
    names = column.names
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    listed = shown + (f" and {more} more" if more > 0 else "")
    if not column.is_numeric:
        return listed
    bins = len(column.edges) - 1
    missing = ", or missing" if column.missing else ""
    return f"{column.edges[0]:g} to {column.edges[-1]:g} in {bins} bin{'' if bins == 1 else 's'}{missing}"


@blueprint.app_template_filter("constraint_words")
def constraint_words(constraint: Constraint) -> str:
    """Return a constraint as a sentence."""
    then = _condition(constraint.then)
    if not constraint.when:
        return f"Always {then}."
    return f"Where {_condition(constraint.when)}, {then}."


def _condition(wanted: dict[str, tuple[str, ...]]) -> str:
    return " and ".join(f"{name} is {' or '.join(words)}" for name, words in wanted.items())
