"""zCDP is accounted for by Rényi DP alone, tightly, and composes with everything else."""

import math
from decimal import Decimal

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from privacy import accounting, ledger, planning
from privacy.errors import InvalidParameter, ReservationExceeded
from privacy.mechanisms import (
    DpSgdStage,
    GaussianMechanism,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
    ZcdpMechanism,
    ZcdpStage,
)

DELTA = 1e-5


def zcdp(rho, steps=1000):
    return ZcdpMechanism(stage="z", noise_multiplier=math.sqrt(steps / (2 * rho)), steps=steps)


def canonne_kamath_steinke(rho, delta):
    """Corollary 13 written out with a continuous order: the oracle that shares no code with us."""

    def at(log_order):
        order = 1 + math.exp(log_order)
        conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        return order * rho + conversion

    return minimize_scalar(at, bounds=(-4, 12), method="bounded", options={"xatol": 1e-10}).fun


@pytest.mark.parametrize("rho", [1e-4, 0.0306, 0.3, 1.75, 12.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_epsilon_is_the_tight_conversion_and_the_second_accountant_agrees(rho, delta):
    exact = canonne_kamath_steinke(rho, delta)
    first = accounting.epsilon([zcdp(rho)], delta)
    second = accounting.second_opinion([zcdp(rho)], delta)
    for found in (first, second):
        assert exact * (1 - 1e-9) <= found <= exact * (1 + 2e-4)


def test_one_epsilon_at_one_in_a_hundred_thousand_buys_the_known_rho():
    (planned,) = planning.plan_mechanisms(
        [ZcdpStage(stage="z", steps=2000)],
        config={},
        target=PrivacyTarget(epsilon=1.0, delta=DELTA),
        public_train_count=6000,
    )
    assert 0.0302 < planned.steps * planned.rho_of_step < 0.0306


@pytest.mark.parametrize("rho", [1e-3, 0.03, 1.0])
def test_zcdp_never_costs_less_than_the_gaussian_release_that_is_one(rho):
    release = GaussianMechanism(stage="g", noise_multiplier=math.sqrt(1 / (2 * rho)))
    assert accounting.epsilon([zcdp(rho)], DELTA) > accounting.epsilon([release], DELTA)
    orders = (2.0, 7.0, 64.0)
    assert accounting.renyi_divergences(zcdp(rho), orders) == pytest.approx(
        accounting.renyi_divergences(release, orders)
    )


@pytest.mark.parametrize(
    "beside",
    [
        GaussianMechanism(stage="g", noise_multiplier=8.0),
        PoissonSubsampledGaussianMechanism(
            stage="s", noise_multiplier=1.4, sampling_rate=0.05, steps=80
        ),
    ],
)
def test_a_list_with_zcdp_never_goes_through_privacy_loss_distributions(beside, monkeypatch):
    def refuse(*_):
        raise AssertionError("zCDP has no privacy loss distribution")

    monkeypatch.setattr(accounting, "_pld_accountant", refuse)
    both = [zcdp(0.02), beside]
    first, second = accounting.epsilon(both, DELTA), accounting.second_opinion(both, DELTA)
    assert first == pytest.approx(second, rel=1e-6)
    assert first > accounting.second_opinion([beside], DELTA)
    assert first > accounting.epsilon([zcdp(0.02)], DELTA)
    assert accounting.delta(both, first) == pytest.approx(DELTA, rel=1e-3)


def test_the_ceiling_on_attacks_is_never_below_that_of_one_gaussian():
    release = [GaussianMechanism(stage="g", noise_multiplier=math.sqrt(1 / 0.06))]
    for epsilon in np.linspace(0.0, 3.0, 7):
        # The other accountant adds what its transform may lose, which is all that is left at 3.
        least = accounting.delta(release, epsilon) - 2e-14
        assert accounting.delta([zcdp(0.03)], epsilon) >= least


def test_zcdp_beside_training_shares_one_target():
    planned = planning.plan_mechanisms(
        [
            ZcdpStage(stage="z", steps="quanta", noise_ratio=2.0),
            DpSgdStage(stage="s", steps=100, sampling_rate=0.01),
        ],
        config={"quanta": 500},
        target=PrivacyTarget(epsilon=1.0, delta=DELTA),
        public_train_count=6000,
    )
    assert [m.kind for m in planned] == ["zcdp", "poisson_subsampled_gaussian"]
    assert planned[0].steps == 500
    assert 0.97 < accounting.epsilon(planned, DELTA) <= 1.0


@pytest.mark.parametrize("rule", list(ledger.CompositionRule))
def test_quanta_that_were_not_charged_come_back(rule):
    budget = ledger.Budget(Decimal(10), Decimal("1e-4"), rule)
    held = ledger.reserve(budget, [], job_id="j", mechanisms=[zcdp(0.03, 800)], delta=DELTA)
    half = ledger.close(ledger.charge(held, 0, 390))
    whole = ledger.close(ledger.charge(held, 0, 800))
    none = ledger.close(held)
    spent = [ledger.spent(budget, [item])[0] for item in (none, half, whole)]
    assert 0 == spent[0] < spent[1] < spent[2]
    if rule is ledger.CompositionRule.BASIC:
        assert spent[2] == held.epsilon
        # Of the eighths, the next one is paid for, at a smaller delta than the whole run's.
        stop = canonne_kamath_steinke(0.03 / 2, DELTA * 0.05 / 7)
        assert float(spent[1]) == pytest.approx(stop, rel=1e-4)


def test_a_quantum_that_was_not_reserved_is_refused():
    budget = ledger.Budget(Decimal(10), Decimal("1e-4"))
    held = ledger.reserve(budget, [], job_id="j", mechanisms=[zcdp(0.03, 10)], delta=DELTA)
    with pytest.raises(ReservationExceeded, match="10 were reserved"):
        ledger.charge(held, 0, 11)


@pytest.mark.parametrize("noise", [1e-3, 1e7])
def test_noise_out_of_range_is_refused(noise):
    with pytest.raises(InvalidParameter, match="noise multiplier"):
        accounting.epsilon([ZcdpMechanism(stage="z", noise_multiplier=noise, steps=1)], DELTA)
