"""Planted leaks and innocents that run beside every candidate: an audit must tell them apart here.

Specimens are made of the very data under audit. Leaks copy trained-on records; innocents are
records of held-out persons, their class prototypes, and a shifted population. For innocents the
persons they are made of are absent from the population, as if they had never been collected.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from privacy.changes import WORDS, augment, faint, jitter, shift
from privacy.copies import MIN_ARM
from privacy.evidence import Arm, Evidence
from privacy.exact_copies import Twins, Verbatim, match_verbatim
from privacy.neighbourhoods import (
    Calibration,
    Nearest,
    Population,
    Survey,
    joined,
    nearest_of_rows,
)

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

LEAKY_SHARE = 0.03
MIN_PERSONS = 20
_LARGEST_SHARE = 0.1
_MAX_PLANTED = 400
_MAX_UNUSUAL = 100
_MAX_FAINT = 20
_MAX_BASE = 1500
_MAX_SHIFTED = 300
_MAX_LABELS = 10

Distances = Mapping[str, Floats]
Planted = tuple[Distances, Verbatim]


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
    count = min(len(trained), _MAX_PLANTED, max(60, int(np.ceil(_LARGEST_SHARE * len(trained)))))
    chosen = rng.choice(trained, count, replace=False)
    order = rng.permutation(len(population.persons))  # one random record per chosen person
    _, first = np.unique(population.persons[order], return_index=True)
    return Materials(base_persons, base, order[first][chosen])


@dataclass(frozen=True)
class Specimen:
    """One set of samples with a known truth, measured: near what `survey` says of a candidate.

    `by` names copy detectors that must see the leak without the others' help, and `audits` the audits
    that must: so no detector can be idle and go unnoticed.
    """

    name: str
    title: str
    leaky: bool
    survey: Survey
    verbatim: Verbatim
    sample_count: int
    copied_count: int | None = None
    by: tuple[str, ...] = ()
    audits: tuple[str, ...] = ()
    samples: NDArray[np.generic] | None = None
    sample_labels: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    sample_persons: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))


class Bench:
    """Builds specimens out of a survey, without searching again where distances are known."""

    def __init__(
        self,
        evidence: Evidence,
        survey: Survey,
        materials: Materials,
        *,
        unique: Mapping[bytes, int],
        twins: Twins,
        rng: np.random.Generator,
    ) -> None:
        self._evidence = evidence
        self._survey = survey
        self._materials = materials
        self._twins = twins
        self._rng = rng
        self.population = survey.population.without(materials.base_persons)
        # Who lent the records around planted copies is not there to be copied as well.
        present = self.population.present
        self._unique = {record: person for record, person in unique.items() if present[person]}
        self._base = self._near(self._kept(materials.base))
        self._built: dict[str, Planted] = {}

    def matches(self, samples: NDArray[np.generic]) -> Verbatim:
        """Look samples up among the unique records."""
        return match_verbatim(samples, self._unique, like=self._evidence.records, twins=self._twins)

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
        return self._neighbours(distances, self.population)

    def _neighbours(
        self, distances: Mapping[str, Floats], population: Population
    ) -> dict[str, Nearest]:
        return {
            name: nearest_of_rows(d, population, space=self._survey.galleries[name].space)
            for name, d in distances.items()
        }

    def specimens(self) -> Iterator[Specimen]:
        """Yield every specimen, leaks first."""
        yield self._everybody()
        trained = int(self.population.trained.sum())
        share = max(3, round(LEAKY_SHARE * trained))
        for leak, how, by in (
            ("verbatim", "copied verbatim", ()),
            ("faint", "copied with grain that hardly shows", ("ratio",)),
            ("jittered", "copied with changes", ()),
            ("augmented", "turned, cut, recontrasted and noised", ()),
            ("outlier", "copied verbatim, the most unusual ones", ()),
        ):
            picked = np.arange(min(share, self.planted_count(leak)))
            if not len(picked):
                continue
            near, verbatim = self._mixed(leak, picked)
            yield self._specimen(
                f"copies_{leak}",
                f"{len(picked)} trained-on units {how}, among real records of others",
                near,
                verbatim,
                copied=len(picked),
                by=by,
            )
        records = self._survey.population.records
        base = records[self._materials.base]
        fresh = self._specimen(
            "fresh_real", "real records of units not trained on", self._base, self.matches(base)
        )
        labels, persons = (
            of_record[self._materials.base]
            for of_record in (self._survey.population.labels, self._survey.population.persons)
        )
        yield replace(fresh, samples=base, sample_labels=labels, sample_persons=persons)
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
        by: tuple[str, ...] = (),
        audits: tuple[str, ...] = (),
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
            name=name,
            title=title,
            leaky=copied is not None,
            survey=seen,
            verbatim=verbatim,
            sample_count=len(verbatim.person),
            copied_count=copied,
            by=by,
            audits=audits,
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
                to_next_sample=np.ones(len(population.arms)),
                nearest_sample=np.zeros(len(population.arms), dtype=np.int64),
                first=persons,
                first_distance=zero,
                # An exact copy has ratio 0, however near the next person is.
                second_distance=zero + 1.0,
            )
            for name, calibration in self._survey.calibration.items()
        }
        verbatim = self.matches(population.records[rows])
        clean = int((population.trained & ~population.excluded).sum())
        by = ["arms"] if min(clean, int(population.held_out.sum())) >= MIN_ARM else []
        is_image = self._evidence.modality == "image"  # rows of a small table may all have twins
        if is_image or len(np.unique(verbatim.person[verbatim.person >= 0])) >= MIN_PERSONS:
            by.append("verbatim")
        return self._specimen(
            "everything",
            "the whole training set, verbatim",
            near,
            verbatim,
            copied=int(population.trained.sum()),
            by=tuple(by),
            audits=("sample_membership",),
        )

    def _mixed(self, leak: str, picked: Ints) -> tuple[dict[str, Nearest], Verbatim]:
        near, verbatim = self.planted(leak, picked, population=self.population)
        base = self.matches(self._survey.population.records[self._materials.base])
        return (
            {name: joined(self._base[name], near[name]) for name in near},
            Verbatim(np.concatenate([base.person, verbatim.person]), verbatim.twins),
        )

    def planted(
        self, leak: str, picked: Ints, *, population: Population
    ) -> tuple[dict[str, Nearest], Verbatim]:
        """Return the neighbourhood, in `population`, of the `picked` ones of the planted copies."""
        distances, verbatim = self._copies(leak)
        return (
            self._neighbours({name: d[picked] for name, d in distances.items()}, population),
            Verbatim(verbatim.person[picked], verbatim.twins),
        )

    def planted_count(self, leak: str) -> int:
        """Return how many copies could be planted at most."""
        if leak == "outlier":
            return len(self._unusual)
        planted = len(self._materials.planted)
        return min(planted, _MAX_FAINT) if leak == "faint" else planted

    def _copies(self, leak: str) -> Planted:
        """Return (space -> (planted, persons) distances) and pixel-by-pixel matches of a leak."""
        if leak not in self._built:
            self._built[leak] = self._build(leak)
        return self._built[leak]

    def _build(self, leak: str) -> Planted:
        records, planted = self._survey.population.records, self._materials.planted
        if leak == "verbatim":
            return self._kept(planted), self.matches(records[planted])
        if leak == "outlier":
            samples = records[self._unusual]
        else:
            change = {"faint": faint, "jittered": jitter, "augmented": augment}[leak]
            rows = planted[: self.planted_count(leak)]
            samples = change(records[rows], self._evidence.modality, self._rng)
        return self._searched(samples), self.matches(samples)

    @cached_property
    def _unusual(self) -> Ints:
        """Return one record of each of the most unusual tenth of trained-on persons, shuffled.

        Unusual is who is far from every reference person; nobody, without such persons.
        """
        survey = self._survey
        population = survey.population
        gap = survey.calibration[survey.spaces[0].name].to_reference
        trained = np.flatnonzero(population.trained & ~population.excluded & np.isfinite(gap))
        count = min(_MAX_UNUSUAL, int(np.ceil(0.1 * len(trained))))
        chosen = self._rng.permutation(trained[np.argsort(-gap[trained], kind="stable")][:count])
        _, first = np.unique(population.persons, return_index=True)
        return np.asarray(first[chosen])

    @property
    def calibration(self) -> Mapping[str, Calibration]:
        """Return how near real records come to each other."""
        return self._survey.calibration

    def changes(self, leak: str) -> str:
        """Return what is done to planted copies, in words."""
        return WORDS[leak][self._evidence.modality]

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
