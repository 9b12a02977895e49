"""The teacher: one clipped gradient per person, charged before it runs; labels dealt as requested."""

import numpy as np
import pytest
import torch

from privacy.errors import InvalidParameter, ReservationExceeded
from privacy.manifests import DatasetSchema
from privacy.mechanisms import PoissonSubsampledGaussianMechanism
from training import dealing, dp_sgd, teacher
from training.checkpoints import Progress
from training.ranks import Ranks
from training.records import TrainingRecords
from training.run import LocalRun

SIDE = 12
ORDINAL = {"teacher": "relabel", "teacher_labels": "ordinal"}


def _schema(labels=3):
    return DatasetSchema(
        declared_count=50,
        height=SIDE,
        width=SIDE,
        bit_depth=8,
        label="grade",
        labels=tuple(f"grade {number}" for number in range(labels)),
    )


def _stripes(labels, *, seed=0):
    """Images whose brightness and stripes tell the label (0, 1, 2)."""
    rng = np.random.default_rng(seed)
    waves = np.cos(np.arange(SIDE)[None, :] * (0.5 + 0.7 * np.asarray(labels)[:, None]))
    images = 90 + 30 * np.asarray(labels)[:, None, None] + 40 * waves[:, None, :]
    noise = 8 * rng.standard_normal((len(labels), SIDE, SIDE))
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def _records(persons, labels):
    return TrainingRecords(
        images=_stripes(labels), labels=np.asarray(labels), persons=np.asarray(persons)
    )


def _people_of_1_2_and_50_images():
    persons = np.repeat(np.arange(4), [1, 2, 50, 2])
    return persons, np.random.default_rng(3).integers(3, size=len(persons))  # labels conflict


def _mechanism(*, steps=40, noise=0.01, rate=1.0):
    return PoissonSubsampledGaussianMechanism(
        stage="teacher", noise_multiplier=noise, sampling_rate=rate, steps=steps
    )


def _fit(records, *, run=None, redraw=None, **options):
    run = run or LocalRun([_mechanism()])
    settings = teacher.TeacherOptions(**({"teacher": "relabel"} | options))
    fitted = teacher.fit_teacher(
        records, settings, schema=_schema(), run=run, kept=Progress(run), redraw=redraw
    )
    return fitted, run


def _turned_negative(images):
    """Stands for what a generator draws: every label looks otherwise than in records."""
    return 255 - images.transpose(0, 2, 1)


def clipped_sum(records, batch, *, schema=None, redraw=None, **options):
    """Return what one step sums over a batch of persons, before the noise."""
    settings = teacher.TeacherOptions(**({"teacher": "relabel"} | options))
    schema = schema or _schema()
    blank = teacher.Teacher.blank(settings, schema)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in blank.network.parameters():
            if parameter.requires_grad:
                parameter.normal_(generator=generator)
    run = LocalRun([_mechanism()])
    trainer = dp_sgd.Trainer(
        blank.network,
        teacher._Lessons(records, blank, run, redraw),
        people=records.by_person(),
        mechanism=run.mechanisms[0],
        settings=teacher._settings(settings, schema),
        ranks=Ranks(),
    )
    trainer.accumulate(batch)
    return trainer.optimizer.clipped_sum.clone()


@pytest.mark.parametrize("options", [{}, ORDINAL], ids=["nominal", "ordinal"])
@pytest.mark.parametrize("count", [1, 2, 50])
@pytest.mark.parametrize("redraw", [None, _turned_negative], ids=["one view", "two views"])
def test_a_person_changes_a_sum_by_at_most_the_clip_however_many_images_and_labels(
    count, options, redraw
):
    persons, labels = _people_of_1_2_and_50_images()
    more = np.append(persons, np.full(count, 9)), np.append(labels, np.arange(count) % 3)
    before = clipped_sum(_records(persons, labels), np.arange(4), redraw=redraw, **options)
    after = clipped_sum(_records(*more), np.arange(5), redraw=redraw, **options)
    assert 0.5 < float((after - before).norm()) <= 1 + 1e-6


