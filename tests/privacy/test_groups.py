"""A leak in one label shows there; on noise, groups add no false alarms."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privacy.audits import sample_membership
from privacy.evidence import Arm
from privacy.groups import P_VALUE, with_groups
from privacy.membership import Settings, measure, per_person, pool_of
from privacy.neighbourhoods import population_of, survey
from tests.privacy.audit_material import innocent, trained_rows

SETTINGS = Settings(
    bound_error=0.025,
    epsilon_error=0.02,
    delta=1e-5,
    fpr=(0.05, 0.1),
    guesses=(10, 20, 50, 100),
    permutations=300,
)


def grouped(evidence, record_scores, rng, *, unusual=None):
    population = population_of(evidence)
    pool = pool_of(population)
    scores = {
        name: per_person(values, population, pool, largest=False)
        for name, values in record_scores.items()
    }
    finding = measure("any", scores, pool, settings=SETTINGS, rng=rng)
    return with_groups(
        finding, scores, pool, population=population, settings=SETTINGS, rng=rng, unusual=unusual
    )


def one_label_each(evidence, rng, *, labels):
    """Return evidence in which all records of a person have one label."""
    return replace(evidence, labels=rng.integers(0, labels, len(evidence.arms))[evidence.persons])


def known_by(evidence):
    return np.isin(evidence.arms[evidence.persons], (Arm.TRAIN, Arm.AUDIT_IN)).astype(float)


def test_a_leak_in_one_label_is_seen_there_and_in_the_joint_test():
    rng = np.random.default_rng(0)
    evidence = one_label_each(innocent(rng, persons=2400, samples=10), rng, labels=4)
    noise = rng.normal(size=len(evidence.records))
    leak = noise + 3.0 * known_by(evidence) * (evidence.labels == 2)
    found = grouped(evidence, {"loss": leak, "other": rng.normal(size=len(leak))}, rng)
    assert found.metric("auc_label_2").ci_low > 0.85
    assert all(found.metric(f"auc_label_{other}").ci_low < 0.55 for other in (0, 1, 3))
    assert found.metric(P_VALUE).value < 0.01
    # Bonferroni: an interval of one of four groups is surer than that of everybody.
    assert found.metric("auc_label_0").confidence == pytest.approx(1 - 0.025 / 4)


def test_a_leak_among_the_most_unusual_alone_reaches_the_joint_test():
    rng = np.random.default_rng(1)
    evidence = innocent(rng, persons=1200, samples=10)
    pool = pool_of(population_of(evidence))
    unusual = rng.random(len(pool.persons)) < 0.1
    rare = np.isin(evidence.persons, pool.persons[unusual])
    leak = rng.normal(size=len(rare)) + 5.0 * known_by(evidence) * rare
    found = grouped(evidence, {"loss": leak}, rng, unusual=unusual)
    assert found.metric(P_VALUE).value < 0.01


def test_a_label_with_too_few_persons_gets_a_reason_and_no_number():
    rng = np.random.default_rng(2)
    evidence = one_label_each(innocent(rng, persons=1300, samples=10), rng, labels=2)
    few = np.where(evidence.persons < 40, 2, evidence.labels)
    found = grouped(replace(evidence, labels=few), {"a": rng.normal(size=len(few))}, rng)
    assert found.metric("auc_label_2").value is None
    assert "100 of each are needed" in found.metric("auc_label_2").reason
    assert found.metric("auc_label_0").value is not None


def test_persons_with_several_labels_count_in_each_of_them():
    rng = np.random.default_rng(3)
    evidence = innocent(rng, persons=1600, samples=10)  # two images a person, three labels
    found = grouped(evidence, {"a": rng.normal(size=len(evidence.records))}, rng)
    counted = sum(found.metric(f"auc_label_{label}").n for label in range(3))
    assert counted > found.metric("auc").n


@pytest.mark.slow
def test_joint_p_values_on_noise_are_uniform():
    """False alarm: KS at 1e-4. Labels of persons overlap, as they do in real data."""
    rng = np.random.default_rng(4)
    base = innocent(rng, persons=1000, samples=10)
    p_values = []
    for _ in range(60):
        coins = base.arms.copy()
        tossed = np.isin(coins, (Arm.AUDIT_IN, Arm.AUDIT_OUT))
        coins[tossed] = rng.choice([Arm.AUDIT_IN, Arm.AUDIT_OUT], int(tossed.sum()))
        evidence = replace(base, arms=coins)
        size = pool_of(population_of(evidence)).persons
        scores = {name: rng.normal(size=len(base.records)) for name in "abc"}
        found = grouped(evidence, scores, rng, unusual=rng.random(len(size)) < 0.1)
        p_values.append(found.metric(P_VALUE).value)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-4


def samples_audited(evidence, rng):
    population = population_of(evidence)
    seen = survey(
        evidence, keep=np.empty(0, np.int64), population=population, progress=lambda *_: None
    )
    return sample_membership.run(evidence, seen, settings=SETTINGS, detector=None, rng=rng)


def test_attacks_on_samples_see_a_generator_that_repeats_its_training_set():
    rng = np.random.default_rng(5)
    evidence = innocent(rng, persons=700, samples=10)
    rows = trained_rows(evidence)
    near = evidence.records[rows].astype(float) + 4 * rng.normal(size=(len(rows), 32, 32))
    leaky = replace(
        evidence,
        samples=np.clip(near, 0, 255).astype(np.uint8),
        sample_labels=evidence.labels[rows],
    )
    found = samples_audited(leaky, rng)
    assert set(found.details["attacks"]) == {
        "nearest",
        "calibrated",
        "density",
        "monte_carlo",
        "classifier",
    }
    for attack in ("nearest", "calibrated", "monte_carlo"):
        assert found.metric(f"auc_{attack}").ci_low > 0.7, attack
    assert found.metric(P_VALUE).value < 0.01


def test_the_classifier_sees_a_generator_that_moved_towards_its_members():
    """Samples around one half of the space, where all members of the pool live."""
    rng = np.random.default_rng(6)
    evidence = innocent(rng, persons=900, samples=600)
    bright = evidence.records.mean(axis=(1, 2))
    order = bright[np.unique(evidence.persons, return_index=True)[1]].argsort()
    arms = evidence.arms.copy()
    tossed = np.isin(arms, (Arm.AUDIT_IN, Arm.AUDIT_OUT))
    upper = np.isin(np.arange(len(arms)), order[len(order) // 2 :])
    arms[tossed] = np.where(upper[tossed], Arm.AUDIT_IN, Arm.AUDIT_OUT)
    samples = evidence.samples[np.argsort(evidence.samples.mean(axis=(1, 2)))[300:]]
    moved = replace(evidence, arms=arms, samples=samples, sample_labels=np.zeros(300, int))
    assert samples_audited(moved, rng).metric("auc_classifier").ci_low > 0.55
