"""The laws of the budget: no overdraft, no transfer, nothing forgotten, whatever the order."""

from dataclasses import replace
from decimal import Decimal
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from privacy import accounting, ledger
from privacy.errors import BudgetExceeded, InvalidParameter, ReservationExceeded
from privacy.ledger import Budget, CompositionRule
from privacy.mechanisms import GaussianMechanism, PoissonSubsampledGaussianMechanism

STATISTICS = GaussianMechanism(stage="statistics", noise_multiplier=6.0)
TEACHER = PoissonSubsampledGaussianMechanism(
    stage="teacher", noise_multiplier=5.0, sampling_rate=0.1, steps=8
)
TRAINING = PoissonSubsampledGaussianMechanism(
    stage="dp_sgd", noise_multiplier=4.0, sampling_rate=0.2, steps=40
)
JOBS = [(STATISTICS,), (STATISTICS, TRAINING), (TEACHER, TRAINING), (TEACHER,)]
DELTA = Decimal("0.00001")
RULES = list(CompositionRule)


def budget(epsilon="20", delta="0.0001", rule=CompositionRule.BASIC) -> Budget:
    return Budget(Decimal(epsilon), Decimal(delta), rule)


def reserve(held, mechanisms, *, of=None, job_id=None, delta=DELTA):
    return ledger.reserve(
        of or budget(), held, job_id=job_id or f"job{len(held)}", mechanisms=mechanisms, delta=delta
    )


def charge_all(reservation):
    for index, mechanism in enumerate(reservation.mechanisms):
        reservation = ledger.charge(reservation, index, mechanism.steps)
    return reservation


def test_a_reservation_holds_the_cost_of_its_mechanisms():
    made = reserve([], (STATISTICS, TRAINING))
    assert made.epsilon == ledger.cost((STATISTICS, TRAINING), DELTA)
    assert made.delta == DELTA
    assert made.charged == (0, 0)
    assert made.open
    # Above the epsilon at the whole of delta, because a slice of delta pays for stopping early.
    plain = accounting.epsilon_decimal((STATISTICS, TRAINING), 1e-5)
    assert plain <= made.epsilon <= plain * Decimal("1.02")


def test_a_full_run_costs_exactly_what_it_reserved():
    made = charge_all(reserve([], (STATISTICS, TRAINING)))
    closed = ledger.close(made)
    assert (closed.epsilon, closed.delta) == (made.epsilon, made.delta)
    assert ledger.spent(budget(), [made]) == ledger.spent(budget(), [closed])
    assert ledger.reserved(budget(), [made])[0] == 0


def test_a_job_that_never_ran_is_refunded_wholly():
    closed = ledger.close(reserve([], (TEACHER,)))
    assert (closed.epsilon, closed.delta) == (0, 0)
    assert ledger.remaining(budget(), [closed]) == (Decimal(20), Decimal("0.0001"))


def test_stopping_early_refunds_steps_but_never_less_than_a_valid_bound():
    made = reserve([], (STATISTICS, TRAINING))
    stopped = ledger.charge(ledger.charge(made, 0, 1), 1, 10)
    closed = ledger.close(stopped)
    assert closed.epsilon < made.epsilon
    assert closed.delta == made.delta
    # The stop was chosen by looking, so the plain epsilon of the steps taken is not enough.
    assert closed.epsilon > accounting.epsilon_decimal(stopped.charged_mechanisms, 1e-5)


def test_the_cost_of_stopping_changes_only_at_stops_fixed_beforehand():
    made = reserve([], (TRAINING,))
    costs = {
        ledger.close(ledger.charge(made, 0, steps)).epsilon for steps in range(1, TRAINING.steps)
    }
    assert len(costs) <= 8
    at_stop, inside = (ledger.close(ledger.charge(made, 0, steps)).epsilon for steps in (10, 9))
    assert at_stop == inside


