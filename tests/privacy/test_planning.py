"""A plan meets its target with the least noise, from public numbers only, or says why it cannot."""

import math
from decimal import Decimal

import pytest

from privacy import accounting, ledger, planning
from privacy.errors import InvalidParameter
from privacy.inclusion import Rates, rates_for
from privacy.mechanisms import (
    DpSgdStage,
    GaussianMechanism,
    GaussianStage,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
)

TARGET = PrivacyTarget(epsilon=5.0, delta=1e-5)
STATISTICS = GaussianStage(stage="statistics", noise_ratio=3.0)
SGD = DpSgdStage(stage="dp_sgd", steps=100, expected_batch_size=200)


ODD = {"word": "many", "flag": True, "half": 0.5, "nan": math.nan, "inf": math.inf}


def plan(*stages, config=None, target=TARGET, count=1750):
    return planning.plan_mechanisms(
        stages, config=config or {}, target=target, public_train_count=count
    )


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
@pytest.mark.parametrize(
    "stages",
    [(SGD,), (STATISTICS, SGD), (STATISTICS,), (STATISTICS, STATISTICS)],
    ids=["sgd", "statistics+sgd", "statistics", "two statistics"],
)
def test_a_plan_costs_at_most_its_target_and_hardly_less(stages, epsilon):
    target = PrivacyTarget(epsilon=epsilon, delta=1e-5)
    mechanisms = plan(*stages, target=target)
    cost = ledger.cost(mechanisms, target.delta)
    assert Decimal(repr(epsilon)) * Decimal("0.99") < cost <= Decimal(repr(epsilon))
    # What anybody re-derives at the full delta is a little less than what was reserved.
    rederived = accounting.epsilon(mechanisms, target.delta)
    assert epsilon * 0.98 < rederived <= epsilon


def test_a_plan_keeps_the_order_names_and_numbers_of_the_stages():
    teacher = DpSgdStage(stage="teacher", steps="teacher_steps", expected_batch_size="batch")
    mechanisms = plan(
        SGD, STATISTICS, teacher, config={"teacher_steps": 20, "batch": 350, "other": 1}
    )
    assert [m.stage for m in mechanisms] == ["dp_sgd", "statistics", "teacher"]
    assert [m.steps for m in mechanisms] == [100, 1, 20]
    sgd, statistics, taught = mechanisms
    assert isinstance(statistics, GaussianMechanism)
    assert isinstance(sgd, PoissonSubsampledGaussianMechanism)
    assert isinstance(taught, PoissonSubsampledGaussianMechanism)
    assert sgd.noise_multiplier == taught.noise_multiplier
    assert sgd.sampling_rate == 200 / 1750
    assert taught.sampling_rate == 350 / 1750


def test_a_gaussian_stage_gets_its_ratio_of_the_noise_that_would_spend_the_target():
    alone = accounting.gaussian_noise_multiplier(TARGET)
    statistics, _ = plan(GaussianStage(stage="s", noise_ratio="ratio"), SGD, config={"ratio": 2.5})
    assert statistics.noise_multiplier == pytest.approx(2.5 * alone, rel=1e-4)
    assert statistics.noise_multiplier >= 2.5 * alone


def test_gaussian_stages_alone_keep_their_proportion_and_spend_the_whole_target():
    wide, narrow = plan(
        GaussianStage(stage="a", noise_ratio=3), GaussianStage(stage="b", noise_ratio=1)
    )
    assert wide.noise_multiplier / narrow.noise_multiplier == pytest.approx(3, rel=1e-3)


def test_noise_is_rounded_up_to_few_digits_and_hardly_more_than_needed():
    noise = plan(SGD)[0].noise_multiplier
    assert len(Decimal(repr(noise)).as_tuple().digits) <= 5
    quieter = [plan(SGD)[0].model_copy(update={"noise_multiplier": noise * 0.997})]
    assert ledger.cost(quieter, TARGET.delta) > Decimal(5)


