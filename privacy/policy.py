"""Required audits and thresholds, fixed beforehand; findings -> verdict.

Audits measure and never grade themselves; this module grades and never measures. A gate passes only
where an upper confidence bound is below its tolerance: what was not computed never passes.
"""

import hashlib
import math
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privacy.errors import InvalidParameter
from privacy.evidence import Finding, Metric
from privacy.families import NOT_COMPUTED
from privacy.report import DetectionLimit, Gate, GateStatus
from privacy.statistics import held_out_needed

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_DEFAULT = Path(__file__).with_name("policy.toml")


class Depth(StrEnum):
    """How much of the battery runs: without, or with, what takes long."""

    QUICK = "quick"
    FULL = "full"


class Errors(BaseModel):
    """Chances of error that the policy accepts."""

    model_config = _FROZEN
    upper_bound: float = Field(gt=0, lt=0.5)
    near_copies: float = Field(gt=0, lt=0.5)
    epsilon: float = Field(gt=0, lt=0.5)
    leak_flag: float = Field(gt=0, lt=0.5)
    diagnostics: float = Field(default=0.01, gt=0, lt=0.5)
    pairing: float = Field(default=0.01, gt=0, lt=0.5)


class Audits(BaseModel):
    """Which audits must run, and which of them may only accuse."""

    model_config = _FROZEN
    required: tuple[str, ...]
    if_given: tuple[str, ...] = ()
    diagnostics: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    @property
    def gating(self) -> tuple[str, ...]:
        """Return the audits that a pass depends on, where their evidence is given."""
        return (*self.required, *self.if_given)


class Grid(BaseModel):
    """Points of measurement that are declared before a run."""

    model_config = _FROZEN
    fpr: tuple[float, ...]
    guesses: tuple[int, ...]
    permutations: int = Field(ge=200)
    self_test_repeats: int = Field(ge=2)
    quick_repeats: int = Field(default=5, ge=2)
    depth: Depth = Depth.QUICK
    reference_models: int = Field(default=0, ge=0, le=64)


class Tier(BaseModel):
    """Tolerances for one kind of audience."""

    model_config = _FROZEN
    epsilon: float
    auc: float
    copy_rate: float
    limit_of_detection: float
    tpr: dict[str, float]

    def tpr_at(self, fpr: float) -> float:
        """Return the tolerated true-positive rate at `fpr`."""
        return self.tpr[f"{fpr:g}"]


class Policy(BaseModel):
    """A whole policy, with the digest of the file that it was read from."""

    model_config = _FROZEN
    version: str
    digest: str
    errors: Errors
    audits: Audits
    grid: Grid
    tiers: dict[str, Tier]

    def tier(self, name: str) -> Tier:
        """Return a tier by name; refuse an unknown one."""
        if name not in self.tiers:
            raise InvalidParameter(
                f"Tier {name!r} was refused: the policy has {', '.join(self.tiers)}. Choose one."
            )
        return self.tiers[name]

    def at(self, depth: "Depth") -> "Policy":
        """Return the policy as it runs at this depth: a quick battery repeats its self-test less."""
        if depth is Depth.FULL:
            return self
        repeats = min(self.grid.quick_repeats, self.grid.self_test_repeats)
        grid = self.grid.model_copy(update={"self_test_repeats": repeats})
        return self.model_copy(update={"grid": grid})

    def bound_error(self, attempt: int) -> float:
        """Return the error that upper bounds of this attempt may have (see policy.toml)."""
        if attempt < 1:
            raise InvalidParameter(f"Attempt {attempt} was refused: attempts count from 1.")
        return self.errors.upper_bound / (attempt * (attempt + 1))


def load_policy(path: Path | None = None) -> Policy:
    """Read a policy; the one that ships with the package by default.

    Raises: InvalidParameter, naming the first entry that is missing, unknown or out of range.
    """
    return parse_policy(policy_file(path), name=(path or _DEFAULT).name)


def policy_file(path: Path | None = None) -> bytes:
    """Return the bytes of a policy's file, whose SHA-256 is its digest."""
    return (path or _DEFAULT).read_bytes()


def parse_policy(raw: bytes, *, name: str) -> Policy:
    """Read a policy from the bytes of its file, whose SHA-256 becomes its digest.

    Raises: InvalidParameter, naming the first entry that is missing, unknown or out of range.
    """
    digest = hashlib.sha256(raw).hexdigest()
    try:
        return Policy.model_validate(tomllib.loads(raw.decode()) | {"digest": digest})
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(
            f"The policy {name} was refused: {error}. Mend that entry."
        ) from error


# Other planted leaks are reported: copies of the most unusual, and heavily changed ones.
GATING_LEAKS = ("verbatim", "jittered")


