"""Membership scores from counts over few columns of a table: the formulae behind two audits.

What each score means, and where it comes from, is told in `privacy.audits.marginal_membership`.
"""

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Arm, Evidence
from privacy.logistic import fit_logistic
from privacy.membership import Pool, per_person
from privacy.neighbourhoods import Population
from privacy.table_codes import Coder, cells_of, coder_of, column_sets, counts_at

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

ATTACKS = ("ones", "pairs", "triples", "rarest", "density", "classifier")
BINS = 12
SETS = 300
_MIN_REFERENCE = 40
_SHARP = 2.0  # agreeing in one column more weighs e ** 2 times as much
_MOST_LEARNT = 10_000
# A copy counts only where it is among the rows compared: as many as there are units where nobody is drawn.
_MOST_COMPARED = 50_000
_ROWS_AT_ONCE = 10_000
_BLOCK_FLOATS = 4_000_000


def marginal_scores(
    evidence: Evidence,
    population: Population,
    pool: Pool,
    *,
    rng: np.random.Generator,
    bins: int = BINS,
    sets: int = SETS,
) -> dict[str, Floats]:
    """Return attack -> (pool,) scores; NaN where too few reference records are there to calibrate."""
    reference_rows = population.records_of(Arm.REFERENCE_A)
    rows = np.flatnonzero(np.isin(population.persons, pool.persons))
    if len(reference_rows) < _MIN_REFERENCE or not len(rows):
        return {name: np.full(len(pool.persons), np.nan) for name in ATTACKS}
    coder = coder_of(population.records, most=bins)
    targets = coder.codes(population.records[rows])
    samples = coder.codes(evidence.samples)
    reference = coder.codes(population.records[reference_rows])
    found = _by_counts(targets, samples, reference, coder=coder, sets=sets)
    near, others = (_some(codes, rng, most=_MOST_COMPARED) for codes in (samples, reference))
    found["density"] = _agreement(targets, near, coder) - _agreement(targets, others, coder)
    near, others = (_some(codes, rng, most=_MOST_LEARNT) for codes in (samples, reference))
    found["classifier"] = _odds(targets, near, others, coder)
    scores: dict[str, Floats] = {}
    for name in ATTACKS:
        spread = np.full(len(population.records), np.nan)
        spread[rows] = found[name]
        scores[name] = per_person(spread, population, pool, largest=False)
    return scores


def _by_counts(
    targets: Ints, samples: Ints, reference: Ints, *, coder: Coder, sets: int
) -> dict[str, Floats]:
    """Return sums of log-ratios over sets of one, two and three columns, and the largest of a pair."""
    columns = targets.shape[1]
    sums: dict[str, Floats] = {}
    rarest = np.full(len(targets), -np.inf)
    for size, name in ((1, "ones"), (2, "pairs"), (3, "triples")):
        total = np.zeros(len(targets))
        for chosen in column_sets(columns, size=min(size, columns), most=sets):
            cells, inside, outside = (
                cells_of(codes, chosen, coder.sizes) for codes in (targets, samples, reference)
            )
            ratio = _log_share(cells, inside) - _log_share(cells, outside)
            total += ratio
            if name == "pairs":
                rarest = np.maximum(rarest, ratio)
        sums[name] = total
    return sums | {"rarest": rarest}


def _log_share(cells: Ints, among: Ints) -> Floats:
    """Return the log of each cell's share, half a row added (Krichevsky and Trofimov 1981)."""
    return np.asarray(np.log((counts_at(cells, among) + 0.5) / (len(among) + 1.0)))


def _some(codes: Ints, rng: np.random.Generator, *, most: int) -> Ints:
    """Return all rows, or `most` of them drawn by chance."""
    if len(codes) <= most:
        return codes
    return codes[rng.choice(len(codes), most, replace=False)]


def _agreement(targets: Ints, points: Ints, coder: Coder) -> Floats:
    """Return the log mean over points of exp(_SHARP * number of columns that agree)."""
    queries, columns = coder.indicators(targets), targets.shape[1]
    weights = np.exp(_SHARP * np.arange(-columns, 1))  # by how many columns agree, from none on
    total = np.zeros(len(queries))
    for begin in range(0, len(points), _ROWS_AT_ONCE):
        others = coder.indicators(points[begin : begin + _ROWS_AT_ONCE]).T
        step = max(1, _BLOCK_FLOATS // others.shape[1])
        for start in range(0, len(queries), step):
            agree = np.rint(queries[start : start + step] @ others).astype(np.int16)
            total[start : start + step] += weights[agree].sum(axis=1)
    return np.asarray(np.log(total / len(points)))


def _odds(targets: Ints, samples: Ints, reference: Ints, coder: Coder) -> Floats:
    """Return the log-odds of "synthetic" against "reference row", learnt from those two sets."""
    rows = coder.indicators(np.concatenate([samples, reference]))
    is_sample = np.repeat([1, 0], [len(samples), len(reference)])
    return fit_logistic(rows, is_sample).logits(coder.indicators(targets))
