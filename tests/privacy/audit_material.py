"""Procedural evidence for audit tests: smooth random pictures, arms drawn as the service draws them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from privacy.evidence import Arm, Evidence, JointEvidence
from privacy.mechanisms import GaussianMechanism, PrivacyTarget, UnitOfPrivacy
from privacy.policy import Policy
from privacy.table_schema import Column, ImagePart, TableSchema

SIDE = 32
_SHAPES = ndimage.gaussian_filter(
    np.random.default_rng(0).normal(size=(40, SIDE, SIDE)), (0, 2.5, 2.5)
)
_SHAPES /= np.linalg.norm(_SHAPES, axis=(1, 2), keepdims=True)


def pictures(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (count, 32, 32) fresh pictures from one population with 40 smooth degrees of freedom."""
    smooth = np.einsum("nk,khw->nhw", rng.normal(size=(count, len(_SHAPES))), _SHAPES)
    grain = ndimage.gaussian_filter(rng.normal(size=smooth.shape), (0, 0.7, 0.7))
    return np.clip(128 + 130 * smooth + 6 * grain, 0, 255).astype(np.uint8)


def draw_arms(persons: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Return one arm per person: 30 % reference, 40 % pool with fair coins, the rest trained on."""
    where = rng.random(persons)
    arms = np.full(persons, Arm.TRAIN, dtype=np.int8)
    arms[where < 0.15] = Arm.REFERENCE_A
    arms[(where >= 0.15) & (where < 0.3)] = Arm.REFERENCE_B
    pool = (where >= 0.3) & (where < 0.7)
    coins = np.where(rng.random(persons) < 0.5, Arm.AUDIT_IN, Arm.AUDIT_OUT)
    return np.where(pool, coins, arms).astype(np.int8)


def innocent(
    rng: np.random.Generator,
    *,
    persons: int = 900,
    samples: int = 1200,
    unit: UnitOfPrivacy = UnitOfPrivacy.PERSON,
    scores: bool = False,
) -> Evidence:
    """Return evidence of a generator that knows the population and nobody in it."""
    each = 1 if unit is UnitOfPrivacy.RECORD else 2
    owner = np.repeat(np.arange(persons), each)
    records = pictures(len(owner), rng)
    return Evidence(
        modality="image",
        unit=unit,
        records=records,
        labels=rng.integers(0, 3, len(owner)),
        persons=owner,
        arms=draw_arms(persons, rng),
        folds=rng.integers(1, 3, persons),
        excluded=np.zeros(persons, dtype=bool),
        samples=pictures(samples, rng),
        sample_labels=rng.integers(0, 3, samples),
        target=PrivacyTarget(epsilon=5.0, delta=1e-5),
        mechanisms=(GaussianMechanism(stage="statistics", noise_multiplier=1.2),),
        record_scores={"noise": rng.normal(size=len(owner))} if scores else {},
        gradient_features=rng.normal(size=(len(owner), 5)) if scores else np.empty((0, 0)),
    )


def innocent_table(rng: np.random.Generator, *, persons: int, samples: int) -> Evidence:
    """Return evidence of a table of 6 numbers and 2 categories, and a generator that knows nobody."""
    mixing = rng.normal(size=(6, 6))

    def rows(count: int) -> NDArray[np.float64]:
        numbers = rng.normal(size=(count, 6)) @ mixing
        return np.hstack([numbers, numbers[:, :2] > 0])

    return Evidence(
        modality="table",
        unit=UnitOfPrivacy.RECORD,
        records=rows(persons),
        labels=np.zeros(persons, dtype=int),
        persons=np.arange(persons),
        arms=draw_arms(persons, rng),
        folds=rng.integers(1, 3, persons),
        excluded=np.zeros(persons, dtype=bool),
        samples=rows(samples),
        sample_labels=np.zeros(samples, dtype=int),
        target=PrivacyTarget(epsilon=5.0, delta=1e-5),
        mechanisms=(GaussianMechanism(stage="statistics", noise_multiplier=1.2),),
        targets=(7,),
        quasi_identifiers=(0, 6),
    )


def trained_rows(evidence: Evidence) -> NDArray[np.integer]:
    """Return the records of trained-on persons."""
    return np.flatnonzero(np.isin(evidence.arms[evidence.persons], (Arm.TRAIN, Arm.AUDIT_IN)))


def with_samples(evidence: Evidence, extra: NDArray[np.generic]) -> Evidence:
    """Return evidence whose last samples are `extra`, the number of samples unchanged."""
    samples = evidence.samples.copy()
    samples[len(samples) - len(extra) :] = extra
    return replace(evidence, samples=samples)


def one_record_each(
    evidence: Evidence, count: int, rng: np.random.Generator
) -> NDArray[np.integer]:
    """Return one record of each of `count` trained-on persons."""
    rows = trained_rows(evidence)
    _, first = np.unique(evidence.persons[rows], return_index=True)
    return rng.choice(rows[first], count, replace=False)


def quick(policy: Policy) -> Policy:
    """Return the policy with fewer shuffles and repeats, where a test asks for no power."""
    grid = policy.grid.model_copy(update={"permutations": 400, "self_test_repeats": 2})
    return policy.model_copy(update={"grid": grid})


JOINT_SCHEMA = TableSchema(
    declared_count=60,
    person="patient",
    columns=(
        *(Column(name=f"value {n}", kind="number", edges=(-40, 0, 40)) for n in range(6)),
        Column(name="sex", kind="category", levels=("f", "m")),
        Column(name="grade", kind="ordinal", levels=("0", "1"), role="target"),
    ),
    images=ImagePart(height=SIDE, width=SIDE, condition_on=("grade",)),
)
"""What `innocent_joint` makes, as its owner would declare it."""


def innocent_joint(
    rng: np.random.Generator, *, persons: int = 700, samples: int = 900
) -> JointEvidence:
    """Return rows of 8 columns with an image each, made by somebody who knows nobody.

    The image has the grey of the row's last column, so that both belong together in truth as well.
    """
    table = innocent_table(rng, persons=persons, samples=samples)
    table = replace(table, unit=UnitOfPrivacy.PERSON)
    images = innocent(rng, persons=persons, samples=samples, unit=UnitOfPrivacy.RECORD)
    cells, sample_cells = (rows[:, 7].astype(int) for rows in (table.records, table.samples))
    return JointEvidence(
        table,
        replace(
            images,
            unit=UnitOfPrivacy.PERSON,
            arms=table.arms,
            folds=table.folds,
            records=_tinted(images.records, cells),
            samples=_tinted(images.samples, sample_cells),
            labels=cells,
            sample_labels=sample_cells,
        ),
    )


def _tinted(images: NDArray[np.generic], cells: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return images whose upper half is brighter in the second cell."""
    bright = images.astype(np.int16)
    bright[:, : SIDE // 2] += 40 * cells[:, None, None].astype(np.int16)
    return np.clip(bright, 0, 255).astype(np.uint8)


def with_pairs(
    evidence: JointEvidence,
    *,
    rows: NDArray[np.generic] | None,
    images: NDArray[np.generic] | None,
) -> JointEvidence:
    """Return evidence whose last samples have these rows and these images; None leaves them."""
    table = evidence.table if rows is None else with_samples(evidence.table, rows)
    pictures = evidence.images if images is None else with_samples(evidence.images, images)
    return JointEvidence(table, pictures)
