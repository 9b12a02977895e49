"""What a page shows of a synthetic table: how its columns are spread, and its first rows.

All of it is counted over the synthetic rows of the bundle, so it says nothing that these do not.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from privacy.table_schema import Column
from workers.bundling.table_rows import SyntheticTable, cells

_MOST_BARS = 24
_ROWS_SHOWN = 20
_PICTURED = 12

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Bar:
    """One level or bin, or several of them: how many synthetic rows have it, and their share."""

    name: str
    count: int
    share: float


@dataclass(frozen=True, eq=False)
class Spread:
    """One column and its bars, in the order in which its levels or bins were declared."""

    column: Column
    bars: tuple[Bar, ...]


def counts_of(synthetic: SyntheticTable) -> tuple[list[Counts], dict[str, int]]:
    """Return how many rows have each code of each column, and how many break each constraint."""
    schema = synthetic.schema
    counts = [np.zeros(size, dtype=np.int64) for size in schema.sizes]
    broken = {constraint.name: 0 for constraint in schema.constraints}
    for block in synthetic.blocks():
        codes = schema.codes_of(block)
        for index, size in enumerate(schema.sizes):
            counts[index] += np.bincount(codes[:, index], minlength=size)
        for name, breaks in schema.violations(codes).items():
            broken[name] += int(breaks.sum())
    return counts, broken


def spreads(synthetic: SyntheticTable, counts: list[Counts]) -> list[Spread]:
    """Return the bars of every column."""
    return [
        Spread(column=column, bars=_bars(column, own, total=len(synthetic)))
        for column, own in zip(synthetic.schema.columns, counts, strict=True)
    ]


def _bars(column: Column, counts: Counts, *, total: int) -> tuple[Bar, ...]:
    """Return at most 24 bars: neighbouring bins go together, rare levels become the others."""
    names = column.names
    groups = [[code] for code in range(len(names))]
    if len(groups) > _MOST_BARS and column.is_numeric:
        bins = len(column.edges) - 1
        step = -(-bins // (_MOST_BARS - 1))
        groups = [list(range(at, min(at + step, bins))) for at in range(0, bins, step)]
        groups += [[code] for code in range(bins, len(names))]
    elif len(groups) > _MOST_BARS:
        kept = sorted(np.argsort(-counts, kind="stable")[: _MOST_BARS - 1].tolist())
        groups = [[code] for code in kept] + [sorted(set(range(len(names))) - set(kept))]
    found = []
    for codes in groups:
        count = int(counts[codes].sum())
        found.append(Bar(_group_name(column, codes), count, count / total))
    return tuple(found)


def _group_name(column: Column, codes: list[int]) -> str:
    if len(codes) == 1:
        return column.names[codes[0]]
    if column.is_numeric:
        return f"{column.edges[codes[0]]:g} to {column.edges[codes[-1] + 1]:g}"
    return f"{len(codes)} other levels"


def first_rows(synthetic: SyntheticTable) -> list[list[str]]:
    """Return the first rows as a reader sees them; an empty text where a cell is missing."""
    block = np.asarray(synthetic.values[:_ROWS_SHOWN], dtype=np.float64)
    columns = [
        cells(column, block[:, index]).to_pylist()
        for index, column in enumerate(synthetic.schema.columns)
    ]
    return [
        ["" if cell is None else str(cell) for cell in row] for row in zip(*columns, strict=True)
    ]


def draw_preview(synthetic: SyntheticTable) -> bytes:
    """Return the picture that a release's page shows: the first twelve columns, as a PNG."""
    shown = spreads(synthetic, counts_of(synthetic)[0])[:_PICTURED]
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(2.6 * across, 2.0 * down), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for index, spread in enumerate(shown):
        axes = figure.add_subplot(down, across, index + 1)
        axes.bar(range(len(spread.bars)), [bar.share for bar in spread.bars], color="#4477aa")
        # What owners write is no formula for matplotlib either.
        axes.set_title(spread.column.name[:28], fontsize=8, parse_math=False)
        axes.set_xticks([])
        axes.tick_params(labelsize=6)
    target = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the page beside it has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()
