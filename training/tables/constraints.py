"""Declared constraints as masks over cliques: what cannot be gets no probability at all."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from privacy.table_schema import Constraint, TableSchema
from training.tables.beliefs import Propagation
from training.tables.junction_trees import Clique, junction_tree, model_bytes

Masks = dict[Clique, NDArray[np.bool_]]

MOST_CELLS = 10_000
"""Cells of a marginal, or of a constraint's mask."""


def masks(schema: TableSchema, *, most_bytes: int) -> tuple[Masks, tuple[Constraint, ...]]:
    """Return what each clique of constrained columns allows, and the constraints left over.

    A constraint over too many cells, or one that would make the model larger than `most_bytes`, is
    left over: rows that break it are drawn again.
    Raises: InvalidParameter if no row satisfies those that are kept.
    """
    found: Masks = {}
    left: list[Constraint] = []
    by_size = sorted(schema.constraints, key=lambda c: _cells(_columns(c, schema), schema.sizes))
    for constraint in by_size:
        columns = _columns(constraint, schema)
        fits = _cells(columns, schema.sizes) <= MOST_CELLS and (
            columns in found or model_bytes([*found, columns], schema.sizes) <= most_bytes
        )
        if not fits:
            left.append(constraint)
            continue
        mask = _mask(constraint, columns, schema)
        found[columns] = found[columns] & mask if columns in found else mask
    # Propagating nothing but the masks tells, before anything is paid, whether they contradict.
    Propagation(junction_tree(found, schema.sizes), (), schema.sizes, allowed=found).marginals(())
    return found, tuple(left)


def breaks(
    schema: TableSchema, constraints: Sequence[Constraint]
) -> Callable[[NDArray[np.int16]], NDArray[np.bool_]]:
    """Return what tells which rows break any of these constraints. Shapes: (N, D) -> (N,)."""
    part = schema.model_copy(update={"constraints": tuple(constraints)})

    def broken(codes: NDArray[np.int16]) -> NDArray[np.bool_]:
        found = np.zeros(len(codes), dtype=bool)
        for one in part.violations(codes).values():
            found |= one
        return found

    return broken


def _mask(constraint: Constraint, columns: Clique, schema: TableSchema) -> NDArray[np.bool_]:
    """Return which cells of some columns the constraint allows, as a table in C order."""
    shape = tuple(schema.sizes[column] for column in columns)
    cells = np.indices(shape).reshape(len(columns), -1)
    rows = np.zeros((cells.shape[1], len(schema.columns)), dtype=np.int16)
    for place, column in enumerate(columns):
        rows[:, column] = cells[place]
    broken = breaks(schema, (constraint,))(rows)
    return ~broken.reshape(shape)


def _columns(constraint: Constraint, schema: TableSchema) -> Clique:
    return tuple(sorted({schema.index(name) for name in (*constraint.when, *constraint.then)}))


def _cells(columns: Clique, sizes: Sequence[int]) -> int:
    return int(np.prod([sizes[column] for column in columns], dtype=object))
