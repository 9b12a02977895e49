"""Gives a corrected model the joints of the graphical model back, where those were measured.

Under noise, a network pushes about the very counts that were measured exactly. Column by column in the
order of drawing, the logits of each cell of a column's parents are moved until the network's mean
conditional over drawn rows of that cell is the graphical model's. Parents lie in earlier cliques whose
joints agree already, so all measured cliques keep their joints, up to the scatter of the drawn rows; what
the network says beyond them stays. All of it is post-processing: rows are drawn, none is looked at.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.tables.column_model import ColumnModel
from training.tables.conditionals import IMPOSSIBLE, Conditional
from training.tables.drawing import even_positions

_PASSES = 4
_PRIOR_ROWS = 5.0
"""Rows as the graphical model would have them, counted beside those drawn: rare cells move little."""


def calibrated(
    model: ColumnModel,
    *,
    count: int,
    rng: np.random.Generator,
    before: NDArray[np.integer] | None = None,
) -> ColumnModel:
    """Return the model with its parents' cells moved, looked at in `count` drawn rows.

    `before` (count, D) are the rows that these follow, if rows do. To be done once: what is given
    back are the logits that the model comes with.
    """
    rows = np.zeros((count, len(model.sizes)), dtype=np.int16)
    earlier = model.told(before, count)
    moved: list[Conditional] = []
    for place, one in enumerate(model.conditionals):
        group = one.groups(rows, model.sizes)
        changes = model.changes(place, earlier, before)
        fitted = replace(one, logits=_moved(one.logits, changes, group))
        position = even_positions(group, groups=len(one.logits), rng=rng)
        rows[:, one.column] = model.drawn(fitted.logits[group] + changes, position)
        model.tell(earlier, place, rows[:, one.column])
        moved.append(fitted)
    return replace(model, conditionals=tuple(moved))


def _moved(
    logits: NDArray[np.float32], changes: NDArray[np.float32], group: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return logits (cells, codes) under which the mean over each cell's rows is the given one."""
    cells = len(logits)
    wanted = _softmax(logits.astype(np.float64))
    order = np.argsort(group, kind="stable")
    members = np.bincount(group, minlength=cells)
    filled = np.flatnonzero(members)
    starts = (np.cumsum(members) - members)[filled]
    found = logits.copy()
    for _ in range(_PASSES):
        chances = _softmax((found[group] + changes).astype(np.float64))
        sums = np.add.reduceat(chances[order], starts, axis=0)
        goal = wanted[filled]
        prior = _PRIOR_ROWS * goal
        mean = (sums + prior) / (members[filled, None] + _PRIOR_ROWS)
        step = np.log(np.maximum(goal, 1e-12)) - np.log(np.maximum(mean, 1e-12))
        found[filled] += np.where(found[filled] > IMPOSSIBLE / 2, step, 0.0).astype(np.float32)
    return found


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return result
