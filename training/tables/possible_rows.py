"""Rows that no declared constraint forbids, drawn evenly; and whether there are any to draw.

Nothing here reads a record: constraints and sizes are public, so what is refused here is refused
before anything is charged. Constraints that fit into masks are kept exactly; of the rest, broken
rows are drawn again, as a fitted model does it.
"""

import numpy as np

from privacy.errors import InvalidParameter
from privacy.table_schema import Codes, Constraint, TableSchema
from training.randomness import reproducible
from training.tables.beliefs import Propagation
from training.tables.constraints import Masks, breaks, masks
from training.tables.drawing import draw, draw_allowed
from training.tables.junction_trees import junction_tree

_TRIED = 10_000
_FEWEST = 10
"""Rows of those tried that must break nothing: 1 in 1,000."""
_MOST_BYTES = 8 * 2**20


def possible_rows(count: int, *, schema: TableSchema, rng: np.random.Generator) -> Codes:
    """Draw rows evenly over all that break no constraint. Shapes: result (count, D).

    Raises: InvalidParameter if constraints contradict each other or leave hardly any row.
    """
    allowed, left_over = masks(schema, most_bytes=_MOST_BYTES)
    refuse_the_impossible(schema, allowed, left_over)
    return draw_allowed(
        lambda places: _evenly(len(places), schema, allowed, rng),
        breaks(schema, left_over),
        count=count,
    )


def refuse_the_impossible(
    schema: TableSchema, allowed: Masks, left_over: tuple[Constraint, ...]
) -> None:
    """Refuse constraints too large for masks that hardly any row keeps.

    Tried on rows drawn evenly over what the masks allow, so it is an estimate; it is the same
    every time.  Raises: InvalidParameter naming the constraints, the share and the limit.
    """
    if not left_over:
        return
    rows = _evenly(_TRIED, schema, allowed, reproducible(0))
    kept = int((~breaks(schema, left_over)(rows)).sum())
    if kept >= _FEWEST:
        return
    names = ", ".join(repr(constraint.name) for constraint in left_over[:5])
    raise InvalidParameter(
        f"The constraints {names} were refused: of {_TRIED:,} rows drawn evenly over the declared "
        f"levels, {kept} keep them all; the limit is {_FEWEST}, because rows that break one are "
        "drawn again. Look for constraints that contradict each other; over fewer levels, coarser "
        "bins or fewer columns they become part of the model, and nothing is drawn again."
    )


def _evenly(count: int, schema: TableSchema, allowed: Masks, rng: np.random.Generator) -> Codes:
    """Draw rows evenly over what the masks allow (count, D)."""
    tree = junction_tree(allowed, schema.sizes)
    beliefs = Propagation(tree, (), schema.sizes, allowed=allowed).marginals(())
    return draw(tree, beliefs, schema.sizes, count=count, rng=rng)
