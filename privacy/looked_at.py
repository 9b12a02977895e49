"""Whom the audit of a large table looks at: a fixed number of units at most, drawn by chance.

The self-test keeps distances from some 2,000 records to every unit and in every space, and shuffles
everybody's arm 2,000 times: memory grows with the units, by tens of gigabytes per million. Where everybody
fits (50,000 units) a battery looks at everybody; above, at a smaller draw, which costs minutes and not hours.

Why that is valid: within an arm units are drawn uniformly, and those of the audit pool blind to their
coin. Given who was drawn, every coin is as fair as before, and every assignment of as many
arms as likely (if arms do not matter), so bounds, permutations and shuffles hold on the draw as they do on
everybody. What is lost is sight: a copy of somebody who was not drawn is a row like any other.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Arm, DrawnUnits, Evidence, Finding

Ints = NDArray[np.integer]

WHOLE_UNITS = 50_000
"""Everybody is looked at up to here."""
MOST_UNITS = 20_000
"""Units of a draw."""
MOST_RECORDS = 200_000
"""Rows of everybody, or of a draw on average over units: one person may have many."""
_OF_UNITS = frozenset({"copied_units", "control_units", "paired_units"})
_OF_RECORDS = frozenset({"train_record", "held_out_record"})
# Who decides most comes first: coins are few and bound epsilon, half b are controls, half a calibrates.
_SHARES: tuple[tuple[tuple[Arm, ...], float], ...] = (
    ((Arm.AUDIT_IN, Arm.AUDIT_OUT), 0.5),
    ((Arm.REFERENCE_B,), 0.2),
    ((Arm.REFERENCE_A,), 0.1),
    ((Arm.TRAIN,), 0.2),
)


def looked_at(
    evidence: Evidence,
    *,
    rng: np.random.Generator,
    whole_units: int = WHOLE_UNITS,
    most_units: int = MOST_UNITS,
    most_records: int = MOST_RECORDS,
) -> Evidence:
    """Return the evidence of the units looked at, numbered anew; all of it where they are few.

    Of tables only. Nothing is drawn from `rng` where everybody is looked at. Samples stay all in.
    """
    if evidence.modality != "table":
        return evidence
    chosen = drawn_units(
        evidence, rng=rng, whole_units=whole_units, most_units=most_units, most_records=most_records
    )
    return evidence if chosen is None else of_units(evidence, chosen)


def drawn_units(
    evidence: Evidence,
    *,
    rng: np.random.Generator,
    whole_units: int = WHOLE_UNITS,
    most_units: int = MOST_UNITS,
    most_records: int = MOST_RECORDS,
) -> Ints | None:
    """Return the units that are looked at, in order; None, and nothing drawn, where all are."""
    units = np.unique(evidence.persons)
    if len(units) <= whole_units and len(evidence.records) <= most_records:
        return None
    by_records = most_records * len(units) // len(evidence.records)
    most = min(most_units, by_records, len(units))
    return _drawn(units, evidence.arms, most=most, rng=rng)


def of_units(evidence: Evidence, chosen: Ints) -> Evidence:
    """Return the evidence of the chosen units alone, numbered anew in their order."""
    number = np.full(len(evidence.arms), -1)
    number[chosen] = np.arange(len(chosen))
    rows = np.flatnonzero(number[evidence.persons] >= 0)
    gradients = evidence.gradient_features
    return replace(
        evidence,
        records=evidence.records[rows],
        labels=evidence.labels[rows],
        persons=number[evidence.persons[rows]],
        arms=evidence.arms[chosen],
        folds=evidence.folds[chosen],
        excluded=np.asarray(evidence.excluded)[chosen],
        record_scores={name: scores[rows] for name, scores in evidence.record_scores.items()},
        gradient_features=gradients[rows] if gradients.size else gradients,
        drawn=DrawnUnits(chosen, rows),
    )


def in_all(finding: Finding, evidence: Evidence) -> Finding:
    """Return a finding whose units and records are told by their places in all the evidence.

    Whoever shows a suspicious pair looks there, and not among those that were drawn.
    """
    drawn = evidence.drawn
    if drawn is None:
        return finding
    details = dict(finding.details)
    for name in _OF_UNITS & details.keys():
        details[name] = drawn.units[np.asarray(details[name], dtype=np.int64)].tolist()
    pairs = details.get("pairs")
    if isinstance(pairs, list):
        details["pairs"] = [
            pair | {name: int(drawn.records[pair[name]]) for name in _OF_RECORDS & pair.keys()}
            for pair in pairs
        ]
    return finding.model_copy(update={"details": details})


def _drawn(units: Ints, arms: Ints, *, most: int, rng: np.random.Generator) -> Ints:
    """Return `most` of the units in order: each group of arms up to its share, then the rest in turn."""
    groups = [units[np.isin(arms[units], group)] for group, _ in _SHARES]
    wanted = [
        min(len(group), int(share * most))
        for group, (_, share) in zip(groups, _SHARES, strict=True)
    ]
    for i in reversed(range(len(groups))):  # what is left goes to the trained-on ones first
        wanted[i] += min(len(groups[i]) - wanted[i], most - sum(wanted))
    parts = [
        rng.choice(group, count, replace=False) for group, count in zip(groups, wanted, strict=True)
    ]
    return np.sort(np.concatenate(parts))