@pytest.mark.parametrize("delta", [1e-9, 1e-3])
def test_plans_hold_at_other_deltas(delta):
    target = PrivacyTarget(epsilon=3.0, delta=delta)
    assert accounting.epsilon(plan(SGD, target=target), delta) <= 3.0


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ((), "declares no stages"),
        ((GaussianStage(stage="s", noise_ratio=1.0), SGD), "Raise their noise_ratio"),
        ((GaussianStage(stage="s", noise_ratio=0.0), SGD), "noise ratio of 0"),
        ((GaussianStage(stage="s", noise_ratio="nan"), SGD), "noise ratio of nan"),
        ((GaussianStage(stage="s", noise_ratio="inf"),), "noise ratio of inf"),
        ((GaussianStage(stage="s", noise_ratio="absent"),), "'absent'"),
        ((DpSgdStage(stage="d", steps=0, expected_batch_size=10),), "steps 0"),
        ((DpSgdStage(stage="d", steps=-5, expected_batch_size=10),), "steps -5"),
        ((DpSgdStage(stage="d", steps="word", expected_batch_size=10),), "steps 'many'"),
        ((DpSgdStage(stage="d", steps="flag", expected_batch_size=10),), "steps True"),
        ((DpSgdStage(stage="d", steps="half", expected_batch_size=10),), "steps 0.5"),
        ((DpSgdStage(stage="d", steps=1, expected_batch_size=1751),), "batch size of 1751"),
        ((DpSgdStage(stage="d", steps=10**8, expected_batch_size=5),), "steps were refused"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_a_sentence(stages, sentence):
    with pytest.raises(InvalidParameter, match="refused") as refusal:
        plan(*stages, config=ODD)
    assert sentence in str(refusal.value)


def test_a_target_that_no_noise_can_meet_is_refused_with_a_remedy():
    endless = DpSgdStage(stage="d", steps=1_000_000, expected_batch_size=1750)
    with pytest.raises(InvalidParameter, match="Take fewer steps, a smaller batch"):
        plan(endless, target=PrivacyTarget(epsilon=0.01, delta=1e-5))


def test_a_batch_of_everybody_is_allowed_and_is_no_sampling():
    everybody = DpSgdStage(stage="d", steps=3, expected_batch_size=1750)
    (mechanism,) = plan(everybody)
    assert mechanism.sampling_rate == 1


def test_the_training_count_is_what_the_public_rates_leave_rounded_down():
    assert planning.public_train_count(2500, rates=rates_for(2500)) == 1750
    assert planning.public_train_count(100, rates=Rates(reference=0.0, pool=0.0)) == 100
    assert planning.public_train_count(99, rates=Rates(reference=0.1, pool=0.2)) == 79


TEACHER = DpSgdStage(
    stage="teacher", steps=50, expected_batch_size=400, noise_ratio=2.0, only_if="teacher"
)


def test_dp_sgd_with_a_noise_ratio_has_that_many_times_the_noise_it_would_need_alone():
    (alone,) = plan(TEACHER.model_copy(update={"noise_ratio": None}))
    _, taught = plan(SGD, TEACHER)
    assert taught.noise_multiplier == pytest.approx(2 * alone.noise_multiplier, rel=2e-3)


def test_stages_that_all_have_a_ratio_are_scaled_together_to_the_target():
    statistics, taught = plan(STATISTICS, TEACHER)
    cost = ledger.cost((statistics, taught), TARGET.delta)
    assert Decimal("4.95") < cost <= Decimal("5.0")
    (alone,) = plan(TEACHER.model_copy(update={"noise_ratio": None}))
    assert taught.noise_multiplier < 2 * alone.noise_multiplier


def test_a_stage_that_is_switched_off_is_left_out_and_its_budget_goes_to_the_others():
    on = plan(SGD, TEACHER, config={"teacher": "relabel"})
    off = plan(SGD, TEACHER, config={"teacher": "off"})
    assert [m.stage for m in on] == ["dp_sgd", "teacher"]
    assert [m.stage for m in off] == ["dp_sgd"]
    assert off[0].noise_multiplier < on[0].noise_multiplier


def test_dp_sgd_whose_ratio_leaves_no_room_is_refused():
    greedy = TEACHER.model_copy(update={"noise_ratio": 0.9})
    with pytest.raises(InvalidParameter, match="noise_ratio above 1"):
        plan(SGD, greedy)


RATED = DpSgdStage(stage="teacher", steps=50, sampling_rate="rate", noise_ratio=2.0)


@pytest.mark.parametrize("count", [50, 60_000])
def test_a_sampling_rate_plans_the_same_mechanism_for_fifty_units_as_for_sixty_thousand(count):
    (mechanism,) = plan(RATED, config={"rate": 0.25}, count=count)
    assert mechanism.sampling_rate == 0.25
    (as_batch,) = plan(
        DpSgdStage(stage="teacher", steps=50, expected_batch_size=count // 4, noise_ratio=2.0),
        count=4 * (count // 4),
    )
    assert mechanism == as_batch


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, True, "word", math.nan, math.inf])
def test_a_sampling_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(InvalidParameter, match="at most 1"):
        plan(RATED, config={"rate": rate})


def test_a_stage_with_no_size_or_with_two_is_refused():
    with pytest.raises(ValueError, match="either expected_batch_size or sampling_rate"):
        DpSgdStage(stage="d", steps=1)
    with pytest.raises(ValueError, match="not both"):
        DpSgdStage(stage="d", steps=1, expected_batch_size=5, sampling_rate=0.5)
