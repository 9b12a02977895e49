"""Rows of one upload: written as they come, and told apart by what is in them.

A row's content is its cells in the order of the columns' names: numbers by their bits, categories by
the name of their level, so that two declarations of one table see the same rows.
"""

import hashlib
import hmac
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from privacy.table_schema import TableSchema, Values
from workers.intake.persons import number_persons, person_digest

CONTENT_BYTES = 16
NEIGHBOURS = 16
"""Distinct rows, sorted, that one keyed digest of content spans."""
_ROWS_AT_ONCE = 100_000

Contents = NDArray[np.uint8]


class RowWriter:
    """Appends rows to an npy file whose length is known only at the end."""

    def __init__(self, path: Path, columns: int) -> None:
        self._stream = path.open("wb")
        self._columns = columns
        self.count = 0
        self._start = self._write_header()

    def append(self, values: Values) -> None:
        """Append rows (n, columns)."""
        self._stream.write(np.ascontiguousarray(values, np.float64).tobytes())
        self.count += len(values)

    def close(self) -> None:
        """Say in the header how many rows there are, and close the file."""
        self._stream.seek(0)
        if self._write_header() != self._start:
            raise ValueError("the header of table.npy grew over its rows")
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._stream.closed:
            self._stream.close()

    def _write_header(self) -> int:
        # numpy leaves room in a header for the first axis to grow.
        shape = (self.count, self._columns)
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._stream, header)
        return self._stream.tell()


class Persons:
    """Numbers the persons of rows; keeps digests, never ids."""

    def __init__(self, tenant_key: bytes) -> None:
        self._key = tenant_key
        self._numbers: dict[bytes, int] = {}
        self._of_rows: list[NDArray[np.int32]] = []

    def add(self, ids: list[str]) -> None:
        """Add the persons of some rows."""
        digests = {text: person_digest(self._key, text) for text in set(ids)}
        numbers = {
            text: self._numbers.setdefault(digest, len(self._numbers))
            for text, digest in digests.items()
        }
        self._of_rows.append(np.fromiter((numbers[text] for text in ids), np.int32, len(ids)))

    def finish(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Return the person of each row and the digest of each person, in order of the digests."""
        ranks, digests = number_persons(list(self._numbers))
        rows = np.concatenate(self._of_rows) if self._of_rows else np.empty(0, np.int32)
        return ranks[rows].astype(np.int32), digests


def row_contents(table: NDArray[np.float64], schema: TableSchema) -> Contents:
    """Return 16 bytes for every row, equal for equal rows. Shapes: (n, columns) -> (n, 16)."""
    names = [column.name for column in schema.columns]
    order = sorted(range(len(names)), key=names.__getitem__)
    prefix = hashlib.sha256("\0".join(names[place] for place in order).encode()).digest()
    found = bytearray()
    for start in range(0, len(table), _ROWS_AT_ONCE):
        block = np.asarray(table[start : start + _ROWS_AT_ONCE])
        cells = np.empty(block.shape, dtype="<u8")
        for at, place in enumerate(order):
            cells[:, at] = _cell_words(block[:, place], schema, place)
        for row in cells:
            found += hashlib.blake2b(prefix + row.tobytes(), digest_size=CONTENT_BYTES).digest()
    return np.frombuffer(bytes(found), np.uint8).reshape(len(table), CONTENT_BYTES)


def _cell_words(values: Values, schema: TableSchema, place: int) -> NDArray[np.uint64]:
    column = schema.columns[place]
    if column.is_numeric:
        return np.ascontiguousarray(np.where(np.isnan(values), np.nan, values)).view("<u8")
    words = [hashlib.sha256(name.encode()).digest()[:8] for name in column.names]
    return np.frombuffer(b"".join(words), "<u8")[values.astype(np.intp)]


def record_digests(contents: Contents, *, tenant_key: bytes) -> list[bytes]:
    """Return the digest of rows that are units of their own, told apart where they are equal."""
    seen: Counter[bytes] = Counter()
    digests = []
    for row in contents:
        content = row.tobytes()
        suffix = seen[content].to_bytes(8, "big")
        seen[content] += 1
        digests.append(hmac.digest(tenant_key, b"row\x00" + content + suffix, hashlib.sha256))
    return digests


def keyed_contents(contents: Contents, *, tenant_key: bytes) -> NDArray[np.uint8]:
    """Return keyed digests by which the same table is known again under other ids. (n, 32).

    Single rows of coarse columns are equal in tables of different persons. A digest therefore spans
    a row and the distinct rows after it in sorted order, with how often each occurs: equal where
    that whole stretch of two tables is the same, as most are if a table lost some rows.
    """
    keys = np.ascontiguousarray(contents).view(f"V{CONTENT_BYTES}").ravel()
    distinct, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    words = [
        bytes(row) + int(count).to_bytes(8, "big")
        for row, count in zip(distinct, counts, strict=True)
    ]
    span = min(NEIGHBOURS, len(words))
    around = words + words[: span - 1] if span else words
    digests = b"".join(
        hmac.digest(tenant_key, b"rows\x00" + b"".join(around[at : at + span]), hashlib.sha256)
        for at in range(len(words))
    )
    return np.frombuffer(digests, np.uint8).reshape(len(words), 32)[places]


def twins(contents: Contents, persons: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which persons have exactly the rows that another person has. Shape: (persons,)."""
    people = int(persons.max()) + 1 if len(persons) else 0
    rows = np.ascontiguousarray(contents).view(f"V{CONTENT_BYTES}").ravel()
    order = np.lexsort((np.unique(rows, return_inverse=True)[1], persons))
    sorted_rows = contents[order].tobytes()
    ends = np.cumsum(np.bincount(persons, minlength=people)) * CONTENT_BYTES
    whole = [
        hashlib.blake2b(sorted_rows[start:end], digest_size=CONTENT_BYTES).digest()
        for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
    ]
    seen = Counter(whole)
    return np.fromiter((seen[one] > 1 for one in whole), np.bool_, people)
