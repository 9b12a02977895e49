"""Who lies near whom: every distance that audits and their self-test share, measured once.

`survey` searches samples against persons and held-out records against persons, in every space. The
self-test swaps the samples for specimens and takes their distances from the same survey.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from privacy.distances import Gallery, Space, image_spaces, table_spaces
from privacy.embedding import embedding_space
from privacy.evidence import Arm, Evidence
from privacy.table_cells import crowding

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Progress = Callable[[str, int, int], None]

ABSENT = -1  # an arm value: the person is left out of this comparison
IN_TRAINING = (Arm.TRAIN, Arm.AUDIT_IN)
HELD_OUT = (Arm.AUDIT_OUT, Arm.REFERENCE_B)
CALIBRATION_ROWS = 3000
_NO_COST = 1e-6
CELLS_ROWS = (
    8000  # of everybody: how near fresh rows come by nature must be known far into the tail
)


@dataclass(frozen=True)
class Population:
    """The persons with records, numbered from 0, and their records.

    Shapes: arms, folds, strata, original, excluded (persons,); records, labels, persons, rows
    (records,). `original` and `rows` point back into the evidence. `excluded` persons share a record
    with another person: copies of them are looked for, but nothing that compares arms counts them.
    """

    arms: Ints
    folds: Ints
    strata: Ints
    original: Ints
    excluded: NDArray[np.bool_]
    records: NDArray[np.generic]
    labels: Ints
    persons: Ints
    rows: Ints

    @property
    def trained(self) -> NDArray[np.bool_]:
        """Return which persons were trained on, excluded ones among them."""
        return np.isin(self.arms, IN_TRAINING)

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Return which persons are clean non-members: audit-out and reference half b."""
        return np.asarray(np.isin(self.arms, HELD_OUT) & ~self.excluded)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Return which persons take part at all."""
        return np.asarray(self.arms != ABSENT)

    def records_of(self, *arms: int) -> Ints:
        """Return the positions of the records whose person is in one of `arms`, not excluded."""
        return np.flatnonzero((np.isin(self.arms, arms) & ~self.excluded)[self.persons])

    def without(self, persons: NDArray[np.bool_]) -> "Population":
        """Return the population with `persons` absent."""
        return replace(self, arms=np.where(persons, ABSENT, self.arms))


def population_of(evidence: Evidence) -> Population:
    """Keep the persons that have records, numbered without gaps."""
    has_record = np.zeros(len(evidence.arms), dtype=bool)
    has_record[evidence.persons] = True
    original = np.flatnonzero(has_record)
    number = np.full(len(evidence.arms), -1)
    number[original] = np.arange(len(original))
    rows = np.flatnonzero(number[evidence.persons] >= 0)
    persons = number[evidence.persons[rows]]
    return Population(
        arms=evidence.arms[original].astype(np.int64),
        folds=evidence.folds[original].astype(np.int64),
        strata=_label_sets(evidence.labels[rows], persons, count=len(original)),
        original=original,
        excluded=np.asarray(evidence.excluded)[original].astype(bool),
        records=evidence.records[rows],
        labels=evidence.labels[rows],
        persons=persons,
        rows=rows,
    )


def _label_sets(labels: Ints, persons: Ints, *, count: int) -> Ints:
    """Return (persons,) a number for each person's set of labels."""
    sets: list[set[int]] = [set() for _ in range(count)]
    for person, label in zip(persons, labels, strict=True):
        sets[person].add(int(label))
    known: dict[frozenset[int], int] = {}
    return np.array([known.setdefault(frozenset(s), len(known)) for s in sets], dtype=np.int64)


@dataclass(frozen=True)
class Nearest:
    """One space: nearest samples of each person; nearest and next nearest person of each sample.

    Shapes: to_samples, to_next_sample, nearest_sample (persons,); first, first_distance,
    second_distance (samples,). Where there is one sample only, the next one is infinitely far.
    In a space of cells, `second_distance` is not a person's: it is what makes `ratio` the crowding there.
    """

    to_samples: Floats
    to_next_sample: Floats
    nearest_sample: Ints
    first: Ints
    first_distance: Floats
    second_distance: Floats

    @property
    def ratio(self) -> Floats:
        """Return nearest over next nearest, 0 for a copy, near 1 for a picture of nobody."""
        safe = np.where(self.second_distance > 0, self.second_distance, np.inf)
        alike = self.second_distance <= 0  # two persons are both identical to it: tells nothing
        return np.asarray(np.where(alike, 1.0, self.first_distance / safe))

    @property
    def mutual(self) -> Floats:
        """Return (persons,) how much nearer a person and a sample are than either's next neighbour.

        The product of both ratios, of the best sample whose nearest person this is; infinite where
        nobody's is. A changed copy is small in both, however densely people lie.
        """
        own, following = self.first_distance, self.to_next_sample[self.first]
        apart = np.where(following > 0, following, np.inf)
        best: Floats = np.full(len(self.to_samples), np.inf)
        np.minimum.at(best, self.first, self.ratio * own / apart)
        return best


