"""The utility report of a table, as a document for the data owner and the auditors."""

from pydantic import BaseModel, ConfigDict

from training.utility.tables.copies import Coverage, Estimate
from training.utility.tables.distances import Distance
from training.utility.tables.learning import Prediction, Score
from training.utility.tables.survival import SurvivalLook
from training.utility.tables.trajectories import TrajectoryLook

REFERENCES = {
    "other_persons": "real persons of the other side",
    "drawn_again": "the same persons, drawn with replacement",
    "independent_columns": "columns drawn independently: the floor",
}


class Constraint(BaseModel):
    """How often a declared constraint is broken, by share of persons."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    synthetic: float
    held_out: float


class Subgroup(BaseModel):
    """One level of a quasi-identifier: its share, and how far its rows are from the real ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    column: str
    level: str
    held_out_persons: int
    share_synthetic: float
    share_held_out: float
    distance: float | None  # 2-way, mean, within the group
    distance_of_real: float | None  # of trained-on persons from held-out ones, for comparison
    reason: str | None = None


class TableUtility(BaseModel):
    """What a synthetic table is good for, measured on persons who were not trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    held_out_persons: int
    held_out_rows: int
    trained_persons: int
    synthetic_rows: int
    epsilon: float | None
    to_held_out: dict[str, tuple[Distance, ...]]  # synthetic and three references
    to_trained: dict[str, tuple[Distance, ...]]
    references: dict[str, str] = REFERENCES
    beats_independent_columns: bool | None
    predictions: tuple[Prediction, ...]
    predictions_reason: str | None
    survival: SurvivalLook | None
    survival_reason: str | None
    trajectories: TrajectoryLook | None
    trajectories_reason: str | None
    told_apart: Score
    told_apart_real: Score  # trained-on from held-out persons: what a perfect generator reaches
    constraints: tuple[Constraint, ...]
    any_constraint_broken: float
    subgroups: tuple[Subgroup, ...]
    subgroups_reason: str | None
    coverage: Coverage
    estimates: tuple[Estimate, ...]
    warnings: tuple[str, ...]
    weighting: str = "Every person counts once; a person's rows share that weight."