def test_stops_chosen_by_looking_at_the_noise_are_paid_for():
    """The attack that plain refunds lose to, worked out for two steps of a Gaussian.

    The owner stops after step 1 exactly when that step's privacy loss is large. Were the stopped
    run charged its plain epsilon at the full delta, the pair "stopped, or ran on" would fail more
    often than delta: the failures of both branches add up. Here they add up to at most delta.
    """
    two = GaussianMechanism(stage="g", noise_multiplier=2.0, steps=2)
    one = two.model_copy(update={"steps": 1})
    made = reserve([], (two,))
    stopped = ledger.close(ledger.charge(made, 0, 1))
    failure_of_stop = accounting.delta([one], float(stopped.epsilon))
    failure_of_full_run = accounting.delta([two], float(made.epsilon))
    assert failure_of_stop + failure_of_full_run <= 1.001 * float(DELTA)
    plain = accounting.epsilon([one], 1e-5), accounting.epsilon([two], 1e-5)
    naive = accounting.delta([one], plain[0]) + accounting.delta([two], plain[1])
    assert naive > 1.9 * float(DELTA)


def test_charging_out_of_order_is_never_cheaper_than_in_order():
    made = reserve([], (TEACHER, TRAINING))
    late_first = ledger.close(ledger.charge(made, 1, 5))
    in_order = ledger.close(ledger.charge(ledger.charge(made, 0, TEACHER.steps), 1, 5))
    assert late_first.epsilon >= in_order.epsilon


def test_closing_twice_changes_nothing():
    closed = ledger.close(ledger.charge(reserve([], (TRAINING,)), 0, 7))
    assert ledger.close(closed) == closed


def test_nothing_moves_between_mechanisms():
    made = charge_all(reserve([], (TEACHER,)))
    with pytest.raises(ReservationExceeded, match="8 were reserved and 8 are charged"):
        ledger.charge(made, 0, 1)
    both = reserve([], (TEACHER, TRAINING))
    # Forty steps of the second mechanism are free; the ninth of the first is refused all the same.
    with pytest.raises(ReservationExceeded, match="Nothing moves between stages"):
        ledger.charge(both, 0, 9)
    assert both.charged == (0, 0)


@pytest.mark.parametrize("steps", [0, -1, True, 1.5, "3"])
def test_a_charge_that_counts_nothing_is_refused(steps):
    with pytest.raises(InvalidParameter, match="charge at least 1"):
        ledger.charge(reserve([], (TRAINING,)), 0, steps)


@pytest.mark.parametrize("index", [-1, 1, 99])
def test_a_charge_of_a_mechanism_that_was_not_reserved_is_refused(index):
    with pytest.raises(InvalidParameter, match="numbered from 0"):
        ledger.charge(reserve([], (TRAINING,)), index, 1)


def test_a_closed_reservation_takes_no_charge():
    with pytest.raises(ReservationExceeded, match="is closed"):
        ledger.charge(ledger.close(reserve([], (TRAINING,))), 0, 1)


def test_the_refusal_of_an_overdraft_says_what_remains():
    tight = budget(epsilon="1")
    with pytest.raises(BudgetExceeded) as refusal:
        reserve([], (STATISTICS, TRAINING), of=tight)
    text = str(refusal.value)
    assert "epsilon 1 at delta 0.0001 remains" in text
    assert str(ledger.cost((STATISTICS, TRAINING), DELTA)) in text
    assert "Ask for a smaller epsilon" in text


def test_the_last_of_the_budget_can_be_taken_to_the_last_digit_and_no_further():
    price = ledger.cost((TEACHER,), DELTA)
    exact = Budget(price * 3, DELTA * 3)
    held = []
    for _ in range(3):
        held.append(reserve(held, (TEACHER,), of=exact))
    assert ledger.remaining(exact, held) == (0, 0)
    with pytest.raises(BudgetExceeded):
        reserve(held, (TEACHER,), of=exact)
    almost = Budget(price * 3 - Decimal("0.000001"), DELTA * 3)
    with pytest.raises(BudgetExceeded):
        reserve(held[:2], (TEACHER,), of=almost)


def test_delta_is_a_budget_too_and_is_kept_in_exact_decimals():
    # Ten times the binary fraction nearest 1e-6 is not 1e-5; ten times the decimal is.
    ten = Budget(Decimal(100), Decimal("0.00001"))
    held = []
    for _ in range(10):
        held.append(reserve(held, (STATISTICS,), of=ten, delta=1e-6))
    assert ledger.remaining(ten, held)[1] == 0
    with pytest.raises(BudgetExceeded):
        reserve(held, (STATISTICS,), of=ten, delta=1e-6)


