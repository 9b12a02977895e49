"""Arms are independent, stable, secret draws at rates that depend on nothing private.

Statistical tests state their false-alarm rate: the chance that a correct draw fails them. Keys are
fixed, so each either always passes or always fails.
"""

import hashlib
import math

import numpy as np
import pytest
from scipy import stats

from privacy import inclusion
from privacy.errors import DigestMismatch, InvalidParameter
from privacy.evidence import Arm
from privacy.inclusion import Rates

REFERENCE_KEY = b"r" * 32
RUN_KEY = b"k" * 32
OTHER_RUN_KEY = b"o" * 32
RATES = Rates(reference=0.15, pool=0.2)
FALSE_ALARM = 1e-6


def people(count: int, start: int = 0) -> np.ndarray:
    digests = (hashlib.sha256(str(i).encode()).digest() for i in range(start, start + count))
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(count, 32)


def arms_of(digests: np.ndarray, *, run_key: bytes = RUN_KEY, rates: Rates = RATES) -> np.ndarray:
    return inclusion.assign_arms(digests, reference_key=REFERENCE_KEY, run_key=run_key, rates=rates)


def in_reference(arms: np.ndarray) -> np.ndarray:
    return np.isin(arms, [Arm.REFERENCE_A, Arm.REFERENCE_B])


@pytest.fixture(scope="module")
def crowd() -> np.ndarray:
    return people(40_000)


def test_every_arm_is_drawn_at_its_rate(crowd):
    """False alarms: 5 arms at 1e-6."""
    arms = arms_of(crowd)
    expected = {
        Arm.TRAIN: 1 - 0.15 - 0.2,
        Arm.AUDIT_IN: 0.1,
        Arm.AUDIT_OUT: 0.1,
        Arm.REFERENCE_A: 0.075,
        Arm.REFERENCE_B: 0.075,
    }
    for arm, rate in expected.items():
        assert stats.binomtest(int((arms == arm).sum()), len(arms), rate).pvalue > FALSE_ALARM


def test_folds_coins_and_halves_are_fair_and_independent_of_each_other(crowd):
    """False alarms: 3 chi-squared tests at 1e-6."""
    arms, folds = arms_of(crowd), inclusion.assign_folds(crowd, run_key=RUN_KEY)
    assert set(np.unique(folds)) == {1, 2}
    for one, two in (
        (Arm.AUDIT_IN, Arm.AUDIT_OUT),
        (Arm.REFERENCE_A, Arm.REFERENCE_B),
    ):
        table = [[((arms == arm) & (folds == f)).sum() for f in (1, 2)] for arm in (one, two)]
        assert stats.chi2_contingency(table).pvalue > FALSE_ALARM
    assert stats.binomtest(int((folds == 1).sum()), len(folds), 0.5).pvalue > FALSE_ALARM


def test_coins_of_neighbours_in_the_list_are_independent(crowd):
    """False alarm 1e-6: balanced or stratified coins would alternate too often."""
    arms = arms_of(crowd)
    coins = arms[np.isin(arms, [Arm.AUDIT_IN, Arm.AUDIT_OUT])] == Arm.AUDIT_IN
    changes = int((coins[1:] != coins[:-1]).sum())
    assert stats.binomtest(changes, len(coins) - 1, 0.5).pvalue > FALSE_ALARM


def test_the_number_of_members_varies_as_independent_coins_do():
    """False alarm 1e-6 on each side; balanced coins would have no variance at all."""
    few = people(400)
    arms = [arms_of(few, run_key=bytes([i]) * 32) for i in range(110)]
    counts = [int((drawn == Arm.AUDIT_IN).sum()) for drawn in arms]
    outside_reference = int((~in_reference(arms[0])).sum())
    chance = 0.1 / 0.85
    ratio = np.var(counts, ddof=1) / (outside_reference * chance * (1 - chance))
    low, high = stats.chi2.ppf([FALSE_ALARM, 1 - FALSE_ALARM], len(counts) - 1) / (len(counts) - 1)
    assert low < ratio < high


