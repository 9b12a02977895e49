"""The pairing test sees images and rows of one person in one sample, and accuses nobody else."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privacy import joint_battery, pairing
from privacy.audits import run_battery
from privacy.copies import Config, Detector
from privacy.distances import Gallery, image_spaces, table_spaces
from privacy.errors import EvidenceMissing
from privacy.evidence import Arm, JointEvidence
from privacy.neighbourhoods import population_of
from privacy.policy import load_policy
from privacy.report import GateStatus
from tests.privacy.audit_material import innocent_joint, quick

POLICY = load_policy()
PERSONS = 260


@pytest.fixture(scope="module")
def material():
    """Return evidence, its population, both galleries and a detector."""
    evidence = innocent_joint(np.random.default_rng(5), persons=PERSONS, samples=300)
    population = population_of(evidence.table)
    rows, images = table_spaces(evidence.table.records)[0], image_spaces()[0]
    galleries = pairing.Galleries(
        Gallery(rows, evidence.table.records, population.persons, count=PERSONS),
        Gallery(images, evidence.images.records, population.persons, count=PERSONS),
    )
    config = Config(permutations=400)
    rng = np.random.default_rng(0)
    detector = Detector(population, {}, sample_count=300, config=config, rng=rng)
    return evidence, population, galleries, detector


def chance(material, rows, images):
    _, population, galleries, detector = material
    found = pairing.find_pairs(galleries, rows, images, present=population.present)
    return pairing.chance_of(found, detector)


def persons_in(material, *arms, count):
    _, population, _, _ = material
    return np.flatnonzero(np.isin(population.arms, arms))[:count]


def with_copies(material, copied):
    """Return the samples, the last of them rows and images of the `copied` persons."""
    evidence = material[0]
    kept = len(evidence.table.samples) - len(copied)
    return (
        np.concatenate([evidence.table.samples[:kept], evidence.table.records[copied]]),
        np.concatenate([evidence.images.samples[:kept], evidence.images.records[copied]]),
    )


def test_rows_that_are_copied_with_their_images_are_seen(material):
    copied = persons_in(material, Arm.TRAIN, Arm.AUDIT_IN, count=40)
    assert chance(material, *with_copies(material, copied)) < POLICY.errors.pairing


def test_blurred_copies_are_seen_where_image_and_row_stay_together(material):
    rng = np.random.default_rng(1)
    copied = persons_in(material, Arm.TRAIN, Arm.AUDIT_IN, count=60)
    rows, images = with_copies(material, copied)
    rows[-60:, :6] += 0.5 * rows[:, :6].std(axis=0) * rng.normal(size=(60, 6))
    noisy = images[-60:].astype(float) + 30 * rng.normal(size=images[-60:].shape)
    images[-60:] = np.clip(noisy, 0, 255).astype(np.uint8)
    assert chance(material, rows, images) < POLICY.errors.pairing


@pytest.mark.parametrize(
    "arms", [(Arm.AUDIT_OUT, Arm.REFERENCE_B), (Arm.REFERENCE_A,)], ids=["held out", "half a"]
)
def test_copies_of_persons_who_were_not_trained_on_accuse_nobody(material, arms):
    copied = persons_in(material, *arms, count=40)
    assert chance(material, *with_copies(material, copied)) > POLICY.errors.pairing


def test_a_sound_generator_is_not_accused(material):
    evidence = material[0]
    assert chance(material, evidence.table.samples, evidence.images.samples) > 0.05


def test_images_paired_with_other_rows_lead_to_nobody(material):
    copied = persons_in(material, Arm.TRAIN, Arm.AUDIT_IN, count=40)
    rows, images = with_copies(material, copied)
    _, population, galleries, _ = material
    together = pairing.find_pairs(galleries, rows, images, present=population.present)
    images[-40:] = np.roll(images[-40:], 1, axis=0)
    apart = pairing.find_pairs(galleries, rows, images, present=population.present)
    assert (together.between[copied] == 1).all()
    assert (apart.clearness[copied] > 100 * together.clearness[copied]).all()


def few_persons(rng, *, persons=160):
    """Return sound samples of few persons with coarse rows, the persons, both galleries and a detector."""
    evidence = innocent_joint(rng, persons=persons, samples=200)
    records = np.round(evidence.table.records)
    table = replace(evidence.table, records=records, samples=np.round(evidence.table.samples))
    population = population_of(table)
    galleries = pairing.Galleries(
        Gallery(table_spaces(records)[0], records, population.persons, count=persons),
        Gallery(image_spaces()[0], evidence.images.records, population.persons, count=persons),
    )
    config = Config(permutations=1000)
    detector = Detector(population, {}, sample_count=200, config=config, rng=rng)
    return (replace(evidence, table=table), population, galleries, detector)


@pytest.mark.slow
def test_of_few_persons_with_coarse_rows_copies_of_rows_alone_accuse_nobody():
    """Two of these five were accused when sets of up to half of everybody were compared."""
    apart = []
    for seed in (101, 103, 303, 304, 100):
        rng = np.random.default_rng(seed)
        given = few_persons(rng)
        copied = rng.permutation(np.flatnonzero(given[1].trained))[:40]
        rows, images = with_copies(given, copied)
        apart.append(chance(given, rows, given[0].images.samples))
        assert chance(given, rows, images) < POLICY.errors.pairing
    assert min(apart) > 5 * POLICY.errors.pairing


@pytest.mark.parametrize("persons", [40, 128, 600, 4000])
def test_no_set_of_persons_is_a_large_share_of_those_who_are_judged(persons):
    rng = np.random.default_rng(2)
    pairs = pairing.Pairs(
        between=rng.permutation(persons) + 1,
        clearness=rng.permutation(persons) / persons,
        sample=np.zeros(persons, dtype=int),
    )
    sizes = pairing.sets_of(pairs, np.arange(persons)).sum(axis=0)
    assert sizes.min() == 1
    assert sizes.max() <= max(10, persons / 4)
    only_between = replace(pairs, clearness=np.full(persons, np.inf))
    assert pairing.sets_of(only_between, np.arange(persons)).sum(axis=0).max() <= persons / 20


def test_a_person_counts_once_however_many_samples_lead_to_them(material):
    one = persons_in(material, Arm.TRAIN, count=1)
    once = with_copies(material, one)
    often = with_copies(material, np.repeat(one, 100))
    _, population, galleries, detector = material
    counted = []
    for rows, images in (once, often):
        found = pairing.find_pairs(galleries, rows, images, present=population.present)
        counted.append(pairing.sets_of(found, detector.judged).sum(axis=0))
    assert chance(material, *often) > POLICY.errors.pairing
    assert (counted[1][:1] <= counted[0][:1] + 1).all()


def test_the_person_of_an_image_counts_also_where_many_have_the_same_row(material):
    evidence, population, galleries, _ = material
    twins = evidence.table.records.copy()
    twins[1:6] = twins[0]
    gallery = Gallery(galleries.rows.space, twins, population.persons, count=PERSONS)
    found = pairing.find_pairs(
        pairing.Galleries(gallery, galleries.images),
        twins[[3]],
        evidence.images.records[[3]],
        present=population.present,
    )
    assert found.between[3] == 1
    assert found.sample[3] == 0


@pytest.mark.slow
def test_chances_of_a_sound_generator_are_no_smaller_than_they_say(material):
    """Arms are drawn anew 120 times around the same samples: at most the level is accused."""
    evidence, population, galleries, detector = material
    found = pairing.find_pairs(
        galleries, evidence.table.samples, evidence.images.samples, present=population.present
    )
    rng = np.random.default_rng(3)
    chances = []
    for _ in range(120):
        arms = population.arms.copy()
        arms[detector.judged] = rng.permutation(arms[detector.judged])
        config = Config(permutations=200)
        shuffled = Detector(
            replace(population, arms=arms), {}, sample_count=300, config=config, rng=rng
        )
        chances.append(pairing.chance_of(found, shuffled))
    accused = sum(value < 0.1 for value in chances)
    assert stats.binomtest(accused, 120, 0.1, alternative="greater").pvalue > 0.001


def test_too_few_persons_are_told_and_nothing_is_gated(material):
    evidence = innocent_joint(np.random.default_rng(6), persons=40, samples=50)
    report = run_battery(
        evidence, policy=quick(POLICY), tier="registered", attempt=1, rng=np.random.default_rng(0)
    )
    gate = next(gate for gate in report.gates if gate.audit == pairing.NAME)
    assert gate.status is GateStatus.NOT_APPLICABLE
    assert "needs 20" in gate.reason
    assert report.modality == "joint"
    assert report.self_test_passed is None


@pytest.mark.parametrize("name", ["arms", "persons", "folds", "excluded"])
def test_rows_and_images_of_other_persons_are_refused(material, name):
    evidence = material[0]
    changed = np.roll(getattr(evidence.images, name), 7)
    if name == "excluded":
        changed = ~changed
    images = replace(evidence.images, **{name: changed})
    with pytest.raises(EvidenceMissing, match=f"differ in their {name}"):
        joint_battery.check_parts(JointEvidence(evidence.table, images))


def test_the_two_parts_share_the_error_of_epsilon_and_nothing_else():
    halved = joint_battery.halved_epsilon(POLICY)
    assert halved.errors.epsilon == POLICY.errors.epsilon / 2
    same = halved.errors.model_copy(update={"epsilon": POLICY.errors.epsilon})
    assert same == POLICY.errors
    assert halved.tiers == POLICY.tiers
