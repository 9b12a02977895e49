"""Pairing: does one sample carry a person's image together with the same person's row?

What is attacked: memorization. An onlooker holds released rows with their images, and the row and the
image of a person. A generator may blur both so far that neither is a copy by itself, and still put them
into one sample: then the image leads to the person, the row leads to the same person, and that happens to
those who were trained on and hardly to others.

For each sample, the person nearest to its image, and among the persons nearest to its row (several have
the same row) the one nearest to its image. *Between* is how many persons come as near in the other
part as that person does: 1 where image and row lead to the same one. *Clearness* is how much nearer to
the person than to the next one the sample is in that part in which it is less so: the larger of two
ratios, so that a copied row with somebody else's image is not clear. A person counts with the best sample
that leads to them, however many do, so that samples need not be independent and a person's many images
weigh once. Sets of persons are drawn up by both, blind to arms; whether fewer of them were held out than
chance allows is judged by the hypergeometric law, the smallest tail over all sets against its own
permutation distribution: exact, since arms are independent of all records.

What a pass does not mean: anything; it may accuse and never clears. Rows and images that are copied and paired anew show
in the near-copies of either part and, as a rule, not here (where they are a large share of few persons, a copied
row still makes a person's own image look clearer than that of others); where rows of many persons are alike, so that a row leads
nowhere, it sees little.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from privacy.copies import Detector
from privacy.distances import Gallery
from privacy.evidence import Finding, Goal, Knowledge, Metric, ThreatModel
from privacy.neighbourhoods import Population
from privacy.policy import Policy
from privacy.report import Attack, Gate, GateStatus

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]

NAME = "pairing"
THREAT_MODEL = ThreatModel(
    goal=Goal.MEMORIZATION,
    generator=Knowledge.SAMPLES,
    reference=False,
    description=(
        "An onlooker who holds released rows with their images, and a person's row and image."
    ),
)
_BETWEEN = (1, 2, 5, 10, 20, 50)
_SHARES_BETWEEN = (0.005, 0.01, 0.02, 0.05)
_CLEAREST = (10, 20, 40, 80, 160, 320)
# Larger shares of everybody are told apart by one part alone, which is not what is asked here.
_MOST_BETWEEN, _MOST_CLEAREST = 0.05, 0.25
_SETS = len(_BETWEEN) + len(_SHARES_BETWEEN) + len(_CLEAREST)
# Distances are square roots of float32 differences: equal rows may lie this far apart.
_ALIKE, _ROUNDING = 1.001, 2e-3
_BLOCK_VALUES = 4_000_000
_SILENT = "it may accuse and never clear: seeing nothing is no evidence"


@dataclass(frozen=True)
class Galleries:
    """Real rows, and real images, ready to be searched; persons are numbered alike in both."""

    rows: Gallery
    images: Gallery


@dataclass(frozen=True)
class Pairs:
    """The best sample that leads to each person: (persons,) how many come between, how clear, which.

    Where no sample leads to a person, `between` is the number of persons + 1, `clearness` infinite
    and `sample` -1.
    """

    between: Ints
    clearness: Floats
    sample: Ints


def find_pairs(
    galleries: Galleries,
    rows: NDArray[np.generic],
    images: NDArray[np.generic],
    *,
    present: Bools,
) -> Pairs:
    """Search samples, row i with image i, among the present persons. Shapes: (n, D), (n, H, W)."""
    count = galleries.rows.count
    between = np.full(count, count + 1)
    clearness = np.full(count, np.inf)
    sample = np.full(count, -1)
    step = max(1, _BLOCK_VALUES // max(1, count))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        by_row = _distances(galleries.rows, rows[block], present)
        by_image = _distances(galleries.images, images[block], present)
        for person, others in _led_to(by_row, by_image):
            clear = np.maximum(_ratio(by_row, person), _ratio(by_image, person))
            np.minimum.at(between, person, others)
            better = np.flatnonzero(clear < clearness[person])
            better = better[np.argsort(-clear[better], kind="stable")]  # the clearest one last
            clearness[person[better]] = clear[better]
            sample[person[better]] = start + better
    return Pairs(between, clearness, sample)


def _distances(gallery: Gallery, queries: NDArray[np.generic], present: Bools) -> Floats:
    found = np.concatenate([distances for _, distances in gallery.search(queries)])
    return np.where(present, found, np.inf)


def _led_to(by_row: Floats, by_image: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Yield (samples,) whom images lead to, and then whom rows do, with how many come as near."""
    at = np.arange(len(by_row))
    person = by_image.argmin(axis=1)
    yield person, (by_row <= _reach(by_row[at, person])).sum(axis=1)
    nearest_rows = by_row <= _reach(by_row.min(axis=1))
    person = np.where(nearest_rows, by_image, np.inf).argmin(axis=1)
    yield person, (by_image <= _reach(by_image[at, person])).sum(axis=1)


