"""The audit report: what was measured, how it was judged, and what was not tested.

It is computed from private records and is not differentially private: it stays with the data owner
and the auditors. A release carries only verdicts and the thresholds fixed beforehand.
"""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from privacy.documents import Document
from privacy.evidence import Finding
from privacy.mechanisms import Mechanism, NeighbouringRelation, UnitOfPrivacy
from privacy.modality import Modality

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Verdict(StrEnum):
    """What a policy makes of a report."""

    INVALID = "INVALID"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    PASS_PROVEN = "PASS-PROVEN"  # noqa: S105
    PASS_EMPIRICAL = "PASS-EMPIRICAL"  # noqa: S105

    @property
    def passed(self) -> bool:
        """Return whether a release may go on without an exception."""
        return self in (Verdict.PASS_PROVEN, Verdict.PASS_EMPIRICAL)


class GateStatus(StrEnum):
    """How one gate stands."""

    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"  # noqa: S105
    PROVEN = "proven"
    NOT_APPLICABLE = "not_applicable"
    NOTHING_SEEN = "nothing_seen"  # of what may accuse and never clears


class Gate(BaseModel):
    """One rule fixed beforehand, and where this candidate stands; `bound` is what was compared."""

    model_config = _FROZEN
    name: str
    audit: str
    title: str
    status: GateStatus
    value: float | None
    bound: float | None
    tolerance: float | None
    reason: str


class SpecimenResult(BaseModel):
    """One planted leak or innocent that ran beside the candidate."""

    model_config = _FROZEN
    name: str
    title: str
    kind: Literal["leaky", "innocent"]
    verdict: Verdict
    named_audits: tuple[str, ...]
    expected: str
    passed: bool
    sample_count: int
    copied_count: int | None = None
    excuse: str | None = Field(
        default=None, description="why so small a leak could be missed without a fault"
    )

    @property
    def judged_wrongly(self) -> bool:
        """Return whether the audit is at fault: a wrong verdict that nothing excuses."""
        return not self.passed and self.excuse is None


class DetectionLimit(BaseModel):
    """The smallest share of trained-on units whose copies the near-copy audit finds.

    `fraction` is the smallest tried share that was flagged in at least 95 % of repeats (of five:
    in all of them), at this share and every larger one; None needs a `reason`. A handful of repeats
    is a check and no bound with a confidence: `tries` says how many there were. `rates` are flagged shares, one per fraction;
    a fraction is copies planted over all trained-on units. `changes` says what was done to copies.
    """

    model_config = _FROZEN
    leak: Literal["verbatim", "jittered", "outlier", "augmented"]
    fraction: float | None
    fractions: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    repeats: int = 0
    changes: str = ""
    reason: str | None = None
    part: str = Field(default="", description="table or images, where a report is about both")

    @property
    def tries(self) -> str:
        """Return how often copies were found at `fraction`, as "5 of 5 tries"."""
        rates = dict(zip(self.fractions, self.rates, strict=True))
        rate = rates.get(self.fraction, 0.0) if self.fraction is not None else 0.0
        return f"{round(rate * self.repeats)} of {self.repeats} tries"


class Attack(BaseModel):
    """One attack, who could mount it, and whether it was mounted here."""

    model_config = _FROZEN
    audit: str
    goal: str
    knowledge: str = Field(description="what the attacker holds of the generator")
    description: str
    ran: bool
    role: Literal["gates", "diagnostic", "reported"]
    reason: str = Field(default="", description="why it did not run")


class Criterion(BaseModel):
    """One of the three criteria of WP216 (Opinion 05/2014), and what this report says about it."""

    model_config = _FROZEN
    name: Literal["singling out", "linkability", "inference"]
    question: str
    audits: tuple[str, ...] = Field(description="attacks that bear on it and ran")
    answer: Literal["violated", "not shown", "below tolerance"]
    sentence: str
    open_points: str = Field(description="what of this criterion nobody looked at")


class AuditReport(Document):
    """Everything an audit found about one candidate, and the verdict of the policy."""

    kind: Literal["audit"] = "audit"
    schema_version: int = 1
    modality: Modality
    unit: UnitOfPrivacy
    neighbouring_relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE
    tier: str
    policy_version: str
    policy_digest: str
    depth: Literal["quick", "full"] = Field(
        default="full", description="whether what takes long was left out"
    )
    attempt: int = Field(
        ge=1, description="how often this candidate was audited, this one included"
    )
    seed: int | None = Field(
        default=None,
        description="what folds, specimens and shuffles were drawn from, where the caller chose it",
    )
    verdict: Verdict
    verdict_reason: str
    verdicts: dict[str, Verdict] = Field(description="verdict of each audit by itself")
    gates: tuple[Gate, ...]
    findings: tuple[Finding, ...]
    self_test: tuple[SpecimenResult, ...]
    self_test_passed: bool | None = Field(
        description="None where it could not run, or missed only leaks too small for these data"
    )
    leaky_specimen: SpecimenResult | None
    limit_of_detection: tuple[DetectionLimit, ...]
    epsilon_claimed: float | None
    delta: float | None
    epsilon_lower_bound: float | None
    epsilon_max_certifiable: float | None
    epsilon_reason: str | None = Field(description="why no bound was computed, if none was")
    epsilon_confidence: float
    ceiling: dict[str, float] = Field(description="highest AUC and TPR that the claim permits")
    privacy_curve: tuple[tuple[float, float], ...] = Field(description="(epsilon, delta) pairs")
    mechanisms: tuple[Mechanism, ...]
    units: dict[str, int] = Field(description="persons (or images) per arm, and excluded")
    records: dict[str, int] = Field(description="records per arm, and synthetic")
    provenance: dict[str, str] = Field(description="digests and commitments this report is about")
    split: Literal["coins", "random", "unknown"] = Field(
        default="coins", description="how it was decided who was trained on"
    )
    attacks: tuple[Attack, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    not_tested: tuple[str, ...]
    disclaimers: tuple[str, ...]
