"""Every generator of tables keeps the contract; a new one under training/generators is met by all of these."""

import itertools

import numpy as np
import pytest

from privacy import accounting, planning
from privacy.errors import InvalidParameter
from privacy.mechanisms import PoissonSubsampledGaussianMechanism, PrivacyTarget
from privacy.table_schema import Column, Constraint, TableSchema
from training import generators
from training.checkpoints import ReleaseLost, from_bytes, to_bytes
from training.run import LocalRun
from training.table_records import TableRecords

TARGET = PrivacyTarget(epsilon=8.0, delta=1e-5)
DECLARED = 400
# Small enough for a test; everything else is as a data owner gets it.
SMALL = {
    "rounds_per_column": 2,
    "iterations": 40,
    "final_iterations": 60,
    "steps": 3,
    "expected_batch_size": 40,
    "hidden": 8,
}

NAMES = generators.available("table")
every_generator = pytest.mark.parametrize("name", NAMES)
# Generators that know the joint distribution, and so can keep constraints.
relating = pytest.mark.parametrize(
    "name", [n for n in ("aim", "mst", "autoregressive") if n in NAMES]
)


def _schema(*, constrained=True):
    constraints = (
        Constraint(name="alive", when={"dead": ("no",)}, then={"cause": ("missing",)}),
        Constraint(name="dead", when={"dead": ("yes",)}, then={"cause": ("present",)}),
    )
    return TableSchema(
        declared_count=DECLARED,
        person="id",
        columns=(
            Column(name="dead", kind="category", levels=("no", "yes"), role="target"),
            Column(name="cause", kind="category", levels=("a", "b"), missing=True),
            Column(name="age", kind="number", edges=(0, 20, 40, 60, 80)),
            Column(name="sex", kind="category", levels=("f", "m")),
        ),
        constraints=constraints if constrained else (),
    )


def _codes(count, *, seed=0):
    """Older persons die more often; one has a cause of death exactly if one has died."""
    rng = np.random.default_rng(seed)
    age = rng.integers(4, size=count)
    dead = (rng.random(count) < 0.1 + 0.25 * age).astype(int)
    cause = np.where(dead == 1, rng.integers(2, size=count), 2)
    return np.stack([dead, cause, age, rng.integers(2, size=count)], axis=1).astype(np.int16)


def _records(*, persons=200, seed=0):
    """Two rows a person."""
    return TableRecords(
        codes=_codes(2 * persons, seed=seed), persons=np.repeat(np.arange(persons), 2)
    )


def _config(module):
    known = {key: value for key, value in SMALL.items() if key in module.Config.model_fields}
    return module.Config(**known)


def _mechanisms(module, config, *, target=TARGET):
    return planning.plan_mechanisms(
        module.STAGES, config=config.model_dump(), target=target, public_train_count=DECLARED
    )


def _fit(name, *, records=None, run=None, schema=None):
    module = generators.load(name)
    config = _config(module)
    run = run or LocalRun(_mechanisms(module, config))
    records = _records() if records is None else records
    return module.fit(records, config, schema=schema or _schema(), run=run, seed=3), run


class Interrupted(LocalRun):
    """A run that is stopped when it saves its checkpoint for the n-th time, or just before."""

    def __init__(self, mechanisms, *, stop_at, is_lost=False):
        super().__init__(mechanisms)
        self.stop_at, self.is_lost, self.saves = stop_at, is_lost, 0

    def save_checkpoint(self, state):
        self.saves += 1
        if self.saves == self.stop_at and self.is_lost:
            raise KeyboardInterrupt
        super().save_checkpoint(state)
        if self.saves == self.stop_at:
            raise KeyboardInterrupt


def test_the_modalities_divide_the_generators_and_another_one_is_refused():
    kinds = [set(generators.available(kind)) for kind in ("image", "table", "joint")]
    assert set.union(*kinds) == set(generators.available())
    assert sum(map(len, kinds)) == len(generators.available())
    assert kinds[2] == {"rows_then_images"}
    assert {"aim", "mst", "independent_columns"} <= kinds[1]
    with pytest.raises(InvalidParameter, match="choose one of image, table, joint"):
        generators.available("sound")


@every_generator
def test_every_setting_is_described_and_unknown_ones_are_refused(name):
    module = generators.load(name)
    assert all(field.description for field in module.Config.model_fields.values())
    with pytest.raises(ValueError, match="Extra inputs"):
        module.Config(noise_multiplier=0)


@every_generator
def test_presets_set_what_there_is_and_can_be_paid_for(name):
    module = generators.load(name)
    for preset in generators.presets_of(module).values():
        config = module.Config.model_validate(preset.resolved(units=5000, epsilon=1.0))
        target = PrivacyTarget(epsilon=1.0, delta=1e-5)
        planned = planning.plan_mechanisms(
            module.STAGES, config=config.model_dump(), target=target, public_train_count=5000
        )
        assert accounting.epsilon(planned, target.delta) <= target.epsilon