def judge_near_copies(
    finding: Finding, limits: Sequence[DetectionLimit] | None, *, policy: Policy, tier: Tier
) -> tuple[Gate, ...]:
    """Return the gates of the near-copy audit; `limits` None leaves out what limits its reach."""
    p_value, rate = finding.metric("p_value"), finding.metric("copy_rate")
    fails = p_value.value is not None and p_value.value < policy.errors.near_copies
    test = Gate(
        name="near_copy_test",
        audit=finding.audit,
        title="No sample copies a trained-on record",
        status=_when(p_value, fails=fails),
        value=p_value.value,
        bound=p_value.value,
        tolerance=policy.errors.near_copies,
        reason=p_value.reason or "fails where the p-value is below the tolerance",
    )
    copies = _below(
        rate, tier.copy_rate, name="copy_rate", finding=finding, title="Share of copied samples"
    )
    if copies.status is GateStatus.FAIL:  # only the test above may accuse
        why = _resembling(rate, finding.metric("copied_units"))
        copies = copies.model_copy(update={"status": GateStatus.INCONCLUSIVE, "reason": why})
    elif copies.status is GateStatus.INCONCLUSIVE and rate.value == 0 and rate.confidence:
        needed = math.ceil(math.log(1 - rate.confidence) / math.log1p(-tier.copy_rate))
        why = f"too few samples to exclude more copies; with none found, {needed:,} would do"
        copies = copies.model_copy(update={"reason": why})
    if limits is None:
        return test, copies
    reach = (
        _detection_gate(limit, finding, tier) for limit in limits if limit.leak in GATING_LEAKS
    )
    return test, copies, *reach, _shared_gate(finding, tier)


def _resembling(rate: Metric, units: Metric) -> str:
    """Return what a rate says that is too high to pass while the test accuses nobody."""
    count = int(units.value or 0)
    some = "one trained-on unit" if count == 1 else f"{count} trained-on units"
    return (
        f"{rate.value or 0:.2%} of samples resemble {some}; chance alone may name so few, so that "
        "the test above does not accuse, but nothing shows that they are no copies"
    )


def _shared_gate(finding: Finding, tier: Tier) -> Gate:
    """Return the gate on units whose shared records no detector can tell apart."""
    metric = finding.metric("shared_units")
    few = metric.value is not None and metric.value <= tier.limit_of_detection
    return Gate(
        name="shared_units",
        audit=finding.audit,
        title="Trained-on units that share a record with another unit",
        status=GateStatus.PASS if few else GateStatus.INCONCLUSIVE,
        value=metric.value,
        bound=metric.value,
        tolerance=tier.limit_of_detection,
        reason=metric.reason or "copies of a shared record go unseen; mend the source",
    )


def _detection_gate(limit: DetectionLimit, finding: Finding, tier: Tier) -> Gate:
    reached = limit.fraction is not None and limit.fraction <= tier.limit_of_detection
    return Gate(
        name=f"limit_of_detection_{limit.leak}",
        audit=finding.audit,
        title=f"Smallest {limit.leak} leak that this audit would have seen",
        status=GateStatus.PASS if reached else GateStatus.INCONCLUSIVE,
        value=limit.fraction,
        bound=limit.fraction,
        tolerance=tier.limit_of_detection,
        reason=limit.reason
        or f"share of trained-on units whose copies, {limit.changes or 'planted among the samples'}, "
        f"are flagged in {limit.tries}",
    )


def judge_membership(
    finding: Finding, *, policy: Policy, tier: Tier, ceiling: Mapping[str, float]
) -> tuple[Gate, ...]:
    """Return the gates of a membership audit: AUC, and TPR at the smallest FPR that can be read."""
    gate = _below(
        finding.metric("auc"),
        tier.auc,
        name=f"{finding.audit}_auc",
        finding=finding,
        title="How well members are told from non-members (AUC)",
        ceiling=ceiling.get("auc"),
    )
    leak = finding.metric("leak_p_value").value
    seen = leak is not None and leak < policy.errors.leak_flag
    if seen and gate.status in (GateStatus.PASS, GateStatus.PROVEN):
        gate = gate.model_copy(
            update={"reason": f"a leak was detected (p = {leak:.2g}), within the tolerance"}
        )
    for fpr in policy.grid.fpr:
        metric = finding.metric(f"tpr_at_{fpr:g}")
        if metric.value is not None:
            break
    else:
        fpr, needed = max(policy.grid.fpr), held_out_needed(max(policy.grid.fpr))
        metric = metric.model_copy(
            update={"reason": f"too few held out; about {needed} units are needed"}
        )
    recognised = _below(
        metric,
        tier.tpr_at(fpr),
        name=f"{finding.audit}_tpr",
        finding=finding,
        title=f"Members recognised when {fpr:.0%} of non-members are accused wrongly",
        ceiling=ceiling.get(f"tpr_at_{fpr:g}"),
    )
    return _complete(gate, finding), _complete(recognised, finding)


