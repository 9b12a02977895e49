"""Private evolution over phantoms: votes are bounded per person and paid for, and they are heard."""

from dataclasses import replace

import numpy as np
import pytest

from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget
from privacy.planning import plan_mechanisms
from training.generators import phantoms as generator
from training.phantom_evolution import (
    Candidates,
    first_candidates,
    nearest_votes,
    settle,
    weights_from_votes,
)
from training.phantom_features import Embedding
from training.phantoms import PUBLISHED, Spread, make_cohort
from training.phantoms.parameters import GRADED, NAMES
from training.records import PersonIndex, TrainingRecords, encode
from training.releases import sum_of_clipped
from training.run import LocalRun

PIXELS = 28
EXPOSURE, WIDTH = NAMES.index("exposure"), NAMES.index("half_width")


def _schema(persons, labels="01234"):
    return DatasetSchema(
        declared_count=persons,
        height=PIXELS,
        width=PIXELS,
        bit_depth=8,
        label="grade",
        labels=tuple(labels),
    )


def _records(persons, prior, seed=1):
    cohort = make_cohort(persons, pixels=PIXELS, seed=seed, prior=prior)
    return TrainingRecords(cohort.images, cohort.grades.astype(np.int16), cohort.persons)


def _mechanisms(persons, config, epsilon=5.0):
    return plan_mechanisms(
        generator.STAGES,
        config=config.model_dump(),
        target=PrivacyTarget(epsilon=epsilon, delta=1e-5),
        public_train_count=persons,
    )


@pytest.fixture(scope="module")
def embedding():
    return Embedding.of(_schema(100), prior=PUBLISHED)


@pytest.fixture(scope="module")
def shifted():
    """A generator fitted on knees that are smaller and brighter than the prior's, and its schema."""
    prior = replace(PUBLISHED, exposure=Spread(1.35, 0.09), half_width=Spread(35.0, 1.8))
    config, persons = generator.Config(), 800
    run = LocalRun(_mechanisms(persons, config))
    schema = _schema(persons)
    return generator.fit(_records(persons, prior), config, schema=schema, run=run, seed=0), schema


def _weighted_mean(fitted, column):
    return (fitted.survivors.table[:, :, column] * fitted.weights).sum(axis=1).mean()


def test_parameters_evolve_towards_a_cohort_that_differs_from_the_prior(shifted):
    fitted, schema = shifted
    start = first_candidates(
        300, schema=schema, prior=PUBLISHED, rng=np.random.default_rng(0)
    ).table
    assert abs(start[:, :, EXPOSURE].mean() - 1.0) < 0.05
    assert abs(start[:, :, WIDTH].mean() - 38.5) < 0.5
    assert abs(_weighted_mean(fitted, EXPOSURE) - 1.35) < 0.12  # a third of the way is left at most
    assert abs(_weighted_mean(fitted, WIDTH) - 35.0) < 1.2


def test_evolved_pictures_have_the_brightness_of_the_records_and_not_of_the_prior(shifted):
    fitted, _ = shifted
    labels = np.arange(200) % 5
    drawn = fitted.sample(labels, seed=3).mean()
    theirs = _records(100, replace(PUBLISHED, exposure=Spread(1.35, 0.09))).images.mean()
    usual = _records(100, PUBLISHED).images.mean()
    assert abs(drawn - theirs) < 0.4 * abs(theirs - usual)


def test_a_knee_like_a_survivor_scores_higher_than_a_knee_of_the_prior(shifted):
    fitted, _ = shifted
    labels = np.arange(60) % 5
    alike = fitted.score(fitted.sample(labels, seed=9), labels, seed=0)["nearest_survivor"]
    records = _records(30, PUBLISHED, seed=5)
    others = fitted.score(records.images, records.labels, seed=0)["nearest_survivor"]
    assert np.median(alike) > np.median(others)


