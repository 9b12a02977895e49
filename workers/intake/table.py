"""Read the CSV that names file, label and person of every image, and refuse what is unclear in it.

Columns used: `file`, the declared label column, `patient_id` where the unit is the person, and
`split` only to refuse a person in two splits. All other columns are ignored and reported by name.
"""

import csv
import io
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from privacy.manifests import DatasetSchema
from service.domain.persons import is_missing
from workers.intake.archive import check_name
from workers.intake.limits import Limits
from workers.intake.refusal import refused

FILE_COLUMN = "file"
PERSON_COLUMN = "patient_id"
SPLIT_COLUMN = "split"

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# In ignored columns -3.5 and +1 are numbers; these two never start one.
_CERTAIN_FORMULA_STARTS = ("=", "@")


# Whether the CSV must, may or need not say whose image it is.
PersonColumn = Literal["required", "optional", "unused"]


@dataclass(frozen=True, slots=True)
class Row:
    """One image as the CSV describes it."""

    file: str  # name inside the archive
    label: int  # index into the declared labels
    patient_id: str | None
    split: str | None
    line: int


@dataclass(frozen=True)
class Table:
    """The rows of the CSV, one per file, and the names of the columns that were ignored."""

    rows: tuple[Row, ...]
    ignored_columns: tuple[str, ...]


@dataclass(frozen=True)
class _Reading:
    """What every check of one CSV needs to know."""

    name: str
    schema: DatasetSchema
    limits: Limits
    person: PersonColumn
    columns: dict[str, int]
    width: int

    def is_required(self, column: str) -> bool:
        return column in (FILE_COLUMN, self.schema.label) or (
            column == PERSON_COLUMN and self.person == "required"
        )


def read_table(
    content: bytes, *, name: str, schema: DatasetSchema, limits: Limits, person: PersonColumn
) -> Table:
    """Read the CSV called `name`; paths in it are relative to its own folder.

    Raises: InputRefused, naming the line, for another encoding, missing or repeated columns, ragged
        rows, formulas, missing values, unknown labels, files listed twice or with two labels.
    """
    lines = _parse(content, name)
    _, header = next(lines, (0, []))
    columns = _find_columns(header, name, schema, person)
    reading = _Reading(name, schema, limits, person, columns, len(header))
    rows: dict[str, Row] = {}
    for line, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        row = _read_row(reading, line, cells)
        if row.file in rows:
            _refuse_repeated(rows[row.file], row, reading)
        rows[row.file] = row
        if len(rows) > limits.records:
            raise refused(
                "the CSV has too many rows",
                file=name,
                value=f"more than {limits.records} rows",
                limit=f"{limits.records} rows",
                remedy="Split the dataset.",
            )
    if not rows:
        raise refused(
            "the CSV has no rows",
            file=name,
            value="0 rows",
            limit="one row per image",
            remedy="List every image with its label.",
        )
    used = set(columns.values())
    ignored = tuple(title.strip() for index, title in enumerate(header) if index not in used)
    return Table(tuple(rows.values()), ignored)


def label_index(cell: str, schema: DatasetSchema) -> int | None:
    """Return the index of a label, or None if it is not declared. `0.0` means a declared `0`."""
    text = cell.strip()
    if text in schema.labels:
        return schema.labels.index(text)
    try:
        number = float(text)
    except ValueError:
        return None
    # Spreadsheets and pandas turn a column of grades into 0.0, 1.0, ...
    whole = str(int(number)) if number.is_integer() else None
    return schema.labels.index(whole) if whole in schema.labels else None