@dataclass(frozen=True)
class Calibration:
    """One space: how near real records of different persons come to each other.

    Shapes: ratios (calibration records,); gaps (reference records,); to_reference (persons,);
    to_trained (persons,) for held-out persons, inf elsewhere. In a space of cells, pairs (calibration
    records,) numbers the two persons whom a ratio is about; empty elsewhere.
    """

    ratios: Floats
    gaps: Floats
    to_reference: Floats
    to_trained: Floats
    pairs: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Survey:
    """What one candidate and its population look like in every space."""

    population: Population
    spaces: tuple[Space, ...]
    samples: Mapping[str, Nearest]
    calibration: Mapping[str, Calibration]
    galleries: Mapping[str, Gallery]
    # distances of some real records to every person, own person included: space -> row -> (persons,)
    kept: Mapping[str, Mapping[int, Floats]]


def spaces_for(evidence: Evidence, population: Population) -> tuple[Space, ...]:
    """Return the spaces that fit the modality.

    Scales of columns come from reference half a, which no comparison of arms counts; where it is too
    small, from everybody: those of some arms alone would see who is in which.
    """
    if evidence.modality == "image":
        network = evidence.copy_network
        return image_spaces() + ((embedding_space(network),) if network is not None else ())
    reference = population.records_of(Arm.REFERENCE_A)
    if len(reference) < 20:
        reference = np.arange(len(population.records))
    return table_spaces(
        population.records[reference].astype(np.float64), population.records.astype(np.float64)
    )


def survey(
    evidence: Evidence,
    *,
    keep: Ints,
    population: Population,
    progress: Progress,
    most_spaces: int | None = None,
) -> Survey:
    """Measure samples and held-out records against every person.

    `keep` lists records whose distances the self-test wants in full. Of the spaces that fit the
    modality the first `most_spaces` are looked at, or all.
    """
    spaces = spaces_for(evidence, population)[:most_spaces]
    samples: dict[str, Nearest] = {}
    calibration: dict[str, Calibration] = {}
    kept: dict[str, dict[int, Floats]] = {}
    galleries: dict[str, Gallery] = {}
    for space in spaces:
        gallery = galleries[space.name] = Gallery(
            space, population.records, population.persons, count=len(population.arms)
        )
        samples[space.name] = nearest(
            gallery,
            evidence.samples,
            population,
            progress=partial(progress, f"synthetic against real: {space.name}"),
        )
        calibration[space.name], kept[space.name] = _calibrate(
            gallery, population, keep, progress=progress
        )
    return Survey(population, spaces, samples, calibration, galleries, kept)


