"""A twin trains on persons and canaries within one charged run; reference models see half a alone."""

import numpy as np
import pytest

from privacy import canaries as coins_of
from privacy import planning
from privacy.errors import InvalidParameter, ReservationExceeded
from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget
from training import generators
from training.audit_twin import make_canaries, score_twin, with_canaries
from training.records import TrainingRecords
from training.reference_models import Target, reference_scores
from training.run import LocalRun

SCHEMA = DatasetSchema(
    declared_count=100, height=16, width=16, bit_depth=8, label="grade", labels=("a", "b")
)
MODULE = generators.load("diffusion")
CONFIG = MODULE.Config(
    steps=2,
    expected_batch_size=20,
    features=16,
    warm_up_steps=2,
    covariance_coefficients=20,
    sampling_steps=2,
)


def records(persons=60, seed=0):
    rng = np.random.default_rng(seed)
    return TrainingRecords(
        images=rng.integers(0, 256, (2 * persons, 16, 16)).astype(np.uint8),
        labels=rng.integers(0, 2, 2 * persons).astype(np.int16),
        persons=np.repeat(np.arange(persons), 2).astype(np.int32),
    )


def planned():
    return planning.plan_mechanisms(
        MODULE.STAGES,
        config=CONFIG.model_dump(),
        target=PrivacyTarget(epsilon=8.0, delta=1e-5),
        public_train_count=100,
    )


def test_canaries_are_persons_of_their_own_and_those_left_out_are_nowhere():
    rng = np.random.default_rng(1)
    drawn = make_canaries(30, schema=SCHEMA, rng=rng)
    assert drawn.images.dtype == np.uint8
    assert len(np.unique(drawn.images.reshape(30, -1), axis=0)) > 20
    coins = coins_of.toss_canary_coins(30, key=b"k" * 32)
    together = with_canaries(records(), drawn, coins).checked(SCHEMA)
    assert len(together) == 120 + coins.sum()
    assert len(together.by_person()) == 60 + coins.sum()
    held = {image.tobytes() for image in drawn.images[coins == 0]}
    taken = {image.tobytes() for image in drawn.images[coins == 1]}
    assert not (held - taken) & {image.tobytes() for image in together.images}


@pytest.mark.slow
def test_a_twin_is_charged_like_any_training_and_gives_back_scores_alone():
    run = LocalRun(planned())
    drawn = make_canaries(40, schema=SCHEMA, rng=np.random.default_rng(2))
    coins = coins_of.toss_canary_coins(40, key=b"k" * 32)
    scores = score_twin(
        MODULE, records(), CONFIG, schema=SCHEMA, run=run, seed=3, canaries=drawn, coins=coins
    )
    assert run.charges == [mechanism.steps for mechanism in run.mechanisms]
    assert {"diffusion_loss", "gradient_size"} <= set(scores)
    assert all(values.shape == (40,) and np.isfinite(values).all() for values in scores.values())
    with pytest.raises(ReservationExceeded):
        run.charge(0, 1)


def test_coins_of_another_number_are_refused():
    drawn = make_canaries(3, schema=SCHEMA, rng=np.random.default_rng(0))
    with pytest.raises(InvalidParameter, match="one for each"):
        with_canaries(records(), drawn, np.ones(2, int))


@pytest.mark.slow
def test_reference_models_differ_and_never_see_who_is_scored():
    scored, held_out = records(seed=5), records(persons=50, seed=6)
    target = Target(MODULE, CONFIG, SCHEMA, planned(), trained_units=60, seed=7)
    shown = []
    found = reference_scores(
        target,
        held_out,
        models=2,
        asked=(scored.images[:20], scored.labels[:20]),
        progress=lambda done, total: shown.append((done, total)),
    )
    assert shown == [(1, 2), (2, 2)]
    assert found["diffusion_loss"].shape == (2, 20)
    assert not np.allclose(found["log_density"][0], found["log_density"][1])


def test_too_few_held_out_persons_are_refused():
    target = Target(MODULE, CONFIG, SCHEMA, planned(), trained_units=60, seed=7)
    few = records(persons=30)
    with pytest.raises(InvalidParameter, match="Audit without them"):
        reference_scores(target, few, models=2, asked=(few.images, few.labels))
