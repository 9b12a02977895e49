"""Know the columns of a table again, whatever they are called and beside whichever others.

A row's content is over what its owner declared, so that a table without one of its columns is made
of other rows. Its other columns still hold the same numbers. Only columns of numbers are looked at.
"""

import hashlib
import hmac

import numpy as np
from numpy.typing import NDArray

from privacy.table_schema import TableSchema, Values

MARKS = 64
"""At most so many digests of a column for each of the two lengths of stretch."""
_STRETCH_BITS = 96  # what a stretch must hold, so that tables of other persons share none
_SHORTEST = 16
_DIGEST_BYTES = 32
_GAP_DECIMALS = 9  # of the column's range: 0.1 apart is 0.1 apart, whatever floats make of it

Words = NDArray[np.uint64]


def column_digests(
    table: NDArray[np.float64], schema: TableSchema, *, tenant_key: bytes
) -> NDArray[np.uint8]:
    """Return keyed digests of stretches of every column of numbers, (n, 32), ascending, distinct.

    A stretch is a number of neighbouring distinct values with how many rows hold each: the same in
    any order of the rows, under any name, and under other bounds, since values at a bound, which
    may have been clipped, are left out. A column that is too coarse or too regular to tell one
    table from another (few values, 1 to n, multiples) has none.
    """
    found: set[bytes] = set()
    for place, column in enumerate(schema.columns):
        if column.is_numeric:
            low, high = column.edges[0], column.edges[-1]
            values = np.asarray(table[:, place])
            inside = values[(values > low) & (values < high)]
            found.update(_digests(*np.unique(inside, return_counts=True), key=tenant_key))
    return np.frombuffer(b"".join(sorted(found)), np.uint8).reshape(len(found), _DIGEST_BYTES)


def _digests(values: Values, counts: NDArray[np.int64], *, key: bytes) -> list[bytes]:
    """Return the digests of one column. Shapes: distinct values ascending and their counts (n,)."""
    bits = _bits_of_a_value(values, counts)
    if bits <= 0:
        return []
    # Powers of two, and the next one too: a few rows more or less change the bits, not the lengths.
    shortest = 1 << max(_SHORTEST.bit_length() - 1, int(np.ceil(np.log2(_STRETCH_BITS / bits))))
    bare = np.stack([values.view("<u8"), counts.astype("<u8")], axis=1)
    order = np.argsort(_scattered(bare), kind="stable")
    digests = []
    for length in (shortest, 2 * shortest):
        # The same starts in every table that holds them, whatever else it holds.
        starts = order[order <= len(values) - length][:MARKS]
        head = b"column\x00" + length.to_bytes(8, "big")
        digests += [
            hmac.digest(key, head + bare[start : start + length].tobytes(), hashlib.sha256)
            for start in starts.tolist()
        ]
    return digests


def _bits_of_a_value(values: Values, counts: NDArray[np.int64]) -> float:
    """Return the entropy of (distance to the next value, rows that hold it), in bits."""
    if len(values) < _SHORTEST:
        return 0.0
    gaps = np.round(np.diff(values) / (values[-1] - values[0]), _GAP_DECIMALS)
    symbols = np.stack([gaps, counts[:-1].astype(np.float64)], axis=1)
    shares = np.unique(symbols, axis=0, return_counts=True)[1] / len(symbols)
    return float(-(shares * np.log2(shares)).sum())


def _scattered(words: Words) -> Words:
    """Return one number for each row of words (n, 2), in no order (SplitMix64's finaliser)."""
    mixed = words[:, 0] ^ (words[:, 1] * np.uint64(0x9E3779B97F4A7C15))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Words = mixed ^ (mixed >> np.uint64(31))
    return result
