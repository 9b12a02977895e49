"""Predict declared targets: taught on synthetic rows (TSTR) or on real ones (TRTR), judged on real.

Esteban et al. 2017, arXiv:1706.02633. Learners see codes: categories as such, numbers as the place of
their bin, which is all that a generator learns of them. What gives a target away is no feature: the
columns that a constraint names together with it (a cause of death), and time and event of survival
where one of them is the target.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from privacy.table_schema import Codes, Column, TableSchema
from training.utility.material import Task
from training.utility.measures import BOOTSTRAPS, measure
from training.utility.tables.material import Floats, Rows

Learner = Literal["linear", "boosted_trees"]
LEARNERS: tuple[Learner, ...] = ("linear", "boosted_trees")
_MOST_CATEGORIES = 255  # that boosted trees take as such
_FEWEST_ROWS = 20
_METRICS = {"classes": ("auc", "balanced_accuracy", "accuracy"), "number": ("r2", "mae")}


class Score(BaseModel):
    """One score with its 95 % interval over held-out persons; None has a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    reason: str | None = None


class Prediction(BaseModel):
    """How well one target is predicted by one learner, taught on each of the sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    target: str
    learner: Learner
    task: Literal["classes", "number"]
    meaning: str
    left_out: tuple[str, ...]  # columns that would give the target away
    rows: int
    scores: dict[str, dict[str, Score]]  # source -> metric -> score


@dataclass(frozen=True)
class _Question:
    """One target, what it is predicted from, and by what."""

    schema: TableSchema
    target: int
    features: tuple[int, ...]
    learner: Learner
    seed: int

    @property
    def column(self) -> Column:
        """Return what is predicted."""
        return self.schema.columns[self.target]

    @property
    def task(self) -> Literal["classes", "number"]:
        """Return whether levels are told apart or a number is guessed."""
        return "number" if self.column.is_numeric else "classes"

    @property
    def levels(self) -> Task:
        """Return the levels to tell apart; a missing one is no level."""
        names = self.column.names
        known = names[:-1] if self.column.missing else names
        return Task.of(known, name=self.column.name, ordinal=self.column.kind == "ordinal")

    @property
    def meaning(self) -> str:
        """Say what is predicted."""
        if self.task == "number":
            return f"the middle of its bin{f', {self.column.unit}' if self.column.unit else ''}"
        return self.levels.binary_rule or "each level against the rest, mean over levels"

    def known(self, rows: Rows) -> Rows:
        """Return the rows whose target is not missing."""
        if not self.column.missing or not len(rows):
            return rows
        return rows.take(rows.codes[:, self.target] != self.column.size - 1)

    def truth(self, rows: Rows) -> Any:
        """Return what is to be predicted: codes, or the middles of bins."""
        codes = rows.codes[:, self.target].astype(np.int64)
        if self.task == "classes":
            return codes
        edges = np.asarray(self.column.edges)
        return ((edges[:-1] + edges[1:]) / 2)[codes]


def predictions(
    sources: Mapping[str, Rows],
    held_out: Rows,
    *,
    schema: TableSchema,
    learners: tuple[Learner, ...] = LEARNERS,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
) -> list[Prediction]:
    """Return, for every declared target and learner, the scores after learning from each source."""
    found = []
    for target in schema.targets:
        out = telling(schema, target)
        features = tuple(i for i in range(len(schema.columns)) if i not in out)
        for learner in learners:
            asked = _Question(schema, target, features, learner, seed)
            scores = {
                name: _scores(asked, asked.known(rows), asked.known(held_out), draws=bootstraps)
                for name, rows in sources.items()
            }
            prediction = Prediction(
                target=asked.column.name,
                learner=learner,
                task=asked.task,
                meaning=asked.meaning,
                left_out=tuple(schema.columns[i].name for i in sorted(out - {target})),
                rows=len(asked.known(held_out)),
                scores=scores,
            )
            found.append(prediction)
    return found


def telling(schema: TableSchema, target: int) -> set[int]:
    """Return the columns that give a target away by declaration, itself among them."""
    name = schema.columns[target].name
    tied = {name}
    for constraint in schema.constraints:
        named = {*constraint.when, *constraint.then}
        if name in named:
            tied |= named
    survival = schema.survival
    if survival is not None and tied & {survival.time, survival.event}:
        tied |= {survival.time, survival.event}
    return {index for index, column in enumerate(schema.columns) if column.name in tied}


def design(codes: Codes, schema: TableSchema, features: tuple[int, ...]) -> Any:
    """Return one indicator for each code of each feature, sparse. Shapes: (N, columns) -> (N, F)."""
    sizes = [schema.columns[index].size for index in features]
    starts = np.cumsum([0, *sizes])
    places = codes[:, features].astype(np.int64) + starts[:-1]
    rows = np.repeat(np.arange(len(codes)), len(features))
    shape = (len(codes), int(starts[-1]))
    return sparse.csr_array((np.ones(places.size), (rows, places.ravel())), shape=shape)


def trees(schema: TableSchema, features: tuple[int, ...], *, seed: int, is_number: bool) -> Any:
    """Return untaught small boosted trees that take categories as such."""
    kinds = [schema.columns[index] for index in features]
    masks = [c.kind == "category" and c.size <= _MOST_CATEGORIES for c in kinds]
    kind = HistGradientBoostingRegressor if is_number else HistGradientBoostingClassifier
    return kind(
        categorical_features=masks, max_leaf_nodes=8, early_stopping=False, random_state=seed
    )


def _scores(asked: _Question, taught_on: Rows, judged_on: Rows, *, draws: int) -> dict[str, Score]:
    reason = _why_not(asked, taught_on, judged_on)
    if reason is not None:
        return {name: Score(value=None, reason=reason) for name in _METRICS[asked.task]}
    model = _taught(asked, taught_on)
    if asked.task == "number":
        guessed = model.predict(_seen(asked, judged_on))
        return _of_numbers(guessed, asked.truth(judged_on), judged_on, draws=draws)
    chances = np.zeros((len(judged_on), asked.levels.kinds))
    chances[:, model.classes_] = model.predict_proba(_seen(asked, judged_on))
    found = measure(
        chances, asked.truth(judged_on), judged_on.persons, task=asked.levels, bootstraps=draws
    )
    scores = {}
    for name in _METRICS["classes"]:
        low, high = found.intervals[name] or (None, None)
        scores[name] = Score(
            value=found.values[name], ci_low=low, ci_high=high, reason=found.reasons.get(name)
        )
    return scores


def _why_not(asked: _Question, taught_on: Rows, judged_on: Rows) -> str | None:
    if not asked.features:
        return "no column is left to predict from"
    if min(len(taught_on), len(judged_on)) < _FEWEST_ROWS:
        return f"fewer than {_FEWEST_ROWS} rows have the target"
    if asked.task == "classes" and len(np.unique(asked.truth(taught_on))) < 2:
        return "the rows to learn from have one level only"
    return None


def _seen(asked: _Question, rows: Rows) -> Any:
    if asked.learner == "linear":
        return design(rows.codes, asked.schema, asked.features)
    return rows.codes[:, asked.features]


def _taught(asked: _Question, rows: Rows) -> Any:
    is_number = asked.task == "number"
    if asked.learner == "boosted_trees":
        model = trees(asked.schema, asked.features, seed=asked.seed, is_number=is_number)
    else:
        model = Ridge(1.0) if is_number else LogisticRegression(max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 500 rounds rank well enough
        return model.fit(_seen(asked, rows), asked.truth(rows), sample_weight=_persons_alike(rows))


def _persons_alike(rows: Rows) -> Floats:
    """Return weights with mean 1, so that regularisation means the same for every table."""
    return rows.weights * len(rows)


def _of_numbers(guessed: Floats, truth: Floats, rows: Rows, *, draws: int) -> dict[str, Score]:
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {name: [] for name in _METRICS["number"]}
    for _ in range(draws if rows.count > 1 else 0):
        times = np.bincount(rng.integers(0, rows.count, rows.count), minlength=rows.count)
        for name, value in _errors(guessed, truth, rows.weights * times[rows.persons]).items():
            if value is not None:
                drawn[name].append(value)
    scores = {}
    for name, value in _errors(guessed, truth, rows.weights).items():
        ends = np.percentile(drawn[name], (2.5, 97.5)) if drawn[name] else (None, None)
        low, high = (None if end is None else float(end) for end in ends)
        reason = "all held-out rows have one value" if value is None else None
        scores[name] = Score(value=value, ci_low=low, ci_high=high, reason=reason)
    return scores


def _errors(guessed: Floats, truth: Floats, weights: Floats) -> dict[str, float | None]:
    middle = np.average(truth, weights=weights)
    spread = float(np.sum(weights * (truth - middle) ** 2))
    missed = float(np.sum(weights * (truth - guessed) ** 2))
    return {
        "r2": 1 - missed / spread if spread > 0 else None,
        "mae": float(np.average(np.abs(truth - guessed), weights=weights)),
    }