def _complete(gate: Gate, finding: Finding) -> Gate:
    """Return the gate, undecided instead of passed where a declared attack was not computed."""
    idle = finding.metric(NOT_COMPUTED)
    if not idle.value or gate.status not in (GateStatus.PASS, GateStatus.PROVEN):
        return gate
    return gate.model_copy(update={"status": GateStatus.INCONCLUSIVE, "reason": idle.reason})


def judge_epsilon(
    *,
    lower_bound: float | None,
    claimed: float | None,
    tier: Tier,
    reason: str | None,
    claim_test: tuple[float, float] | None = None,
) -> tuple[Gate, ...]:
    """Return the gates on the claim: it fits the tier, and the evidence does not refute it.

    `claim_test` is the chance of so many right guesses under the claimed curve, and its level.
    """
    if claimed is None:
        return (
            Gate(
                name="epsilon_refuted",
                audit="claim",
                title=_REFUTED,
                status=GateStatus.NOT_APPLICABLE,
                value=lower_bound,
                bound=None,
                tolerance=None,
                reason="no claim was given, so none was tested",
            ),
        )
    fits = claimed <= tier.epsilon
    why = reason or "fails where the measured lower bound exceeds the claim"
    if lower_bound is None:
        verdict = GateStatus.INCONCLUSIVE
    else:
        verdict = GateStatus.FAIL if lower_bound > claimed else GateStatus.PASS
    if claim_test is not None and claim_test[0] < claim_test[1]:
        verdict = GateStatus.FAIL
        why = (
            f"if the claim held, so many guesses would be right with probability {claim_test[0]:.2g}; "
            f"below {claim_test[1]:.2g} refutes it"
        )
    return (
        Gate(
            name="epsilon_claimed",
            audit="claim",
            title="Claimed epsilon is within the tier",
            status=GateStatus.PASS if fits else GateStatus.FAIL,
            value=claimed,
            bound=claimed,
            tolerance=tier.epsilon,
            reason="epsilon of this candidate, derived from its mechanisms where they are on record",
        ),
        Gate(
            name="epsilon_refuted",
            audit="claim",
            title=_REFUTED,
            status=verdict,
            value=lower_bound,
            bound=lower_bound,
            tolerance=claimed,
            reason=why,
        ),
    )


_REFUTED = "Evidence does not refute the claimed epsilon"


def _when(metric: Metric, *, fails: bool) -> GateStatus:
    """Return the status of a test; a reason on its metric says that a part is missing."""
    if fails:
        return GateStatus.FAIL
    incomplete = metric.value is None or metric.reason is not None
    return GateStatus.INCONCLUSIVE if incomplete else GateStatus.PASS


def _how_many(metric: Metric, tolerance: float) -> str:
    """Return on how many the same value would pass: intervals shrink with the root of their number."""
    if metric.value is None or metric.ci_high is None or not metric.n:
        return ""
    if metric.value >= tolerance:
        return "; the value itself is not below it"
    reach = (metric.ci_high - metric.value) / (tolerance - metric.value)
    needed = math.ceil(metric.n * reach**2)
    return f"; it was measured on {metric.n:,}, and the same value on about {needed:,} would pass"


def _below(
    metric: Metric,
    tolerance: float,
    *,
    name: str,
    finding: Finding,
    title: str,
    ceiling: float | None = None,
) -> Gate:
    """Judge a risk by its interval: fail above tolerance, pass below it, else inconclusive."""
    if metric.value is None or metric.ci_high is None:
        status = GateStatus.INCONCLUSIVE
    elif metric.ci_low is not None and metric.ci_low > tolerance:
        status = GateStatus.FAIL
    elif metric.ci_high > tolerance:
        status = GateStatus.INCONCLUSIVE
    else:
        status = GateStatus.PASS
    proven = ceiling is not None and ceiling <= tolerance
    # What the accountant proves needs no small interval; a measured violation still counts.
    if proven and metric.value is not None and status is not GateStatus.FAIL:
        status = GateStatus.PROVEN
    why = (
        "the mechanisms on record alone keep this below tolerance"
        if proven
        else ("passes where the upper confidence bound is below the tolerance")
    )
    if status is GateStatus.INCONCLUSIVE:
        why += _how_many(metric, tolerance)
    return Gate(
        name=name,
        audit=finding.audit,
        title=title,
        status=status,
        value=metric.value,
        bound=metric.ci_high,
        tolerance=tolerance,
        reason=metric.reason or why,
    )
