"""Reserves, charges and refunds privacy budget: pure functions over frozen values.

A budget holds an (epsilon, delta) for one cohort under one composition rule. A reservation is the
ordered list of mechanisms that one job may run; steps are charged in blocks before they run, and
nothing moves between mechanisms. Sums are exact decimals and every rounding is upwards. Whether
a run failed, was cancelled or was a repeat plays no part: what was charged stays charged.

This module stores nothing, locks nothing and knows no clock; `service.operations` does.

**Basic composition.** Each job is (epsilon_j, delta_j)-DP by PLD and the budget bounds the sums
(Dwork et al. 2006; valid for jobs chosen adaptively and run side by side: Haney et al. 2023,
arXiv:2309.05901). A refund needs care. A job that somebody stops after looking at its progress
does not cost the epsilon of the steps it took at the full delta_j, because the stop is chosen from
the noise: each possible stopping point is one more chance to fail. So a job may only stop, for
accounting, at K stops fixed beforehand (each mechanism cut into at most eight equal parts, in
order); its cost is that of the next stop, rounded up. A full run is accounted at
(1 - r) delta_j and every stop at r delta_j / K. For every event S, summing over where it stopped,
P(S) <= sum_k e^eps_k Q(S and stopped at k) + delta_j: an ex-post guarantee whose epsilon depends
on the outcome, and the sum rule holds for those by induction over the last job (Rogers et al.
2023, arXiv:2306.13824). The order in which a job runs its stages is fixed by its generator.

**Rényi filter.** The steps of all jobs form one adaptively chosen sequence. For one order a fixed
beforehand, a process that halts before sum rho_i(a) would pass R_a is (a, R_a)-RDP (Feldman &
Zrnic 2021, arXiv:2008.11193; Lécuyer 2021, arXiv:2103.01379), and P(loss > eps) <= delta / A for
R_a = eps - ln(A / delta) / (a - 1). We admit a job when *some* order of a fixed grid of A orders
still fits. The order that fits in the end is chosen by the outcome, so each order pays delta / A
and a union bound covers the choice. Refunds only lower every sum, so they need no stops here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal, Inexact
from enum import StrEnum
from functools import lru_cache
from math import inf, nextafter

from privacy import accounting
from privacy.errors import BudgetExceeded, InvalidParameter, ReservationExceeded
from privacy.mechanisms import Mechanism

# Part of a job's delta that pays for stopping early; costs a full run about 0.3 % more noise.
REFUND_SHARE = Decimal("0.05")
_PARTS_PER_MECHANISM = 8

# The orders of the Rényi filter. Few, because each pays its share of delta.
FILTER_ORDERS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0, 24.0, 40.0, 64.0, 128.0)

# Sums of epsilons and deltas are exact: a digit lost is an error, not a rounding.
_EXACT = Context(prec=400, traps=[Inexact])
# Far above the rounding of the few float operations between an exact sum and its epsilon.
_FLOAT_SLACK = 1e-12
_ZERO = Decimal(0)
_MAX_DELTA_DIGITS = 40


class CompositionRule(StrEnum):
    """How the costs of a cohort's jobs add up; chosen with the budget and never switched."""

    BASIC = "basic"
    RENYI = "renyi"


@dataclass(frozen=True)
class Budget:
    """The epsilon and delta that everything ever run on one cohort may cost together."""

    epsilon: Decimal
    delta: Decimal
    rule: CompositionRule = CompositionRule.BASIC

    def __post_init__(self) -> None:
        """Refuse a budget that is no number, is negative, or means nothing."""
        _check_amount("budget epsilon", self.epsilon, low=_ZERO, high=Decimal(100))
        _check_amount("budget delta", self.delta, low=_ZERO, high=Decimal("0.5"))
        if not isinstance(self.rule, CompositionRule):
            raise InvalidParameter(f"The composition rule {self.rule!r} was refused.")


@dataclass(frozen=True)
class Reservation:
    """What one job may run, what it has charged, and what that costs.

    `epsilon` and `delta` are what it holds while open, and what it cost once closed.
    `charged[i]` counts the steps of `mechanisms[i]` that were charged.
    """

    job_id: str
    mechanisms: tuple[Mechanism, ...]
    epsilon: Decimal
    delta: Decimal
    charged: tuple[int, ...]
    open: bool = True

    @property
    def charged_mechanisms(self) -> tuple[Mechanism, ...]:
        """Return the mechanisms with the steps that were charged, in order."""
        pairs = zip(self.mechanisms, self.charged, strict=True)
        return tuple(mechanism.model_copy(update={"steps": steps}) for mechanism, steps in pairs)


