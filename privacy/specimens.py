"""Planted leaks and innocents that run beside every candidate: an audit must tell them apart here.

Specimens are made of the very data under audit. Leaks copy trained-on records; innocents are
records of held-out persons, their class prototypes, and a shifted population. For innocents the
persons they are made of are absent from the population, as if they had never been collected.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from privacy.copies import Detector, Verbatim, match_verbatim
from privacy.evidence import Arm, Evidence
from privacy.neighbourhoods import (
    Calibration,
    Nearest,
    Population,
    Survey,
    joined,
    nearest_of_rows,
)
from privacy.report import DetectionLimit

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

LEAKY_SHARE = 0.03
# What `jitter` does, in words.
CHANGES = {
    "image": "flipped or not, shifted by up to 1/32 of the side, gamma 0.9 to 1.1, noise of 5 % of "
    "the range",
    "table": "noise of 5 % of each column's standard deviation",
}
FRACTIONS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03)
MIN_PERSONS = 20
_MAX_PLANTED = 400
_MAX_BASE = 1500
_MAX_SHIFTED = 300
_MAX_LABELS = 10
# Half of the persons held out, 2 ** -8 is above the exact detector's share of any alarm level here.
_TOO_FEW_FOR_ARMS = 8


@dataclass(frozen=True)
class Materials:
    """Which records specimens are made of. Record positions in the population; persons mask."""

    base_persons: NDArray[np.bool_]
    base: Ints
    planted: Ints

    @property
    def keep(self) -> Ints:
        """Return the records whose distances the survey must keep."""
        return np.union1d(self.base, self.planted)


def choose_materials(population: Population, *, rng: np.random.Generator) -> Materials | str:
    """Choose records to build specimens of, or say why there are too few.

    Innocents come from reference half b; without one, from half of the held-out pool.
    """
    clean = ~population.excluded
    base_persons = (population.arms == Arm.REFERENCE_B) & clean
    if base_persons.sum() < MIN_PERSONS:
        out = np.flatnonzero((population.arms == Arm.AUDIT_OUT) & clean)
        base_persons = np.isin(np.arange(len(population.arms)), rng.permutation(out)[::2])
    rest = int((population.held_out & ~base_persons).sum())
    trained = np.flatnonzero(population.trained & clean)
    if min(int(base_persons.sum()), rest, len(trained)) < MIN_PERSONS:
        return (
            f"the self-test needs {MIN_PERSONS} trained-on units and twice as many held out; there "
            f"are {len(trained)} and {int(population.held_out.sum())}"
        )
    base = np.flatnonzero(base_persons[population.persons])
    if len(base) > _MAX_BASE:
        base = np.sort(rng.choice(base, _MAX_BASE, replace=False))
    count = min(len(trained), _MAX_PLANTED, max(60, int(np.ceil(LEAKY_SHARE * len(trained)))))
    chosen = rng.choice(trained, count, replace=False)
    order = rng.permutation(len(population.persons))  # one random record per chosen person
    _, first = np.unique(population.persons[order], return_index=True)
    return Materials(base_persons, base, order[first][chosen])


@dataclass(frozen=True)
class Specimen:
    """One set of samples with a known truth, measured: near what `survey` says of a candidate."""

    name: str
    title: str
    leaky: bool
    survey: Survey
    verbatim: Verbatim
    sample_count: int
    copied_count: int | None = None


class Bench:
    """Builds specimens out of a survey, without searching again where distances are known."""

    def __init__(
        self,
        evidence: Evidence,
        survey: Survey,
        materials: Materials,
        *,
        unique: Mapping[bytes, int],
        natural_rate: float,
        rng: np.random.Generator,
    ) -> None:
        self._evidence = evidence
        self._survey = survey
        self._materials = materials
        self._unique = unique
        self._natural_rate = natural_rate
        self._rng = rng
        self.population = survey.population.without(materials.base_persons)
        records = survey.population.records
        jittered = jitter(records[materials.planted], evidence.modality, rng=rng)
        self._base = self._near(self._kept(materials.base))
        # leak -> (space -> (planted, persons) distances), and pixel-by-pixel matches
        self._planted = {
            "verbatim": (self._kept(materials.planted), self.matches(records[materials.planted])),
            "jittered": (self._searched(jittered), self.matches(jittered)),
        }

    def matches(self, samples: NDArray[np.generic]) -> Verbatim:
        """Look samples up among the unique records."""
        return match_verbatim(
            samples, self._unique, like=self._evidence.records, natural_rate=self._natural_rate
        )

    def _kept(self, rows: Ints) -> dict[str, Floats]:
        return {
            name: np.stack([kept[int(row)] for row in rows])
            for name, kept in self._survey.kept.items()
        }

    def _searched(self, samples: NDArray[np.generic]) -> dict[str, Floats]:
        return {
            name: np.concatenate([block for _, block in gallery.search(samples)])
            for name, gallery in self._survey.galleries.items()
        }

    def _near(self, distances: Mapping[str, Floats]) -> dict[str, Nearest]:
        return {name: nearest_of_rows(d, self.population) for name, d in distances.items()}

    def specimens(self) -> Iterator[Specimen]:
        """Yield every specimen, leaks first."""
        yield self._everybody()
        for leak, how in (("verbatim", "copied verbatim"), ("jittered", "copied with changes")):
            share = max(3, round(LEAKY_SHARE * int(self.population.trained.sum())))
            picked = np.arange(min(share, len(self._materials.planted)))
            near, verbatim = self._mixed(leak, picked)
            yield self._specimen(
                f"copies_{leak}",
                f"{len(picked)} trained-on units {how}, among real records of others",
                near,
                verbatim,
                copied=len(picked),
            )
        records = self._survey.population.records
        base = records[self._materials.base]
        yield self._specimen(
            "fresh_real", "real records of units not trained on", self._base, self.matches(base)
        )
        for name, title, samples in (
            ("collapsed", "a generator stuck on a few prototypes", self._prototypes()),
            (
                "shifted",
                "units not trained on, seen through another machine",
                shift(base[:_MAX_SHIFTED], self._evidence.modality),
            ),
        ):
            near = self._near(self._searched(samples))
            yield self._specimen(name, title, near, self.matches(samples))

    def _specimen(
        self,
        name: str,
        title: str,
        near: Mapping[str, Nearest],
        verbatim: Verbatim,
        *,
        copied: int | None = None,
    ) -> Specimen:
        seen = Survey(
            self.population,
            self._survey.spaces,
            near,
            self._survey.calibration,
            self._survey.galleries,
            {},
        )
        return Specimen(
            name, title, copied is not None, seen, verbatim, len(verbatim.person), copied
        )

    def _everybody(self) -> Specimen:
        """Return the release of every trained-on record as it is."""
        population = self.population
        rows = np.flatnonzero(population.trained[population.persons])
        persons = population.persons[rows]
        zero = np.zeros(len(rows))
        near = {
            name: Nearest(
                to_samples=np.where(population.trained, 0.0, calibration.to_trained),
                nearest_sample=np.zeros(len(population.arms), dtype=np.int64),
                first=persons,
                first_distance=zero,
                # An exact copy has ratio 0, however near the next person is.
                second_distance=zero + 1.0,
            )
            for name, calibration in self._survey.calibration.items()
        }
        return self._specimen(
            "everything",
            "the whole training set, verbatim",
            near,
            self.matches(population.records[rows]),
            copied=int(population.trained.sum()),
        )

    def _mixed(self, leak: str, picked: Ints) -> tuple[dict[str, Nearest], Verbatim]:
        near, verbatim = self.planted(leak, picked, population=self.population)
        base = self.matches(self._survey.population.records[self._materials.base])
        return (
            {name: joined(self._base[name], near[name]) for name in near},
            Verbatim(np.concatenate([base.person, verbatim.person]), verbatim.natural_rate),
        )

    def planted(
        self, leak: str, picked: Ints, *, population: Population
    ) -> tuple[dict[str, Nearest], Verbatim]:
        """Return the neighbourhood, in `population`, of the `picked` ones of the planted copies."""
        distances, verbatim = self._planted[leak]
        return (
            {name: nearest_of_rows(d[picked], population) for name, d in distances.items()},
            Verbatim(verbatim.person[picked], verbatim.natural_rate),
        )

    @property
    def calibration(self) -> Mapping[str, Calibration]:
        """Return how near real records come to each other."""
        return self._survey.calibration

    def changes(self, leak: str) -> str:
        """Return what is done to planted copies, in words."""
        return CHANGES[self._evidence.modality] if leak == "jittered" else "unchanged"

    @property
    def planted_count(self) -> int:
        """Return how many copies could be planted at most."""
        return len(self._materials.planted)

    def _prototypes(self) -> NDArray[np.generic]:
        """Return the mean record, and one record, of each of the first labels."""
        population = self._survey.population
        base = self._materials.base
        out: list[NDArray[np.generic]] = []
        for label in np.unique(population.labels[base])[:_MAX_LABELS]:
            mine = population.records[base[population.labels[base] == label]]
            mean = mine.astype(np.float64).mean(axis=0)
            whole = np.issubdtype(mine.dtype, np.integer)
            out += [(np.rint(mean) if whole else mean).astype(mine.dtype), mine[0]]
        return np.stack(out)


def detection_limit(
    leak: Literal["verbatim", "jittered"],
    bench: Bench,
    detector: Detector,
    *,
    candidate: tuple[Mapping[str, Nearest], Verbatim],
    level: float,
    repeats: int,
    rng: np.random.Generator,
    progress: Callable[[int, int], None],
) -> DetectionLimit:
    """Plant copies among the candidate's own samples, and see how few are still found.

    A share counts as found where at least 95 % of `repeats` were flagged below `level`.
    """
    found_near, verbatim = candidate
    if detector.inspect(found_near, verbatim).p_value < level:
        return DetectionLimit(
            leak=leak,
            fraction=None,
            changes=bench.changes(leak),
            reason="the candidate is flagged without any planted copy",
        )
    trained = int(detector.population.trained.sum())
    changes = bench.changes(leak)
    counts: list[int] = []
    rates: list[float] = []
    for fraction in FRACTIONS:
        count = max(1, int(fraction * trained + 1e-9))  # never more than the share aimed at
        if count > bench.planted_count:
            break
        if count in counts:
            continue
        found = 0
        for _ in range(repeats):
            picked = rng.choice(bench.planted_count, count, replace=False)
            near, matches = bench.planted(leak, picked, population=detector.population)
            both = {name: joined(found_near[name], near[name]) for name in near}
            person = np.concatenate([verbatim.person, matches.person])
            copies = detector.inspect(
                both,
                Verbatim(person, verbatim.natural_rate),
                enough=level,
                exact=count > _TOO_FEW_FOR_ARMS,
            )
            found += copies.p_value < level
        counts.append(count)
        rates.append(found / repeats)
        progress(len(counts), len(FRACTIONS))
    tried = [count / trained for count in counts]  # what was planted, not what was aimed at
    good = [i for i in range(len(rates)) if min(rates[i:]) >= 0.95]
    return DetectionLimit(
        leak=leak,
        fraction=tried[good[0]] if good else None,
        fractions=tuple(tried),
        rates=tuple(rates),
        repeats=repeats,
        changes=changes,
        reason=None if good else "no tried share was flagged in 95 % of repeats",
    )


def jitter(
    records: NDArray[np.generic], modality: str, *, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return lightly changed copies: images flipped, moved, recontrasted and noised; rows noised.

    Images: a coin per flip, up to 1/32 of the side per shift, gamma 0.9 to 1.1, noise of 5 % of
    the range. Tables: noise of 5 % of a column's standard deviation.
    """
    values = records.astype(np.float64)
    if modality == "table":
        return np.asarray(values + 0.05 * values.std(axis=0) * rng.normal(size=values.shape))
    reach = max(1, round(min(records.shape[1:]) / 32))
    out = np.empty_like(values)
    for i, image in enumerate(values):
        moved = image[:, ::-1] if rng.random() < 0.5 else image
        down, right = rng.integers(-reach, reach + 1, size=2)
        moved = ndimage.shift(moved, (down, right), order=0, mode="nearest")
        low, high = moved.min(), max(moved.max(), moved.min() + 1)
        gamma = ((moved - low) / (high - low)) ** rng.uniform(0.9, 1.1)
        out[i] = low + (high - low) * (gamma + 0.05 * rng.normal(size=image.shape))
    return _like(out, records)


def shift(records: NDArray[np.generic], modality: str) -> NDArray[np.generic]:
    """Return records as another machine might take them: blurred and of another contrast."""
    values = records.astype(np.float64)
    if modality == "table":
        return np.asarray(values + 0.5 * values.std(axis=0))
    blurred = ndimage.gaussian_filter(values, (0, 0.8, 0.8))
    low = blurred.min(axis=(1, 2), keepdims=True)
    span = np.maximum(blurred.max(axis=(1, 2), keepdims=True) - low, 1)
    return _like(low + span * ((blurred - low) / span) ** 1.4, records)


def _like(values: Floats, records: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return values in the number type of `records`, rounded and clipped where it is whole."""
    if not np.issubdtype(records.dtype, np.integer):
        return values.astype(records.dtype)
    limits = np.iinfo(str(records.dtype))
    whole: NDArray[np.generic] = np.clip(np.rint(values), limits.min, limits.max)
    return whole.astype(records.dtype)