@pytest.mark.parametrize("images", [1, 2, 50])
def test_a_person_changes_the_votes_by_at_most_one_however_many_images_they_have(images, embedding):
    rng = np.random.default_rng(2)
    schema = _schema(100)
    candidates = first_candidates(10, schema=schema, prior=PUBLISHED, rng=rng)
    portraits = embedding(candidates.render(schema, rng).reshape(-1, PIXELS, PIXELS)).reshape(
        5, 10, -1
    )
    # The same picture again and again, which is the strongest vote there is, and mixed labels.
    records = _records(25, PUBLISHED)
    for chosen in (np.zeros(images, np.int64), np.arange(images)):
        labels = records.labels[chosen]
        votes = nearest_votes(
            embedding(encode(records.images[chosen], schema)), portraits, labels, nearest=3
        )
        np.testing.assert_allclose(np.linalg.norm(votes, axis=1), 1.0)
        change = sum_of_clipped(
            lambda rows, votes=votes: votes[rows],
            labels,
            people=PersonIndex.of(np.zeros(images, np.int32)),
            cell_count=5,
        )
        assert 0 < np.linalg.norm(change) <= 1.0


def test_an_image_votes_only_among_the_candidates_of_its_label():
    features = np.array([[0.0], [0.0]], np.float32)
    candidates = np.array([[[5.0], [0.1]], [[0.2], [7.0]]], np.float32)
    votes = nearest_votes(features, candidates, np.array([0, 1]), nearest=1)
    np.testing.assert_array_equal(votes, [[0, 1], [1, 0]])


class Refusing(LocalRun):
    """Cannot pay for the third round."""

    def charge(self, index, steps):
        if index == 2:
            raise RuntimeError("nothing left")
        super().charge(index, steps)


def test_no_round_votes_before_it_is_charged():
    config = generator.Config(candidates=6)
    run = Refusing(_mechanisms(60, config))
    with pytest.raises(RuntimeError, match="nothing left"):
        generator.fit(_records(20, PUBLISHED), config, schema=_schema(60), run=run, seed=0)
    assert run.charges == [1, 1, 0, 0]
    assert sorted(run.load_checkpoint()) == ["release_0/votes", "release_1/votes"]


def test_the_number_of_candidates_depends_on_declared_numbers_and_noise_only():
    config = generator.Config()
    loud, quiet = (_mechanisms(2000, config, epsilon=epsilon) for epsilon in (0.5, 5.0))
    counts = [
        generator.candidate_count(mechanisms, config=config, schema=_schema(persons))
        for mechanisms, persons in ((loud, 500), (loud, 2000), (quiet, 500))
    ]
    assert counts[0] < counts[1]
    assert counts[0] < counts[2] <= config.candidates


def test_votes_that_may_be_noise_are_dropped_and_a_label_without_any_keeps_all():
    noised = np.array([[10.0, 1.0, -4.0, 30.0], [0.5, -1.0, 1.0, 0.0]])
    weights = weights_from_votes(noised, noise=2.0, threshold=1.5)
    np.testing.assert_allclose(weights, [[0.25, 0, 0, 0.75], [0.25] * 4])


def test_drift_between_labels_is_settled_and_a_real_difference_is_kept():
    rng = np.random.default_rng(0)
    schema = _schema(100, labels="01")
    candidates = first_candidates(60, schema=schema, prior=PUBLISHED, rng=rng)
    table = candidates.table.copy()
    table[0, :, EXPOSURE] += 0.5  # far more than chance; the width differs by chance alone
    weights = np.full((2, 60), 1 / 60)
    settled = settle(Candidates(table=table, is_right=candidates.is_right), weights).table
    before, after = table.mean(axis=1), settled.mean(axis=1)
    assert abs(after[0, WIDTH] - after[1, WIDTH]) < 0.1 * abs(before[0, WIDTH] - before[1, WIDTH])
    assert after[0, EXPOSURE] - after[1, EXPOSURE] > 0.25
    findings = slice(0, len(GRADED))
    np.testing.assert_array_equal(settled[:, :, findings], table[:, :, findings])


def test_the_embedding_is_the_same_every_time_and_sees_joint_spaces(embedding):
    schema = _schema(100)
    again = Embedding.of(schema, prior=PUBLISHED)
    np.testing.assert_array_equal(embedding.readout, again.readout)
    cohort = make_cohort(150, pixels=PIXELS, seed=4, prior=PUBLISHED)
    read = embedding(encode(cohort.images, schema))[:, -len(NAMES) - 1 :]
    left = np.where(
        cohort.knees.is_right, cohort.knees.lateral_joint_space, cohort.knees.medial_joint_space
    )
    assert np.corrcoef(read[:, 0], left)[0, 1] > 0.6
