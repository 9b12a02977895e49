"""Turn the cells of one declared column into stored values, and count what was wrong with them.

A cell is never part of a refusal: an undeclared level may be somebody's name that slipped into the
wrong column. Refusals name the column, how many cells, and the first row; the owner has the file.
"""

import math
import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from privacy.table_schema import Column, Values
from service.domain.errors import InputRefused
from service.domain.persons import is_missing
from workers.intake.refusal import refused

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MISSING_WORDS = pa.array(["", "na", "n/a", "#n/a", "null", "none", "nil", "?", "inf", "-inf"])
_UNDECLARED, _ABSENT = -1, -2
_SHOWN_LEVELS = 12
_WHOLE_BITS = {pa.float16(): 11, pa.float32(): 24}
_REMEMBERED = 10_000  # distinct texts of a column whose code is looked up once

_TRUE, _FALSE = ("true", "True", "TRUE", "1", "yes"), ("false", "False", "FALSE", "0", "no")


@dataclass
class _Problem:
    """Cells that cannot be stored: how many, and the first row, counted from 1."""

    count: int = 0
    row: int = 0

    def add(self, bad: NDArray[np.bool_], first_row: int) -> None:
        """Count the cells where `bad` holds."""
        found = int(np.count_nonzero(bad))
        if found and not self.count:
            self.row = first_row + int(np.argmax(bad))
        self.count += found


@dataclass
class ColumnCells:
    """One column while an upload is read. The counts are private and for the owner."""

    column: Column
    cell_characters: int
    missing: int = 0
    below: int = 0
    above: int = 0
    other: int = 0
    problems: dict[str, _Problem] = field(default_factory=dict)
    _codes: dict[str, int] = field(default_factory=dict)

    def values(self, cells: pa.Array, *, first_row: int) -> Values:
        """Return the stored values of some cells; `first_row` is the row of the first, from 1."""
        if longest_text(cells) > self.cell_characters:
            self._note("long", np.ones(1, np.bool_), first_row)
            return np.zeros(len(cells))
        if self.column.is_numeric:
            return self._numbers(cells, first_row)
        return self._categories(cells, first_row)

    def counts(self) -> dict[str, int]:
        """Return what the owner is told, without what did not happen."""
        found = {
            "missing": self.missing,
            "clipped_below": self.below,
            "clipped_above": self.above,
            "other": self.other,
        }
        return {name: count for name, count in found.items() if count}

    def refusal(self, file: str) -> InputRefused | None:
        """Return the refusal of the column, or None if every cell can be stored."""
        for kind, problem in self.problems.items():
            return _refusal(kind, problem, self, file)
        return None

    def _note(self, kind: str, bad: NDArray[np.bool_], first_row: int) -> None:
        if bad.any():
            self.problems.setdefault(kind, _Problem()).add(bad, first_row)

    def _absent(self, absent: NDArray[np.bool_], first_row: int) -> None:
        if self.column.missing:
            self.missing += int(np.count_nonzero(absent))
        else:
            self._note("missing", absent, first_row)

    def _numbers(self, cells: pa.Array, first_row: int) -> Values:
        values, is_number = _parsed(cells)
        self._note("number", ~is_number, first_row)
        values[~np.isfinite(values)] = np.nan
        self._absent(np.isnan(values) & is_number, first_row)
        if self.column.kind == "integer":
            self._note("whole", np.floor(values) < values, first_row)
        low, high = self.column.edges[0], self.column.edges[-1]
        self.below += int(np.count_nonzero(values < low))
        self.above += int(np.count_nonzero(values > high))
        return np.clip(values, low, high) + 0.0  # no minus zero: equal numbers have equal bytes

    def _categories(self, cells: pa.Array, first_row: int) -> Values:
        coded = _coded(cells)
        words = [_ABSENT if word is None else self._code(word) for word in _words(coded)]
        found = np.asarray([*words, _ABSENT])[_places(coded)]
        column = self.column
        self._note("undeclared", found == _UNDECLARED, first_row)
        self._absent(found == _ABSENT, first_row)
        if column.other:
            self.other += int(np.count_nonzero(found == len(column.levels)))
        found[found == _ABSENT] = column.size - 1
        return found.astype(np.float64)

    def _code(self, text: str) -> int:
        if text not in self._codes:
            if len(self._codes) >= _REMEMBERED:
                self._codes.clear()
            self._codes[text] = self._find(text)
        return self._codes[text]

    def _find(self, text: str) -> int:
        levels = self.column.levels
        for spelling in _spellings(text):  # a declared level may be called 'none'
            if spelling in levels:
                return levels.index(spelling)
        if is_missing(text):
            return _ABSENT
        return len(levels) if self.column.other else _UNDECLARED


def longest_text(cells: pa.Array) -> int:
    """Return the characters of the longest text, 0 where cells are no text."""
    texts = cells.dictionary if pa.types.is_dictionary(cells.type) else cells
    return int(pc.max(pc.utf8_length(texts)).as_py() or 0) if _is_text(texts.type) else 0


