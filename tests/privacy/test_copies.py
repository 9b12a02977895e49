"""The three copy detectors: exact where they claim to be, sharp for a handful, calm otherwise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from privacy.changes import jitter
from privacy.copies import Config, Detector
from privacy.distances import shows_nobody
from privacy.evidence import Arm
from privacy.exact_copies import Twins, match_verbatim, natural_twins, unique_records
from privacy.membership import pool_of
from privacy.natural_nearness import fit_power_law
from privacy.neighbourhoods import population_of, survey
from tests.privacy.audit_material import (
    draw_arms,
    innocent,
    one_record_each,
    pictures,
    trained_rows,
    with_samples,
)


def silent(stage, done, total):
    pass


def inspected(evidence, rng, permutations=400):
    population = population_of(evidence)
    seen = survey(evidence, keep=np.empty(0, int), population=population, progress=silent)
    detector = Detector(
        population,
        seen.calibration,
        sample_count=len(evidence.samples),
        config=Config(permutations=permutations),
        rng=rng,
    )
    verbatim = match_verbatim(
        evidence.samples,
        unique_records(evidence, population),
        like=evidence.records,
        twins=natural_twins(evidence),
    )
    return detector.inspect(seen.samples, verbatim), seen, verbatim, population


def test_the_power_law_finds_the_exponent_of_its_own_data():
    rng = np.random.default_rng(1)
    law = fit_power_law(rng.random(4000) ** (1 / 12.0))
    assert 9 < law.exponent <= 13
    assert law.threshold(law.share) == pytest.approx(law.edge)


def test_the_power_law_errs_towards_more_chance_matches():
    rng = np.random.default_rng(2)
    too_few = 0
    for _ in range(100):
        law = fit_power_law(rng.random(2000) ** (1 / 12.0))
        truth = law.threshold(1e-6) ** 12.0
        too_few += truth > 1e-5
    assert too_few <= 15


def test_natural_twins_do_not_blind_the_power_law():
    rng = np.random.default_rng(3)
    ratios = rng.random(2000) ** (1 / 12.0)
    ratios[:4] = 0.0
    law = fit_power_law(ratios)
    assert law.exponent > 9
    assert law.count_below(0.3) == 4


def test_too_few_records_give_no_power_law():
    assert fit_power_law(np.random.default_rng(4).random(100)) is None


def test_a_sham_audit_with_shuffled_arms_has_uniform_p_values():
    rng = np.random.default_rng(5)
    evidence = innocent(rng, persons=500, samples=300)
    population = population_of(evidence)
    seen = survey(evidence, keep=np.empty(0, int), population=population, progress=silent)
    p_values = []
    for _ in range(120):
        shuffled = replace(population, arms=draw_arms(500, rng).astype(np.int64))
        detector = Detector(
            shuffled,
            seen.calibration,
            sample_count=300,
            config=Config(permutations=200),
            rng=rng,
        )
        p_values.append(detector._arms(seen.samples))
    # Ties between discrete counts push p upwards, so only an excess of small ones is a fault.
    assert np.mean(np.array(p_values) <= 0.05) <= stats.binom.ppf(0.999, 120, 0.05) / 120
    assert np.mean(np.array(p_values) <= 0.5) <= stats.binom.ppf(0.999, 120, 0.5) / 120
    assert np.mean(p_values) < 0.8


def test_a_handful_of_verbatim_copies_is_found_and_named():
    rng = np.random.default_rng(6)
    evidence = innocent(rng)
    rows = one_record_each(evidence, 2, rng)
    copies, *_, population = inspected(with_samples(evidence, evidence.records[rows]), rng)
    assert copies.p_value < 0.01
    assert set(population.original[copies.copied]) == set(evidence.persons[rows])
    assert np.flatnonzero(copies.flagged).tolist() == [1198, 1199]


def test_a_handful_of_lightly_changed_copies_is_found_and_named():
    rng = np.random.default_rng(7)
    evidence = innocent(rng)
    rows = one_record_each(evidence, 8, rng)
    changed = jitter(evidence.records[rows], "image", rng)
    copies, *_, population = inspected(with_samples(evidence, changed), rng)
    assert copies.p_value < 0.01
    assert copies.p_verbatim == 1.0
    assert set(population.original[copies.copied]) <= set(evidence.persons[rows])


def test_copies_of_held_out_persons_accuse_nobody():
    rng = np.random.default_rng(8)
    evidence = innocent(rng)
    held = np.flatnonzero(evidence.arms[evidence.persons] == Arm.AUDIT_OUT)
    copies, *_ = inspected(with_samples(evidence, evidence.records[held[:40]]), rng)
    assert len(copies.copied) == 0
    assert copies.p_value > 0.01


def accusations(seeds):
    accused = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        copies, *_ = inspected(innocent(rng, persons=400, samples=500), rng)
        accused += copies.p_value < 0.01
        assert len(copies.copied) <= 1
    return accused


def test_fresh_samples_are_not_accused():
    assert accusations(range(100, 106)) <= 1  # Bin(6, .01) exceeds this once in 700


@pytest.mark.slow
def test_fresh_samples_are_not_accused_over_many_draws():
    assert accusations(range(200, 260)) <= 4  # Bin(60, .01) exceeds this once in 3,000


def test_natural_near_twins_in_the_data_are_not_called_copies():
    rng = np.random.default_rng(9)
    evidence = innocent(rng, persons=900)
    records = evidence.records.copy()
    twins = pictures(60, rng)
    # Sixty pictures occur twice under different persons, wherever these stand, with other noise.
    for i, twin in enumerate(twins):
        records[2 * (2 * i)] = jitter(twin[None], "image", rng)[0]
        records[2 * (2 * i + 1)] = jitter(twin[None], "image", rng)[0]
    natural = replace(evidence, records=records)
    fresh = natural.samples.copy()
    # A fresh sample has the same chance of being such a twin as a record has.
    fresh[:40] = jitter(twins[:40], "image", rng)
    copies, *_ = inspected(replace(natural, samples=fresh), rng)
    assert copies.p_value > 0.01


def test_a_sample_equal_to_a_record_that_two_persons_share_accuses_nobody():
    rng = np.random.default_rng(10)
    evidence = innocent(rng)
    records = evidence.records.copy()
    one, other = one_record_each(evidence, 2, rng)
    records[other] = records[one]
    shared = replace(evidence, records=records)
    copies, *_ = inspected(with_samples(shared, records[[one]]), rng)
    assert len(copies.copied) == 0
    assert copies.p_verbatim == 1.0


def test_a_blank_record_cannot_be_copied():
    rng = np.random.default_rng(11)
    evidence = innocent(rng)
    records = evidence.records.copy()
    records[trained_rows(evidence)[0]] = 7
    blank = replace(evidence, records=records)
    samples = np.full((50, 32, 32), 7, dtype=np.uint8)
    copies, *_ = inspected(with_samples(blank, samples), rng)
    assert len(copies.copied) == 0


def test_a_generator_stuck_on_one_blurred_picture_is_not_accused():
    rng = np.random.default_rng(12)
    evidence = innocent(rng)
    mean = np.rint(pictures(300, rng).mean(axis=0)).astype(np.uint8)
    stuck = replace(evidence, samples=np.tile(mean, (1200, 1, 1)))
    copies, *_ = inspected(stuck, rng)
    assert copies.p_value > 0.01


def with_a_shared_record(evidence, persons):
    """Give all `persons` one more record, the same for each, so that each has two records."""
    extra = np.repeat(evidence.records[:1] // 2 + 40, len(persons), axis=0)
    excluded = evidence.excluded.copy()
    excluded[persons] = True
    return replace(
        evidence,
        records=np.concatenate([evidence.records, extra]),
        persons=np.concatenate([evidence.persons, persons]),
        labels=np.concatenate([evidence.labels, np.zeros(len(persons), dtype=int)]),
        excluded=excluded,
    )


@pytest.mark.parametrize("changed", [False, True])
def test_copies_of_a_record_that_excluded_persons_do_not_share_are_found(changed):
    rng = np.random.default_rng(13)
    evidence = innocent(rng)
    rows = one_record_each(evidence, 30, rng)
    shared = with_a_shared_record(evidence, evidence.persons[rows])
    copied = evidence.records[rows]
    copied = jitter(copied, "image", rng) if changed else copied
    copies, *_, population = inspected(with_samples(shared, copied), rng)
    assert copies.p_value < 0.01
    named = set(population.original[copies.copied])
    assert named <= set(evidence.persons[rows])
    assert len(named) >= 20


def test_copies_of_the_shared_record_itself_accuse_nobody():
    rng = np.random.default_rng(15)
    evidence = innocent(rng)
    shared = with_a_shared_record(evidence, evidence.persons[one_record_each(evidence, 30, rng)])
    copies, *_ = inspected(with_samples(shared, shared.records[-30:]), rng)
    assert len(copies.copied) == 0
    assert copies.p_verbatim == 1.0


def test_excluded_persons_stay_out_of_whatever_compares_arms():
    rng = np.random.default_rng(16)
    evidence = innocent(rng, persons=500, samples=300)
    left_out = np.arange(0, 500, 3)
    excluded = evidence.excluded.copy()
    excluded[left_out] = True
    population = population_of(replace(evidence, excluded=excluded))
    assert not set(population.original[pool_of(population).persons]) & set(left_out.tolist())
    assert not population.held_out[left_out].any()
    assert population.trained[left_out].any()
    seen = survey(
        replace(evidence, excluded=excluded),
        keep=np.empty(0, int),
        population=population,
        progress=silent,
    )
    detector = Detector(
        population, seen.calibration, sample_count=300, config=Config(permutations=200), rng=rng
    )
    assert not set(detector._judged.tolist()) & set(left_out.tolist())


def test_blank_frames_and_a_few_twins_do_not_excuse_one_exact_copy():
    rng = np.random.default_rng(17)
    evidence = innocent(rng)
    records = evidence.records.copy()
    first = trained_rows(evidence)[::2][:12]
    records[first[:2]] = 0  # two persons have a blank frame
    records[first[2]] = records[first[3]]  # and two persons one registered picture
    twins = replace(evidence, records=records)
    assert natural_twins(twins).rate == 0.0
    copied = records[[trained_rows(evidence)[101]]]
    copies, *_ = inspected(with_samples(twins, copied), rng)
    assert copies.p_value < 0.01
    for i in range(4, 12, 2):
        records[first[i]] = records[first[i + 1]]
    assert natural_twins(replace(evidence, records=records)).rate == 10 / len(records)


def test_a_picture_with_hardly_any_content_shows_nobody():
    rng = np.random.default_rng(18)
    evidence = innocent(rng)
    faint = (100 + (rng.random((60, 32, 32)) < 0.001)).astype(np.uint8)
    assert all(shows_nobody(picture) for picture in faint)
    assert not any(shows_nobody(picture) for picture in evidence.records[:200])
    assert not shows_nobody(np.zeros(8))
    records = evidence.records.copy()
    records[::30] = faint  # of persons in every arm
    faintly = replace(evidence, records=records)
    fresh = (100 + (rng.random((400, 32, 32)) < 0.001)).astype(np.uint8)
    copies, *_ = inspected(with_samples(faintly, fresh), rng)
    assert len(copies.copied) == 0
    assert copies.p_value > 0.01


def test_the_verdict_on_copies_does_not_depend_on_how_persons_are_numbered():
    rng = np.random.default_rng(14)
    evidence = innocent(rng, persons=500, samples=400)
    rows = one_record_each(evidence, 5, rng)
    leaky = with_samples(evidence, evidence.records[rows])
    order = rng.permutation(500)
    renumbered = replace(
        leaky,
        persons=order[leaky.persons],
        arms=leaky.arms[np.argsort(order)],
        folds=leaky.folds[np.argsort(order)],
    )
    first, *_, one = inspected(leaky, np.random.default_rng(0))
    second, *_, two = inspected(renumbered, np.random.default_rng(0))
    assert set(order[one.original[first.copied]]) == set(two.original[second.copied])


def test_three_exact_copies_of_rows_are_found_where_rows_are_never_equal_by_nature():
    rng = np.random.default_rng(20)
    arms = draw_arms(900, rng)
    rows = rng.normal(size=(1700, 8)) @ rng.normal(size=(8, 8))
    evidence = replace(
        innocent(rng, persons=4, samples=4),
        modality="table",
        records=rows[:900],
        labels=np.zeros(900, dtype=int),
        persons=np.arange(900),
        arms=arms,
        folds=rng.integers(1, 3, 900),
        excluded=np.zeros(900, dtype=bool),
        samples=rows[900:],
        sample_labels=np.zeros(800, dtype=int),
    )
    assert inspected(evidence, rng)[0].p_value > 0.01
    copied = trained_rows(evidence)[:3]
    copies, *_ = inspected(with_samples(evidence, evidence.records[copied]), rng)
    assert copies.p_value < 0.01
    assert set(copied.tolist()) <= set(copies.copied.tolist())


@pytest.mark.parametrize("true_rate", [0.0, 0.3, 1.0, 5.0, 40.0])
def test_natural_twins_are_called_copies_about_as_rarely_as_stated(true_rate):
    # Poisson matches at one rate: pairs among real records, with others, with trained-on units.
    rng = np.random.default_rng(31)
    evidence = innocent(rng, persons=600)
    population = population_of(evidence)
    detector = Detector(population, {}, sample_count=400, config=Config(permutations=200), rng=rng)
    share = float(population.trained[population.persons].mean())
    looks = 400 * share
    compared, outside_looks = len(evidence.records) / 2, 400 * (1 - share)
    alarms = 0
    for _ in range(4000):
        seen = rng.poisson(true_rate * compared / looks)
        outside = rng.poisson(true_rate * outside_looks / looks)
        inside = rng.poisson(true_rate)
        if inside:
            alarms += detector._by_nature(inside, outside, seen=seen, compared=compared) < 0.01
    assert alarms <= stats.binom.ppf(0.999, 4000, 0.0125)  # a quarter above nominal at worst


def test_three_exact_rows_are_copies_where_no_two_real_rows_are_equal():
    rng = np.random.default_rng(32)
    population = population_of(innocent(rng, persons=1250))
    arms = np.where(np.arange(1250) < 500, int(Arm.TRAIN), int(Arm.REFERENCE_B))
    detector = Detector(
        replace(population, arms=arms),
        {},
        sample_count=2003,
        config=Config(permutations=200),
        rng=rng,
    )
    twins = Twins(values=0, records=2500, natural=True)
    assert detector._by_twins(3, 0, twins) < 0.01 / 3
    assert detector._by_twins(3, 3, twins) > 0.01
    assert detector._by_twins(3, 0, replace(twins, values=3)) > 0.01