def test_nobodys_arm_depends_on_anybody_else(crowd):
    some = crowd[:500]
    arms, folds = arms_of(some), inclusion.assign_folds(some, run_key=RUN_KEY)
    for missing in range(0, 500, 25):
        rest = np.delete(some, missing, axis=0)
        assert (arms_of(rest) == np.delete(arms, missing)).all()
        assert (inclusion.assign_folds(rest, run_key=RUN_KEY) == np.delete(folds, missing)).all()
    shuffled = np.random.default_rng(0).permutation(500)
    assert (arms_of(some[shuffled]) == arms[shuffled]).all()


def test_a_new_version_with_more_people_keeps_every_arm_of_the_old(crowd):
    assert (arms_of(crowd[:2000])[:1000] == arms_of(crowd[:1000])).all()


def test_the_reference_set_is_the_same_in_every_run_and_the_coins_are_not(crowd):
    one, two = arms_of(crowd), arms_of(crowd, run_key=OTHER_RUN_KEY)
    assert (in_reference(one) == in_reference(two)).all()
    assert (one[in_reference(one)] == two[in_reference(two)]).all()
    rest = ~in_reference(one)
    in_both = np.isin(one, [1, 2]) & np.isin(two, [1, 2]) & rest
    same = int((one[in_both] == two[in_both]).sum())
    # False alarm 1e-6: coins of two runs are independent.
    assert stats.binomtest(same, int(in_both.sum()), 0.5).pvalue > FALSE_ALARM


def test_a_person_once_in_the_reference_set_is_never_trained_on(crowd):
    held_out = in_reference(arms_of(crowd))
    for run in range(5):
        arms = arms_of(crowd, run_key=bytes([run + 1]) * 32)
        assert not np.isin(arms[held_out], [Arm.TRAIN, Arm.AUDIT_IN]).any()


def test_another_cohort_key_draws_another_reference_set(crowd):
    """False alarm 1e-6."""
    other = inclusion.assign_arms(crowd, reference_key=b"x" * 32, run_key=RUN_KEY, rates=RATES)
    both = int((in_reference(arms_of(crowd)) & in_reference(other)).sum())
    assert stats.binomtest(both, len(crowd), 0.15 * 0.15).pvalue > FALSE_ALARM


def test_rates_of_zero_and_the_largest_rates_are_honoured_exactly():
    crowd = people(2000)
    nobody = arms_of(crowd, rates=Rates(reference=0.0, pool=0.0))
    assert (nobody == Arm.TRAIN).all()
    everybody = arms_of(crowd, rates=Rates(reference=0.0, pool=1.0))
    assert set(np.unique(everybody)) == {Arm.AUDIT_IN, Arm.AUDIT_OUT}


def test_no_people_is_an_empty_answer():
    assert arms_of(people(0)).shape == (0,)
    assert inclusion.assign_folds(people(0), run_key=RUN_KEY).shape == (0,)


@pytest.mark.parametrize(
    ("declared", "reference", "pool"),
    [
        (50, 0.10, 0.20),
        (999, 0.10, 0.20),
        (1000, 0.20, 0.20),
        (2500, 0.20, 0.20),
        (3300, 500 / 3300, 0.20),
        (5000, 0.10, 0.20),
        (10_000, 0.10, 0.20),
        (55_000, 0.10, 2000 / 55_000),
        (100_000_000, 0.10, 2000 / 100_000_000),
    ],
)
def test_rates_follow_from_the_declared_count_alone(declared, reference, pool):
    rates = inclusion.rates_for(declared)
    assert rates.reference == pytest.approx(reference)
    assert rates.pool == pytest.approx(pool)
    assert rates.reference <= 0.2
    assert rates.pool <= 0.2