def test_failed_and_repeated_runs_count_like_any_other():
    held = []
    for _ in range(3):
        held.append(ledger.close(charge_all(reserve(held, (TEACHER,)))))
    price = ledger.cost((TEACHER,), DELTA)
    assert ledger.spent(budget(), held) == (3 * price, 3 * DELTA)


def test_one_job_cannot_reserve_twice():
    first = reserve([], (TEACHER,), job_id="a")
    for other in (first, ledger.close(first)):
        with pytest.raises(InvalidParameter, match="already holds one"):
            reserve([other], (TEACHER,), job_id="a")


@pytest.mark.parametrize("mechanisms", [(), (TEACHER.model_copy(update={"steps": 0}),)])
def test_a_reservation_of_nothing_is_refused(mechanisms):
    with pytest.raises(InvalidParameter, match="lists no steps"):
        reserve([], mechanisms)


@pytest.mark.parametrize("bad", ["0", "-1", "NaN", "Infinity", "101", "1e-60"])
def test_a_budget_that_means_nothing_is_refused(bad):
    with pytest.raises(InvalidParameter, match="budget epsilon"):
        Budget(Decimal(bad), DELTA)
    with pytest.raises(InvalidParameter, match="budget delta"):
        Budget(Decimal(1), Decimal(bad))


def test_a_rule_that_is_none_and_a_float_budget_are_refused():
    with pytest.raises(InvalidParameter, match="composition rule"):
        Budget(Decimal(1), DELTA, "basic-ish")
    with pytest.raises(InvalidParameter, match="budget epsilon"):
        Budget(1.0, DELTA)


@pytest.mark.parametrize("delta", [0.0, -1e-5, float("nan"), float("inf"), 0.9])
def test_a_job_delta_that_means_nothing_is_refused(delta):
    with pytest.raises(InvalidParameter, match="delta"):
        reserve([], (TEACHER,), delta=delta)


# --- the Rényi filter ---------------------------------------------------------------------------

FILTER = budget(epsilon="8", delta="0.00001", rule=CompositionRule.RENYI)


def test_the_filter_admits_more_jobs_than_basic_composition():
    def admitted(of):
        held = []
        while True:
            try:
                held.append(reserve(held, (TRAINING,), of=of, delta=1e-6))
            except BudgetExceeded:
                return len(held)

    basic = Budget(Decimal(8), DELTA, CompositionRule.BASIC)
    assert admitted(FILTER) > 2 * admitted(basic)


def test_the_filter_is_the_union_bound_over_its_orders_written_out():
    jobs = [(STATISTICS, TRAINING), (TEACHER,)]
    held = []
    for mechanisms in jobs:
        held.append(reserve(held, mechanisms, of=FILTER))
    per_order = [
        sum(accounting.renyi_divergences(m, (order,))[0] for job in jobs for m in job)
        + log(len(ledger.FILTER_ORDERS) / 1e-5) / (order - 1)
        for order in ledger.FILTER_ORDERS
    ]
    total, delta = ledger.committed(FILTER, held)
    assert float(total) == pytest.approx(min(per_order), abs=2e-6)
    assert delta == DELTA


def test_the_filter_never_undercuts_the_accountant_that_knows_all_jobs_beforehand():
    held = []
    for mechanisms in JOBS:
        held.append(reserve(held, mechanisms, of=FILTER))
    together = [mechanism for job in JOBS for mechanism in job]
    total, _ = ledger.committed(FILTER, held)
    assert float(total) >= accounting.epsilon(together, 1e-5)


def test_a_gaussians_divergence_is_the_closed_form():
    found = accounting.renyi_divergences(STATISTICS, ledger.FILTER_ORDERS)
    exact = [order / (2 * 6.0**2) for order in ledger.FILTER_ORDERS]
    assert found == pytest.approx(exact)
    assert all(upper >= value for upper, value in zip(found, exact, strict=True))