def _reach(distances: Floats) -> Floats:
    """Return up to where another distance counts as equal. Shapes: (n,) -> (n, 1)."""
    return np.asarray(distances * _ALIKE + _ROUNDING)[:, None]


def _ratio(distances: Floats, person: Ints) -> Floats:
    """Return (samples,) the distance of a person over that of the nearest other one."""
    at = np.arange(len(distances))
    own = distances[at, person]
    others = distances.copy()
    others[at, person] = np.inf
    return np.asarray((own + _ROUNDING) / (others.min(axis=1) + _ROUNDING))


def sets_of(pairs: Pairs, judged: Ints) -> Bools:
    """Return the sets of judged persons that are compared, (judged, sets); ties are all in.

    As many persons may come between as are a twentieth of the judged ones, and a quarter of them at
    most are the clearest: where persons are few, larger sets are told apart by rows alone.
    """
    between, clearness = pairs.between[judged], pairs.clearness[judged]
    most = max(1, int(_MOST_BETWEEN * len(judged)))
    shares = (max(1, int(share * len(judged))) for share in _SHARES_BETWEEN)
    columns = [between <= cut for cut in sorted({min(cut, most) for cut in (*_BETWEEN, *shares)})]
    led = np.sort(clearness[np.isfinite(clearness)])
    largest = min(len(led), max(_CLEAREST[0], int(_MOST_CLEAREST * len(judged))))
    columns += [clearness <= led[count - 1] for count in _CLEAREST if count <= largest]
    return np.stack(columns, axis=1)


def chance_of(pairs: Pairs, detector: Detector) -> float | None:
    """Return how likely chance alone leads to so few held-out persons; None with too few persons."""
    if detector.too_few() is not None:
        return None
    return detector.chance_of(sets_of(pairs, detector.judged))


def could_show(copied: int, detector: Detector, *, level: float) -> bool:
    """Return whether a set of `copied` trained-on persons alone is rarer than `level` by chance."""
    judged = detector.judged
    held = int(detector.population.held_out[judged].sum())
    law = stats.hypergeom(len(judged), min(copied, len(judged)), held)
    return bool(_SETS * law.pmf(0) < level)


def finding_of(pairs: Pairs, detector: Detector, *, unit: str) -> Finding:
    """Return what was measured: chance, and to how many persons image and row lead together."""
    judged, population = detector.judged, detector.population
    together = pairs.between == 1
    inside = int((together & population.trained)[judged].sum())
    outside = int((together & population.held_out)[judged].sum())
    held = int(population.held_out[judged].sum())
    value = chance_of(pairs, detector)
    return Finding(
        audit=NAME,
        metrics=(
            Metric(
                name="p_value",
                value=value,
                direction="lower_is_riskier",
                n=len(judged),
                reason=detector.too_few() if value is None else None,
            ),
            _count("paired_members", inside, len(judged) - held, unit),
            _count("paired_non_members", outside, held, unit),
        ),
        details={"paired_units": _original(population, together & population.trained)},
    )


def _count(name: str, value: int, of: int, unit: str) -> Metric:
    return Metric(name=name, value=float(value), n=of, unit=unit, direction="context")


def _original(population: Population, chosen: Bools) -> list[int]:
    found: list[int] = population.original[chosen].tolist()
    return found


def judge_pairing(finding: Finding, *, policy: Policy) -> Gate:
    """Return the gate: it fails below its level, and nothing else follows from it."""
    metric = finding.metric("p_value")
    seen = metric.value is not None and metric.value < policy.errors.pairing
    status = GateStatus.FAIL if seen else GateStatus.NOTHING_SEEN
    if metric.value is None:
        status = GateStatus.NOT_APPLICABLE
    return Gate(
        name=f"{NAME}_test",
        audit=NAME,
        title="No sample carries the image of a trained-on unit together with the same unit's row",
        status=status,
        value=metric.value,
        bound=metric.value,
        tolerance=policy.errors.pairing,
        reason=metric.reason or ("fails where the p-value is below the level" if seen else _SILENT),
    )


def attack_of(finding: Finding) -> Attack:
    """Return how the report lists this attack."""
    metric = finding.metric("p_value")
    return Attack(
        audit=NAME,
        goal=THREAT_MODEL.goal.value,
        knowledge=THREAT_MODEL.generator.value,
        description=THREAT_MODEL.description,
        ran=metric.value is not None,
        role="diagnostic",
        reason=metric.reason or "",
    )
