"""Sentences that every report carries: what was not tested, and what its numbers do not mean."""

from collections.abc import Sequence

from privacy.evidence import Evidence
from privacy.mechanisms import UnitOfPrivacy


def unit_word(unit: UnitOfPrivacy) -> str:
    """Return the word for one protected unit."""
    return "image" if unit is UnitOfPrivacy.RECORD else "person"


def not_tested(evidence: Evidence, audits: Sequence[str]) -> tuple[str, ...]:
    """Return what nobody tried on this candidate."""
    word = unit_word(evidence.unit)
    out = []
    if "loss_membership" not in audits:
        out.append(
            "Membership from the generator's own scores: it handed over none. Somebody who holds the "
            "generator could try it; somebody who holds only the samples could not."
        )
    out += [
        "Membership from gradients or weights, and attacks with reference or shadow models.",
        "Copies that are rotated strongly, cropped, recoloured or stitched from several records.",
        f"A {word} recognised by a human expert, or linked with data held elsewhere.",
        "Inference of attributes: what the label of a real record is, given the release.",
    ]
    excluded = int(evidence.excluded.sum())
    if excluded:
        out.append(
            f"{excluded} {word}s share a record with another {word}: nobody can be a fair control "
            "for them, so no membership attack was scored on them, and copies of the shared "
            "records go unseen."
        )
    if evidence.unit is UnitOfPrivacy.RECORD:
        out.append("Anything per person: the guarantee and every number here are per image.")
    return tuple(out)


def disclaimers(unit: UnitOfPrivacy) -> tuple[str, ...]:
    """Return what a reader must know before using a number of this report."""
    word = unit_word(unit)
    return (
        "This report is computed from private records and is not differentially private: it stays inside.",
        f"Every number is per {word}, and about the attacks named here; a stronger one may exist.",
        "Lower bounds on epsilon from one run are loose: compare them with the most that could be certified.",
        "A pass means that upper confidence bounds stayed below tolerances fixed beforehand.",
        "It does not mean that nothing leaks: differential privacy permits some leakage, up to epsilon.",
        "Choosing between candidates by their verdicts uses evidence that epsilon does not cover.",
    )
