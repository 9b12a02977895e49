"""Records, splits and planted leaks on which detection is measured, the same for every tool."""

import csv
import io
import itertools
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks import image_sets
from benchmarks.peer_environments import environment
from benchmarks.refusals import Refused
from privacy.changes import augment, jitter
from privacy.distances import Gallery, image_spaces, table_spaces
from privacy.evidence import Arm, Evidence
from privacy.mechanisms import UnitOfPrivacy

LEAKS = ("verbatim", "jittered", "outlier", "augmented")
MOST_IMAGES = 10_000
_RESERVED = frozenset({"file", "patient_id", "split", "side", "visit"})
# statsmodels ships the table; it is read in an environment of its own where we lack the package.
_READ_TABLE = (
    "import sys; from statsmodels.datasets import randhie; "
    "randhie.load_pandas().data.to_csv(sys.argv[1], index=False)"
)


@dataclass(frozen=True, eq=False)
class Records:
    """Shapes: values (records, height, width) or (records, columns); units (records,) from 0."""

    name: str
    modality: Literal["image", "table"]
    values: NDArray[np.generic]
    units: NDArray[np.integer]
    columns: tuple[str, ...] = ()

    @property
    def unit_count(self) -> int:
        """Return how many units there are."""
        return int(self.units.max()) + 1


@dataclass(frozen=True, eq=False)
class Split:
    """Record positions of one repeat; `fresh` belongs to units that nobody trained on or held out."""

    members: NDArray[np.integer]
    holdout: NDArray[np.integer]
    reference: NDArray[np.integer]
    fresh: NDArray[np.integer]
    member_units: int


def load(data: str, *, label: str | None) -> Records:
    """Read `randhie`, `mnist`, `fashion_mnist`, or the path of a zip of images.

    Raises: Refused saying what to give.
    """
    if data == "randhie":
        return _randhie()
    has_persons = data.endswith(".zip")
    unit = UnitOfPrivacy.PERSON if has_persons else UnitOfPrivacy.RECORD
    label = label or (_first_label(Path(data)) if has_persons else None)
    found = image_sets.load(data, label=label, test="same", unit=unit)
    images, units = found.train.images, found.train.persons
    if has_persons:
        images = np.concatenate([images, found.test.images])
        units = np.concatenate([units, found.test.persons + units.max() + 1])
    images, units = np.asarray(images)[:MOST_IMAGES], np.asarray(units)[:MOST_IMAGES]
    numbered = np.unique(units, return_inverse=True)[1].astype(np.int64)
    return Records(found.name, "image", images, numbered)


def _first_label(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith(".csv"))
            header = next(csv.reader(io.StringIO(archive.read(name).decode("utf-8-sig"))))
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise Refused(f"{path.name} was refused: it is no zip with a CSV ({error}).") from None
    named = [column for column in header if column not in _RESERVED]
    if not named:
        raise Refused(f"{path.name} was refused: its CSV has no label column. Give --label NAME.")
    return named[0]


def _randhie() -> Records:
    """Read the RAND health insurance experiment: 20,190 years of persons without names.

    Rows that are equal count once, and every row is a unit: nothing in it tells persons apart.
    """
    with environment(["statsmodels"]) as python:
        target = python.parent / "randhie.csv"
        subprocess.run([str(python), "-c", _READ_TABLE, str(target)], check=True)  # noqa: S603
        header, *rows = target.read_text(encoding="utf-8").splitlines()
    values = np.array([[float(value) for value in row.split(",")] for row in rows])
    distinct = np.unique(values, axis=0)
    return Records("randhie", "table", distinct, np.arange(len(distinct)), tuple(header.split(",")))


