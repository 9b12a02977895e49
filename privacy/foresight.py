"""Will the audit of a run be able to pass it? A sentence for a data owner, before budget is spent.

Computed from declared, public numbers; no record is seen, so asking costs nothing.
"""

from collections.abc import Sequence
from functools import lru_cache

from privacy.ceilings import ceilings, privacy_curve
from privacy.inclusion import Rates
from privacy.mechanisms import Mechanism, UnitOfPrivacy
from privacy.policy import Policy
from privacy.power import POWER, arm_needed_for_auc

PERSONS_UNKNOWN = (
    "Privacy is of a row: rows of a table without ids cannot be recognised as being of a person who "
    "is in other rows or in another dataset, so that nobody but its owner can know whether a person "
    "has one row. Who has ten is protected ten times less, and cannot be withdrawn by an id."
)
"""What an owner and the auditors are told of a table whose unit of privacy is the record."""


def about_the_audit(
    mechanisms: Sequence[Mechanism],
    *,
    policy: Policy,
    tier: str,
    rates: Rates,
    declared: int,
    unit: UnitOfPrivacy,
    modality: str = "image",
) -> str | None:
    """Return what to expect if the arms are too small to clear even a release that leaks nothing.

    None where they are large enough, or where epsilon itself keeps every attack below the tier's
    tolerance, so that nothing needs to be measured. The best case: the first attempt, one attack.
    """
    tolerance = policy.tier(tier).auc
    if _highest_auc(tuple(mechanisms)) <= tolerance:
        return None
    arm = round(declared * rates.pool / 2)
    needed = arm_needed_for_auc(tolerance, error=policy.bound_error(attempt=1))
    if arm >= needed:
        return None
    records = "rows" if modality == "table" else "images"
    words = "persons" if unit is UnitOfPrivacy.PERSON else records
    return (
        f"The audit may end undecided: it will compare about {arm:,} {words} trained on with as many "
        f"held out, and tier {tier} (AUC below {tolerance:g}) needs about {needed:,} of each to clear "
        f"a release that leaks nothing in {POWER:.0%} of cases. Ask for a smaller epsilon, another "
        f"tier, or add {words}."
    )


@lru_cache(maxsize=256)  # accounting for a long run takes a while, and a page asks again and again
def _highest_auc(mechanisms: tuple[Mechanism, ...]) -> float:
    return ceilings(privacy_curve(None, mechanisms), ()).get("auc", 1.0)
