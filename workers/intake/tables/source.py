"""What a file of rows offers, whatever its format: its columns, and batches of their cells."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from privacy.mechanisms import UnitOfPrivacy
from privacy.table_schema import TableSchema
from service.domain.errors import InputRefused
from workers.intake.limits import Limits
from workers.intake.refusal import refused
from workers.intake.result import SourceFormat

Batch = Mapping[str, pa.Array]
"""Name of a declared column, the person's or the images' -> its cells; all of one length."""


class Source(Protocol):
    """An opened file of rows."""

    @property
    def name(self) -> str:
        """The name that refusals use."""

    @property
    def format(self) -> SourceFormat:
        """What kind of file it is."""

    @property
    def ignored_columns(self) -> tuple[str, ...]:
        """Columns that nothing was declared about: they are never read."""

    @property
    def expected_rows(self) -> int:
        """How many rows there are likely to be, for progress; 0 if nobody knows."""

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order.  Raises: InputRefused."""


@dataclass(frozen=True)
class Chosen:
    """Which columns of a file are read: their name -> their place in it; and the others' names."""

    places: dict[str, int]
    ignored: tuple[str, ...]


def choose_columns(
    titles: Sequence[str], *, file: str, schema: TableSchema, limits: Limits
) -> Chosen:
    """Find the declared columns, the person's and the images' among the titles of a file.

    Raises: InputRefused for a title that stands twice, and for columns that are not there.
    """
    names = [title.strip() for title in titles]
    if len(names) > limits.table_columns:
        raise refused(
            "it has too many columns",
            file=file,
            value=f"{len(names)} columns",
            limit=f"{limits.table_columns} columns",
            remedy="Leave out the columns that are not declared.",
        )
    wanted = [column.name for column in schema.columns]
    if schema.unit is UnitOfPrivacy.PERSON:
        wanted.insert(0, schema.person)
    if schema.images is not None:
        wanted.append(schema.images.column)
    for name in wanted:
        if names.count(name) > 1:
            raise refused(
                "two columns have one name",
                file=file,
                value=name,
                limit="distinct column names",
                remedy="Rename or remove one of them.",
            )
    missing = [name for name in wanted if name not in names]
    if missing:
        raise refused(
            "declared columns are missing",
            file=file,
            value=", ".join(missing),
            limit=f"the declared columns, by these names: {', '.join(wanted)}",
            remedy=_remedy(names, missing, schema),
        )
    places = {name: names.index(name) for name in wanted}
    used = set(places.values())
    ignored = tuple(name for place, name in enumerate(names) if place not in used)
    return Chosen(places, ignored)


def too_many_rows(file: str, limits: Limits) -> InputRefused:
    """Return the refusal of a file with more rows than an upload may have."""
    return refused(
        "it has too many rows",
        file=file,
        value=f"more than {limits.records} rows",
        limit=f"{limits.records} rows",
        remedy="Split the dataset.",
    )


def _remedy(names: list[str], missing: list[str], schema: TableSchema) -> str:
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        return "Separate the columns with commas."
    if schema.person in missing:
        return (
            "Add the person of each row: the unit of privacy is the person. "
            "Declare the unit 'record' only if every row is of another person."
        )
    return "Add the columns, or declare the table with the names that the file uses."
