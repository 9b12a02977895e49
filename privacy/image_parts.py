"""The images of a table whose rows have one each, seen as a data set of images.

An image is drawn for the *cell* of its row: what the row holds in the columns that the schema
names. To whatever only knows images, a cell is a label like any other.
"""

from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.manifests import DatasetSchema
from privacy.table_schema import Column, ImagePart, TableSchema

_LONGEST_LABEL = 64
_CUT = "…"


def image_schema(schema: TableSchema) -> DatasetSchema:
    """Return what is declared of the images: their size, and a label for every cell, in order.

    Cells are in row-major order of the codes: that of the last column changes fastest.
    Raises: InvalidParameter for a table without images.
    """
    part = _part(schema)
    columns = _columns(schema)
    return DatasetSchema(
        unit=schema.unit,
        declared_count=schema.declared_count,
        height=part.height,
        width=part.width,
        bit_depth=part.bit_depth,
        label=_label(columns),
        labels=_all_words(columns),
    )


def image_labels(schema: TableSchema, codes: NDArray[np.integer]) -> NDArray[np.int16]:
    """Return the cell of each row, as index of `image_schema(schema).labels`.

    Shapes: codes (n, columns) -> (n,).  Raises: InvalidParameter for a table without images.
    """
    names = [column.name for column in schema.columns]
    cells = np.zeros(len(codes), dtype=np.int16)
    for column in _columns(schema):
        cells = (cells * column.size + codes[:, names.index(column.name)]).astype(np.int16)
    return cells


def cells_of(schema: TableSchema) -> int:
    """Return how many cells the columns of the images have together.

    Raises: InvalidParameter for a table without images.
    """
    return prod(factors_of(schema))


def factors_of(schema: TableSchema) -> tuple[int, ...]:
    """Return how many codes each column of the images has: cells are their combinations.

    Raises: InvalidParameter for a table without images.
    """
    return tuple(column.size for column in _columns(schema))


def _part(schema: TableSchema) -> ImagePart:
    if schema.images is None:
        raise InvalidParameter(
            "The images of a table were asked for, and its schema declares none. Declare [images]."
        )
    return schema.images


def _columns(schema: TableSchema) -> tuple[Column, ...]:
    return tuple(schema.column(name) for name in _part(schema).condition_on)


def _label(columns: tuple[Column, ...]) -> str:
    """Return a name for what tells cells apart, the columns' own if they fit."""
    name = " and ".join(column.name for column in columns)
    # Some names mean something else in a set of images; "cell" means nothing else anywhere.
    is_plain = len(name) <= _LONGEST_LABEL and len(columns) > 1
    return name if is_plain else f"cell of {columns[0].name}"[:_LONGEST_LABEL].rstrip()


def _all_words(columns: tuple[Column, ...]) -> tuple[str, ...]:
    """Return every cell in words: each column with its level; with its number where that is long.

    Where two cells read alike (bins whose edges are written with the same digits, or a level that
    holds another column's words) all have their numbers, so that words are always distinct.
    """
    cells = list(product(*(column.names for column in columns)))
    words = [
        ", ".join(f"{column.name} {level}" for column, level in zip(columns, cell, strict=True))
        for cell in cells
    ]
    short = tuple(
        each if len(each) <= _LONGEST_LABEL else _cut(f"cell {number}: {', '.join(cell)}")
        for number, (each, cell) in enumerate(zip(words, cells, strict=True))
    )
    if len(set(short)) == len(short):
        return short
    return tuple(_cut(f"cell {number}: {each}") for number, each in enumerate(words))


def _cut(words: str) -> str:
    if len(words) <= _LONGEST_LABEL:
        return words
    return words[: _LONGEST_LABEL - 1].rstrip() + _CUT
