"""Rows, then images: one budget of the same persons, whatever a person brings, and images of their rows."""

import numpy as np
import pytest

from privacy import accounting, planning
from privacy.errors import InvalidParameter, ReservationExceeded
from privacy.mechanisms import GaussianMechanism, PrivacyTarget, ZcdpMechanism
from tests.training.joint_material import DECLARED, joint_records, joint_schema, pictures
from training import generators
from training.audit_twin import make_joint_canaries, score_twin
from training.checkpoints import ReleaseLost, from_bytes, to_bytes
from training.joint_records import JointRecords
from training.records import TrainingRecords
from training.reference_models import Target, reference_scores
from training.run import LocalRun
from training.run_parts import RunParts
from training.table_records import TableRecords

GENERATOR = generators.load("rows_then_images")
SMALL = {"rows": "mst", "covariance_coefficients": 16, "mean_frequencies": 8}
NOISELESS = 1e-4


def config(**changes):
    return GENERATOR.Config(**{**SMALL, **changes})


def planned(epsilon=8.0, **changes):
    return planning.plan_mechanisms(
        GENERATOR.STAGES,
        config=config(**changes).model_dump(),
        target=PrivacyTarget(epsilon=epsilon, delta=1e-5),
        public_train_count=DECLARED,
    )


def noiseless():
    """Return mechanisms of hardly any noise, so that what is released is what was summed."""
    rows, *images = planned()
    return (
        rows.model_copy(update={"noise_multiplier": NOISELESS}),
        *(m.model_copy(update={"noise_multiplier": NOISELESS}) for m in images),
    )


def fit(records=None, run=None, **changes):
    run = run or LocalRun(planned(**changes))
    records = joint_records() if records is None else records
    fitted = GENERATOR.fit(records, config(**changes), schema=joint_schema(), run=run, seed=0)
    return fitted, run


class Watched(LocalRun):
    """A run that notes every charge, and may be stopped when it saves for the n-th time."""

    def __init__(self, mechanisms, *, stop_at=0, is_lost=False):
        super().__init__(mechanisms)
        self.seen, self.saves, self.stop_at, self.is_lost = [], 0, stop_at, is_lost

    def charge(self, index, steps):
        super().charge(index, steps)
        self.seen.append((index, steps))

    def save_checkpoint(self, state):
        self.saves += 1
        if self.saves == self.stop_at and self.is_lost:
            raise KeyboardInterrupt
        super().save_checkpoint(state)
        if self.saves == self.stop_at:
            raise KeyboardInterrupt


