"""Warnings before a run: is there enough data for what it asks?"""

import pytest

from privacy import regimes
from privacy.manifests import DatasetSchema
from privacy.mechanisms import (
    DpSgdStage,
    GaussianStage,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
    ZcdpStage,
)
from privacy.planning import plan_mechanisms
from privacy.presets import SMALL_UNIT_EPSILON
from privacy.table_schema import TableSchema

LEARNING = (DpSgdStage(stage="dp_sgd", steps=300, expected_batch_size="batch"),)
RELEASES = (GaussianStage(stage="means", noise_ratio=1.0),)
TEACHER = DpSgdStage(stage="teacher", steps=50, expected_batch_size="batch", noise_ratio=1.0)


def schema(*, pixels: int = 28, labels: int = 5, unit: str = "person") -> DatasetSchema:
    return DatasetSchema(
        unit=unit,
        declared_count=1000,
        height=pixels,
        width=pixels,
        label="grade",
        labels=tuple(str(n) for n in range(labels)),
    )


def warned(stages, *, units, epsilon, batch=None, **declared):
    mechanisms = plan_mechanisms(
        stages,
        config={"batch": batch or max(32, round(0.15 * units))},
        target=PrivacyTarget(epsilon=float(epsilon), delta=1e-5),
        public_train_count=units,
    )
    return regimes.warnings(
        mechanisms, stages=stages, schema=schema(**declared), units=units, epsilon=epsilon
    )


def test_the_injected_noise_is_that_of_the_formula():
    mechanism = PoissonSubsampledGaussianMechanism(
        stage="s", noise_multiplier=12.57, sampling_rate=4096 / 55_000, steps=2014
    )
    found = regimes.injected_noise(mechanism, units=55_000)
    assert found == pytest.approx(6.8e-5, rel=0.01)  # sigma sqrt(T) / (B T)


def test_fifty_five_thousand_at_epsilon_1_are_enough_to_learn_from():
    assert warned(LEARNING, units=55_000, epsilon=1) == ()


@pytest.mark.parametrize(("units", "epsilon"), [(500, 10), (1700, 3), (5778, 1)])
def test_a_network_on_little_data_is_warned_against_with_what_to_do(units, epsilon):
    (sentence,) = warned(LEARNING, units=units, epsilon=epsilon, labels=2)
    assert sentence.startswith("Too little to learn from")
    assert f"{units:,} persons × epsilon {epsilon:g} is {units * epsilon:,.0f}" in sentence
    assert "Use statistics" in sentence


def test_between_the_two_a_comparison_is_advised():
    (sentence,) = warned(LEARNING, units=5778, epsilon=3)
    assert sentence.startswith("Little to learn from")
    assert "compare them" in sentence


def test_a_batch_that_wastes_good_data_is_named_as_the_cause():
    (sentence,) = warned(LEARNING, units=55_000, epsilon=10, batch=64)
    assert sentence.startswith("The batch is too small: with 64 persons a step")


def test_releases_and_teachers_are_not_judged_as_networks():
    assert warned(RELEASES, units=2000, epsilon=1) == ()
    assert warned((*RELEASES, TEACHER), units=2000, epsilon=1) == ()


def test_few_units_for_each_label_are_warned_about_whatever_the_generator():
    (sentence,) = warned(RELEASES, units=400, epsilon=1, unit="record")
    assert "80 images for each of 5 labels times epsilon 1 is 80" in sentence
    assert "Merge labels" in sentence
    assert warned(RELEASES, units=400, epsilon=2) == ()


def test_large_images_need_much_data():
    sentences = warned(LEARNING, units=20_000, epsilon=3, pixels=128)
    assert sentences[-1].startswith("Images of 128 × 128 pixels ask for more than")
    assert warned(LEARNING, units=55_000, epsilon=10, pixels=128) == ()


def test_the_most_demanding_generator_that_the_data_carries_is_recommended():
    known = {"statistics": 0.0, "diffusion": SMALL_UNIT_EPSILON, "exotic": None}
    small = {"units": 5000, "epsilon": 1.0}
    large = {"units": 5000, "epsilon": 10.0}
    assert regimes.recommended(known, **small) == "statistics"
    assert regimes.recommended(known, **large) == "diffusion"
    assert regimes.recommended({"exotic": None}, **large) == ""
    told = regimes.recommendation("statistics", schema=schema(), **small)
    assert told.startswith("Recommended: statistics. 5,000 persons × epsilon 1 is 5,000")


def test_images_of_a_table_need_persons_in_every_cell_and_rows_have_their_part_of_the_budget():
    names = ("rows", "means")
    columns = [
        {"name": name, "kind": "category", "levels": [str(n) for n in range(8)]} for name in names
    ]
    images = {"height": 16, "width": 16, "condition_on": names}
    document = {"declared_count": 1000, "person": "id", "columns": columns, "images": images}
    joint = TableSchema.model_validate(document)
    alone = TableSchema.model_validate(document | {"images": None})
    rows = ZcdpStage(stage="rows", steps=10, noise_ratio=3.0)
    stages = (rows, GaussianStage(stage="means", noise_ratio=1.0))

    def told(declared, stages, *, units, epsilon):
        mechanisms = plan_mechanisms(
            stages,
            config={},
            target=PrivacyTarget(epsilon=epsilon, delta=1e-5),
            public_train_count=units,
        )
        return " ".join(
            regimes.warnings(
                mechanisms, stages=stages, schema=declared, units=units, epsilon=epsilon
            )
        )

    assert "Name fewer columns there" in told(joint, stages, units=1500, epsilon=2.0)
    assert "cells" not in told(joint, stages, units=15_000, epsilon=2.0)
    # A tenth of the budget is for rows: as if epsilon were a third.
    assert "rare codes are mostly noise" in told(joint, stages, units=900, epsilon=1.0)
    assert told(alone, (rows,), units=900, epsilon=1.0) == ""
    assert "independent_columns" in told(alone, (rows,), units=200, epsilon=0.5)
    assert "lower row_noise_ratio" in told(joint, stages, units=200, epsilon=0.5)
