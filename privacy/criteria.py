"""The three criteria of European guidance on anonymisation, and which attack bears on which.

Source: Article 29 Working Party, Opinion 05/2014 (WP216), section 2.2; recital 26 of the GDPR. The
mapping is ours: a record that is copied singles out its person; attacks that tell who was trained on
link a person's own record to the release, and infer that they were a patient. Of tables, each criterion
also has an attack of its own (`privacy.audits.disclosure`), told in rates. Nothing here makes
a legal claim: whether data are anonymous also depends on means and context.
"""

from collections.abc import Iterator, Sequence

from privacy.evidence import Finding
from privacy.gains import GAIN
from privacy.mechanisms import UnitOfPrivacy
from privacy.report import Attack, Criterion, Gate, GateStatus

DIRECT = "disclosure"
"""The audit that attacks each criterion by itself."""
NOT_RUN = " Not run"
_BELOW = (GateStatus.PASS, GateStatus.PROVEN)
_QUESTIONS = {
    "singling out": "Can one {unit}'s record be isolated in the release?",
    "linkability": "Can a record that somebody holds of a {unit} be linked to the release?",
    "inference": "Can something be learnt about a {unit} because they are in the data?",
}
_GOALS = {
    "singling out": ("memorization", "disclosure"),
    "linkability": ("memorization", "membership", "disclosure"),
    "inference": ("membership", "disclosure"),
}
_OPEN = {
    "singling out": "Copies beyond the changes that were planted, and a human expert who looks.",
    "linkability": "Linking with other data sets about the same {unit}s, which nobody here holds.",
    "inference": (
        "Values of attributes other than having been trained on, and whatever follows from the "
        "statistics of everybody alike."
    ),
}


def criteria(
    attacks: Sequence[Attack],
    gates: Sequence[Gate],
    *,
    unit: UnitOfPrivacy,
    findings: Sequence[Finding] = (),
) -> tuple[Criterion, ...]:
    """Return what the gates and the measured gains of this report say about each of the criteria."""
    word = "image" if unit is UnitOfPrivacy.RECORD else "person"
    direct = next((f for f in findings if f.audit == DIRECT), Finding(audit=DIRECT, metrics=()))
    return tuple(_criterion(name, attacks, gates, word, direct) for name in _QUESTIONS)


def _criterion(
    name: str, attacks: Sequence[Attack], gates: Sequence[Gate], word: str, direct: Finding
) -> Criterion:
    bearing = [attack for attack in attacks if attack.goal in _GOALS[name]]
    ran = tuple(attack.audit for attack in bearing if attack.ran)
    own = f"{DIRECT}_{name.replace(' ', '_')}"
    mine = [
        gate
        for gate in gates
        if gate.audit in ran and (gate.audit != DIRECT or gate.name.startswith(own))
    ]
    failed = [gate.title for gate in mine if gate.status is GateStatus.FAIL]
    doubted = [gate.title for gate in mine if gate.status is GateStatus.INCONCLUSIVE]
    if failed:
        answer, sentence = "violated", f"Failed the gate {_quoted(failed)}."
    elif doubted or not any(gate.status in _BELOW for gate in mine):
        what = _quoted(doubted) or "no attack that bears on it could be judged"
        answer, sentence = "not shown", f"Undecided: {what}."
    else:
        answer = "below tolerance"
        sentence = "Every attack that bears on it and was tried stayed below tolerance."
    left_out = [attack.audit for attack in bearing if not attack.ran]
    more = f"{NOT_RUN}: {', '.join(left_out)}." if left_out else ""
    return Criterion.model_validate(
        {
            "name": name,
            "question": _QUESTIONS[name].format(unit=word),
            "audits": ran,
            "answer": answer,
            "sentence": " ".join([sentence, *_rates(name, direct, word)]),
            "open_points": _OPEN[name].format(unit=word) + more,
        }
    )


def _rates(name: str, direct: Finding, word: str) -> Iterator[str]:
    """Yield how often the attack made for this criterion succeeded, in and out of training."""
    for metric in direct.metrics:
        attack = metric.name.removesuffix(GAIN)
        if not metric.name.endswith(GAIN) or not attack.startswith(name.replace(" ", "_")):
            continue
        if metric.value is None or metric.ci_low is None or metric.ci_high is None:
            yield f"Not measured directly: {metric.reason}."
            continue
        inside = direct.metric(f"{attack}_members").value or 0.0
        outside = direct.metric(f"{attack}_non_members").value or 0.0
        yield (
            f"Tried ({attack.replace('_', ' ')}): it succeeded on {inside:.1%} of {word}s trained on and "
            f"on {outside:.1%} of others, a difference of {100 * metric.value:+.1f} points "
            f"({100 * metric.ci_low:+.1f} to {100 * metric.ci_high:+.1f})."
        )


def _quoted(titles: Sequence[str]) -> str:
    return ", ".join(f"“{title}”" for title in dict.fromkeys(titles))
