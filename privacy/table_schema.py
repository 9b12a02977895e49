"""What the data owner declares to be public about a table; nothing here is read from data.

Every column has a finite domain before a record is seen: the levels of a category, or the bins
between declared bounds. A cell becomes a *code*, an index into its column's domain; what lies
outside of the bounds goes into the nearest bin. Public knowledge about which combinations cannot
occur (a cause of death for somebody alive) is declared as a constraint.
"""

import math
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from privacy.documents import Document
from privacy.errors import InvalidParameter
from privacy.mechanisms import UnitOfPrivacy
from privacy.modality import Modality

Codes = NDArray[np.int16]
Values = NDArray[np.float64]

MISSING = "missing"
"""The word for a missing cell, in constraints and as the last level of a column that allows it."""
PRESENT = "present"
OTHER = "OTHER"
"""The level of every category that was not declared, where the column takes others."""
SYNTHETIC_PERSON = "synthetic_person"
"""The column of a released table that says whose visit a synthetic row is."""
_BESIDE_IMAGES = frozenset({"image", "file_name"})
MOST_LEVELS = 1000
MOST_COLUMNS = 256
MOST_CODES = 32_000
MOST_CELLS = 64
"""What the columns that images are drawn for may have together: each cell is learnt by itself."""
MOST_ROWS = 100_000_000

Word = Annotated[str, Field(min_length=1, max_length=64)]
# No control characters: such text is stored, shown in pages and printed to terminals.
_PLAIN = r"^[^\x00-\x1f\x7f]*$"


class Column(Document):
    """One column: what it holds, between which bounds, in which bins or levels."""

    name: Word
    kind: Literal["category", "ordinal", "integer", "number"]
    role: Literal["feature", "target", "quasi_identifier"] = "feature"
    unit: str = Field(
        default="", max_length=40, pattern=_PLAIN, description="of measurement, such as mmol/l"
    )
    description: str = Field(default="", max_length=300, pattern=_PLAIN)
    levels: tuple[Word, ...] = Field(default=(), max_length=MOST_LEVELS)
    other: bool = Field(default=False, description="take undeclared levels, all as one: OTHER")
    edges: tuple[float, ...] = Field(
        default=(), max_length=MOST_LEVELS + 1, description="bounds of the bins, rising"
    )
    decimals: int = Field(default=2, ge=0, le=9, description="of a number, when it is written")
    missing: bool = Field(default=False, description="cells may be empty")

    @model_validator(mode="after")
    def _is_finite(self) -> Self:
        """Refuse a column without a domain, or with one that reads as something else."""
        _check_plain("column", self.name)
        if self.is_numeric:
            if self.levels or self.other:
                raise ValueError(f"the column {self.name!r} is {self.kind}: give edges, not levels")
            if len(self.edges) < 2 or any(
                not low < high for low, high in zip(self.edges, self.edges[1:], strict=False)
            ):
                raise ValueError(
                    f"the column {self.name!r} needs two edges or more, each larger than the one "
                    f"before; it has {list(self.edges)}"
                )
            if self.kind == "integer" and any(edge != math.floor(edge) for edge in self.edges):
                raise ValueError(f"the edges of the integer column {self.name!r} must be whole")
            return self
        if self.edges:
            raise ValueError(f"the column {self.name!r} is {self.kind}: give levels, not edges")
        if not self.levels:
            raise ValueError(f"the column {self.name!r} needs its levels, such as ['no', 'yes']")
        for level in self.levels:
            _check_plain("level", level)
            if level in {MISSING, PRESENT, OTHER}:
                raise ValueError(
                    f"the level {level!r} of {self.name!r} means something else: rename it, or "
                    "set missing or other"
                )
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"the levels of {self.name!r} must be distinct")
        return self

    @property
    def is_numeric(self) -> bool:
        """Return whether cells are numbers between bounds."""
        return self.kind in {"integer", "number"}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of every code, in order: bins or levels, then OTHER, then missing."""
        own = (
            tuple(_bin_name(self, index) for index in range(len(self.edges) - 1))
            if self.is_numeric
            else self.levels
        )
        return own + ((OTHER,) if self.other else ()) + ((MISSING,) if self.missing else ())

    @property
    def size(self) -> int:
        """Return how many codes the column has."""
        own = len(self.edges) - 1 if self.is_numeric else len(self.levels)
        return own + int(self.other) + int(self.missing)

    def codes_of(self, values: Values) -> Codes:
        """Return the codes of stored values.

        Stored are numbers as they are (NaN where missing), and categories as codes already. Numbers
        outside of the bounds go into the first or last bin. A bin holds its lower edge, the last
        one its upper edge as well; of integers, bin [10, 15) holds 10 to 14.
        """
        if not self.is_numeric:
            return values.astype(np.int16)
        inner = np.asarray(self.edges[1:-1])
        found = np.searchsorted(inner, np.nan_to_num(values), side="right").astype(np.int16)
        if self.missing:
            found[np.isnan(values)] = self.size - 1
        return found

    def codes_named(self, words: tuple[str, ...]) -> tuple[int, ...]:
        """Return the codes that the words of a constraint mean.

        Raises: ValueError naming the word that the column does not have.
        """
        names = self.names
        found: set[int] = set()
        for word in words:
            if word == PRESENT:
                found |= {code for code, name in enumerate(names) if name != MISSING}
            elif word in names:
                found.add(names.index(word))
            else:
                raise ValueError(
                    f"the column {self.name!r} has no {word!r}: it has {', '.join(names[:12])}"
                )
        return tuple(sorted(found))


class Constraint(Document):
    """Where every `when` holds, every `then` holds: known beforehand, about everybody.

    Both map columns to levels (or bins, or `missing`, or `present`). An empty `when` is always true.
    """

    name: str = Field(min_length=1, max_length=120, pattern=_PLAIN)
    when: dict[str, tuple[str, ...]] = Field(default_factory=dict, max_length=3)
    then: dict[str, tuple[str, ...]] = Field(min_length=1, max_length=3)


class Survival(Document):
    """Time to an event: a numeric column, and a column whose level says that the event happened."""

    time: Word
    event: Word
    happened: tuple[Word, ...] = Field(min_length=1, max_length=10, description="levels of event")


class Visits(Document):
    """A person's rows follow one another, by a column that never goes back."""

    order: Word
    most: int = Field(
        default=20, ge=2, le=1000, strict=True, description="rows of a person that are told apart"
    )


