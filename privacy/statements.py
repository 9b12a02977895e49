"""Sentences that every report carries: what was not tested, and what its numbers do not mean."""

from collections.abc import Sequence

import numpy as np

from privacy.evidence import Evidence, SplitOrigin
from privacy.mechanisms import UnitOfPrivacy
from privacy.report import Attack

_WITHOUT_COINS = {
    SplitOrigin.RANDOM: (
        "Who was trained on was drawn at random, as whoever asked for this audit states. Tests that "
        "compare the two groups hold so far; a lower bound on epsilon needs a coin for each {unit} "
        "and was not computed. Nobody committed to the draw beforehand."
    ),
    SplitOrigin.UNKNOWN: (
        "Nobody says how it was decided who was trained on. If members and non-members differ in "
        "anything else (site, scanner, year, how often a {unit} came), attacks tell that difference "
        "from the release: a finding may then be no leak, and a leak may hide. Probabilities in this "
        "report hold only if the two groups were drawn alike; no bound on epsilon was computed."
    ),
}


def unit_word(unit: UnitOfPrivacy) -> str:
    """Return the word for one protected unit."""
    return "image" if unit is UnitOfPrivacy.RECORD else "person"


def in_units(text: str, unit: UnitOfPrivacy) -> str:
    """Return a sentence about persons as one about images where the image is the unit."""
    if unit is not UnitOfPrivacy.RECORD:
        return text
    for article, other in (("A person", "An image"), ("a person", "an image")):
        text = text.replace(article, other)
    return text.replace("person", "image")


def not_tested(evidence: Evidence, attacks: Sequence[Attack], *, looked_at: int) -> tuple[str, ...]:
    """Return what nobody tried on this candidate, of whose units `looked_at` took part."""
    word = unit_word(evidence.unit)
    out = [
        f"{attack.description} ({attack.audit.replace('_', ' ')}): {attack.reason}."
        for attack in attacks
        if not attack.ran
    ]
    held = {attack.knowledge for attack in attacks if attack.ran}
    if "gradients" not in held and not any(a.knowledge == "gradients" for a in attacks):
        out.append("Membership from gradients or weights.")
    out += [
        "Attacks that train many reference or shadow models, unless listed among the attacks above.",
        "Copies changed more than the planted ones: turned far, cut small, recoloured or stitched.",
        f"{'An image' if word == 'image' else 'A person'} recognised by a human expert, or linked with data held elsewhere.",
    ]
    if not any(attack.audit == "disclosure" and attack.ran for attack in attacks):
        out.append(
            "Inference of attributes: what the label of a real record is, given the release."
        )
    out += not_drawn(evidence, looked_at=looked_at)
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


def not_drawn(evidence: Evidence, *, looked_at: int) -> tuple[str, ...]:
    """Return what is said of the units that an audit of many did not look at; nothing of none."""
    units, word = len(np.unique(evidence.persons)), unit_word(evidence.unit)
    if looked_at >= units:
        return ()
    return (
        (
            f"The {units - looked_at:,} of {units:,} {word}s that were not drawn: so large a table is "
            f"audited on {looked_at:,} {word}s drawn by chance within each arm, the audit pool before all "
            "others. Copies of the others go unseen; shares and limits of detection are of those drawn."
        ),
    )


_NO_CLAIM = "No claim was given, so none was tested."
_NO_CLAIM_MEANS = (
    f"{_NO_CLAIM} The tier's limit on epsilon was not applied: a pass without a claim speaks of the "
    "attacks listed here alone, and is not that of a differentially private release."
)
_DRAWN_ALIKE = "It holds only if members and non-members were drawn alike, which nobody states (split unknown)."
_ONLY_STATED = "A claim without the mechanisms behind it was tested as it was stated; it proves nothing by itself."


def conditions(evidence: Evidence) -> tuple[str, ...]:
    """Return what a verdict on this evidence depends on, said beside the verdict itself."""
    claimed = evidence.target is not None or bool(evidence.mechanisms)
    unknown = evidence.split is SplitOrigin.UNKNOWN
    return (*(() if claimed else (_NO_CLAIM,)), *((_DRAWN_ALIKE,) if unknown else ()))


def disclaimers(evidence: Evidence, *, attempt: int, seed: int | None) -> tuple[str, ...]:
    """Return what a reader must know before using a number of this report.

    `seed` is None where the caller could not choose it.
    """
    word = unit_word(evidence.unit)
    origin = _WITHOUT_COINS.get(evidence.split)
    return (
        *([origin.format(unit=word)] if origin else []),
        *_of_claims(evidence),
        *(() if seed is None else (_counted(attempt, seed),)),
        "This report is computed from private records and is not differentially private: it stays inside.",
        f"Every number is per {word}, and about the attacks named here; a stronger one may exist.",
        "Lower bounds on epsilon from one run are loose: compare them with the most that could be certified.",
        "A pass means that upper confidence bounds stayed below tolerances fixed beforehand.",
        "It does not mean that nothing leaks: differential privacy permits some leakage, up to epsilon.",
        "Choosing between candidates by their verdicts uses evidence that epsilon does not cover.",
    )


def _of_claims(evidence: Evidence) -> tuple[str, ...]:
    if evidence.mechanisms:
        return ()
    return (_NO_CLAIM_MEANS,) if evidence.target is None else (_ONLY_STATED,)


def _counted(attempt: int, seed: int) -> str:
    return (
        f"Attempt {attempt} with seed {seed}, as whoever asked for this audit states; nobody else "
        "counted. Retries must be counted: another seed, split or depth, or a changed release, is a "
        "further attempt, and bounds hold over all attempts only if each is audited as such."
    )