@pytest.mark.parametrize("options", [{}, ORDINAL], ids=["nominal", "ordinal"])
def test_a_person_counts_by_the_average_of_their_images_not_by_their_number(options):
    once = _records([0, 1, 1], [0, 1, 2])
    copies = TrainingRecords(
        images=np.repeat(once.images, [1, 10, 10], axis=0),
        labels=np.repeat(once.labels, [1, 10, 10]),
        persons=np.repeat(once.persons, [1, 10, 10]),
    )
    few, many = (clipped_sum(records, np.arange(2), **options) for records in (once, copies))
    torch.testing.assert_close(few, many, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, ORDINAL], ids=["nominal", "ordinal"])
def test_two_views_that_are_alike_count_as_one(options):
    records = _records([0, 1, 1], [0, 1, 2])
    one, two = (
        clipped_sum(records, np.arange(2), redraw=redraw, **options)
        for redraw in (None, lambda images: images)
    )
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_a_teacher_that_sees_redrawn_records_knows_them_and_still_knows_records():
    labels = np.arange(300) % 3
    plain, both = (
        _fit(_records(np.arange(300), labels), redraw=r)[0] for r in (None, _turned_negative)
    )
    images = _stripes(labels, seed=1)

    def right(taught, shown):
        return float((taught.probabilities(shown).argmax(axis=1) == labels).mean())

    assert right(plain, _turned_negative(images)) < 0.6
    assert min(right(both, images), right(both, _turned_negative(images))) > 0.8


@pytest.mark.parametrize("options", [{}, ORDINAL], ids=["nominal", "ordinal"])
def test_a_teacher_learns_labels_and_comes_back_from_its_state(options):
    labels = np.arange(300) % 3
    fitted, _ = _fit(_records(np.arange(300), labels), **options)
    images = _stripes(labels, seed=1)
    table = fitted.probabilities(images)
    assert table.shape == (300, 3)
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-6)
    assert table.min() >= 0
    assert (table.argmax(axis=1) == labels).mean() > 0.8
    settings = teacher.TeacherOptions(**({"teacher": "relabel"} | options))
    back = teacher.Teacher.from_state(fitted.state(), options=settings, schema=_schema())
    np.testing.assert_array_equal(back.probabilities(images), table)


def test_an_ordinal_teacher_noises_one_direction_and_its_thresholds():
    sizes = {
        kind: sum(
            p.numel()
            for p in teacher.Teacher.blank(
                teacher.TeacherOptions(teacher="relabel", teacher_labels=kind), _schema(labels=5)
            ).network.parameters()
            if p.requires_grad
        )
        for kind in ("nominal", "ordinal")
    }
    assert sizes["nominal"] == 5 * (sizes["ordinal"] - 4 + 1)


def test_every_reserved_step_is_charged_before_it_runs():
    _, run = _fit(_records([0, 1, 2], [0, 1, 2]))
    assert run.charges == [40]

    class Broke(LocalRun):
        def charge(self, index, steps):
            raise ReservationExceeded("Nothing is left.")

    run = Broke([_mechanism()])
    with pytest.raises(ReservationExceeded):
        _fit(_records([0, 1, 2], [0, 1, 2]), run=run)
    assert run.checkpoint is None


def test_a_teacher_that_was_stopped_goes_on_and_takes_only_the_steps_left():
    class Stopped(LocalRun):
        stop_at = 20

        def charge(self, index, steps):
            if self.charges[index] + steps > self.stop_at:
                self.stop_at = 10**6
                raise KeyboardInterrupt
            super().charge(index, steps)

    records, run = _records(np.arange(300), np.arange(300) % 3), Stopped([_mechanism()])
    with pytest.raises(KeyboardInterrupt):
        _fit(records, run=run)
    taken = run.charges[0]
    assert 0 < taken < 40
    fitted, _ = _fit(records, run=run)
    assert run.charges == [40]
    assert (fitted.probabilities(records.images).argmax(axis=1) == records.labels).mean() > 0.95


