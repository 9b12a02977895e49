"""Decide whether samples copy trained-on persons: three detectors over measured distances.

Which question each detector asks, and where it comes from, is told in `privacy.audits.near_copies`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from privacy.evidence import Metric
from privacy.exact_copies import BLANK, NO_MATCH, Twins, Verbatim
from privacy.natural_nearness import NearestPairs, fit_power_law, nearest_pairs
from privacy.neighbourhoods import Calibration, Nearest, Population
from privacy.statistics import clopper_pearson

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

_ROW_SPACES = ("columns", "worst_column", "all_but_one")
_TABLE_SPACES = (*_ROW_SPACES, "cells")
_RATIO_SPACES = ("pixels", "tiles", "moved", "embedding", *_ROW_SPACES)
# Ranks of the nearest real pairs that samples must not come nearer than, and the share of the ratio
# detector's level that each of them spends; what is left is for the power laws.
_PAIR_RANKS = {2: 0.7, 7: 0.2}
_TELLING = 0.001  # pairs name persons where they are so surely nearer than by nature
_QUANTILES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
_CLEAREST = (10, 20, 40, 80, 160, 320)  # persons whom samples point at most clearly
_CALIBRATED = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DETECTORS = 3
_NEUTRAL = 1 / 3
MIN_ARM = 20


class Config(BaseModel):
    """What may be set; fixed by the policy before a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    permutations: int = Field(default=2000, ge=200, description="shuffles of the arms")
    chance_matches: float = Field(
        default=0.02, gt=0, lt=1, description="samples expected under the ratio threshold by chance"
    )
    min_persons: int = Field(
        default=3, ge=1, description="trained-on persons that the ratio detector must name"
    )


@dataclass(frozen=True)
class Copies:
    """What the three detectors say about one set of samples."""

    p_value: float
    p_arms: float | None
    p_ratio: float | None
    p_verbatim: float
    copied: Ints  # trained-on persons that some sample copies
    flagged: Bools  # (samples,) copies of a trained-on person
    controls: Ints  # other persons that the same rules would name
    ratio_thresholds: Mapping[str, float]