@pytest.mark.parametrize("declared", [300, 2500, 20_000])
def test_the_pool_holds_about_two_thousand_persons_or_a_fifth(declared):
    """False alarm 1e-6: the pool's share is of everybody, reference set included."""
    arms = arms_of(people(declared), rates=inclusion.rates_for(declared))
    pool = int(np.isin(arms, [Arm.AUDIT_IN, Arm.AUDIT_OUT]).sum())
    chance = min(2000, 0.2 * declared) / declared
    assert stats.binomtest(pool, declared, chance).pvalue > FALSE_ALARM
    members = int((arms == Arm.AUDIT_IN).sum())
    assert stats.binomtest(members, pool, 0.5).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("reference", "pool"),
    [(-0.1, 0.2), (0.1, 1.2), (math.nan, 0.1), (0.1, math.nan), (1.0, 0.0), (0.6, 0.6)],
)
def test_rates_that_leave_nobody_to_train_on_are_refused(reference, pool):
    with pytest.raises(InvalidParameter, match="refused"):
        Rates(reference=reference, pool=pool)


def test_a_count_below_one_is_refused():
    with pytest.raises(InvalidParameter, match="declare at least 1"):
        inclusion.rates_for(0)


@pytest.mark.parametrize(
    ("reference_key", "run_key", "sentence"),
    [
        (b"short", RUN_KEY, "32 random bytes"),
        (REFERENCE_KEY, b"", "32 random bytes"),
        (REFERENCE_KEY, REFERENCE_KEY, "equals the cohort's reference key"),
    ],
)
def test_weak_or_equal_keys_are_refused(reference_key, run_key, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        inclusion.assign_arms(people(3), reference_key=reference_key, run_key=run_key, rates=RATES)


@pytest.mark.parametrize(
    "digests",
    [
        np.zeros((2, 31), np.uint8),
        np.zeros(32, np.uint8),
        np.arange(64, dtype=np.int64).reshape(2, 32),
        np.zeros((2, 32), np.uint8),
    ],
)
def test_digests_of_another_shape_or_of_one_person_twice_are_refused(digests):
    with pytest.raises(InvalidParameter, match="Person digests"):
        arms_of(digests)
    with pytest.raises(InvalidParameter, match="Person digests"):
        inclusion.assign_folds(digests, run_key=RUN_KEY)


PLAN = {"audits": ["near_copies"], "rates": {"pool": 0.2}, "policy": "a" * 64}
SALT = bytes(range(32))


def test_a_commitment_opens_for_its_plan_and_for_nothing_else():
    commitment = inclusion.commit(PLAN, salt=SALT)
    inclusion.check_commitment(dict(reversed(PLAN.items())), salt=SALT, commitment=commitment)
    for plan, salt in (
        (PLAN | {"policy": "b" * 64}, SALT),
        (PLAN | {"more": 1}, SALT),
        (PLAN, bytes(32)),
    ):
        with pytest.raises(DigestMismatch, match="does not open the commitment"):
            inclusion.check_commitment(plan, salt=salt, commitment=commitment)
    with pytest.raises(DigestMismatch):
        inclusion.check_commitment(PLAN, salt=SALT, commitment="é")


def test_a_commitment_is_the_salted_hash_of_the_canonical_bytes():
    plain = b'{"a":1,"b":"x"}'
    expected = hashlib.sha256(SALT + plain).hexdigest()
    assert inclusion.commit({"b": "x", "a": 1}, salt=SALT) == expected
    assert inclusion.commit_bytes(plain, salt=SALT) == expected
    # Nobody without the salt can test a guess.
    assert expected != hashlib.sha256(plain).hexdigest()


@pytest.mark.parametrize("salt", [b"", b"x" * 31, b"x" * 33])
def test_a_salt_that_is_not_256_bits_is_refused(salt):
    # A longer salt would let bytes move between salt and document under one commitment.
    with pytest.raises(InvalidParameter, match="exactly 32 random bytes"):
        inclusion.commit(PLAN, salt=salt)