def reserve(
    budget: Budget,
    reservations: Iterable[Reservation],
    *,
    job_id: str,
    mechanisms: Sequence[Mechanism],
    delta: Decimal | float,
) -> Reservation:
    """Return a reservation that the budget can carry beside all `reservations`, open and closed.

    `delta` is the job's own. Raises: BudgetExceeded with what remains; InvalidParameter for an
    empty list, a job that already holds a reservation, or numbers out of range.
    """
    held = tuple(reservations)
    mechanisms = tuple(mechanisms)
    if not any(mechanism.steps for mechanism in mechanisms):
        raise InvalidParameter(
            "The reservation was refused: it lists no steps. Name what will run."
        )
    if any(other.job_id == job_id for other in held):
        raise InvalidParameter(
            f"The reservation for job {job_id} was refused: the job already holds one."
        )
    job_delta = _exact_delta(delta)
    wanted = Reservation(
        job_id=job_id,
        mechanisms=mechanisms,
        epsilon=cost(mechanisms, job_delta),
        delta=job_delta,
        charged=(0,) * len(mechanisms),
    )
    _check_fits(budget, held, wanted)
    return wanted


def charge(reservation: Reservation, index: int, steps: int) -> Reservation:
    """Return the reservation with `steps` more steps of mechanism `index` charged.

    Raises: ReservationExceeded if they were not reserved, or the reservation is closed.
    """
    if not reservation.open:
        raise ReservationExceeded(
            f"A charge of {steps} steps was refused: the reservation of job {reservation.job_id} "
            "is closed. Start a new job."
        )
    if not 0 <= index < len(reservation.mechanisms):
        raise InvalidParameter(
            f"Mechanism {index} was refused: job {reservation.job_id} reserved "
            f"{len(reservation.mechanisms)} mechanisms, numbered from 0."
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InvalidParameter(f"A charge of {steps!r} steps was refused: charge at least 1.")
    mechanism = reservation.mechanisms[index]
    total = reservation.charged[index] + steps
    if total > mechanism.steps:
        raise ReservationExceeded(
            f"A charge of {steps} steps of {mechanism.stage} was refused: {mechanism.steps} were "
            f"reserved and {reservation.charged[index]} are charged. Nothing moves between stages."
        )
    charged = (*reservation.charged[:index], total, *reservation.charged[index + 1 :])
    return replace(reservation, charged=charged)


def close(reservation: Reservation) -> Reservation:
    """Return the reservation closed at the cost of what was charged; closing again is harmless."""
    if not reservation.open:
        return reservation
    epsilon, delta = _cost_so_far(reservation)
    return replace(reservation, epsilon=epsilon, delta=delta, open=False)


def spent(budget: Budget, reservations: Iterable[Reservation]) -> tuple[Decimal, Decimal]:
    """Return the (epsilon, delta) of every step that was charged."""
    held = tuple(reservations)
    if budget.rule is CompositionRule.RENYI:
        return _filter_cost(budget, tuple(item.charged_mechanisms for item in held))
    return _sum(_cost_so_far(item) for item in held)


def reserved(budget: Budget, reservations: Iterable[Reservation]) -> tuple[Decimal, Decimal]:
    """Return the (epsilon, delta) held by open reservations for steps not yet charged."""
    held = tuple(reservations)
    total, charged = committed(budget, held), spent(budget, held)
    return _minus(total[0], charged[0]), _minus(total[1], charged[1])


def remaining(budget: Budget, reservations: Iterable[Reservation]) -> tuple[Decimal, Decimal]:
    """Return the (epsilon, delta) that is neither spent nor reserved; never negative."""
    total = committed(budget, reservations)
    return (
        max(_ZERO, _minus(budget.epsilon, total[0])),
        max(_ZERO, _minus(budget.delta, total[1])),
    )


def committed(budget: Budget, reservations: Iterable[Reservation]) -> tuple[Decimal, Decimal]:
    """Return spent and reserved together: what a new job has to fit beside."""
    held = tuple(reservations)
    if budget.rule is CompositionRule.RENYI:
        return _filter_cost(budget, tuple(_held_mechanisms(item) for item in held))
    return _sum((item.epsilon, item.delta) for item in held)


def cost(mechanisms: Sequence[Mechanism], delta: Decimal | float) -> Decimal:
    """Return what a job that runs all of `mechanisms` costs at its `delta`, stops included.

    A little above `accounting.epsilon_decimal`, because some of delta pays for stopping early.
    """
    full_share = _EXACT.multiply(_exact_delta(delta), 1 - REFUND_SHARE)
    return accounting.epsilon_decimal(mechanisms, _float_at_most(full_share))


def _cost_so_far(reservation: Reservation) -> tuple[Decimal, Decimal]:
    if not reservation.open:
        return reservation.epsilon, reservation.delta
    if not any(reservation.charged):
        return _ZERO, _ZERO
    stopped = _cost_of_stop(reservation.mechanisms, reservation.charged, reservation.delta)
    # A full run, or a stop so late that its smaller delta makes it dearer, costs what is held.
    epsilon = reservation.epsilon if stopped is None else min(reservation.epsilon, stopped)
    return epsilon, reservation.delta


@lru_cache(maxsize=1024)
def _cost_of_stop(
    mechanisms: tuple[Mechanism, ...], charged: tuple[int, ...], delta: Decimal
) -> Decimal | None:
    """Return the epsilon of the first stop that covers `charged`; None if only the full run does."""
    stops = _stops(mechanisms)
    for stop in stops:
        if all(steps <= limit for steps, limit in zip(charged, stop, strict=True)):
            share = delta * REFUND_SHARE / len(stops)
            pairs = zip(mechanisms, stop, strict=True)
            prefix = [mechanism.model_copy(update={"steps": steps}) for mechanism, steps in pairs]
            at = _float_at_most(share)
            if at < accounting.DELTA_RANGE[0]:
                return None
            return accounting.epsilon_decimal(prefix, at)
    return None


def _stops(mechanisms: tuple[Mechanism, ...]) -> list[tuple[int, ...]]:
    """Return the step counts at which a job may stop early, the full run excluded, in order."""
    stops: list[tuple[int, ...]] = []
    for index, mechanism in enumerate(mechanisms):
        before = tuple(earlier.steps for earlier in mechanisms[:index])
        after = (0,) * (len(mechanisms) - index - 1)
        parts = min(_PARTS_PER_MECHANISM, mechanism.steps)
        stops += [
            (*before, -(-mechanism.steps * part // parts), *after) for part in range(1, parts + 1)
        ]
    full = tuple(mechanism.steps for mechanism in mechanisms)
    return [stop for stop in stops if stop != full]


def _held_mechanisms(reservation: Reservation) -> tuple[Mechanism, ...]:
    return reservation.mechanisms if reservation.open else reservation.charged_mechanisms


def _filter_cost(
    budget: Budget, jobs: tuple[tuple[Mechanism, ...], ...]
) -> tuple[Decimal, Decimal]:
    """Return the epsilon at the budget's delta that the Rényi filter gives for `jobs` together."""
    mechanisms = [mechanism for job in jobs for mechanism in job if mechanism.steps]
    if not mechanisms:
        return _ZERO, _ZERO
    best = inf
    sums = [_ZERO] * len(FILTER_ORDERS)
    for mechanism in mechanisms:
        divergences = accounting.renyi_divergences(mechanism, FILTER_ORDERS)
        # Decimals of floats are exact, so the order of the jobs cannot change the sums.
        pairs = zip(sums, divergences, strict=True)
        sums = [_EXACT.add(total, Decimal(value)) for total, value in pairs]
    for order, total in zip(FILTER_ORDERS, sums, strict=True):
        best = min(best, float(total) + _log_union(budget.delta) / (order - 1))
    return accounting.round_up(best * (1 + _FLOAT_SLACK)), budget.delta


def _log_union(delta: Decimal) -> float:
    return float((len(FILTER_ORDERS) / delta).ln())


def _check_fits(budget: Budget, held: tuple[Reservation, ...], wanted: Reservation) -> None:
    total = committed(budget, (*held, wanted))
    if total[0] <= budget.epsilon and total[1] <= budget.delta:
        return
    epsilon, delta = remaining(budget, held)
    raise BudgetExceeded(
        f"The job was refused: it needs epsilon {wanted.epsilon} at delta {_plain(wanted.delta)}, "
        f"and of the cohort's budget (epsilon {budget.epsilon}, delta {_plain(budget.delta)}, "
        f"{budget.rule} composition) epsilon {epsilon} at delta {_plain(delta)} remains. "
        "Ask for a smaller epsilon or delta, or wait for a running job to return what it does "
        "not use."
    )


def _sum(costs: Iterable[tuple[Decimal, Decimal]]) -> tuple[Decimal, Decimal]:
    epsilon, delta = _ZERO, _ZERO
    for job_epsilon, job_delta in costs:
        epsilon, delta = _EXACT.add(epsilon, job_epsilon), _EXACT.add(delta, job_delta)
    return epsilon, delta


def _minus(left: Decimal, right: Decimal) -> Decimal:
    return _EXACT.subtract(left, right)


def _exact_delta(delta: Decimal | float) -> Decimal:
    """Return delta as the decimal that was written down: 1e-5, not its nearest binary fraction."""
    exact = delta if isinstance(delta, Decimal) else Decimal(repr(float(delta)))
    _check_amount("delta", exact, low=_ZERO, high=Decimal("0.5"))
    return exact


def _float_at_most(value: Decimal) -> float:
    nearest = float(value)
    return nearest if Decimal(nearest) <= value else nextafter(nearest, 0.0)


def _check_amount(name: str, value: Decimal, *, low: Decimal, high: Decimal) -> None:
    if not isinstance(value, Decimal) or not value.is_finite() or not low < value <= high:
        raise InvalidParameter(
            f"The {name} {value} was refused: give a number above {low} and at most {high}."
        )
    if -int(value.as_tuple().exponent) > _MAX_DELTA_DIGITS:
        raise InvalidParameter(
            f"The {name} {value} was refused: at most {_MAX_DELTA_DIGITS} decimal places are kept."
        )


def _plain(value: Decimal) -> str:
    return f"{value.normalize():g}" if value else "0"
