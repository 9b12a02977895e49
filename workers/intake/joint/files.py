"""Match the rows of a table with the files of its zip: each row has one image, each image one row.

What a row says is never part of a refusal, and nor is the name of a file: it may be made of patient
ids. A refusal names the row, counted from 1 below the header, or the entry of the zip.
"""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from workers.intake.archive import SAFE_PATHS, unsafe_path
from workers.intake.limits import Limits
from workers.intake.refusal import refused
from workers.intake.result import SourceFormat
from workers.intake.tables.cells import longest_text
from workers.intake.tables.source import Batch, Source

_NOBODY = 0  # rows count from 1

Places = NDArray[np.int32]


@dataclass
class _Rows:
    """Rows with one fault: how many, the first, and what is said about it."""

    count: int = 0
    first: int = 0
    told: str = ""

    def add(self, row: int, told: str) -> None:
        """Count a row."""
        if not self.count:
            self.first, self.told = row, told
        self.count += 1


@dataclass
class RowsWithFiles:
    """A source of rows that notes, on their way, which image each row names.

    `images` are the names of the zip's images, `called` says what a refusal calls one of them. Holds
    four bytes for each row and each image.
    """

    source: Source
    column: str
    folder: str  # of the table inside the zip: paths are relative to it
    images: Sequence[str]
    called: Callable[[str], str]
    limits: Limits
    _rows: int = 0
    _chosen: list[Places] = field(default_factory=list)
    _empty: _Rows = field(default_factory=_Rows)
    _unsafe: _Rows = field(default_factory=_Rows)
    _absent: _Rows = field(default_factory=_Rows)
    _repeated: _Rows = field(default_factory=_Rows)

    def __post_init__(self) -> None:
        self._places = {name: place for place, name in enumerate(self.images)}
        self._named_by = np.full(len(self.images), _NOBODY, np.int32)

    @property
    def name(self) -> str:
        """The name that refusals use."""
        return self.source.name

    @property
    def format(self) -> SourceFormat:
        """What kind of file the rows come from."""
        return self.source.format

    @property
    def ignored_columns(self) -> tuple[str, ...]:
        """Columns that nothing was declared about."""
        return self.source.ignored_columns

    @property
    def expected_rows(self) -> int:
        """How many rows there are likely to be, for progress: one for each image."""
        return self.source.expected_rows or len(self.images)

    def batches(self) -> Iterator[Batch]:
        """Yield the rows in order.  Raises: InputRefused."""
        for batch in self.source.batches():
            texts = self._texts(batch[self.column])
            places = (self._place(text, row) for row, text in enumerate(texts, self._rows + 1))
            self._chosen.append(np.fromiter(places, np.int32, len(texts)))
            self._rows += len(texts)
            yield batch

    def finish(self) -> Places:
        """Return the place in `images` of each row's own; shape (rows,).

        Raises: InputRefused for a row without exactly one image, and for an image without a row.
        """
        self._check_rows()
        nameless = np.flatnonzero(self._named_by == _NOBODY)
        if len(nameless):
            raise refused(
                f"no row of {self.name} names it",
                file=self.called(self.images[nameless[0]]),
                value=f"{len(nameless)} images without a row",
                limit="every image has its row",
                remedy="Add the row or remove the image.",
            )
        return np.concatenate(self._chosen)

    def _texts(self, cells: pa.Array) -> list[str | None]:
        kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise self._refused("does not hold text", str(kind), "names of files")
        # Before a word of a dictionary is written out for each of its rows.
        if (longest := longest_text(cells)) > self.limits.name_characters:
            raise self._refused(
                "has a cell that is too long",
                f"{longest} characters",
                f"{self.limits.name_characters} characters",
            )
        texts: list[str | None] = cells.to_pylist()
        return texts

    def _place(self, text: str | None, row: int) -> int:
        """Return which image a row names; what is wrong is noted, and refused at the end."""
        path = (text or "").strip()
        if not path:
            self._empty.add(row, "no image is named")
        elif (fault := unsafe_path(path, self.limits)) is not None:
            self._unsafe.add(row, fault)
        elif (place := self._places.get(self._inside(path), -1)) < 0:
            self._absent.add(row, "the image that is named is not in the zip")
        elif self._named_by[place] != _NOBODY:
            self._repeated.add(row, f"row {self._named_by[place]} names the same image")
        else:
            self._named_by[place] = row
            return place
        return -1

    def _inside(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.folder, path))

    def _check_rows(self) -> None:
        for fault, limit, remedy in (
            (self._empty, "one image in every row", "Name the image, or remove the row."),
            (self._unsafe, SAFE_PATHS, "Rename the file and make the zip again."),
            (
                self._absent,
                "paths of images in the zip, seen from the folder of the table",
                "Add the image, correct its path, or remove the row.",
            ),
            (
                self._repeated,
                "one row for each image",
                "Keep the right row. If two rows were measured at one image, keep one of them.",
            ),
        ):
            if fault.count:
                raise refused(
                    f"row {fault.first}, column '{self.column}': {fault.told}",
                    file=self.name,
                    value=f"{fault.count} such rows",
                    limit=limit,
                    remedy=remedy,
                )

    def _refused(self, what: str, value: str, limit: str) -> Exception:
        return refused(
            f"the column '{self.column}' {what}",
            file=self.name,
            value=value,
            limit=limit,
            remedy="Give each row the path of its image inside the zip.",
        )
