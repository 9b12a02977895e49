"""How far a policy may be changed: the fixed limits, what each entry means, what a change does.

The limits are those of the shipped policy: thresholds may be tightened and, up to the limit, loosened
again. A policy beyond a limit judges nothing, whoever approved it.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from privacy.errors import InvalidParameter
from privacy.policy import Policy, parse_policy

REQUIRED = ("near_copies", "sample_membership")
IF_GIVEN = ("loss_membership",)
DIAGNOSTICS = ("data_copying", "gradient_membership", "reidentification")
# Audits of tables, since 2026.4: policies that were stored before do not name them and stay readable.
OF_TABLES = ("disclosure", "learned_membership", "marginal_membership")
# Audits of visits, since 2026.5.
OF_VISITS = ("trajectory_copies", "trajectory_membership")


class Effect(StrEnum):
    """What a change does to the protection of the persons in the data."""

    TIGHTENS = "tightens"
    LOOSENS = "loosens"


@dataclass(frozen=True)
class Entry:
    """One number of a policy that may be changed.

    `limit` is the loosest value; `higher_is_looser` says on which side of it others must lie. No
    value on its tight side of `tightest` could be passed by anybody.
    """

    path: str
    title: str
    about: str
    limit: float
    higher_is_looser: bool
    tightest: float
    is_whole: bool = False

    def read(self, policy: Policy) -> float:
        """Return the value that a policy has here."""
        found: Any = policy.model_dump(mode="json")
        for name in _names(self.path):
            found = found[name]
        return float(found)

    def problem(self, value: float) -> str | None:
        """Return why a value is refused, or None."""
        sign = 1 if self.higher_is_looser else -1
        if not math.isfinite(value):
            return f"{self.title} of {value} was refused: it is no number."
        if sign * (value - self.limit) > 0:
            side = "at most" if self.higher_is_looser else "at least"
            return (
                f"{self.title} of {value:g} was refused: the fixed limit is {side} "
                f"{self.limit:g}, and no policy is looser than that."
            )
        if sign * (value - self.tightest) < 0:
            side = "at least" if self.higher_is_looser else "at most"
            return (
                f"{self.title} of {value:g} was refused: it must be {side} {self.tightest:g}; "
                "beyond that no release could pass."
            )
        if self.is_whole and value != round(value):
            return f"{self.title} of {value:g} was refused: it is a whole number."
        return None


@dataclass(frozen=True)
class Change:
    """One difference between two policies, in words."""

    path: str
    title: str
    before: str
    after: str
    effect: Effect


def _tier(name: str, *, epsilon: float, auc: float, copies: float, leak: float) -> list[Entry]:
    title = f"{name.capitalize()} tier"
    return [
        Entry(
            f"tiers.{name}.epsilon",
            f"{title}: epsilon",
            "The largest epsilon that a candidate of this tier may claim.",
            epsilon,
            higher_is_looser=True,
            tightest=0.01,
        ),
        Entry(
            f"tiers.{name}.auc",
            f"{title}: AUC of membership attacks",
            "How well attackers may tell who was trained on; 0.5 is guessing. The upper bound of the "
            "measured value must stay below it.",
            auc,
            higher_is_looser=True,
            tightest=0.501,
        ),
        Entry(
            f"tiers.{name}.copy_rate",
            f"{title}: share of copied samples",
            "The upper bound of the share of samples that copy a trained-on record must stay below "
            "it. A smaller share needs more samples to be shown.",
            copies,
            higher_is_looser=True,
            tightest=1e-5,
        ),
        Entry(
            f"tiers.{name}.limit_of_detection",
            f"{title}: limit of detection",
            "The smallest leak, as a share of trained-on persons, that the audit must show that it "
            "would have seen.",
            leak,
            higher_is_looser=True,
            tightest=1e-4,
        ),
    ]


def _recognised(name: str, tolerances: Mapping[str, float]) -> list[Entry]:
    return [
        Entry(
            f"tiers.{name}.tpr.{fpr}",
            f"{name.capitalize()} tier: members recognised at {float(fpr):.0%} wrongly accused",
            "The share of trained-on persons whom an attacker may recognise while accusing this "
            "share of others wrongly. Equal shares are guessing.",
            tolerance,
            higher_is_looser=True,
            tightest=math.nextafter(float(fpr), 1),
        )
        for fpr, tolerance in tolerances.items()
    ]


ENTRIES: tuple[Entry, ...] = (
    *_tier("public", epsilon=2, auc=0.55, copies=0.0005, leak=0.005),
    *_recognised("public", {"0.01": 0.03, "0.05": 0.115, "0.1": 0.20}),
    *_tier("registered", epsilon=5, auc=0.60, copies=0.001, leak=0.01),
    *_recognised("registered", {"0.01": 0.05, "0.05": 0.17, "0.1": 0.27}),
    *_tier("enclave", epsilon=10, auc=0.65, copies=0.005, leak=0.03),
    *_recognised("enclave", {"0.01": 0.10, "0.05": 0.27, "0.1": 0.41}),
    Entry(
        "errors.upper_bound",
        "Error of a pass",
        "How often an upper bound may be too low, over all attempts together. A smaller error makes "
        "bounds wider and a pass harder.",
        0.05,
        higher_is_looser=True,
        tightest=0.0001,
    ),
    Entry(
        "errors.near_copies",
        "Level of the near-copy test",
        "A candidate fails where chance alone would do this less often. A higher level accuses more "
        "easily, the innocent as well.",
        0.01,
        higher_is_looser=False,
        tightest=0.2,
    ),
    Entry(
        "errors.epsilon",
        "Error of the lower bound on epsilon",
        "How often the measured lower bound may be too high. A higher error refutes a claim more "
        "easily, a true one as well.",
        0.02,
        higher_is_looser=False,
        tightest=0.2,
    ),
    Entry(
        "errors.leak_flag",
        "Level at which a tolerated leak is named",
        "Below it, a pass says that a leak was seen and is tolerated. A higher level says so sooner.",
        0.01,
        higher_is_looser=False,
        tightest=0.2,
    ),
    Entry(
        "errors.diagnostics",
        "Level shared by the diagnostics",
        "Below it, a diagnostic accuses. A higher level accuses more easily, the innocent as well.",
        0.01,
        higher_is_looser=False,
        tightest=0.2,
    ),
    Entry(
        "errors.pairing",
        "Level of the pairing test",
        "Of rows with images: below it, samples that carry a person's image together with the same "
        "person's row accuse. A higher level accuses more easily, the innocent as well.",
        0.01,
        higher_is_looser=False,
        tightest=0.2,
    ),
    Entry(
        "grid.permutations",
        "Shuffles of a permutation test",
        "More shuffles resolve smaller p-values, and take longer.",
        2000,
        higher_is_looser=False,
        tightest=100_000,
        is_whole=True,
    ),
    Entry(
        "grid.self_test_repeats",
        "Repeats of each planted leak, full battery",
        "How often each share of copies is planted to find the limit of detection.",
        20,
        higher_is_looser=False,
        tightest=500,
        is_whole=True,
    ),
    Entry(
        "grid.quick_repeats",
        "Repeats of each planted leak, quick battery",
        "How often each share of copies is planted in a quick battery; all must be found.",
        5,
        higher_is_looser=False,
        tightest=500,
        is_whole=True,
    ),
    Entry(
        "grid.reference_models",
        "Reference models",
        "Models trained on held-out persons, which sharpen membership attacks; each costs a training. "
        "For workers with a GPU.",
        0,
        higher_is_looser=False,
        tightest=64,
        is_whole=True,
    ),
)
"""Everything that a form offers. Audits, false-positive rates and numbers of guesses stay."""

BY_PATH = {entry.path: entry for entry in ENTRIES}
DEPTHS = ("quick", "full")


def check_limits(policy: Policy) -> None:
    """Refuse a policy that is looser than the fixed limits, or that nothing could pass.

    Raises: InvalidParameter with the first entry that is out of its limits.
    """
    _check_audits(policy)
    missing = {"public", "registered", "enclave"} ^ policy.tiers.keys()
    if missing:
        raise InvalidParameter(
            f"The policy was refused: its tiers must be public, registered and enclave; "
            f"{', '.join(sorted(missing))} differs."
        )
    for name, tier in policy.tiers.items():
        wanted = {entry.path for entry in ENTRIES if entry.path.startswith(f"tiers.{name}.tpr.")}
        if {f"tiers.{name}.tpr.{fpr}" for fpr in tier.tpr} != wanted:
            raise InvalidParameter(
                f"The policy was refused: the {name} tier must tolerate a rate at each of the false-"
                "positive rates 0.01, 0.05 and 0.1."
            )
        shares = list(tier.tpr.values())
        if shares != sorted(shares):
            raise InvalidParameter(
                f"The policy was refused: the {name} tier tolerates fewer recognised members where "
                "more others are accused wrongly. Raise the later rates or lower the earlier ones."
            )
    if tuple(policy.grid.fpr) != (0.01, 0.05, 0.1):
        raise InvalidParameter(
            "The policy was refused: false-positive rates are 0.01, 0.05 and 0.1 by rule."
        )
    for entry in ENTRIES:
        problem = entry.problem(entry.read(policy))
        if problem is not None:
            raise InvalidParameter(problem)


def _check_audits(policy: Policy) -> None:
    gating = set(policy.audits.gating)
    known = {*REQUIRED, *IF_GIVEN, *DIAGNOSTICS, *OF_TABLES, *OF_VISITS}
    dropped = set(REQUIRED) - set(policy.audits.required) or set(IF_GIVEN) - gating
    if dropped:
        raise InvalidParameter(
            f"The policy was refused: {', '.join(sorted(dropped))} must gate every release."
        )
    unheard = (gating | set(policy.audits.diagnostics)) - known
    if unheard or not set(DIAGNOSTICS) <= gating | set(policy.audits.diagnostics):
        raise InvalidParameter(
            f"The policy was refused: its audits must be {', '.join(sorted(known))}."
        )
    if policy.audits.full:
        raise InvalidParameter(
            "The policy was refused: it leaves audits out of quick batteries. Leave `full` empty."
        )


def compare(before: Policy, after: Policy) -> list[Change]:
    """Return what differs, entry by entry, and whether it loosens."""
    changes = []
    for entry in ENTRIES:
        old, new = entry.read(before), entry.read(after)
        if old != new:
            is_looser = (new > old) is entry.higher_is_looser
            effect = Effect.LOOSENS if is_looser else Effect.TIGHTENS
            changes.append(Change(entry.path, entry.title, f"{old:g}", f"{new:g}", effect))
    if before.grid.depth is not after.grid.depth:
        effect = Effect.TIGHTENS if after.grid.depth.value == "full" else Effect.LOOSENS
        shown = (before.grid.depth.value, after.grid.depth.value)
        changes.append(Change("grid.depth", "Battery unless asked otherwise", *shown, effect))
    return changes


def changed(policy: Policy, values: Mapping[str, float], *, depth: str, version: str) -> str:
    """Return the file of a policy with other values, checked against the limits.

    Raises: InvalidParameter for an unknown entry or a value beyond its limits.
    """
    document = policy.model_dump(mode="json", exclude={"digest"})
    document["version"], document["grid"]["depth"] = version, depth
    for path, value in values.items():
        if path not in BY_PATH:
            raise InvalidParameter(f"The entry {path[:60]!r} was refused: no policy has it.")
        problem = BY_PATH[path].problem(value)
        if problem is not None:
            raise InvalidParameter(problem)
        *way, last = _names(path)
        place = document
        for name in way:
            place = place[name]
        place[last] = int(value) if BY_PATH[path].is_whole else value
    text = render(document)
    check_limits(parse_policy(text.encode(), name="proposed"))
    return text


def render(document: Mapping[str, Any]) -> str:
    """Return a policy as the text of its file."""
    lines = [f"version = {_literal(document['version'])}"]
    for section in ("errors", "audits", "grid"):
        lines += ["", f"[{section}]"]
        lines += [f"{name} = {_literal(value)}" for name, value in document[section].items()]
    for tier, values in document["tiers"].items():
        lines += ["", f"[tiers.{tier}]"]
        lines += [f"{name} = {_literal(value)}" for name, value in values.items() if name != "tpr"]
        rates = ", ".join(f'"{fpr}" = {_literal(rate)}' for fpr, rate in values["tpr"].items())
        lines.append(f"tpr = {{ {rates} }}")
    return "\n".join(lines) + "\n"


_literal: Callable[[object], str] = json.dumps
"""A string, number or list of them reads the same in JSON and in TOML."""


def _names(path: str) -> list[str]:
    """Split a path; what follows `tpr` is one name, a rate with a point in it."""
    head, found, rate = path.partition(".tpr.")
    return [*head.split("."), "tpr", rate] if found else path.split(".")
