"""Records -> distances between a query and every person, blocked so that memory stays bounded.

A *space* is one way to be similar. A distance to a person is the smallest one over that person's
records and over small flips and shifts of the query. Nothing here sees an arm or a coin.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from privacy.errors import InvalidParameter
from privacy.table_cells import CellCosts, cell_costs
from privacy.table_spaces import MOST_LEFT_OUT, all_but_one, scale_of, together, worst
from privacy.tangents import ZOOMS, smoothed, tangent_parts, waves, zoomed

Floats = NDArray[np.float32]
CELLS = 16  # images are averaged down to CELLS x CELLS
MOVED_CELLS = 24  # derivatives need more of them
MIN_CONTENT = 16  # pixels
CELLS_AGREE = "cells"  # the space of a table that knows how rare a cell is
TILES = 4  # tiles per side of the tiled distance
_BLOCK_FLOATS = 4_000_000  # one block of the similarity matrix


@dataclass(frozen=True)
class Space:
    """A named distance. `views` yields transformed copies of queries, each as parts.

    A part is a (records, features) float32 matrix whose dot product with the same part of a record
    is minus half the squared distance; the largest distance over parts counts (`worst`, Carlini et
    al. 2023, arXiv:2301.13188, for tiles), or parts after the first are how far the record lies along
    directions that count for nothing (`tangent`). Then the smallest distance over views counts. The
    first view is the identity, and describes records. A `learnt` space knows the persons of reference half
    a, so that how near these come to others says nothing of fresh ones. Where `cells` are given, distances
    are costs of cells, in nats, views are not looked at, and nearness is judged by how crowded it is.
    """

    name: str
    title: str
    views: Callable[[NDArray[np.generic]], Iterator[list[Floats]]]
    parts: Literal["worst", "tangent"] = "worst"
    learnt: bool = False
    cells: CellCosts | None = None

    def describe(self, records: NDArray[np.generic]) -> list[Floats]:
        """Return the parts of untransformed records."""
        return next(self.views(records))


def shows_nobody(record: NDArray[np.generic]) -> bool:
    """Return whether a picture is blank, or fewer than 16 of its pixels depart from one value.

    Such pictures are equal between persons by chance. A row of a table always counts as content.
    """
    if record.ndim != 2:
        return False
    values = record.ravel()
    # The value of all pixels but a few is their median.
    usual = np.partition(values, len(values) // 2)[len(values) // 2]
    return int((values != usual).sum()) < MIN_CONTENT


def image_spaces() -> tuple[Space, ...]:
    """Return the spaces for images: whole picture, worst tile, perceptual hash, moved picture."""
    return (
        Space("pixels", "pixels at 16x16 after flips and shifts", _pixel_views),
        Space("tiles", "the least similar of 16 tiles", _tile_views),
        Space("hash", "perceptual hash of 255 bits", _hash_views),
        Space(
            "moved",
            "waves of the picture, whatever small turn, zoom, shift or contrast",
            _moved_views,
            parts="tangent",
        ),
    )


def table_spaces(
    reference: NDArray[np.generic], known: NDArray[np.generic] | None = None
) -> tuple[Space, ...]:
    """Return the spaces for tables, scaled by `reference` rows; `known` rows tell which values occur."""
    scale = scale_of(reference, reference if known is None else known)
    spaces = [
        Space("columns", "Euclidean distance of scaled columns", together(scale, _augment)),
        Space("worst_column", "the least similar column", worst(scale, _augment)),
    ]
    if 2 < len(scale.supports) <= MOST_LEFT_OUT:
        spaces.append(Space("all_but_one", "all columns but the worst", all_but_one(scale)))
    cells = cell_costs(reference if known is None else known)
    spaces.append(
        Space(CELLS_AGREE, "cells that agree, rare ones weighing more", _no_views, cells=cells)
    )
    return tuple(spaces)


def _no_views(records: NDArray[np.generic]) -> Iterator[list[Floats]]:
    """Yield nothing: cells are compared by their costs."""
    del records
    yield from ()


def pooling_matrix(size: int, cells: int, *, shift: float, flip: bool) -> Floats:
    """Return (cells, size): averages over equal cells after a shift in pixels, edges repeated."""
    edges = np.linspace(0, size, cells + 1) + shift
    pixels = np.arange(size, dtype=np.float64)
    # The outermost pixels reach beyond the picture, which is what repeating the edge means.
    left = np.where(pixels == 0, -np.inf, pixels)
    right = np.where(pixels == size - 1, np.inf, pixels + 1)
    low, high = np.maximum(edges[:-1, None], left), np.minimum(edges[1:, None], right)
    weights = np.clip(high - low, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    pooled: Floats = (weights[:, ::-1] if flip else weights).astype(np.float32)
    return pooled


def _pooled(
    images: NDArray[np.generic], *, down: float, right: float, flip: bool, cells: int
) -> Floats:
    """Return (images, cells * cells): averaged, mean removed, Euclidean norm 1 (0 if blank)."""
    height, width = images.shape[1:]
    rows = pooling_matrix(height, min(cells, height), shift=down, flip=False)
    columns = pooling_matrix(width, min(cells, width), shift=right, flip=flip)
    flat = (rows @ images.astype(np.float32) @ columns.T).reshape(len(images), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    # A blank picture resembles nobody: its zero vector is as far from all as unrelated ones are.
    blank = norm < 1e-3 * np.sqrt(flat.shape[1])
    return np.where(blank, 0.0, flat / np.where(blank, 1.0, norm)).astype(np.float32)


def unit_parts(features: Floats, *, as_query: bool) -> Floats:
    """Append a column so that the dot product of two unit vectors is minus half their distance²."""
    extra = np.full((len(features), 1), -1.0 if as_query else 1.0, dtype=np.float32)
    return np.hstack([features, extra])


def _augment(
    features: Floats, *, as_query: bool, nobody: NDArray[np.bool_] | None = None
) -> Floats:
    """Append columns so that the dot product is minus half the squared distance, at any norm.

    Rows marked in `nobody` (rows, 1) are moved away from everything, each other included.
    """
    half = -0.5 * (features**2).sum(axis=1, keepdims=True)
    if nobody is not None:
        half = half - nobody.astype(np.float32)
    one = np.ones_like(half)
    return np.hstack([features, half, one] if as_query else [features, one, half])


def _movements(images: NDArray[np.generic]) -> Iterator[tuple[float, float, bool]]:
    """Yield shifts of up to 1/32 of the side (at least a pixel), each with and without a flip."""
    side = min(images.shape[1:])
    steps = (-1.0, 0.0, 1.0) if side <= 48 else (-2.0, -1.0, 0.0, 1.0, 2.0)
    pixel = max(1.0, side / 64)
    for flip in (False, True):
        for down in steps:
            for right in steps:
                yield down * pixel, right * pixel, flip


def _pixel_views(images: NDArray[np.generic]) -> Iterator[list[Floats]]:
    yield [unit_parts(_pooled(images, down=0, right=0, flip=False, cells=CELLS), as_query=False)]
    for down, right, flip in _movements(images):
        pooled = _pooled(images, down=down, right=right, flip=flip, cells=CELLS)
        yield [unit_parts(pooled, as_query=True)]


def _tile_views(images: NDArray[np.generic]) -> Iterator[list[Floats]]:
    for flip, as_query in ((False, False), (False, True), (True, True)):
        pooled = _pooled(images, down=0, right=0, flip=flip, cells=CELLS) * TILES
        rows, columns = (min(CELLS, size) for size in images.shape[1:])
        grid = pooled.reshape(len(images), rows, columns)
        blank = np.asarray(~pooled.any(axis=1, keepdims=True))
        yield [
            _augment(tile.reshape(len(images), -1), as_query=as_query, nobody=blank)
            for strip in np.array_split(grid, TILES, axis=1)
            for tile in np.array_split(strip, TILES, axis=2)
        ]


def _moved_views(images: NDArray[np.generic]) -> Iterator[list[Floats]]:
    shape = (min(MOVED_CELLS, images.shape[1]), min(MOVED_CELLS, images.shape[2]))
    plain = _pooled(images, down=0, right=0, flip=False, cells=MOVED_CELLS)
    yield [unit_parts(waves(smoothed(plain, shape)), as_query=False)]
    for factor in ZOOMS:
        shrunk = zoomed(images, factor)
        for flip in (False, True):
            pooled = _pooled(shrunk, down=0, right=0, flip=flip, cells=MOVED_CELLS)
            yield list(tangent_parts(smoothed(pooled, shape)))


def _hash_views(images: NDArray[np.generic]) -> Iterator[list[Floats]]:
    for flip, as_query in ((False, False), (False, True), (True, True)):
        pooled = _pooled(images, down=0, right=0, flip=flip, cells=32)
        side = tuple(min(32, size) for size in images.shape[1:])
        waves = fft.dctn(pooled.reshape(-1, *side), axes=(1, 2))[:, :16, :16]
        low = waves.reshape(len(images), -1)[:, 1:]
        bits = np.where(low > np.median(low, axis=1, keepdims=True), 1.0, -1.0)
        blank = ~pooled.any(axis=1, keepdims=True)
        unit = np.where(blank, 0.0, bits / np.sqrt(low.shape[1])).astype(np.float32)
        yield [unit_parts(unit, as_query=as_query)]


class Gallery:
    """Records grouped by person, ready to be searched in one space."""

    def __init__(
        self,
        space: Space,
        records: NDArray[np.generic],
        persons: NDArray[np.integer],
        *,
        count: int,
    ) -> None:
        present = np.unique(persons)
        if len(present) != count or (count and (present[0] != 0 or present[-1] != count - 1)):
            raise InvalidParameter(
                f"A gallery of {count} persons was refused: records name {len(present)} of them. "
                "Number persons from 0 without gaps."
            )
        order = np.argsort(persons, kind="stable")
        self.space = space
        self.count = count
        self._starts = np.searchsorted(persons[order], np.arange(count))
        self._parts: list[Floats] = []
        self._codes = np.empty((0, 0), dtype=np.int16)
        self._width = max(1, len(records))
        if space.cells is not None:
            self._codes = space.cells.codes(records[order])
        else:
            self._parts = [np.ascontiguousarray(part[order]) for part in space.describe(records)]

    def search(self, queries: NDArray[np.generic]) -> Iterator[tuple[slice, Floats]]:
        """Yield (which queries, (queries, persons) distances) block by block."""
        step = max(1, _BLOCK_FLOATS // self._width)
        for start in range(0, len(queries), step):
            rows = slice(start, min(start + step, len(queries)))
            yield rows, self._distances(queries[rows])

    def _distances(self, queries: NDArray[np.generic]) -> Floats:
        if self.space.cells is not None:
            cells = self.space.cells
            costs = cells.between(cells.codes(queries), self._codes)
            lowest: Floats = np.minimum.reduceat(costs, self._starts, axis=1)
            return lowest
        views = self.space.views(queries)
        next(views)  # the records' own description
        best = np.full((len(queries), len(self._parts[0])), -np.inf, dtype=np.float32)
        for parts in views:
            closeness = parts[0] @ self._parts[0].T
            if self.space.parts == "tangent":
                for along in parts[1:]:
                    closeness += 0.5 * (along @ self._parts[0].T) ** 2
            else:
                for mine, theirs in zip(parts[1:], self._parts[1:], strict=True):
                    np.minimum(closeness, mine @ theirs.T, out=closeness)
            np.maximum(best, closeness, out=best)
        by_person = np.maximum.reduceat(best, self._starts, axis=1)
        distances: Floats = np.sqrt(np.maximum(-2.0 * by_person, 0.0))
        return distances