@every_generator
def test_fitting_charges_every_reserved_step_and_reports_the_mechanisms_it_ran(name):
    fitted, run = _fit(name)
    assert run.charges == [mechanism.steps for mechanism in run.mechanisms]
    assert fitted.mechanisms == run.mechanisms


@every_generator
def test_what_was_measured_is_kept_with_its_noise_and_costs_no_more_than_the_budget(name):
    module = generators.load(name)
    fitted, run = _fit(name)
    again = module.from_state(fitted.state(), config=_config(module), schema=_schema())
    kept = again.with_mechanisms(run.mechanisms).measurements
    assert {(c,) for c in range(4)} <= {m.columns for m in kept}
    for before, after in zip(fitted.measurements, kept, strict=True):
        assert before.deviation == after.deviation
        np.testing.assert_array_equal(before.values, after.values)
    rho = sum(0.5 * m.steps / m.noise_multiplier**2 for m in run.mechanisms)
    assert sum(0.5 / m.deviation**2 for m in kept) <= rho * (1 + 1e-9)
    ages = next(m for m in kept if m.columns == (2,))
    shown = np.bincount(_records().codes[:, 2], minlength=4) / 2
    np.testing.assert_allclose(ages.values, shown, atol=6 * ages.deviation)


@every_generator
def test_rows_are_codes_of_the_schema_repeat_for_a_seed_and_report_progress(name):
    fitted, _ = _fit(name)
    seen = []
    rows = fitted.sample(300, seed=5, progress=lambda done, total: seen.append((done, total)))
    assert rows.shape == (300, 4)
    assert rows.dtype == np.int16
    assert (rows >= 0).all()
    assert (rows < np.asarray(_schema().sizes)).all()
    np.testing.assert_array_equal(rows, fitted.sample(300, seed=5))
    assert not np.array_equal(rows, fitted.sample(300, seed=6))
    assert seen[-1] == (300, 300)
    assert fitted.sample(0, seed=5).shape == (0, 4)


@relating
def test_no_row_breaks_a_constraint(name):
    fitted, _ = _fit(name)
    broken = _schema().violations(fitted.sample(2000, seed=0))
    assert {key: int(value.sum()) for key, value in broken.items()} == {"alive": 0, "dead": 0}


@relating
def test_relations_between_columns_survive(name):
    fitted, _ = _fit(name, records=_records(persons=2000), schema=_schema(constrained=False))
    rows = fitted.sample(4000, seed=0)
    rates = [rows[rows[:, 2] == age, 0].mean() for age in (0, 3)]
    assert rates[1] - rates[0] > 0.5  # it is 0.75 in the records
    # A tree may join age to death itself, or to its cause.
    assert {(0, 2), (1, 2)} & set(fitted.related_pairs())
    assert fitted.warnings() == ()


@relating
def test_where_columns_are_independent_the_fit_says_that_it_is_no_better(name):
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(size, size=400) for size in _schema().sizes], axis=1)
    records = TableRecords(codes=codes.astype(np.int16), persons=np.arange(400))
    module = generators.load(name)
    mechanisms = _mechanisms(module, _config(module), target=PrivacyTarget(epsilon=1.0, delta=1e-5))
    found = [
        _fit(name, records=records, run=LocalRun(mechanisms), schema=_schema(constrained=False))[0]
        for _ in range(3)
    ]
    assert all(isinstance(fitted, generators.WithWarnings) for fitted in found)
    assert any("no better than independent columns" in "".join(f.warnings()) for f in found)


@relating
def test_a_budget_with_which_no_relation_can_be_measured_is_refused_before_it_is_charged(name):
    module = generators.load(name)
    target = PrivacyTarget(epsilon=0.02, delta=1e-5)
    run = LocalRun(_mechanisms(module, _config(module), target=target))
    schema = _schema().model_copy(update={"declared_count": 50})
    with pytest.raises(InvalidParameter, match="independent_columns"):
        _fit(name, run=run, schema=schema)
    assert not any(run.charges)


@relating
def test_constraints_that_contradict_each_other_are_refused_before_anything_is_charged(name):
    never = Constraint(name="never", when={"sex": ("f", "m")}, then={"cause": ("a",)})
    neither = Constraint(name="neither", when={"age": ("present",)}, then={"dead": ("no",)})
    schema = _schema().model_copy(update={"constraints": (*_schema().constraints, never, neither)})
    module = generators.load(name)
    run = LocalRun(_mechanisms(module, _config(module)))
    with pytest.raises(InvalidParameter, match="contradict each other"):
        _fit(name, run=run, schema=schema)
    assert not any(run.charges)


