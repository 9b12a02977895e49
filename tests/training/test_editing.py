"""Edits reach what was asked for, hold what was to be held, and refuse what the set does not reach."""

import numpy as np
import pytest

from privacy.errors import InvalidParameter
from training.editing.attributes import BRIGHTNESS
from training.editing.editor import Specification, as_grey, fit_editor
from training.editing.rulers import knee_attributes, rulers
from training.editing.series import Axis, make_series
from training.phantoms.anatomy import draw_strangers
from training.phantoms.prior import PUBLISHED
from training.phantoms.radiograph import render_knees

GRADES = tuple("01234")


@pytest.fixture(scope="module")
def knees():
    rng = np.random.default_rng(3)
    grades = rng.integers(5, size=600)
    found = draw_strangers(grades, rng, prior=PUBLISHED)
    return found, render_knees(found, rng, pixels=(48, 48)), grades


@pytest.fixture(scope="module")
def editor(knees):
    _, images, grades = knees
    return fit_editor(images, grades, GRADES, attributes=(*BRIGHTNESS, *knee_attributes()))


def test_rulers_read_phantoms_that_they_never_saw(knees):
    found, images, _ = knees
    truth = np.minimum(found.medial_joint_space, found.lateral_joint_space)
    (ruler,) = (r for r in rulers() if r.name == "joint_space")
    reading = ruler.read(as_grey(images))
    assert np.corrcoef(reading, truth)[0, 1] > 0.8  # fewer pixels than it was learnt on
    assert np.median(np.abs(reading - truth)) < 1.2  # mm


def test_this_knee_as_grade_3_with_a_narrower_joint_space_and_the_same_exposure(knees, editor):
    _, images, grades = knees
    healthy = int(np.flatnonzero(grades == 0)[0])
    image = as_grey(images[[healthy]])[0]
    before = editor.measure(image)
    wanted = {"joint_space": before["joint_space"] - 2.0}
    edited = editor.edit(image, 0, Specification(label=3, wanted=wanted, held=("exposure",)))
    assert edited.is_met
    assert edited.label == 3
    assert edited.measured["joint_space"] == pytest.approx(wanted["joint_space"], abs=0.2)
    assert edited.measured["exposure"] == pytest.approx(before["exposure"], abs=0.006)
    assert np.corrcoef(edited.image.ravel(), image.ravel())[0, 1] > 0.9  # still this knee


def test_grades_along_a_series_narrow_the_joint_of_the_same_knee(knees, editor):
    _, images, grades = knees
    sources = np.flatnonzero(grades == 0)[:5]
    rest = Specification(held=("exposure", "contrast"))
    made = make_series(editor, images, grades, sources=sources, axis=Axis("label"), rest=rest)
    space = made.measured[:, :, made.attributes.index("joint_space")]
    assert made.is_met.all()
    assert (np.diff(space.mean(axis=0)) < 0).all()
    assert (space[:, 0] - space[:, 4] > 1.0).all()
    exposure = made.measured[:, :, made.attributes.index("exposure")]
    assert np.ptp(exposure, axis=1).max() < 0.01


def test_an_axis_changes_what_it_names_and_little_else(knees, editor):
    _, images, grades = knees
    rest = Specification(held=("joint_space",))
    made = make_series(
        editor, images, grades, sources=np.arange(4), axis=Axis("exposure", steps=5), rest=rest
    )
    exposure = made.measured[:, :, made.attributes.index("exposure")]
    assert np.allclose(exposure, made.values, atol=0.01)
    space = made.measured[:, :, made.attributes.index("joint_space")]
    assert np.ptp(space, axis=1).max() < 0.4


@pytest.mark.parametrize(
    ("specification", "said"),
    [
        (Specification(label=7), "label 7"),
        (Specification(wanted={"joint_space": 40.0}), "between"),
        (Specification(wanted={"colour": 1.0}), "colour"),
        (Specification(held=("colour",)), "colour"),
    ],
)
def test_what_the_set_does_not_reach_is_refused(knees, editor, specification, said):
    _, images, _ = knees
    with pytest.raises(InvalidParameter, match=said):
        editor.edit(as_grey(images[:1])[0], 0, specification)


def test_an_axis_that_is_also_held_is_refused(knees, editor):
    _, images, grades = knees
    with pytest.raises(InvalidParameter, match="both"):
        make_series(
            editor,
            images,
            grades,
            sources=np.arange(1),
            axis=Axis("exposure"),
            rest=Specification(held=("exposure",)),
        )


def test_small_sets_and_missing_labels_are_refused(knees):
    _, images, grades = knees
    with pytest.raises(InvalidParameter, match="50"):
        fit_editor(images[:20], grades[:20], GRADES, attributes=BRIGHTNESS)
    with pytest.raises(InvalidParameter, match="no image has the label 5"):
        fit_editor(images, grades, (*GRADES, "5"), attributes=BRIGHTNESS)
