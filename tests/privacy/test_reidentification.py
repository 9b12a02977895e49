"""New pictures of members give their persons away; pictures of strangers do not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from privacy.audits import reidentification
from privacy.evidence import Arm, Evidence
from privacy.mechanisms import UnitOfPrivacy
from privacy.membership import Settings
from privacy.neighbourhoods import population_of, survey
from tests.privacy.audit_material import draw_arms, pictures, trained_rows

SETTINGS = Settings(
    bound_error=0.025,
    epsilon_error=0.02,
    delta=1e-5,
    fpr=(0.1,),
    guesses=(10, 20, 50),
    permutations=300,
)


def portraits(faces, owner, rng):
    """Return one picture for each entry of `owner`: their face, moved by light and by the day."""
    rough = rng.normal(size=(len(owner), 32, 32))
    daily = ndimage.gaussian_filter(rough, (0, 4, 4))
    light = rng.normal(size=(len(owner), 1, 1))
    values = faces[owner].astype(float) + 250 * daily + 12 * light
    return np.clip(values, 0, 255).astype(np.uint8)


def cohort(rng, *, persons=500, each=2, samples=200):
    """Return evidence of a generator that paints strangers, and everybody's face."""
    faces = pictures(persons + samples, rng)
    owner = np.repeat(np.arange(persons), each)
    evidence = Evidence(
        modality="image",
        unit=UnitOfPrivacy.PERSON,
        records=portraits(faces, owner, rng),
        labels=np.zeros(len(owner), int),
        persons=owner,
        arms=draw_arms(persons, rng),
        folds=rng.integers(1, 3, persons),
        excluded=np.zeros(persons, bool),
        samples=portraits(faces, persons + np.arange(samples), rng),
        sample_labels=np.zeros(samples, int),
    )
    return evidence, faces


def audited(evidence, rng):
    population = population_of(evidence)
    seen = survey(
        evidence, keep=np.empty(0, np.int64), population=population, progress=lambda *_: None
    )
    return reidentification.run(evidence, seen, settings=SETTINGS, detector=None, rng=rng)


def test_new_pictures_of_members_lead_to_them():
    """No sample is a copy: every one is a picture of a member that nobody has seen."""
    rng = np.random.default_rng(0)
    evidence, faces = cohort(rng)
    members = np.unique(evidence.persons[trained_rows(evidence)])
    found = audited(replace(evidence, samples=portraits(faces, members, rng)), rng)
    assert found.metric("verification_auc").value > 0.8
    assert found.metric("leak_p_value").value < 0.01
    assert found.metric("auc").ci_low > 0.7
    assert found.metric("retrieved_members").value > found.metric("retrieved_non_members").value
    assert found.metric("retrieved_p_value").value < 0.01


def test_pictures_of_strangers_lead_to_members_no_more_often_than_to_others():
    rng = np.random.default_rng(1)
    evidence, _ = cohort(rng)
    found = audited(evidence, rng)
    assert found.metric("leak_p_value").value > 0.001
    assert found.metric("retrieved_p_value").value > 0.001
    assert found.metric("auc").ci_low < 0.55


@pytest.mark.slow
def test_p_values_are_uniform_when_nothing_leaks():
    """False alarms: KS at 1e-4; the hypergeometric one is discrete, so that it may only be larger."""
    rng = np.random.default_rng(2)
    evidence, _ = cohort(rng)
    population = population_of(evidence)
    seen = survey(
        evidence, keep=np.empty(0, np.int64), population=population, progress=lambda *_: None
    )
    joint, exact = [], []
    for _ in range(60):
        arms = evidence.arms.copy()
        tossed = np.isin(arms, (Arm.AUDIT_IN, Arm.AUDIT_OUT))
        arms[tossed] = rng.choice([Arm.AUDIT_IN, Arm.AUDIT_OUT], int(tossed.sum()))
        tossed_anew = replace(seen, population=replace(population, arms=arms.astype(np.int64)))
        found = reidentification.run(
            evidence, tossed_anew, settings=SETTINGS, detector=None, rng=rng
        )
        joint.append(found.metric("leak_p_value").value)
        exact.append(found.metric("retrieved_p_value").value)
    assert stats.kstest(joint, "uniform").pvalue > 1e-4
    assert stats.kstest(exact, "uniform", alternative="greater").pvalue > 1e-4


def test_one_picture_a_person_is_not_computed_and_says_why():
    rng = np.random.default_rng(3)
    evidence, _ = cohort(rng, persons=300, each=1)
    found = audited(evidence, rng)
    assert found.metric("leak_p_value").value is None
    assert "more than one record" in found.metric("auc").reason


def test_the_second_nearest_picture_of_a_person_counts_ties_once():
    distances = np.array([[3.0, 1.0, 2.0, 5.0, 5.0]])
    starts = np.array([0, 3])
    assert reidentification._second_nearest(distances, starts).tolist() == [[2.0, 5.0]]