@every_generator
def test_two_fits_of_the_same_records_and_seed_differ_because_noise_takes_no_seed(name):
    first, second = (_fit(name)[0].state() for _ in range(2))
    assert any(not np.array_equal(first[key], second[key]) for key in first)


@every_generator
def test_fitting_survives_an_empty_training_arm(name):
    empty = TableRecords(codes=np.zeros((0, 4), np.int16), persons=np.zeros(0, np.int32))
    fitted, run = _fit(name, records=empty)
    assert run.charges == [mechanism.steps for mechanism in run.mechanisms]
    assert fitted.sample(9, seed=0).shape == (9, 4)


@every_generator
def test_scores_are_one_finite_number_per_row_and_repeat(name):
    fitted, _ = _fit(name)
    codes = _codes(50, seed=9)
    scores = fitted.score(codes, seed=2)
    assert "log_density" in scores
    for key, values in scores.items():
        assert values.shape == (50,)
        assert np.isfinite(values).all()
        again = fitted.score(codes[:7], seed=2)[key]
        np.testing.assert_allclose(again, values[:7], rtol=1e-3, atol=1e-6)


@relating
def test_densities_add_up_to_one_over_the_whole_domain(name):
    fitted, _ = _fit(name)
    cells = np.asarray(list(itertools.product(*(range(size) for size in _schema().sizes))))
    densities = np.exp(fitted.log_density(cells.astype(np.int16)))
    assert densities.sum() == pytest.approx(1.0, abs=1e-6)
    rows = fitted.sample(20_000, seed=0).astype(np.int64)
    index = np.ravel_multi_index(tuple(rows.T), _schema().sizes)
    found = np.bincount(index, minlength=len(cells)) / len(rows)
    assert 0.5 * np.abs(found - densities).sum() < 0.02
    assert all(np.isfinite(v).all() for v in fitted.clique_terms(cells.astype(np.int16)).values())


@every_generator
def test_a_generator_comes_back_from_its_arrays(name):
    fitted, run = _fit(name)
    state = from_bytes(to_bytes(fitted.state()))
    module = generators.load(name)
    again = module.from_state(state, config=_config(module), schema=_schema())
    again = again.with_mechanisms(run.mechanisms)
    np.testing.assert_array_equal(fitted.sample(100, seed=1), again.sample(100, seed=1))
    for key, values in fitted.score(_codes(20), seed=0).items():
        np.testing.assert_allclose(again.score(_codes(20), seed=0)[key], values, atol=1e-6)


@every_generator
def test_a_resume_keeps_what_was_measured_and_pays_for_nothing_twice(name):
    module = generators.load(name)
    mechanisms = _mechanisms(module, _config(module))
    stages = range(1 if len(mechanisms) == 1 else 2, 4)
    for stop_at in stages:
        run = Interrupted(mechanisms, stop_at=stop_at)
        try:
            _fit(name, run=run)
        except KeyboardInterrupt:
            charged = list(run.charges)
            before = {k: np.array(v) for k, v in run.load_checkpoint().items()}
            assert sum(charged) > 0
            fitted, _ = _fit(name, run=run)
            assert fitted.mechanisms == mechanisms
            for key in (k for k in before if k.endswith("/values")):
                kept = run.load_checkpoint()[key]
                np.testing.assert_array_equal(kept[: len(before[key])], before[key])
        assert run.charges == [mechanism.steps for mechanism in mechanisms]


@every_generator
def test_a_charged_result_that_is_lost_is_not_measured_again_for_nothing(name):
    module = generators.load(name)
    mechanisms = _mechanisms(module, _config(module))
    if isinstance(mechanisms[0], PoissonSubsampledGaussianMechanism):
        pytest.skip("nothing is released once")
    run = Interrupted(mechanisms, stop_at=1, is_lost=True)
    with pytest.raises(KeyboardInterrupt):
        _fit(name, run=run)
    lost = run.charges[0]
    assert lost > 0
    # Rounds that are paid for one by one: what is left is still the run's own.
    if name in {"aim", "autoregressive"}:
        _fit(name, run=run)
        assert run.charges[0] == mechanisms[0].steps
        return
    with pytest.raises(ReleaseLost, match="Request a new job"):
        _fit(name, run=run)
    assert run.charges[0] == lost


@every_generator
def test_rows_outside_the_schema_are_refused_before_anything_is_charged(name):
    module = generators.load(name)
    run = LocalRun(_mechanisms(module, _config(module)))
    records = _records()
    records.codes[0, 0] = 2
    with pytest.raises(InvalidParameter, match="'dead' were refused"):
        _fit(name, run=run, records=records)
    assert not any(run.charges)