def test_a_teacher_that_is_off_touches_nothing():
    run = LocalRun([_mechanism()])
    fitted, _ = _fit(_records([0, 1], [0, 1]), run=run, teacher="off")
    assert fitted is None
    assert run.charges == [0]
    assert run.checkpoint is None


def test_a_teacher_without_a_reserved_mechanism_is_refused():
    with pytest.raises(InvalidParameter, match="reserves nothing and no 'teacher'"):
        _fit(_records([0, 1], [0, 1]), run=LocalRun([]))


def test_progress_does_not_tell_how_many_records_there_are():
    class Watched(LocalRun):
        totals = ()

        def progress(self, stage, step, total, *, public_metrics=None):
            self.totals = (*self.totals, total)

    seen = []
    for count in (3, 37):
        run = Watched([_mechanism()])
        _fit(_records(np.arange(count), np.arange(count) % 3), run=run)
        seen.append(run.totals)
    assert seen[0] == seen[1]
    assert set(seen[0]) == {20, 40}


# --- dealing: post-processing, so plain tables and images suffice --------------------------------


def _tame_teacher():
    labels = np.arange(300) % 3
    return _fit(_records(np.arange(300), labels))[0]


def _use(use):
    return teacher.TeacherOptions(teacher=use)


def _confused_draw(labels, *, seed, progress=None):
    """Draws images, every fourth with the look of another label than was asked for."""
    look = np.where(np.arange(len(labels)) % 4 == seed % 4, (labels + 1) % 3, labels)
    if progress is not None:
        progress(len(labels), len(labels))
    return _stripes(look, seed=seed)


@pytest.mark.parametrize("use", ["relabel", "filter"])
def test_labels_are_dealt_exactly_as_requested_and_agree_with_the_teacher(use):
    fitted, labels = _tame_teacher(), np.array([2, 0, 1, 1, 0, 2, 2, 1, 0, 0, 1, 2] * 5)
    plain = _confused_draw(labels, seed=1)
    images = dealing.dealt(_confused_draw, labels, teacher=fitted, options=_use(use), seed=1)
    assert images.shape == plain.shape
    assert (fitted.probabilities(plain).argmax(axis=1) == labels).mean() < 0.8
    assert (fitted.probabilities(images).argmax(axis=1) == labels).mean() > 0.98


@pytest.mark.parametrize("use", ["relabel", "filter"])
def test_dealing_repeats_for_a_seed_and_reports_what_was_asked_for(use):
    fitted, labels, seen = _tame_teacher(), np.arange(20) % 3, []
    first, again = (
        dealing.dealt(
            _confused_draw,
            labels,
            teacher=fitted,
            options=_use(use),
            seed=5,
            progress=lambda done, total: seen.append((done, total)),
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert seen[-1] == (20, 20)


@pytest.mark.parametrize("use", ["off", "relabel"])
def test_without_a_teacher_images_are_those_of_a_plain_draw(use):
    labels = np.arange(9) % 3
    images = dealing.dealt(_confused_draw, labels, teacher=None, options=_use(use), seed=2)
    np.testing.assert_array_equal(images, _confused_draw(labels, seed=2))


def test_each_image_is_dealt_once_and_a_label_never_seen_gets_the_likeliest():
    table = np.array([[0.9, 0.0, 0.1], [0.8, 0.15, 0.05], [0.7, 0.1, 0.2], [0.2, 0.1, 0.7]])
    chosen = dealing.deal(table, np.array([0, 1, 2]))
    assert chosen.tolist() == [0, 1, 3]
    assert len(set(dealing.deal(table, np.array([1, 1, 1, 1])).tolist())) == 4
