"""The autoregressive generator of tables: one gradient a person, exact drawing, what cannot be."""

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from privacy import planning
from privacy.mechanisms import PoissonSubsampledGaussianMechanism, PrivacyTarget
from privacy.table_schema import Column, Constraint, TableSchema
from training.dp_sgd import DpSgdSettings, Trainer
from training.generators import autoregressive
from training.generators.autoregressive import Config, _column_model, _Correction, fit
from training.ranks import Ranks
from training.run import LocalRun
from training.table_records import TableRecords
from training.tables.calibration import calibrated

TARGET = PrivacyTarget(epsilon=20.0, delta=1e-5)
SMALL = Config(
    steps=4,
    hidden=8,
    expected_batch_size=50,
    rounds_per_column=2,
    iterations=60,
    final_iterations=60,
)
CLIP = 1.0


def _schema():
    return TableSchema(
        declared_count=400,
        person="id",
        columns=(
            Column(name="dead", kind="category", levels=("no", "yes")),
            Column(name="cause", kind="category", levels=("a", "b"), missing=True),
            Column(name="age", kind="number", edges=(0, 20, 40, 60, 80)),
        ),
        constraints=(
            Constraint(name="alive", when={"dead": ("no",)}, then={"cause": ("missing",)}),
            Constraint(name="dead", when={"dead": ("yes",)}, then={"cause": ("present",)}),
        ),
    )


def _codes(count, *, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(4, size=count)
    dead = (rng.random(count) < 0.1 + 0.25 * age).astype(int)
    cause = np.where(dead == 1, rng.integers(2, size=count), 2)
    return np.stack([dead, cause, age], axis=1).astype(np.int16)


def _mechanisms():
    return planning.plan_mechanisms(
        autoregressive.STAGES, config=SMALL.model_dump(), target=TARGET, public_train_count=400
    )


def _fitted(records=None):
    records = records or TableRecords(codes=_codes(400), persons=np.arange(400))
    return fit(records, SMALL, schema=_schema(), run=LocalRun(_mechanisms()), seed=0)


def _shaken(columns, *, size):
    """Give every weight of the network a value, so that its changes are not small."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in columns.network.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return columns


@pytest.fixture(scope="module")
def fitted():
    return _fitted()


@pytest.mark.parametrize("clipping", ["plain", "automatic"])
def test_a_person_with_fifty_rows_moves_the_summed_gradient_by_no_more_than_the_clip(
    fitted, clipping
):
    rows = TableRecords(
        codes=_codes(60), persons=np.concatenate([np.zeros(50, int), np.arange(1, 11)])
    )
    columns = _shaken(_column_model(fitted.marginals, SMALL, seed=0), size=2.0)
    mechanism = PoissonSubsampledGaussianMechanism(
        stage="training", noise_multiplier=1.0, sampling_rate=0.5, steps=1
    )
    trainer = Trainer(
        columns.network,
        _Correction(rows, columns, schema=_schema()),
        people=rows.by_person(),
        mechanism=mechanism,
        settings=DpSgdSettings(
            expected_batch_size=5,
            max_grad_norm=CLIP,
            clipping=clipping,
            images_per_person=50,
            physical_batch=16,  # the person's rows do not fit at once
        ),
        ranks=Ranks.here(),
    )
    trainer.accumulate(np.arange(1, 11))
    without = trainer.optimizer.clipped_sum.clone()
    trainer.optimizer.clipped_sum.zero_()
    trainer.accumulate(np.arange(11))
    moved = float((trainer.optimizer.clipped_sum - without).norm())
    assert 0.5 * CLIP < moved <= CLIP * (1 + 1e-5)


def test_rows_are_drawn_with_the_chances_that_the_model_states(fitted):
    columns = _shaken(_column_model(fitted.marginals, SMALL, seed=0), size=0.7)
    cells = np.asarray(list(itertools.product(range(2), range(3), range(4))), dtype=np.int16)
    chances = np.exp(columns.log_density(cells))
    assert chances.sum() == pytest.approx(1.0, abs=1e-5)
    rows = columns.draw(40_000, rng=np.random.default_rng(0)).astype(np.int64)
    found = np.bincount(np.ravel_multi_index(tuple(rows.T), (2, 3, 4)), minlength=len(cells))
    possible = chances > 1e-12
    assert not found[~possible].any()
    # Evenly spread positions scatter less than independent draws: the upper tail is the test.
    result = stats.chisquare(found[possible], 40_000 * chances[possible] / chances.sum())
    assert result.pvalue > 1e-3
    first_marginal = np.exp(fitted.marginals.log_density(cells))
    assert 0.5 * np.abs(chances - first_marginal).sum() > 0.05  # the network does change the model


def test_no_row_breaks_a_constraint_whatever_the_network_says(fitted):
    columns = _shaken(_column_model(fitted.marginals, SMALL, seed=0), size=30.0)
    rows = columns.draw(5000, rng=np.random.default_rng(0))
    assert not any(broken.any() for broken in _schema().violations(rows).values())


def test_measured_joints_come_back_where_the_network_has_pushed_them_about(fitted):
    columns = _shaken(_column_model(fitted.marginals, SMALL, seed=0), size=0.7)
    back = calibrated(columns, count=20_000, rng=np.random.default_rng(0))
    wanted = fitted.marginals.model.marginal((2,)) / fitted.total

    def distance(model):
        rows = model.draw(20_000, rng=np.random.default_rng(1))
        return 0.5 * np.abs(np.bincount(rows[:, 2], minlength=4) / len(rows) - wanted).sum()

    assert distance(columns) > 0.05
    assert distance(back) < 0.02


def test_rows_that_contradict_a_declared_constraint_leave_the_fit_finite():
    codes = _codes(300)
    codes[:100, 1] = 0  # a cause of death, also for the living
    fitted = _fitted(TableRecords(codes=codes, persons=np.arange(300)))
    assert all(np.isfinite(value).all() for value in fitted.state().values())
    assert np.isfinite(fitted.score(codes, seed=0)["correction"]).all()


@pytest.mark.parametrize("wrong", [{"hidden": 2}, {"marginals_noise_ratio": 1.0}, {"steps": 0}])
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Config(**wrong)
