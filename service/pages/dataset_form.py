"""The form in which a data owner declares a dataset: everything in it is public."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError
from werkzeug.datastructures import FileStorage

from privacy.errors import InvalidParameter
from privacy.table_schema import TableSchema, parse_schema
from service import resources as r
from service.pages.rules import count_in, field_errors, number_in

UNITS = (
    (
        "person",
        "Person",
        "Hides one person's whole contribution, however many images. Each image names its person.",
    ),
    (
        "record",
        "Image",
        "Hides each image by itself. A person with several images is protected less.",
    ),
)
RULES = (
    ("basic", "Basic composition: each run has its own ε and δ, and they add up"),
    ("renyi", "Rényi filter: many small runs add up to less"),
)
DEFAULT_DELTA = "0.00001"
LARGEST_SCHEMA_BYTES = 400_000
_NO_INPUT = {"declared", "image", "table"}
_NO_BUDGET = {"epsilon": None, "delta": None}


def schema_sent(form: Mapping[str, str], files: Mapping[str, FileStorage]) -> str:
    """Return the text of the schema that was sent, as a file or once more after it was shown."""
    file = files.get("schema")
    if file is None or not file.filename:
        return form.get("schema_text", "")
    return file.stream.read(LARGEST_SCHEMA_BYTES + 1).decode("utf-8", errors="replace")


def read_form(
    form: Mapping[str, str], schema_text: str = ""
) -> tuple[r.NewDataset | None, dict[str, str], str | None]:
    """Return what was declared; or None, the sentence of each field and one for the whole.

    A table, with images or without, is declared by the text of a schema, images alone by the fields
    of the form.
    """
    declared: Mapping[str, Any] | TableSchema
    if form.get("holds") == "table":
        try:
            declared = _schema_in(schema_text)
        except InvalidParameter as error:
            return None, {"schema": str(error)}, "Nothing was made yet: the schema was refused."
    else:
        declared = _images_in(form)
    joins = form.get("budget") == "join"
    budget: dict[str, Any] = (
        {"join_dataset_id": form.get("join_dataset_id") or None, **_NO_BUDGET}
        if joins
        else {
            "epsilon": number_in(form, "epsilon"),
            "delta": number_in(form, "delta"),
            "rule": form.get("rule") or "basic",
        }
    )
    asked = {
        "name": form.get("name", "").strip(),
        "purpose": form.get("purpose", "").strip(),
        "declared": declared,
        **budget,
    }
    try:
        found = r.NewDataset.model_validate(asked)
    except ValidationError as error:
        errors = {_name(field): text for field, text in field_errors(error).items()}
        return None, errors, "Nothing was made yet: some fields need another look."
    if joins and found.join_dataset_id is None:
        return None, {"join_dataset_id": "Choose the dataset whose budget is shared."}, None
    if not joins and found.epsilon is None:
        return None, {"epsilon": "Say how much may ever be spent on these data."}, None
    return found, {}, None


def declared(asked: r.NewDataset) -> dict[str, Any]:
    """Return the arguments of `create_dataset`; decimals as they were written."""
    budget = {"budget_epsilon": asked.epsilon, "budget_delta": asked.delta}
    exact = {name: None if one is None else Decimal(str(one)) for name, one in budget.items()}
    if asked.join_dataset_id is None and exact["budget_delta"] is None:
        exact["budget_delta"] = Decimal(DEFAULT_DELTA)
    return {
        "name": asked.name,
        "purpose": asked.purpose,
        "schema": asked.declared,
        "rule": asked.rule,
        "join_dataset_id": asked.join_dataset_id,
        **exact,
    }


def _schema_in(text: str) -> TableSchema:
    if not text.strip():
        raise InvalidParameter("Choose the file of the schema: a TOML that names every column.")
    if len(text) > LARGEST_SCHEMA_BYTES:
        raise InvalidParameter(
            f"The schema was refused: it is longer than {LARGEST_SCHEMA_BYTES:,} bytes. Declare "
            "fewer levels, or merge them."
        )
    return parse_schema(text.encode(), name="schema.toml")


def _images_in(form: Mapping[str, str]) -> dict[str, Any]:
    return {
        "unit": form.get("unit") or "person",
        "declared_count": count_in(form, "declared_count"),
        "height": count_in(form, "height"),
        "width": count_in(form, "width"),
        "bit_depth": count_in(form, "bit_depth") or 8,
        "label": form.get("label", "").strip(),
        "labels": _labels(form.get("labels", "")),
    }


def _labels(text: str) -> list[str]:
    lines = text.replace(";", "\n").replace(",", "\n").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _name(field: str) -> str:
    """Return the name of the input that a field of the body came from."""
    parts = [part for part in field.split(".") if part not in _NO_INPUT and not part.isdigit()]
    return parts[0] if parts else "labels"