class Detector:
    """The three detectors, with everything that does not depend on the samples worked out once."""

    def __init__(
        self,
        population: Population,
        calibration: Mapping[str, Calibration],
        *,
        sample_count: int,
        config: Config,
        rng: np.random.Generator,
    ) -> None:
        self.population = population
        self.config = config
        self.sample_count = sample_count
        self._calibration = calibration
        clean_trained = population.trained & ~population.excluded
        self._judged = np.flatnonzero(clean_trained | population.held_out)
        held_out = population.held_out[self._judged].astype(np.float32)
        self._held_count = int(held_out.sum())
        rows = np.tile(held_out, (config.permutations + 1, 1))
        rng.permuted(rows[1:], axis=1, out=rows[1:])  # in place: the largest array of an audit
        self._shuffles = rows
        fitted = {
            name: fit_power_law(calibration[name].ratios)
            for name in calibration
            if name in _RATIO_SPACES
        }
        self.laws = {name: law for name, law in fitted.items() if law is not None}
        self.thresholds = {
            name: law.threshold(config.chance_matches / max(1, sample_count))
            for name, law in self.laws.items()
        }
        self._pairs = {
            name: nearest_pairs(found.ratios, found.pairs, ranks=tuple(_PAIR_RANKS))
            for name, found in calibration.items()
            if len(found.pairs)
        }

    def inspect(
        self,
        near: Mapping[str, Nearest],
        verbatim: Verbatim,
        *,
        enough: float = 0.0,
        exact: bool = True,
    ) -> Copies:
        """Run the detectors on one set of samples.

        The exact one is slow and comes last: only if `exact`, and the others stay above `enough`.
        """
        copied, controls, flagged, p_ratio = self._near_by_nature(near, verbatim)
        twins, control_twins, p_verbatim = self._verbatim(verbatim)
        settled = DETECTORS * min(p_ratio, p_verbatim) < enough
        p_arms = self._arms(near) if exact and not settled else None
        trained = self.population.trained
        is_twin = (verbatim.person >= 0) & trained[verbatim.person]
        parts = [p for p in (p_arms, p_ratio, p_verbatim) if p is not None]
        return Copies(
            p_value=min(1.0, DETECTORS * min(parts)),
            p_arms=p_arms,
            p_ratio=p_ratio if self.laws else None,
            p_verbatim=p_verbatim,
            copied=np.union1d(copied, twins),
            flagged=flagged | is_twin,
            controls=np.union1d(controls, control_twins),
            ratio_thresholds=self.thresholds,
        )

    def expected_by_nature(self, name: str) -> float:
        """Return how many samples of a sound release lie below the threshold of a space."""
        law = self.laws[name]
        return self.sample_count * law.count_below(self.thresholds[name]) / len(law.lowest)

    def _near(self, near: Mapping[str, Nearest]) -> Bools:
        """Return (judged persons, thresholds): who lies near a sample, by each declared rule."""
        columns: list[Bools] = []
        for name, nearest_in_space in near.items():
            distance = nearest_in_space.to_samples[self._judged]
            gaps = self._calibration[name].gaps
            if len(gaps) < MIN_ARM:  # no reference persons: the pooled distances, blind to arms
                gaps = distance
            columns += [distance <= cut for cut in np.quantile(gaps, _QUANTILES)]
            own = self._calibration[name].to_reference[self._judged]
            if np.isfinite(own).all():
                relative = distance / np.where(own > 0, own, np.inf)
                columns += [relative <= cut for cut in _CALIBRATED]
            if name in _TABLE_SPACES:
                columns += _clearest(nearest_in_space.mutual[self._judged])
        return np.stack(columns, axis=1)

    def _arms(self, near: Mapping[str, Nearest]) -> float | None:
        """Return the exact p-value of "nearness does not depend on the arm", or None if too few."""
        if self.too_few() is not None:
            return None
        return self.chance_of(self._near(near))

    @property
    def judged(self) -> Ints:
        """Return the persons whose arms are compared: clean ones, trained on or held out."""
        return self._judged

    def too_few(self) -> str | None:
        """Return why arms cannot be compared, or None."""
        inside = len(self._judged) - self._held_count
        if min(self._held_count, inside) >= MIN_ARM:
            return None
        return (
            f"the exact test needs {MIN_ARM} trained-on and {MIN_ARM} held-out units; "
            f"there are {inside} and {self._held_count}"
        )

    def chance_of(self, named: Bools) -> float:
        """Return how likely chance alone puts so few held-out ones into some of the sets.

        Shape: named (judged persons, sets), drawn up without a look at arms. Exact: the smallest
        hypergeometric tail over the sets is judged against itself under shuffled arms.
        """
        matrix = np.unique(named, axis=1).astype(np.float32)
        counts = np.rint(self._shuffles @ matrix).astype(np.int64)
        smallest = np.ones(len(counts))
        for column, total in enumerate(matrix.sum(axis=0).astype(np.int64)):
            law = stats.hypergeom(len(self._judged), int(total), self._held_count)
            table = law.cdf(np.arange(total + 1))
            smallest = np.minimum(smallest, table[counts[:, column]])
        return float((smallest <= smallest[0] * (1 + 1e-9)).mean())

    def _ratio(
        self, near: Mapping[str, Nearest], verbatim: Verbatim
    ) -> tuple[Ints, Ints, Bools, float]:
        """Return trained-on persons named, control persons named, samples flagged, p-value."""
        trained = self.population.trained
        named, controls = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        flagged = np.zeros(len(verbatim.person), dtype=bool)
        smallest = 1.0
        for name, threshold in self.thresholds.items():
            space = near[name]
            below, nearest = space.ratio < threshold, space.first
            # Exact copies of pictures are the third detector's; what shows nobody is near somebody
            # by chance. Rows of a table may be equal by nature: how often decides.
            changed = below & (verbatim.person == NO_MATCH)
            law, by_twins = self.laws[name], None
            if name in _TABLE_SPACES:
                equal = verbatim.person >= 0  # rounding may call another row nearer than the same
                changed, nearest = below | equal, np.where(equal, verbatim.person, nearest)
                by_twins = verbatim.twins
            inside = np.unique(nearest[changed & trained[nearest]])
            outside = np.unique(nearest[changed & ~trained[nearest]])
            if len(inside) >= self.config.min_persons:
                below_by_nature = law.count_below(threshold), len(law.lowest)
                p_value = self._unexplained(
                    len(inside), len(outside), below=below_by_nature, twins=by_twins
                )
                smallest = min(smallest, p_value)
            named, controls = np.union1d(named, inside), np.union1d(controls, outside)
            flagged |= below & trained[space.first] & (verbatim.person != BLANK)
        return named, controls, flagged, min(1.0, smallest * max(1, len(self.thresholds)))

    def _near_by_nature(
        self, near: Mapping[str, Nearest], verbatim: Verbatim
    ) -> tuple[Ints, Ints, Bools, float]:
        """Return what `_ratio` does, of power laws and of nearest pairs together."""
        named, controls, flagged, smallest = self._ratio(near, verbatim)
        spent = sum(_PAIR_RANKS[pair.pairs + 1] for pairs in self._pairs.values() for pair in pairs)
        smallest = min(1.0, smallest / (1 - spent))
        for name, pairs in self._pairs.items():
            space = near[name]
            for pair in pairs:
                below = space.ratio < pair.threshold
                inside, outside, p_value = self._beyond(pair, space.first[below])
                if p_value < _TELLING:
                    named, controls = np.union1d(named, inside), np.union1d(controls, outside)
                    flagged = flagged | (below & self.population.trained[space.first])
                smallest = min(smallest, p_value / _PAIR_RANKS[pair.pairs + 1])
        return named, controls, flagged, smallest

    def _beyond(self, pair: NearestPairs, found: Ints) -> tuple[Ints, Ints, float]:
        """Return trained-on and other persons among `found`, and how likely nature names so many."""
        trained = self.population.trained
        met = np.unique(found)
        inside, outside = met[trained[met]], met[~trained[met]]
        if len(inside) < self.config.min_persons:
            return inside, outside, 1.0
        share = float(trained[self.population.persons].mean())
        by_nature = pair.chance_of(
            len(inside), len(outside), samples=self.sample_count, share=share
        )
        return inside, outside, max(by_nature, self._by_controls(len(inside), len(outside)))

    def _verbatim(self, verbatim: Verbatim) -> tuple[Ints, Ints, float]:
        """Return trained-on and other persons copied exactly, and how likely chance does that."""
        hit = verbatim.person[verbatim.person >= 0]
        copied = np.unique(hit[self.population.trained[hit]])
        controls = np.unique(hit[~self.population.trained[hit]])
        if not len(copied):
            return copied, controls, 1.0
        return copied, controls, self._by_twins(len(copied), len(controls), verbatim.twins)

    def _unexplained(
        self, inside: int, outside: int, *, below: tuple[int, int], twins: Twins | None
    ) -> float:
        """Return how well chance, held-out persons alike, or natural twins explain `inside`.

        `below`: of how many real records how many lie as near; of tables, `twins` as well.
        """
        p_value = self._by_controls(inside, outside)
        seen, records = below
        if seen:
            p_value = max(p_value, self._by_nature(inside, outside, seen=seen, compared=records))
        if twins is not None and twins.values:
            p_value = max(p_value, self._by_twins(inside, outside, twins))
        return p_value

    def _by_controls(self, inside: int, outside: int) -> float:
        """Return how likely `inside` are named where as many are as among persons not trained on."""
        trained = int(self.population.trained.sum())
        controls = int(self.population.present.sum()) - trained
        expected = max(self.config.chance_matches, outside * trained / max(1, controls))
        return float(stats.poisson.sf(inside - 1, expected))

    def _by_twins(self, inside: int, outside: int, twins: Twins) -> float:
        if not twins.natural:
            return 0.0
        # Every pair of records was compared once: as many looks as half the records, at all.
        return self._by_nature(inside, outside, seen=twins.values, compared=twins.records / 2)

    def _by_nature(self, inside: int, outside: int, *, seen: float, compared: float) -> float:
        """Return how likely fresh records match `inside` trained-on persons or more.

        `seen` matches in `compared` records that looked at everybody, and `outside` ones with other
        persons, tell the rate; what they leave open about it counts: the predictive law of a
        Poisson count after a neutral prior (Kerman 2011) is negative binomial.
        """
        share = float(self.population.trained[self.population.persons].mean())
        looks = self.sample_count * share
        others = compared + self.sample_count * (1 - share)
        shape = seen + outside + _NEUTRAL
        return float(stats.nbinom.sf(inside - 1, shape, others / (others + looks)))


