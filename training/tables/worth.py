"""Is there enough budget for relations between columns? A rule of declared, public numbers alone."""

from math import pi, sqrt
from statistics import median

from privacy.errors import InvalidParameter
from privacy.mechanisms import ZcdpMechanism
from privacy.table_schema import TableSchema
from training.tables.rounds import measurable_pairs

_HOPELESS = 1.0
_REMEDY = "Use independent_columns, declare coarser bins, or ask for a larger epsilon."


def noise_of_a_tree(schema: TableSchema, mechanism: ZcdpMechanism) -> float:
    """Return the distance that noise alone puts between a typical pair and its measurement.

    Half the expected L1 norm of the noise of a median pair, per declared unit, where a tree's worth
    of pairs (columns - 1) share the whole budget: the least that a graphical model must stand.
    """
    pairs = measurable_pairs(schema.sizes)
    if not pairs:
        return 0.0
    cells = median(schema.sizes[a] * schema.sizes[b] for a, b in pairs)
    rho = mechanism.steps * mechanism.rho_of_step
    sigma = sqrt((len(schema.columns) - 1) / (2 * rho))
    return 0.5 * sqrt(2 / pi) * sigma * cells / schema.declared_count


def refuse_the_hopeless(
    schema: TableSchema, mechanism: ZcdpMechanism, *, remedy: str = _REMEDY
) -> None:
    """Refuse, before anything is charged, a budget with which no relation can be measured.

    Raises: InvalidParameter naming the distance, its limit and what to do, which is `remedy`.
    """
    found = noise_of_a_tree(schema, mechanism)
    if found > _HOPELESS:
        raise InvalidParameter(
            f"Fitting relations between columns was refused: with about {schema.declared_count:,} "
            f"units at this budget, noise moves a typical pair of columns by {found:.2g} in total "
            f"variation; the limit is {_HOPELESS:g}, where nothing of the pair is left. "
            f"{remedy}"
        )