def stopped(stop_at, **options):
    run = Watched(planned(), stop_at=stop_at, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(run=run)
    return run


@pytest.fixture(scope="module")
def quiet():
    """A fit with hardly any noise."""
    return fit(run=LocalRun(noiseless()))[0]


def with_another_person(records, rows):
    """Return the records with one more person of so many rows, all as far out as can be."""
    rng = np.random.default_rng(rows)
    codes = rng.integers([2, 2, 3], size=(rows, 3)).astype(np.int16)
    images = pictures(codes, rng, joint_schema())
    images[:, ::2] = 255
    owner = records.persons.max() + 1
    return JointRecords.of(
        np.concatenate([records.table.codes, codes]),
        np.concatenate([records.images.images, images]),
        np.concatenate([records.persons, np.full(rows, owner, dtype=np.int32)]),
        schema=joint_schema(),
    )


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_a_person_changes_every_release_by_at_most_one_whatever_they_bring(rows):
    records = joint_records(60)
    first = LocalRun(noiseless())
    fit(records, first)
    saved = first.load_checkpoint()
    more = with_another_person(records, rows)
    releases = sorted({key.rpartition("/")[0] for key in saved})
    assert releases == [
        "images/release_0", "images/release_1", "images/release_2", "images/release_3",
        "rows/phase_columns", "rows/phase_edges", "rows/phase_pairs",
    ]  # fmt: skip
    moved = []
    for release in (name for name in releases if name != "rows/phase_edges"):
        # As the first run came to this release, so that it alone is made anew, and then stopped.
        run = Watched(noiseless(), stop_at=1)
        run.checkpoint = {k: v for k, v in saved.items() if before(k, release)}
        run.charges = [charged_before(index, release, run) for index in range(5)]
        with pytest.raises(KeyboardInterrupt):
            fit(more, run)
        name = "values" if release.startswith("rows") else "sums"
        after, was = run.load_checkpoint()[f"{release}/{name}"], saved[f"{release}/{name}"]
        sizes = sizes_of(saved[f"{release}/columns"]) if name == "values" else [was.size]
        parts = np.split((after - was).ravel(), np.cumsum(sizes)[:-1])
        moved += [np.linalg.norm(part) for part in parts]
    assert max(moved) <= 1 + 100 * NOISELESS
    assert min(moved) > 0.1  # they are in every release


def before(key, release):
    """Tell whether a result was there before a release: rows come first, then images in order."""
    own = key.rpartition("/")[0]
    order = ["rows/phase_columns", "rows/phase_edges", "rows/phase_pairs"]
    order += [f"images/release_{n}" for n in range(4)]
    return order.index(own) < order.index(release)


def charged_before(index, release, run):
    if index == 0:
        done = {"rows/phase_columns": 0, "rows/phase_pairs": 2}.get(release, 3)
        return run.mechanisms[0].steps // 3 * done if done < 3 else run.mechanisms[0].steps
    return int(release.startswith("images") and index - 1 < int(release[-1]))


def sizes_of(columns):
    sizes = (2, 2, 3)
    return [int(np.prod([sizes[c] for c in row if c >= 0])) for row in columns]


def test_the_plan_meets_its_target_and_rows_get_their_part_of_it():
    mechanisms = planned(5.0)
    assert [m.stage for m in mechanisms] == [
        "rows", "reference", "class_means", "covariance", "tones",
    ]  # fmt: skip
    assert isinstance(mechanisms[0], ZcdpMechanism)
    assert all(isinstance(m, GaussianMechanism) for m in mechanisms[1:])
    assert 4.9 < accounting.epsilon(mechanisms, 1e-5) <= 5.0
    loud = planned(5.0, row_noise_ratio=3.0)
    assert loud[0].noise_multiplier > mechanisms[0].noise_multiplier
    assert loud[2].noise_multiplier < mechanisms[2].noise_multiplier


@pytest.mark.parametrize("rows", ["mst", "aim"])
def test_exactly_what_was_reserved_is_charged_rows_first_and_images_in_order(rows):
    run = Watched(planned(rows=rows))
    fitted, _ = fit(joint_records(80), run, rows=rows)
    indices = [index for index, _ in run.seen]
    assert indices == sorted(indices)
    assert run.charges == [m.steps for m in run.mechanisms]
    assert [pair for pair in run.seen if pair[0]] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert fitted.mechanisms == run.mechanisms


@pytest.mark.parametrize("stop_at", range(1, 8))
def test_a_stopped_run_goes_on_in_its_part_and_pays_for_nothing_twice(stop_at):
    run = stopped(stop_at)
    charged, kept = list(run.charges), {k: np.array(v) for k, v in run.checkpoint.items()}
    assert any(charged)
    fitted, _ = fit(run=run)
    assert run.charges == [m.steps for m in run.mechanisms]
    assert fitted.mechanisms == run.mechanisms
    for key, value in kept.items():
        np.testing.assert_array_equal(run.checkpoint[key], value)


@pytest.mark.parametrize("stop_at", [1, 3, 4, 6])
def test_a_charged_result_that_is_lost_is_not_released_again(stop_at):
    run = stopped(stop_at, is_lost=True)
    charged = list(run.charges)
    with pytest.raises(ReleaseLost, match="Request a new job"):
        fit(run=run)
    assert run.charges == charged


def test_no_part_can_spend_what_another_reserved():
    parts = RunParts(LocalRun(planned()))
    rows, images = parts.part("rows", range(1)), parts.part("images", range(1, 5))
    with pytest.raises(ReservationExceeded, match="the part has 1 mechanisms"):
        rows.charge(1, 1)
    with pytest.raises(ReservationExceeded, match="What another part reserved is not its own"):
        images.charge(-1, 1)
    images.charge(0, 1)
    with pytest.raises(ReservationExceeded, match="1 of 1 reserved steps are already charged"):
        images.charge(0, 1)
    with pytest.raises(ReservationExceeded, match="0 of 2000"):
        rows.charge(0, 2001)
    assert parts.run.charges == [0, 1, 0, 0, 0]


def test_parts_keep_apart_what_they_saved_and_both_are_saved():
    run = LocalRun(planned())
    parts = RunParts(run)
    rows, images = parts.part("rows", range(1)), parts.part("images", range(1, 5))
    assert rows.load_checkpoint() is None
    rows.save_checkpoint({"a": np.zeros(1)})
    images.save_checkpoint({"a": np.ones(1)})
    rows.save_checkpoint({"b": np.full(1, 2.0)})
    again = RunParts(run)
    assert {k: v.tolist() for k, v in again.arrays.items()} == {"rows/b": [2.0], "images/a": [1.0]}
    assert again.part("images", range(1, 5)).load_checkpoint() == {"a": np.ones(1)}


def test_an_image_shows_what_its_row_says(quiet):
    codes, images = quiet.sample(600, seed=1)
    assert images.shape == (600, 12, 10)
    assert images.dtype == np.uint8
    bright = images.mean(axis=(1, 2))
    assert bright[codes[:, 0] == 1].mean() - bright[codes[:, 0] == 0].mean() > 40  # 76 in records
    tilt = images[:, :, 5:].mean(axis=(1, 2)) - images[:, :, :5].mean(axis=(1, 2))
    assert tilt[codes[:, 1] == 1].mean() > 10 > -10 > tilt[codes[:, 1] == 0].mean()  # 43 apart


def test_a_row_s_columns_hang_together(quiet):
    codes, _ = quiet.sample(2000, seed=2)
    ages = [codes[codes[:, 0] == grade, 2].mean() for grade in (0, 1)]
    assert ages == pytest.approx([0.5, 1.5], abs=0.1)


def test_what_is_drawn_repeats_for_a_seed_and_differs_between_seeds(quiet):
    seen = []
    codes, images = quiet.sample(
        50, seed=3, progress=lambda done, total: seen.append((done, total))
    )
    again = quiet.sample(50, seed=3)
    np.testing.assert_array_equal(codes, again[0])
    np.testing.assert_array_equal(images, again[1])
    assert not np.array_equal(images, quiet.sample(50, seed=4)[1])
    assert seen[-1] == (50, 50)
    assert [part.shape for part in quiet.sample(0, seed=3)] == [(0, 3), (0, 12, 10)]


def test_a_generator_comes_back_from_its_arrays(quiet):
    state = from_bytes(to_bytes(quiet.state()))
    again = GENERATOR.from_state(state, config=config(), schema=joint_schema())
    again = again.with_mechanisms(quiet.mechanisms)
    for before_, after in zip(quiet.sample(40, seed=5), again.sample(40, seed=5), strict=True):
        np.testing.assert_array_equal(before_, after)
    assert again.rows.mechanisms == quiet.mechanisms[:1]
    assert again.pictures.mechanisms == quiet.mechanisms[1:]


def test_scores_are_one_finite_number_per_row_named_by_their_part(quiet):
    records = joint_records(20, seed=9)
    scores = quiet.score(records.table.codes, records.images.images, seed=0)
    assert set(scores) == {
        "log_density", "image_log_density", "row_log_density", "row_log_lift", "row_measured_counts",
    }  # fmt: skip
    assert all(v.shape == (40,) and np.isfinite(v).all() for v in scores.values())
    np.testing.assert_allclose(
        scores["log_density"], scores["row_log_density"] + scores["image_log_density"]
    )
    swapped = records.images.images[np.argsort(records.images.labels)]
    other = quiet.score(records.table.codes, swapped, seed=0)["image_log_density"]
    assert scores["image_log_density"].mean() > other.mean()  # each image belongs to its row


def test_noise_takes_no_seed_and_an_empty_training_arm_is_survived():
    empty = joint_records(1).images
    nobody = JointRecords(
        TableRecords(np.zeros((0, 3), np.int16), np.zeros(0, np.int32)),
        TrainingRecords(empty.images[:0], empty.labels[:0], empty.persons[:0]),
    )
    first, second = (fit(nobody)[0] for _ in range(2))
    assert any(not np.array_equal(v, second.state()[k]) for k, v in first.state().items())
    codes, images = first.sample(5, seed=0)
    assert (len(codes), len(images)) == (5, 5)


def test_cells_that_were_measured_with_too_few_persons_are_said_to_be(quiet):
    few = joint_records(300)
    rare = np.flatnonzero(few.images.labels == 3)
    kept = np.sort(np.append(np.flatnonzero(few.images.labels != 3), rare[:8]))
    records = JointRecords.of(
        few.table.codes[kept], few.images.images[kept], few.persons[kept], schema=joint_schema()
    )
    sparse = fit(records, LocalRun(noiseless()))[0].with_mechanisms(planned(4.0))
    warned = " ".join(sparse.warnings())
    assert "in 1 of 4 cells with too few persons for images of their own" in warned
    assert "'grade high, sex m'" in warned
    assert quiet.with_mechanisms(planned(4.0)).warnings() == ()


def test_records_that_contradict_themselves_are_refused_before_anything_is_charged():
    records = joint_records(10)
    images = records.images
    others = TrainingRecords(images.images, images.labels, images.persons[::-1].copy())
    wrong = TrainingRecords(images.images, (images.labels + 1) % 4, images.persons)
    fewer = TrainingRecords(images.images[1:], images.labels[1:], images.persons[1:])
    for part, sentence in (
        (others, "different persons"),
        (wrong, "other cells than their rows"),
        (fewer, "20 rows with 19 images"),
    ):
        run = LocalRun(planned())
        with pytest.raises(InvalidParameter, match=sentence):
            fit(JointRecords(records.table, part), run)
        assert not any(run.charges)


def test_a_hopeless_budget_is_refused_before_it_is_charged_with_a_remedy_that_there_is():
    run = LocalRun(planned(0.02))
    schema = joint_schema().model_copy(update={"declared_count": 50})
    with pytest.raises(InvalidParameter, match="Lower row_noise_ratio"):
        GENERATOR.fit(joint_records(10), config(), schema=schema, run=run, seed=0)
    assert not any(run.charges)


@pytest.mark.parametrize(
    ("named", "changes", "is_ordered"),
    [
        (["grade", "sex"], {}, False),
        (["grade", "age"], {}, False),
        (["sex"], {}, False),
        (["grade"], {"missing": True}, False),
        (["grade"], {"other": True}, False),
        (["grade"], {}, True),
        (["age"], {}, True),
    ],
)
def test_cells_are_graded_only_where_one_ordered_column_makes_them(named, changes, is_ordered):
    document = joint_schema(condition_on=named).model_dump()
    document["columns"] = [
        c | (changes if c["name"] == "grade" else {}) for c in document["columns"]
    ]
    schema = type(joint_schema()).model_validate(document)
    settings = config(teacher_labels="ordinal")
    run = LocalRun(planned())
    records = joint_records(10, schema=schema)
    if is_ordered:
        GENERATOR.fit(records, settings, schema=schema, run=run, seed=0)
        assert all(run.charges)
        return
    with pytest.raises(InvalidParameter, match='Set teacher_labels = "nominal", or name one'):
        GENERATOR.fit(records, settings, schema=schema, run=run, seed=0)
    assert not any(run.charges)


def test_a_twin_scores_canaries_of_rows_with_pictures():
    schema = joint_schema()
    canaries = make_joint_canaries(30, schema=schema, rng=np.random.default_rng(0))
    coins = np.arange(30) % 2
    together = canaries.among(joint_records(20), np.flatnonzero(coins))
    assert len(together.checked(schema)) == 55
    assert len(np.unique(together.persons)) == 35
    scores = score_twin(
        GENERATOR, joint_records(60), config(), schema=schema, run=LocalRun(planned()), seed=0,
        canaries=canaries, coins=coins,
    )  # fmt: skip
    assert scores["image_log_density"].shape == (30,)


def test_reference_models_are_fitted_to_rows_and_images_of_the_same_persons():
    records = joint_records(50)
    fitted, _ = fit()
    scores = reference_scores(
        Target(GENERATOR, config(), joint_schema(), fitted.mechanisms, trained_units=300, seed=0),
        records,
        models=2,
        asked=(records.table.codes[:7], records.images.images[:7]),
    )
    assert scores["log_density"].shape == (2, 7)