def draw(records: Records, *, units_per_arm: int, rng: np.random.Generator) -> Split:
    """Draw members, as many held out, half as many for reference; everybody else is fresh.

    Raises: Refused where fewer than a tenth of the units would be fresh.
    """
    count = records.unit_count
    needed = int(2.5 * units_per_arm)
    if count < 1.1 * needed:
        raise Refused(
            f"{records.name} was refused: it has {count} units; {units_per_arm} per arm need "
            f"{int(1.1 * needed)}. Give fewer with --arm."
        )
    order = rng.permutation(count)
    bounds = np.cumsum([0, units_per_arm, units_per_arm, units_per_arm // 2, count])
    parts = [
        np.flatnonzero(np.isin(records.units, order[a:b])) for a, b in itertools.pairwise(bounds)
    ]
    fresh = rng.permutation(parts[3])[: 2 * units_per_arm]
    return Split(parts[0], parts[1], parts[2], fresh, units_per_arm)


def evidence_of(
    records: Records, split: Split, samples: NDArray[np.generic], rng: np.random.Generator
) -> Evidence:
    """Return what the audit sees, arms spread as `kaima audit` spreads them."""
    rows = np.concatenate([split.members, split.holdout, split.reference])
    units, persons = np.unique(records.units[rows], return_inverse=True)
    arms = np.full(len(units), Arm.REFERENCE_A, dtype=np.int64)
    for part, heads, tails in (
        (split.members, Arm.AUDIT_IN, Arm.TRAIN),
        (split.holdout, Arm.AUDIT_OUT, Arm.REFERENCE_B),
    ):
        mine = np.searchsorted(units, np.unique(records.units[part]))
        arms[mine] = np.where(rng.random(len(mine)) < 0.5, heads, tails)
    has_persons = len(np.unique(records.units)) < len(records.units)
    return Evidence(
        modality=records.modality,
        unit=UnitOfPrivacy.PERSON if has_persons else UnitOfPrivacy.RECORD,
        records=records.values[rows],
        labels=np.zeros(len(rows), dtype=np.int64),
        persons=persons.astype(np.int64),
        arms=arms,
        folds=rng.integers(1, 3, len(units)),
        excluded=_with_a_double(records.values[rows], persons, len(units)),
        samples=samples,
        sample_labels=np.zeros(len(samples), dtype=np.int64),
    )


def _with_a_double(
    values: NDArray[np.generic], persons: NDArray[np.integer], count: int
) -> NDArray[np.bool_]:
    owner: dict[bytes, int] = {}
    doubled = np.zeros(count, dtype=np.bool_)
    for value, person in zip(values, persons, strict=True):
        first = owner.setdefault(value.tobytes(), int(person))
        if first != person:
            doubled[[first, int(person)]] = True
    return doubled


def plant(
    records: Records, split: Split, leak: str, *, most: int, rng: np.random.Generator
) -> NDArray[np.generic]:
    """Return one copied record of each of `most` members, changed as the leak says, shuffled.

    Outliers are the members farthest from every reference record.
    """
    units = records.units[split.members]
    order = rng.permutation(len(split.members))
    first = order[np.unique(units[order], return_index=True)[1]]
    chosen = split.members[rng.permutation(first)]
    if leak == "outlier":
        tenth = max(1, split.member_units // 10)
        chosen = chosen[np.argsort(-_from_reference(records, split, chosen))][:tenth]
        chosen = rng.permutation(chosen)
    values: NDArray[np.generic] = records.values[chosen[:most]]
    if leak in {"jittered", "augmented"}:
        change = jitter if leak == "jittered" else augment
        values = change(values, records.modality, rng)
    return values


def _from_reference(
    records: Records, split: Split, rows: NDArray[np.integer]
) -> NDArray[np.floating]:
    reference = records.values[split.reference]
    is_image = records.modality == "image"
    space = image_spaces()[0] if is_image else table_spaces(reference.astype(np.float64))[0]
    gallery = Gallery(space, reference, np.arange(len(reference)), count=len(reference))
    found = [block.min(axis=1) for _, block in gallery.search(records.values[rows])]
    return np.concatenate(found)