def _parse(content: bytes, name: str) -> Iterator[tuple[int, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(
            "the CSV is not UTF-8 text",
            file=name,
            value=f"byte {error.start}",
            limit="UTF-8, with or without byte order mark",
            remedy="Save it as 'CSV UTF-8'.",
        ) from None
    if "\0" in text:
        raise refused(
            "the CSV holds NUL characters",
            file=name,
            value=f"character {text.index(chr(0))}",
            limit="plain UTF-8 text",
            remedy="Save it as 'CSV UTF-8'.",
        )
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error:
        raise refused(
            "the CSV cannot be parsed",
            file=name,
            value=f"line {reader.line_num}",
            limit="comma-separated values, quotes doubled",
            remedy="Save it again from a spreadsheet or with a CSV library.",
        ) from None


def _find_columns(
    header: list[str], name: str, schema: DatasetSchema, person: PersonColumn
) -> dict[str, int]:
    titles = [title.strip() for title in header]
    wanted = [FILE_COLUMN, schema.label, *([PERSON_COLUMN] if person == "required" else [])]
    for column in wanted:
        if column not in titles:
            raise refused(
                f"the column '{column}' is missing",
                file=name,
                value=f"columns {', '.join(titles) or 'none'}",
                limit=f"columns {', '.join(wanted)}",
                remedy=_missing_column_remedy(column, titles),
            )
    for title in titles:
        if titles.count(title) > 1:
            raise refused(
                "two columns have one name",
                file=name,
                value=title,
                limit="distinct column names",
                remedy="Rename or remove one of them.",
            )
    known = [FILE_COLUMN, schema.label, SPLIT_COLUMN]
    if person != "unused":
        known.append(PERSON_COLUMN)
    return {column: titles.index(column) for column in known if column in titles}


def _missing_column_remedy(column: str, titles: list[str]) -> str:
    if len(titles) == 1 and any(mark in titles[0] for mark in ";\t|"):
        return "Separate the columns with commas."
    if column == PERSON_COLUMN:
        return (
            "Add the person of each image: the unit of privacy is the person. "
            "Declare the unit 'record' only if every image is of another person."
        )
    return "Add the column, or declare the dataset with the name that the CSV uses."


def _read_row(reading: _Reading, line: int, cells: list[str]) -> Row:
    name, schema, columns = reading.name, reading.schema, reading.columns
    if len(cells) != reading.width:
        raise refused(
            f"line {line} has another number of cells than the header",
            file=name,
            value=f"{len(cells)} cells",
            limit=f"{reading.width} cells",
            remedy="Quote cells that contain commas.",
        )
    _check_cells(reading, line, cells)
    file = cells[columns[FILE_COLUMN]].strip()
    check_name(file, reading.limits, called=file)
    label_cell = cells[columns[schema.label]]
    label = label_index(label_cell, schema)
    if label is None:
        raise refused(
            f"line {line} of {name} has a label that was not declared",
            file=file,
            value=label_cell.strip(),
            limit=", ".join(schema.labels),
            remedy="Correct the cell, or declare the label when creating the dataset.",
        )
    person, split = columns.get(PERSON_COLUMN), columns.get(SPLIT_COLUMN)
    return Row(
        file=posixpath.normpath(posixpath.join(posixpath.dirname(name), file)),
        label=label,
        patient_id=None if person is None else _text_or_none(cells[person]),
        split=None if split is None else cells[split].strip() or None,
        line=line,
    )


def _check_cells(reading: _Reading, line: int, cells: list[str]) -> None:
    by_index = {index: column for column, index in reading.columns.items()}
    for index, cell in enumerate(cells):
        column = by_index.get(index)
        text = cell.strip()
        if column is None:
            if text.startswith(_CERTAIN_FORMULA_STARTS):
                raise _formula(f"column {index + 1}", line, reading.name)
            continue
        if len(cell) > reading.limits.cell_characters:
            raise refused(
                f"line {line} has a cell that is too long in column '{column}'",
                file=reading.name,
                value=f"{len(cell)} characters",
                limit=f"{reading.limits.cell_characters} characters",
                remedy="Shorten the cell.",
            )
        if column == reading.schema.label and text in reading.schema.labels:
            continue  # a declared label may be called '-1' or 'none'
        if is_missing(text) and reading.is_required(column):
            raise refused(
                f"line {line} has no value in column '{column}'",
                file=reading.name,
                value="missing value (empty, NaN or infinite)",
                limit="one value per image",
                remedy="Fill the cell or remove the image and its row.",
            )
        if cell.startswith(_FORMULA_STARTS) or text.startswith(_FORMULA_STARTS):
            raise _formula(f"'{column}'", line, reading.name)


def _text_or_none(cell: str) -> str | None:
    return None if is_missing(cell) else cell.strip()


def _formula(column: str, line: int, name: str) -> Exception:
    return refused(
        f"line {line} has a spreadsheet formula in {column}",
        file=name,
        value="a cell that starts with =, +, -, @ or a control character",
        limit="plain values",
        remedy="Replace the formula with its value.",
    )


def _refuse_repeated(first: Row, second: Row, reading: _Reading) -> None:
    labels = reading.schema.labels
    if first.label != second.label:
        what = "the file has two labels"
        value = f"{labels[first.label]} and {labels[second.label]}"
    elif first.patient_id != second.patient_id:
        what, value = "the file has two persons", "two patient ids"
    else:
        what, value = "the file is listed twice", "two rows"
    raise refused(
        f"{what} in {reading.name}, lines {first.line} and {second.line}",
        file=first.file,
        value=value,
        limit="one row per file",
        remedy="Keep the right row and remove the other.",
    )
