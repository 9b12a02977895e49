"""The vocabulary of mechanisms is append-only, exact, and refuses what it does not know."""

import pytest
from pydantic import TypeAdapter, ValidationError

from privacy.errors import UnsupportedMechanism
from privacy.mechanisms import (
    DpSgdStage,
    GaussianMechanism,
    GaussianStage,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
    Stage,
    ZcdpMechanism,
    mechanisms_from_json,
    mechanisms_to_json,
)

# Records as they were first written. They must read for ever: never edit, only add.
FROZEN = [
    {"kind": "gaussian", "stage": "statistics", "noise_multiplier": 3.5, "steps": 1},
    {
        "kind": "poisson_subsampled_gaussian",
        "stage": "dp_sgd",
        "noise_multiplier": 2.25,
        "sampling_rate": 0.1,
        "steps": 100,
    },
    {"kind": "zcdp", "stage": "rounds", "noise_multiplier": 181.5, "steps": 2000},
]


def test_old_records_read_and_write_back_unchanged():
    mechanisms = mechanisms_from_json(FROZEN)
    assert [type(m) for m in mechanisms] == [
        GaussianMechanism,
        PoissonSubsampledGaussianMechanism,
        ZcdpMechanism,
    ]
    assert mechanisms_to_json(mechanisms) == FROZEN


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "laplace"},
        {"kind": None},
        {"noise_multiplier": 0},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": float("nan")},
        {"noise_multiplier": float("inf")},
        {"noise_multiplier": "much"},
        {"sampling_rate": 0},
        {"sampling_rate": 1.01},
        {"steps": -1},
        {"steps": 1.5},
        {"clipping": "none"},
    ],
)
def test_a_mechanism_that_cannot_be_accounted_for_is_refused_and_its_place_named(change):
    with pytest.raises(UnsupportedMechanism, match=r"refused at \[1"):
        mechanisms_from_json([FROZEN[0], FROZEN[1] | change])


@pytest.mark.parametrize("value", [None, {}, "gaussian", [None], [[]], [{"kind": "gaussian"}]])
def test_what_is_no_list_of_mechanisms_is_refused(value):
    with pytest.raises(UnsupportedMechanism):
        mechanisms_from_json(value)


def test_a_mechanism_cannot_be_changed_after_it_was_recorded():
    with pytest.raises(ValidationError):
        mechanisms_from_json(FROZEN)[0].noise_multiplier = 100.0


@pytest.mark.parametrize(
    "target",
    [{"epsilon": 0}, {"epsilon": 101}, {"delta": 0}, {"delta": 1}, {"epsilon": float("nan")}],
)
def test_a_target_that_means_nothing_is_refused(target):
    with pytest.raises(ValidationError):
        PrivacyTarget(**({"epsilon": 1.0, "delta": 1e-5} | target))


def test_stages_read_back_from_json():
    adapter = TypeAdapter(tuple[Stage, ...])
    stages = (
        GaussianStage(stage="s", noise_ratio="ratio"),
        DpSgdStage(stage="d", steps=10, expected_batch_size="batch"),
    )
    assert adapter.validate_json(adapter.dump_json(stages)) == stages