def person_texts(cells: pa.Array) -> list[str | None]:
    """Return every cell of the person column as text, None where it is missing.

    A float that is whole is that whole number. From where floats skip whole numbers on, two
    persons may have become one: those are left in the spelling of a float, which is refused.
    """
    coded = _coded(cells)
    exact = 2.0 ** _WHOLE_BITS.get(coded.dictionary.type, 53)
    words = [
        f"{word:.1f}" if isinstance(word, float) and abs(word) >= exact else word
        for word in coded.dictionary.to_pylist()
    ]
    words = [None if word is None or is_missing(text := _text(word)) else text for word in words]
    words.append(None)  # for the cells that are null
    return [words[place] for place in _places(coded).tolist()]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _coded(cells: pa.Array) -> pa.DictionaryArray:
    """Return cells by a dictionary of their own; a file's may hold words of a million rows."""
    if not pa.types.is_dictionary(cells.type):
        return pc.dictionary_encode(cells)
    if len(cells.dictionary) <= len(cells):
        return cells
    return pc.dictionary_encode(cells.dictionary_decode())


def _words(coded: pa.DictionaryArray) -> list[str | None]:
    return [None if word is None else _text(word) for word in coded.dictionary.to_pylist()]


def _text(word: object) -> str:
    """Return a typed cell as a CSV would have it; 2.0 is the level '2'."""
    if isinstance(word, bool):
        return "true" if word else "false"
    if isinstance(word, float) and word.is_integer():
        return str(int(word))
    return str(word)


def _spellings(text: str) -> tuple[str, ...]:
    """Return the words that a cell may stand for, the likeliest first."""
    plain = text.strip()
    same = next((words for words in (_TRUE, _FALSE) if plain.lower() == words[0]), ())
    # Spreadsheets and pandas turn a column of grades into 0.0, 1.0, ...
    if _NUMBER.fullmatch(plain) and (number := float(plain)).is_integer():
        same = (*same, str(int(number)))
    return (text, plain, *same)


def _places(coded: pa.DictionaryArray) -> NDArray[np.int64]:
    """Return the place of every cell in the dictionary; behind its end where the cell is null."""
    filled = coded.indices.cast(pa.int64()).fill_null(len(coded.dictionary))
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.int64)


def _parsed(cells: pa.Array) -> tuple[Values, NDArray[np.bool_]]:
    """Return numbers, NaN where a cell is missing, and which cells are a number or missing."""
    if pa.types.is_dictionary(cells.type):
        cells = _coded(cells)
        values, is_number = _parsed(cells.dictionary)
        places = _places(cells)
        return np.append(values, np.nan)[places], np.append(is_number, True)[places]
    if not _is_text(cells.type):
        return _as_floats(cells.cast(pa.float64(), safe=False)), np.ones(len(cells), np.bool_)
    trimmed = pc.utf8_trim_whitespace(cells)
    known = pc.is_in(pc.utf8_lower(trimmed), value_set=_MISSING_WORDS.cast(trimmed.type))
    present = pc.if_else(known, pa.scalar(None, trimmed.type), trimmed)
    try:
        return _as_floats(present.cast(pa.float64())), np.ones(len(cells), np.bool_)
    except pa.ArrowInvalid:  # its text holds the cell
        return _parsed_one_by_one(present)


def _parsed_one_by_one(texts: pa.Array) -> tuple[Values, NDArray[np.bool_]]:
    coded = _coded(texts)
    numbers = [math.nan if w is None or is_missing(w) else _number(w) for w in _words(coded)]
    is_number = [number is not None for number in numbers]
    values = np.asarray([math.nan if n is None else n for n in numbers], dtype=np.float64)
    places = _places(coded)
    return np.append(values, np.nan)[places], np.append(is_number, True)[places].astype(np.bool_)


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _as_floats(cells: pa.Array) -> Values:
    return np.array(cells.to_numpy(zero_copy_only=False), dtype=np.float64)


def _refusal(kind: str, problem: _Problem, cells: ColumnCells, file: str) -> InputRefused:
    column = cells.column
    names = ", ".join(column.names[:_SHOWN_LEVELS]) + (
        f" and {column.size - _SHOWN_LEVELS} more" if column.size > _SHOWN_LEVELS else ""
    )
    what, limit, remedy = {
        "undeclared": (
            "holds levels that were not declared",
            names,
            "Set other = true, or declare those in the code book: data tells who has which.",
        ),
        "missing": (
            "has empty cells",
            "a value in every cell",
            "Declare missing = true for the column, or fill the cells.",
        ),
        "number": (
            "holds what is no number",
            "numbers with a decimal point, such as 12.5",
            "Correct the cells, or declare the column as a category with levels.",
        ),
        "whole": (
            "holds numbers that are not whole",
            "whole numbers",
            "Declare the column as kind = 'number', or round the cells.",
        ),
        "long": (
            "has a cell that is too long",
            f"{cells.cell_characters} characters",
            "Shorten the cell, or leave the column out of the declaration.",
        ),
    }[kind]
    where = "about" if kind == "long" else "first in"
    return refused(
        f"the column '{column.name}' {what}, {where} row {problem.row}",
        file=file,
        value=f"{problem.count} cell{'' if problem.count == 1 else 's'}",
        limit=limit,
        remedy=remedy,
    )
