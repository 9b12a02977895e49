"""Ways in which two rows of a table are alike: all columns together, the worst one, all but one.

Columns are scaled by rows that nobody trained on. Columns with few values are rounded to values that
occur, as anybody would who knows the table: noise on them hides nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Views = Callable[[NDArray[np.generic]], Iterator[list[Floats]]]

_ROWS_PER_VALUE = 10  # a column has few values if each is that frequent on average
_GROUPS = 64
MOST_LEFT_OUT = 64


@dataclass(frozen=True, eq=False)
class Scale:
    """Rows (rows, columns) -> float32 of about unit spread; `supports` lists few values, or None."""

    centre: NDArray[np.floating]
    spread: NDArray[np.floating]
    supports: tuple[NDArray[np.floating] | None, ...]

    def scaled(self, rows: NDArray[np.generic], *, rounded: bool) -> Floats:
        """Return scaled rows, columns with few values rounded to these if `rounded`."""
        values = rows.astype(np.float64)
        for column, support in enumerate(self.supports if rounded else ()):
            if support is not None:
                values[:, column] = _nearest(values[:, column], support)
        scaled: Floats = ((values - self.centre) / self.spread).astype(np.float32)
        return scaled


def scale_of(reference: NDArray[np.generic], known: NDArray[np.generic]) -> Scale:
    """Return the scale of `reference` rows and the values of `known` rows, blind to arms."""
    spread = reference.std(axis=0)
    most = max(2, len(known) // _ROWS_PER_VALUE)
    supports = tuple(
        values if len(values := np.unique(column.astype(np.float64))) <= most else None
        for column in known.T
    )
    return Scale(reference.mean(axis=0), np.where(spread > 0, spread, 1.0), supports)


def _nearest(values: NDArray[np.floating], support: NDArray[np.floating]) -> NDArray[np.floating]:
    right = np.clip(np.searchsorted(support, values), 0, len(support) - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.abs(values - support[left]) <= np.abs(support[right] - values)
    return np.asarray(np.where(nearer, support[left], support[right]))


def together(scale: Scale, augment: Callable[..., Floats]) -> Views:
    """Return views of all columns: Euclid."""

    def views(rows: NDArray[np.generic]) -> Iterator[list[Floats]]:
        columns = scale.scaled(rows, rounded=True)
        for as_query in (False, True):
            yield [augment(columns, as_query=as_query)]

    return views


def worst(scale: Scale, augment: Callable[..., Floats]) -> Views:
    """Return views of single columns (groups of them, beyond 64), of which the worst counts."""

    def views(rows: NDArray[np.generic]) -> Iterator[list[Floats]]:
        columns = scale.scaled(rows, rounded=True)
        groups = np.array_split(np.arange(columns.shape[1]), min(_GROUPS, columns.shape[1]))
        for as_query in (False, True):
            yield [augment(columns[:, group], as_query=as_query) for group in groups]

    return views


def all_but_one(scale: Scale) -> Views:
    """Return views that leave out one column each: Euclid over the others."""

    def views(rows: NDArray[np.generic]) -> Iterator[list[Floats]]:
        values = scale.scaled(rows, rounded=True)
        squares = values**2
        half = -0.5 * squares.sum(axis=1, keepdims=True)
        one = np.ones_like(half)
        yield [np.hstack([values, one, half, 0.5 * squares])]
        for column in range(values.shape[1]):
            kept, chosen = values.copy(), np.zeros_like(values)
            kept[:, column], chosen[:, column] = 0.0, 1.0
            left = half + 0.5 * squares[:, [column]]
            yield [np.hstack([kept, left, one, chosen])]

    return views