# --- laws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("composition", RULES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_order_of_reservations_does_not_matter(composition, data):
    of = budget(rule=composition)
    chosen = data.draw(st.lists(st.sampled_from(JOBS), min_size=1, max_size=5))
    held = []
    for mechanisms in chosen:
        made = reserve(held, mechanisms, of=of)
        if data.draw(st.booleans()):
            made = charge_all(made)
        if data.draw(st.booleans()):
            made = ledger.close(made)
        held.append(made)
    shuffled = data.draw(st.permutations(held))
    for account in (ledger.spent, ledger.reserved, ledger.remaining, ledger.committed):
        assert account(of, held) == account(of, shuffled)


class Cohort(RuleBasedStateMachine):
    """Any sequence of requests to one cohort's budget, checked after every one."""

    composition = CompositionRule.BASIC

    def __init__(self) -> None:
        super().__init__()
        self.budget = budget(epsilon="4", delta="0.00005", rule=self.composition)
        self.held = []
        self.most_spent = (Decimal(0), Decimal(0))

    @rule(mechanisms=st.sampled_from(JOBS))
    def ask(self, mechanisms):
        before = ledger.remaining(self.budget, self.held)
        try:
            self.held.append(reserve(self.held, mechanisms, of=self.budget))
        except BudgetExceeded:
            if self.composition is CompositionRule.BASIC:
                price = ledger.cost(mechanisms, DELTA)
                assert price > before[0] or before[1] < DELTA

    @precondition(lambda self: any(item.open for item in self.held))
    @rule(data=st.data())
    def charge(self, data):
        at = data.draw(st.sampled_from([i for i, item in enumerate(self.held) if item.open]))
        index = data.draw(st.integers(0, len(self.held[at].mechanisms) - 1))
        steps = data.draw(st.sampled_from([1, 4, 8, 40]))
        before = self.held[at]
        try:
            self.held[at] = ledger.charge(before, index, steps)
        except ReservationExceeded:
            assert before.charged[index] + steps > before.mechanisms[index].steps

    @precondition(lambda self: any(item.open for item in self.held))
    @rule(data=st.data())
    def close(self, data):
        at = data.draw(st.sampled_from([i for i, item in enumerate(self.held) if item.open]))
        before = ledger.remaining(self.budget, self.held)
        spent = ledger.spent(self.budget, self.held)
        self.held[at] = ledger.close(self.held[at])
        # Only what was never charged comes back, and closing spends nothing.
        after = ledger.remaining(self.budget, self.held)
        assert after[0] >= before[0]
        assert after[1] >= before[1]
        assert ledger.spent(self.budget, self.held) == spent

    @invariant()
    def the_budget_is_never_overdrawn(self):
        epsilon, delta = ledger.committed(self.budget, self.held)
        assert epsilon <= self.budget.epsilon
        assert delta <= self.budget.delta

    @invariant()
    def spent_reserved_and_remaining_are_the_whole_budget(self):
        parts = [
            account(self.budget, self.held)
            for account in (ledger.spent, ledger.reserved, ledger.remaining)
        ]
        assert all(part[0] >= 0 and part[1] >= 0 for part in parts)
        assert sum(part[0] for part in parts) == self.budget.epsilon
        assert sum(part[1] for part in parts) == self.budget.delta

    @invariant()
    def what_was_spent_never_decreases(self):
        spent = ledger.spent(self.budget, self.held)
        assert spent[0] >= self.most_spent[0]
        assert spent[1] >= self.most_spent[1]
        self.most_spent = spent

    @invariant()
    def no_job_costs_more_than_it_reserved_or_charges_more_than_it_may(self):
        for item in self.held:
            assert item.epsilon <= ledger.cost(item.mechanisms, DELTA)
            pairs = zip(item.charged, item.mechanisms, strict=True)
            assert all(0 <= steps <= mechanism.steps for steps, mechanism in pairs)


class RenyiCohort(Cohort):
    composition = CompositionRule.RENYI


Cohort.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
RenyiCohort.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestBasicCohort = Cohort.TestCase
TestRenyiCohort = RenyiCohort.TestCase


def test_a_reservation_read_back_from_storage_is_the_same_value():
    made = ledger.charge(reserve([], (STATISTICS, TRAINING)), 1, 3)
    again = replace(made, epsilon=Decimal(str(made.epsilon)), delta=Decimal(str(made.delta)))
    assert again == made
    assert ledger.close(again) == ledger.close(made)
