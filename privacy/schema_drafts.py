"""Begin the schema of a table from the names of its columns; no value is ever read.

Names, a public code book and common clinical ranges are all that a draft knows. What it cannot tell is
left empty, so that a draft is refused until a person who knows the study has filled it in.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from privacy.clinical_bins import bins_for
from privacy.errors import InvalidParameter
from privacy.table_schema import MOST_COLUMNS

FIELDS = (
    "column",
    "kind",
    "unit",
    "low",
    "high",
    "bins",
    "levels",
    "missing",
    "role",
    "description",
)
"""What a code book may say about a column; only `column` is needed. Levels stand between `|`."""

_PERSON = (
    "patient_id",
    "patientid",
    "subject_id",
    "person_id",
    "mrn",
    "pid",
    "patient",
    "subject",
    "id",
)
_SEXES = ("sex", "gender")
_LONGEST_HEADER = 1 << 20
_LONGEST_DICTIONARY = 16 << 20
_BINS = 10

Entry = Mapping[str, str]


def draft_schema(header: Path, *, dictionary: Path | None = None) -> str:
    """Return a schema to complete by hand, as TOML.

    `header` is a CSV of which the first line is read and nothing else; `dictionary` is a CSV about the
    columns, with some of the fields `FIELDS`.
    Raises: InvalidParameter if either cannot be read, or the dictionary contradicts itself.
    """
    names = read_header(header)
    known = {} if dictionary is None else _read_dictionary(dictionary)
    person = next((n for wanted in _PERSON for n in names if n.casefold() == wanted), "")
    columns = [name for name in names if name != person]
    lines = [
        "# A draft from the names of the columns. Everything in it becomes public.",
        "# Fill in what is empty and check the rest against the study's protocol, not against values.",
        'unit = "person"          # or "record", if every row is of another person',
        "declared_count = 0       # about how many persons: two digits and zeros",
        f"person = {_text(person)}{'' if person else '   # the column that says whose row it is'}",
    ]
    for name in columns:
        lines += ["", "[[columns]]", *_column(name, known.get(name.casefold(), {}))]
    return "\n".join(lines) + "\n"


def read_header(path: Path) -> tuple[str, ...]:
    """Return the names in the first line of a CSV; the rest of the file is not read.

    Raises: InvalidParameter.
    """
    try:
        with path.open("rb") as stream:
            line = stream.readline(_LONGEST_HEADER + 1)
        text = line.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"The header of {path.name} was refused: {error}.") from error
    if len(line) > _LONGEST_HEADER:
        raise InvalidParameter(
            f"The header of {path.name} was refused: its first line is longer than "
            f"{_LONGEST_HEADER:,} bytes. Give a CSV whose first line names the columns."
        )
    delimiter = ";" if text.count(";") > text.count(",") else "\t" if "\t" in text else ","
    names = tuple(name.strip() for name in next(csv.reader([text], delimiter=delimiter), []))
    if not names or not all(names) or len(names) > MOST_COLUMNS + 1:
        raise InvalidParameter(
            f"The header of {path.name} was refused: it has {len(names)} columns, some without a "
            f"name perhaps. Give 1 to {MOST_COLUMNS} named columns."
        )
    return names


def _read_dictionary(path: Path) -> dict[str, Entry]:
    try:
        content = path.read_bytes()[: _LONGEST_DICTIONARY + 1].decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"The dictionary {path.name} was refused: {error}.") from error
    rows = list(csv.DictReader(content.splitlines()))
    found = {field for row in rows[:1] for field in row if field}
    if "column" not in found or len(content) > _LONGEST_DICTIONARY:
        raise InvalidParameter(
            f"The dictionary {path.name} was refused: it needs a field 'column', and may have "
            f"{', '.join(FIELDS[1:])}."
        )
    return {
        (row["column"] or "").strip().casefold(): {
            name: (row.get(name) or "").strip() for name in FIELDS
        }
        for row in rows
    }


def _column(name: str, entry: Entry) -> Iterator[str]:
    yield f"name = {_text(name)}"
    if entry.get("levels"):
        yield from _levels(entry)
    elif entry.get("low") and entry.get("high"):
        yield from _bounds(name, entry)
    else:
        yield from _by_name(name)
    for field in ("role", "description"):
        if entry.get(field):
            yield f"{field} = {_text(entry[field])}"
    if entry.get("missing", "").casefold() in {"yes", "true", "1"}:
        yield "missing = true"


def _levels(entry: Entry) -> Iterator[str]:
    levels = [level.strip() for level in entry["levels"].split("|")]
    yield f"kind = {_text(entry['kind'] or 'category')}"
    yield f"levels = {json.dumps(levels, ensure_ascii=False)}"


def _bounds(name: str, entry: Entry) -> Iterator[str]:
    """Yield even bins between declared bounds; whole edges for whole numbers."""
    kind = entry["kind"] or "number"
    try:
        low, high = float(entry["low"]), float(entry["high"])
        count = int(entry["bins"] or _BINS)
    except ValueError as error:
        raise InvalidParameter(
            f"The dictionary was refused at {name!r}: low, high and bins must be numbers ({error})."
        ) from error
    if not low < high or not 1 <= count <= 1000:
        raise InvalidParameter(
            f"The dictionary was refused at {name!r}: low {low:g} must be below high {high:g}, and "
            f"bins 1 to 1000, not {count}."
        )
    edges = [low + (high - low) * step / count for step in range(count + 1)]
    if kind == "integer":
        edges = sorted({float(round(edge)) for edge in edges})
    yield f"kind = {_text(kind)}"
    yield f"edges = {_numbers(edges)}"
    if entry["unit"]:
        yield f"unit = {_text(entry['unit'])}"


def _by_name(name: str) -> Iterator[str]:
    if name.casefold() in _SEXES:
        yield 'kind = "category"'
        yield 'levels = ["female", "male"]   # as they are written in the table'
        return
    bins = bins_for(name)
    if bins is None:
        yield 'kind = "category"      # or ordinal; integer and number have edges = [...] instead'
        yield "levels = []            # fill in every level that may occur"
        return
    yield f"kind = {_text(bins.kind)}"
    yield f"unit = {_text(bins.unit)}   # taken from the name: check it, other units need other edges"
    yield f"edges = {_numbers(bins.edges)}"
    if bins.kind == "number":
        yield f"decimals = {bins.decimals}"


def _numbers(values: tuple[float, ...] | list[float]) -> str:
    return "[" + ", ".join(f"{value:.10g}" for value in values) + "]"


def _text(text: str) -> str:
    """Return a TOML basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