class ImagePart(Document):
    """One image for each row, beside its cells."""

    column: str = Field(default="file", min_length=1, max_length=64, pattern=_PLAIN)
    height: int = Field(ge=8, le=4096, strict=True, description="pixels")
    width: int = Field(ge=8, le=4096, strict=True, description="pixels")
    bit_depth: Literal[8, 16] = 8
    condition_on: tuple[Word, ...] = Field(
        min_length=1, max_length=3, description="columns that an image is drawn for"
    )


class TableSchema(Document):
    """What is public about a table: its columns in order, who a row belongs to, what cannot be."""

    unit: UnitOfPrivacy = UnitOfPrivacy.PERSON
    declared_count: int = Field(
        ge=50, le=100_000_000, strict=True, description="rounded public count of units"
    )
    person: str = Field(
        default="",
        max_length=64,
        pattern=_PLAIN,
        description="column with the person's id; dropped at ingest",
    )
    columns: tuple[Column, ...] = Field(min_length=1, max_length=MOST_COLUMNS)
    constraints: tuple[Constraint, ...] = Field(default=(), max_length=100)
    images: ImagePart | None = None
    survival: Survival | None = None
    visits: Visits | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Refuse names that stand for two things, and constraints on what there is not."""
        names = [column.name for column in self.columns]
        if len({name.casefold() for name in names}) != len(names):
            raise ValueError("columns must have distinct names, also where case does not count")
        if self.person in names:
            raise ValueError(f"the person column {self.person!r} cannot be released: leave it out")
        if self.unit is UnitOfPrivacy.PERSON and not self.person:
            raise ValueError("name the person column, or declare unit = 'record'")
        if sum(column.size for column in self.columns) > MOST_CODES:
            raise ValueError(f"the columns have more than {MOST_CODES} levels and bins together")
        named = [name for c in self.constraints for name in (*c.when, *c.then)]
        for name in (*named, *(self.images.condition_on if self.images else ())):
            if name not in names:
                raise ValueError(f"{name!r} is named by a constraint or the images: no such column")
        if self.survival is not None:
            self._check_survival(self.survival, names)
        self._check_visits(names)
        self._check_images(names)
        for constraint in self.constraints:
            for name, words in (*constraint.when.items(), *constraint.then.items()):
                self.column(name).codes_named(words)
        return self

    @property
    def modality(self) -> Modality:
        """Return what kind of records is declared; not part of the document."""
        return "table" if self.images is None else "joint"

    def _check_survival(self, survival: Survival, names: list[str]) -> None:
        for name in (survival.time, survival.event):
            if name not in names:
                raise ValueError(f"{name!r} is named by survival: no such column")
        if not self.column(survival.time).is_numeric or self.column(survival.event).is_numeric:
            raise ValueError("survival needs a time of numbers and an event with levels")
        self.column(survival.event).codes_named(survival.happened)

    def _check_visits(self, names: list[str]) -> None:
        visits = self.visits
        if visits is None:
            return
        if SYNTHETIC_PERSON in names:
            raise ValueError(f"the column {SYNTHETIC_PERSON!r} is added to visits: rename yours")
        if self.unit is not UnitOfPrivacy.PERSON:
            raise ValueError("visits need unit = 'person': they are the rows of one person")
        if visits.order not in names:
            raise ValueError(f"{visits.order!r} is named by visits: no such column")
        order = self.column(visits.order)
        if order.kind == "category" or order.missing or order.other:
            raise ValueError(
                f"visits cannot follow {order.name!r}: take a column of numbers or an ordinal one "
                "without missing cells"
            )

    def _check_images(self, names: list[str]) -> None:
        """Refuse images that no row can be drawn with, or that cannot be learnt cell by cell."""
        part = self.images
        if part is None:
            return
        if self.unit is not UnitOfPrivacy.PERSON:
            raise ValueError("images need unit = 'person': name the column with the person's id")
        if self.visits is not None:
            raise ValueError(
                "images and visits cannot be declared together: leave out [visits], so that each "
                "row is drawn by itself with its image, or leave out [images]"
            )
        if part.column in {*names, self.person}:
            raise ValueError(
                f"the image column {part.column!r} names files, which are not released: it can be "
                "neither one of the columns nor the person column"
            )
        taken = next((name for name in names if name.casefold() in _BESIDE_IMAGES), None)
        if taken is not None:
            raise ValueError(f"the column {taken!r} is added to images in a release: rename yours")
        if len(set(part.condition_on)) != len(part.condition_on):
            raise ValueError(f"images.condition_on names a column twice: {part.condition_on}")
        cells = math.prod(self.column(name).size for name in part.condition_on)
        if cells > MOST_CELLS:
            raise ValueError(
                f"the columns of images.condition_on have {cells} cells together, and at most "
                f"{MOST_CELLS} can be learnt: name fewer columns, or some with fewer levels or bins"
            )

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return self.columns[self.index(name)]

    def index(self, name: str) -> int:
        """Return the place of a column, by its name."""
        return next(n for n, column in enumerate(self.columns) if column.name == name)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return how many codes each column has."""
        return tuple(column.size for column in self.columns)

    @property
    def targets(self) -> tuple[int, ...]:
        """Return the indices of the columns that are declared as targets."""
        return self._of_role("target")

    @property
    def quasi_identifiers(self) -> tuple[int, ...]:
        """Return the indices of the columns that are declared as quasi-identifiers."""
        return self._of_role("quasi_identifier")

    def _of_role(self, role: str) -> tuple[int, ...]:
        return tuple(n for n, column in enumerate(self.columns) if column.role == role)

    @property
    def released(self) -> "TableSchema":
        """Return the schema of a released table: where visits are declared, it says whose they are."""
        if self.visits is None:
            return self
        person = Column(
            name=SYNTHETIC_PERSON,
            kind="integer",
            edges=(0, MOST_ROWS),
            description="rows of one synthetic person, in order; nobody real",
        )
        return self.model_copy(update={"columns": (*self.columns, person), "visits": None})

    def codes_of(self, values: Values) -> Codes:
        """Return the codes of stored rows. Shapes: (rows, columns) -> (rows, columns)."""
        codes = np.empty(values.shape, dtype=np.int16)
        for index, column in enumerate(self.columns):
            codes[:, index] = column.codes_of(values[:, index])
        return codes

    def violations(self, codes: Codes) -> dict[str, NDArray[np.bool_]]:
        """Return, for each constraint, which rows break it. Shapes: (rows, columns) -> (rows,)."""
        return {c.name: self._violates(c, codes) for c in self.constraints}

    def _violates(self, constraint: Constraint, codes: Codes) -> NDArray[np.bool_]:
        return self._holds(constraint.when, codes) & ~self._holds(constraint.then, codes)

    def _holds(self, condition: dict[str, tuple[str, ...]], codes: Codes) -> NDArray[np.bool_]:
        holds = np.ones(len(codes), dtype=bool)
        for name, words in condition.items():
            index = self.index(name)
            holds &= np.isin(codes[:, index], self.columns[index].codes_named(words))
        return holds


def read_schema(path: Path) -> TableSchema:
    """Read a schema from TOML.

    Raises: InvalidParameter naming the file, the place in it, and what is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidParameter(f"The schema {path.name} was refused: {error}.") from error
    return parse_schema(content, name=path.name)


def parse_schema(content: bytes, *, name: str) -> TableSchema:
    """Read a schema from the bytes of a TOML file that is called `name`.

    Raises: InvalidParameter naming the file, the place in it, and what is wrong.
    """
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidParameter(f"The schema {name} was refused: {error}.") from error
    try:
        return TableSchema.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        raise InvalidParameter(
            f"The schema {name} was refused{f' at {place}' if place else ''}: {why}."
        ) from error


def _bin_name(column: Column, index: int) -> str:
    low, high = column.edges[index], column.edges[index + 1]
    is_last = index == len(column.edges) - 2
    return f"{low:g} to {high:g}" if is_last else f"{low:g} to under {high:g}"


def _check_plain(what: str, text: str) -> None:
    if text != text.strip() or not text.isprintable() or "|" in text or text[0] in "=+-@":
        raise ValueError(
            f"the {what} {text!r} is not plain: use 1 to 64 printable characters, no '|', "
            "no blank at either end, and none of = + - @ at the start"
        )
