"""What an audit may see, the threat model that grants it, and what an audit returns.

Evidence crosses the border as arrays: `privacy/` never sees a model. A `Finding` is measurements,
undecided; `privacy.policy` alone turns findings into a verdict.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from privacy.copy_network import CopyNetwork
from privacy.mechanisms import Mechanism, PrivacyTarget, UnitOfPrivacy
from privacy.modality import Modality


class Arm(IntEnum):
    """Where a person stands; drawn by `privacy.inclusion` before training."""

    TRAIN = 0  # trained on, not in the audit pool
    AUDIT_IN = 1  # audit pool, coin says trained on
    AUDIT_OUT = 2  # audit pool, coin says held out
    REFERENCE_A = 3  # held out; may train reference nets and embeddings
    REFERENCE_B = 4  # held out; a clean non-member arm


class Goal(StrEnum):
    """What an attacker wants to learn."""

    MEMBERSHIP = "membership"
    MEMORIZATION = "memorization"
    DISCLOSURE = "disclosure"


class Knowledge(StrEnum):
    """What an attacker holds of the generator."""

    SAMPLES = "samples"
    SCORES = "scores"
    GRADIENTS = "gradients"


class SplitOrigin(StrEnum):
    """How it was decided who was trained on; statistics mean what they say only so far."""

    COINS = "coins"  # an independent fair coin per unit of the pool, before training
    RANDOM = "random"  # drawn at random before training, in fixed numbers
    UNKNOWN = "unknown"  # nobody says; the two groups may differ for other reasons


@dataclass(frozen=True)
class ThreatModel:
    """Goal, knowledge of the generator, and knowledge of the population."""

    goal: Goal
    generator: Knowledge
    reference: bool
    description: str


@dataclass(frozen=True)
class Visits:
    """How rows follow one another: by which column, and whose each sample is (samples,)."""

    order: int
    sample_persons: NDArray[np.integer]


@dataclass(frozen=True)
class DrawnUnits:
    """Which units an audit looks at, and which records are theirs, as places in all the evidence."""

    units: NDArray[np.integer]
    records: NDArray[np.integer]


@dataclass(frozen=True)
class Evidence:
    """Everything that audits of one candidate may look at.

    Shapes: records (records, height, width) or (records, columns); labels (records,) int index;
    persons (records,) int index into arms; arms, folds (1 or 2), excluded (persons,);
    samples like records; sample_labels (samples,). `record_scores` maps an attack's name to
    (records,) floats, higher = more likely trained on, NaN where it was not computed.
    `excluded` persons have a duplicate under another person; they are never scored.
    `gradient_features` (records, features) are numbers about the gradient at each record, the first
    one its size, NaN rows where none was computed; empty where the generator hands over none.
    `copy_network` was learnt on pictures of reference half a alone; a full battery looks for copies
    with it, and where it is None says why: `no_copy_network`. Of a table, `targets` and
    `quasi_identifiers` are the columns declared so, and `visits` says how a person's rows follow one
    another, where they do.
    `drawn` says whose evidence this is, where it was cut down to some of the units.
    """

    modality: Modality
    unit: UnitOfPrivacy
    records: NDArray[np.generic]
    labels: NDArray[np.integer]
    persons: NDArray[np.integer]
    arms: NDArray[np.integer]
    folds: NDArray[np.integer]
    excluded: NDArray[np.bool_]
    samples: NDArray[np.generic]
    sample_labels: NDArray[np.integer]
    target: PrivacyTarget | None = None
    mechanisms: tuple[Mechanism, ...] = ()
    record_scores: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    split: SplitOrigin = SplitOrigin.COINS
    gradient_features: NDArray[np.floating] = field(default_factory=lambda: np.empty((0, 0)))
    copy_network: CopyNetwork | None = None
    no_copy_network: str = ""
    targets: tuple[int, ...] = ()
    quasi_identifiers: tuple[int, ...] = ()
    visits: Visits | None = None
    drawn: DrawnUnits | None = None


@dataclass(frozen=True)
class JointEvidence:
    """Rows with an image each, looked at twice: the same records, persons, arms, folds and samples.

    Row i and image i are one record of one person; sample i has row i and image i.
    """

    table: Evidence
    images: Evidence

    @property
    def modality(self) -> Modality:
        """Return what kind of records this is about."""
        return "joint"

    @property
    def unit(self) -> UnitOfPrivacy:
        """Return whose presence is hidden."""
        return self.table.unit


class Metric(BaseModel):
    """One measured number with its interval, direction and size; `value` None needs a `reason`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    confidence: float | None = None
    direction: Literal["higher_is_riskier", "lower_is_riskier", "context"] = "higher_is_riskier"
    unit: str = ""
    n: int | None = None
    baseline: float | None = None
    reason: str | None = None


class Finding(BaseModel):
    """What one audit measured. `details` holds what the report plots (lists of numbers)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    audit: str
    metrics: tuple[Metric, ...]
    details: dict[str, object] = {}

    def metric(self, name: str) -> Metric:
        """Return the metric called `name`; one that was never reported reads as not computed."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        return Metric(name=name, value=None, reason=f"{self.audit} did not report {name}")
