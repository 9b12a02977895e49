"""Audits of whole persons: what lies side by side, copies that no row shows, and members by all visits."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privacy.audits import run_battery, trajectory_copies, trajectory_membership
from privacy.copies import Config, Detector
from privacy.errors import EvidenceMissing, InvalidParameter
from privacy.evidence import Arm, Visits
from privacy.given_sets import evidence_of_sets, record_set
from privacy.membership import Settings
from privacy.neighbourhoods import population_of, survey
from privacy.policy import load_policy
from privacy.report import Verdict
from privacy.trajectories import steps_of, trajectories_of
from tests.privacy.audit_material import quick, trained_rows
from tests.privacy.visit_material import innocent_visits, visits, with_persons_copied

SETTINGS = Settings(
    bound_error=0.025,
    epsilon_error=0.01,
    delta=1e-5,
    fpr=(0.01, 0.05, 0.1),
    guesses=(10, 20, 50),
    permutations=200,
)
SHUFFLES = 400


def found_in(evidence, audit, *, seed=0):
    rng = np.random.default_rng(seed)
    population = population_of(evidence)
    nothing = np.empty(0, dtype=int)
    seen = survey(evidence, keep=nothing, population=population, progress=lambda *_: None)
    detector = Detector(
        population,
        seen.calibration,
        sample_count=len(evidence.samples),
        config=Config(permutations=SHUFFLES),
        rng=rng,
    )
    return audit.run(evidence, seen, settings=SETTINGS, detector=detector, rng=rng)


def trained_persons(evidence):
    return np.unique(evidence.persons[trained_rows(evidence)])


def test_steps_join_following_rows_of_one_person_alone():
    rows = np.asarray([[2.0], [0.0], [1.0], [0.0], [4.0]])
    before, after = steps_of(rows, np.asarray([7, 7, 9, 9, 7]), order=0)
    assert before.tolist() == [1, 0, 3]
    assert after.tolist() == [0, 4, 2]


def test_first_visits_lie_side_by_side_and_who_has_fewer_stays_as_they_were():
    evidence = innocent_visits(np.random.default_rng(0), persons=60, samples=40)
    persons = trajectories_of(evidence, population_of(evidence))
    assert persons.evidence.records.shape == (60, 5 * 6 + 1)
    assert persons.evidence.samples.shape == (40, 5 * 6 + 1)
    for person in range(60):
        own = evidence.records[evidence.persons == person]
        own = own[np.argsort(own[:, 0], kind="stable")]
        last = np.repeat(own[-1:], 5 - len(own), axis=0)
        laid = np.concatenate([own, last]).ravel()
        assert persons.evidence.records[person].tolist() == [*laid, len(own)]


def test_evidence_that_does_not_say_whose_a_sample_is_is_refused():
    evidence = innocent_visits(np.random.default_rng(1), persons=60, samples=40)
    population = population_of(evidence)
    with pytest.raises(EvidenceMissing, match="does not say how rows follow"):
        trajectories_of(replace(evidence, visits=None), population)
    with pytest.raises(EvidenceMissing, match="say whose they are"):
        trajectories_of(replace(evidence, visits=Visits(0, np.arange(3))), population)


def test_copied_persons_are_found_and_fresh_ones_are_not():
    rng = np.random.default_rng(2)
    evidence = innocent_visits(rng, persons=700, samples=500)
    assert found_in(evidence, trajectory_copies).metric("p_value").value > 0.01
    copied = rng.choice(trained_persons(evidence), 15, replace=False)
    leaky = with_persons_copied(evidence, copied, noise=0.05, rng=rng)
    found = found_in(leaky, trajectory_copies)
    assert found.metric("p_value").value < 1e-6
    assert len(np.intersect1d(found.details["copied_units"], copied)) > 5


def test_copies_of_held_out_persons_are_controls_and_no_finding():
    rng = np.random.default_rng(3)
    evidence = innocent_visits(rng, persons=700, samples=500)
    out = np.flatnonzero(np.isin(evidence.arms, (Arm.AUDIT_OUT, Arm.REFERENCE_B)))
    other = with_persons_copied(evidence, out[:30], noise=0.05, rng=rng)
    found = found_in(other, trajectory_copies)
    assert found.metric("p_value").value > 0.01
    assert len(np.intersect1d(found.details["control_units"], out[:30])) > 5
    assert not found.details["copied_units"]


def test_persons_of_one_row_have_no_trajectory_to_copy():
    evidence = innocent_visits(np.random.default_rng(4), persons=60, samples=40)
    apart = replace(evidence, visits=Visits(0, np.arange(len(evidence.samples))))
    assert "two rows" in found_in(apart, trajectory_copies).metric("p_value").reason


def test_members_are_told_by_all_their_visits_and_nobody_by_those_of_others():
    rng = np.random.default_rng(5)
    evidence = innocent_visits(rng, persons=700, samples=300)
    found = found_in(evidence, trajectory_membership)
    assert found.metric("auc").ci_low < 0.5
    leaky = with_persons_copied(evidence, trained_persons(evidence), noise=0.3, rng=rng)
    found = found_in(leaky, trajectory_membership)
    assert found.metric("auc").ci_low > 0.65
    assert found.metric("leak_p_value").value < 0.01


@pytest.mark.slow
def test_p_values_of_innocent_releases_are_never_too_small():
    """Forty coins over the same persons; false alarm of this test 1e-4."""
    rng = np.random.default_rng(6)
    base = innocent_visits(rng, persons=200, samples=100)
    p_values = []
    for _ in range(40):
        made, of_whom = visits(100, rng)
        coins = rng.choice([Arm.AUDIT_IN, Arm.AUDIT_OUT], len(base.arms))
        is_pool = np.isin(base.arms, (Arm.AUDIT_IN, Arm.AUDIT_OUT))
        evidence = replace(
            base,
            arms=np.where(is_pool, coins, base.arms),
            samples=made,
            sample_labels=np.zeros(len(made), dtype=int),
            visits=Visits(0, of_whom),
        )
        p_values.append(found_in(evidence, trajectory_copies).metric("p_value").value)
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 1e-4


def report_on(evidence):
    return run_battery(
        evidence,
        policy=quick(load_policy()),
        tier="registered",
        attempt=1,
        rng=np.random.default_rng(0),
    )


@pytest.fixture(scope="module")
def evidence():
    return innocent_visits(np.random.default_rng(7), persons=600, samples=300)


@pytest.mark.slow
def test_the_audit_of_visits_as_it_stands_passes_its_self_test(evidence):
    report = report_on(evidence)
    assert report.verdict is not Verdict.INVALID
    assert report.self_test_passed is not False
    seen = {audit for specimen in report.self_test for audit in specimen.named_audits}
    assert {"trajectory_membership", "trajectory_copies"} <= seen
    assert not [s for s in report.self_test if s.judged_wrongly]


@pytest.mark.slow
def test_a_report_on_visits_whose_audit_is_blind_is_invalid(evidence, monkeypatch):
    blind = with_nothing_seen(trajectory_membership)
    monkeypatch.setattr(trajectory_membership, "run", blind)
    report = report_on(evidence)
    assert report.verdict is Verdict.INVALID
    assert "everything" in [s.name for s in report.self_test if s.judged_wrongly]


def with_nothing_seen(audit):
    """Return a run that looks at fresh persons, whatever it is shown."""
    run, rng = audit.run, np.random.default_rng(8)

    def blind(given, seen, **how):
        made, of_whom = visits(300, rng)
        return run(replace(given, samples=made, visits=Visits(0, of_whom)), seen, **how)

    return blind


def test_sets_that_are_handed_over_may_say_how_rows_follow():
    rng = np.random.default_rng(9)
    members, others, made = (
        record_set(rows, persons=whose) for rows, whose in (visits(30, rng) for _ in range(3))
    )
    found = evidence_of_sets(members, others, made, reference=None, rng=rng, order=0)
    assert found.visits.order == 0
    assert len(found.visits.sample_persons) == len(found.samples)
    with pytest.raises(InvalidParameter, match="order 6"):
        evidence_of_sets(members, others, made, reference=None, rng=rng, order=6)
    nobody = record_set(made.records)
    with pytest.raises(InvalidParameter, match="whose it is"):
        evidence_of_sets(members, others, nobody, reference=None, rng=rng, order=0)