def nearest(
    gallery: Gallery,
    queries: NDArray[np.generic],
    population: Population,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Nearest:
    """Search `queries` among the present persons."""
    parts: list[tuple[Ints, Floats, Floats]] = []
    to_samples = np.full(gallery.count, np.inf)
    to_next = np.full(gallery.count, np.inf)
    nearest_sample = np.full(gallery.count, -1)
    for rows, distances in gallery.search(queries):
        closest, values, following = _two_smallest(distances)
        to_next = np.minimum(np.maximum(to_samples, values), np.minimum(to_next, following))
        better = values < to_samples
        to_samples[better] = values[better]
        nearest_sample[better] = rows.start + closest[better]
        parts.append(two_nearest(distances, population.present, space=gallery.space))
        if progress is not None:
            progress(rows.stop, len(queries))
    first, one, two = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Nearest(to_samples, to_next, nearest_sample, first, one, two)


def _two_smallest(distances: Floats) -> tuple[Ints, Floats, Floats]:
    """Return row of the smallest value of each column, that value, and the next smallest one."""
    columns = np.arange(distances.shape[1])
    closest = distances.argmin(axis=0)
    values = distances[closest, columns]
    distances[closest, columns] = np.inf
    following = distances.min(axis=0)
    distances[closest, columns] = values
    return closest, values, following


def nearest_of_rows(distances: Floats, population: Population, *, space: Space) -> Nearest:
    """Return what `nearest` would, from (queries, persons) distances that are already known."""
    first, one, two = two_nearest(distances, population.present, space=space)
    closest, values, following = _two_smallest(distances)
    return Nearest(values, following, closest, first, one, two)


def joined(left: Nearest, right: Nearest) -> Nearest:
    """Return the neighbourhood of two sets of queries taken together, the left one first."""
    closer = right.to_samples < left.to_samples
    further = np.maximum(left.to_samples, right.to_samples)
    following = np.minimum(left.to_next_sample, right.to_next_sample)
    return Nearest(
        np.where(closer, right.to_samples, left.to_samples),
        np.minimum(further, following),
        np.where(closer, right.nearest_sample + len(left.first), left.nearest_sample),
        np.concatenate([left.first, right.first]),
        np.concatenate([left.first_distance, right.first_distance]),
        np.concatenate([left.second_distance, right.second_distance]),
    )


def two_nearest(
    distances: Floats, allowed: NDArray[np.bool_], *, space: Space
) -> tuple[Ints, Floats, Floats]:
    """Return nearest person, its distance, and the next person's distance, for each row."""
    masked = np.where(allowed, distances, np.inf)
    rows = np.arange(len(masked))
    first = masked.argmin(axis=1)
    one = masked[rows, first]
    masked[rows, first] = np.inf
    if space.cells is None:
        return first, one, masked.min(axis=1)
    one = np.maximum(one, _NO_COST)
    return first, one, one / crowding(one, masked)


def _calibrate(
    gallery: Gallery, population: Population, keep: Ints, *, progress: Progress
) -> tuple[Calibration, dict[int, Floats]]:
    """Measure held-out and pool records against every other person."""
    count = gallery.count
    reference = (population.arms == Arm.REFERENCE_A) & ~population.excluded
    wanted = population.records_of(Arm.REFERENCE_A, Arm.REFERENCE_B, Arm.AUDIT_OUT, Arm.AUDIT_IN)
    chosen = _evenly(wanted, CALIBRATION_ROWS)
    if gallery.space.cells is not None:  # real against real is the same of every arm
        others = np.setdiff1d(population.records_of(Arm.TRAIN), chosen)
        chosen = np.union1d(chosen, _evenly(others, max(0, CELLS_ROWS - len(chosen))))
    rows = np.union1d(chosen, keep).astype(np.int64)
    keep_set = set(keep.tolist())
    kept: dict[int, Floats] = {}
    ratios: list[Floats] = []
    gaps: list[Floats] = []
    pairs: list[Ints] = []
    to_reference = np.full(count, np.inf)
    to_trained = np.full(count, np.inf)
    for block, distances in gallery.search(population.records[rows]):
        here = rows[block]
        kept |= {int(r): distances[i].copy() for i, r in enumerate(here) if int(r) in keep_set}
        own = population.persons[here]
        distances[np.arange(len(here)), own] = np.inf
        first, one, two = two_nearest(distances, population.present, space=gallery.space)
        if gallery.space.cells is not None:
            pairs.append(np.minimum(own, first) * count + np.maximum(own, first))
        is_reference = reference[own]
        near = np.where(two > 0, one / np.where(two > 0, two, 1.0), 1.0)
        ratios.append(near[~is_reference] if gallery.space.learnt else near)
        if is_reference.any():
            to_reference = np.minimum(to_reference, distances[is_reference].min(axis=0))
            gaps.append(distances[is_reference][:, reference].min(axis=1))
        if population.trained.any():
            np.minimum.at(to_trained, own, distances[:, population.trained].min(axis=1))
        progress(f"real against real: {gallery.space.name}", block.stop, len(rows))
    held_out_gaps = np.concatenate(gaps) if gaps else np.empty(0)
    return (
        Calibration(
            ratios=np.concatenate(ratios) if ratios else np.empty(0),
            gaps=held_out_gaps[np.isfinite(held_out_gaps)],
            to_reference=to_reference,
            to_trained=to_trained,
            pairs=np.concatenate(pairs) if pairs else np.empty(0, dtype=np.int64),
        ),
        kept,
    )


def _evenly(values: Ints, limit: int) -> Ints:
    """Return at most `limit` of `values`, evenly spaced, so that cost stays bounded."""
    if len(values) <= limit:
        return values
    return values[np.linspace(0, len(values) - 1, limit).astype(np.int64)]