def _clearest(mutual: Floats) -> list[Bools]:
    """Return who is among the persons whom some sample points at most clearly; ties are all in."""
    pointed = np.sort(mutual[np.isfinite(mutual)])
    return [mutual <= pointed[k - 1] for k in _CLEAREST if k <= len(pointed)]


def copy_metrics(
    copies: Copies, *, detector: Detector, error: float, unit: str
) -> tuple[Metric, ...]:
    """Return the metrics that the policy judges; bounds err with probability ≤ `error`."""
    population = detector.population
    samples, flagged = len(copies.flagged), int(copies.flagged.sum())
    _, upper = clopper_pearson(flagged, samples, error=error)
    trained = int(population.trained.sum())
    clean = int((population.trained & ~population.excluded).sum())
    no_ratio = None
    no_arms = detector.too_few() if copies.p_arms is None else None
    if copies.p_ratio is None:
        no_ratio = (
            "nearness of single samples was not measured: real records are too few, or too often "
            "equally near to several others, to say how near is near"
        )
    why = "; ".join(reason for reason in (no_arms, no_ratio) if reason) or None
    missing = {"arms": no_arms, "ratio": no_ratio, "verbatim": None}
    return (
        Metric(
            name="p_value",
            value=copies.p_value,  # a detector that is missing never hides one that fired
            direction="lower_is_riskier",
            n=trained,
            reason=why,
        ),
        Metric(
            name="copy_rate",
            value=None if no_ratio else flagged / max(1, samples),
            ci_low=None if no_ratio else 0.0,
            ci_high=None if no_ratio else upper,
            confidence=1 - error,
            unit="share of samples",
            n=samples,
            reason=no_ratio,
        ),
        Metric(
            name="copied_units",
            value=float(len(copies.copied)),
            unit=unit,
            n=trained,
            baseline=float(len(copies.controls)),
            direction="context",
        ),
        Metric(
            name="shared_units",
            value=(trained - clean) / max(1, trained),
            unit=f"share of trained-on {unit}",
            n=trained,
        ),
        *(
            Metric(
                name=f"p_{name}",
                value=value,
                direction="context",
                reason=missing[name],
            )
            for name, value in (
                ("arms", copies.p_arms),
                ("ratio", copies.p_ratio),
                ("verbatim", copies.p_verbatim),
            )
        ),
    )
