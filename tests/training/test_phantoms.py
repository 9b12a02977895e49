"""Phantom knees: the prior is visible in the pictures, persons have two knees, seeds repeat."""

import csv
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from training.phantoms import (
    EMPHASISED,
    GRADES,
    PUBLISHED,
    Prior,
    Spread,
    batch,
    emphasised,
    make_cohort,
)
from training.phantoms.__main__ import main
from training.phantoms.anatomy import draw_knees
from training.phantoms.parameters import PARAMETERS, as_table
from training.phantoms.radiograph import FIELD_OF_VIEW_MM
from training.phantoms.upload import write_upload

PERSONS = 400


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(PERSONS, seed=3)


def band(cohort):
    """Return the rows around the joint in the middle of the worse compartment; (knees, 24)."""
    images = cohort.images.astype(np.float32)
    images[cohort.knees.is_right] = images[cohort.knees.is_right, :, ::-1]
    medial_is_worse = cohort.knees.sclerosis_medial >= cohort.knees.sclerosis_lateral
    images[~medial_is_worse] = images[~medial_is_worse, :, ::-1]
    columns = images[:, :, 14:24].mean(2)  # the middle of the left compartment
    return columns[:, 22:46]


def test_every_person_has_a_left_and_a_right_knee(cohort):
    assert cohort.persons.tolist() == np.repeat(np.arange(PERSONS), 2).tolist()
    assert cohort.knees.is_right.tolist() == [False, True] * PERSONS


def test_the_two_knees_of_a_person_have_related_but_not_always_equal_grades(cohort):
    pairs = cohort.grades.reshape(-1, 2)
    different = (pairs[:, 0] != pairs[:, 1]).mean()
    assert 0.3 < different < 0.7
    assert np.corrcoef(pairs.T)[0, 1] > 0.5


def test_the_two_knees_of_a_person_share_their_anatomy(cohort):
    sizes = cohort.knees.half_width.reshape(-1, 2)
    assert np.corrcoef(sizes.T)[0, 1] > 0.8


def test_grades_follow_the_stated_prior():
    knees = draw_knees(20_000, np.random.default_rng(5))
    shares = np.bincount(knees.grade, minlength=len(GRADES)) / len(knees)
    np.testing.assert_allclose(shares, PUBLISHED.grade_shares, atol=0.015)


def test_joint_space_narrows_and_osteophytes_and_sclerosis_grow_with_the_grade(cohort):
    knees = cohort.knees
    space = np.minimum(knees.medial_joint_space, knees.lateral_joint_space)
    osteophytes = np.maximum(knees.osteophyte_medial, knees.osteophyte_lateral)
    sclerosis = np.maximum(knees.sclerosis_medial, knees.sclerosis_lateral)
    by_grade = [cohort.grades == grade for grade in range(5)]
    assert np.all(np.diff([space[of].mean() for of in by_grade]) < -0.3)
    assert np.all(np.diff([osteophytes[of].mean() for of in by_grade]) > 0.3)
    assert np.all(np.diff([sclerosis[of].mean() for of in by_grade]) > 0.05)


def test_the_joint_space_in_the_pictures_narrows_with_the_grade(cohort):
    """Count the dark rows of the worse compartment in each picture; the mean falls with grade."""
    rows = band(cohort)
    threshold = 0.75 * np.median(rows, 1)
    widths = (rows < threshold[:, None]).sum(1) * FIELD_OF_VIEW_MM / 64
    means = [widths[cohort.grades == grade].mean() for grade in range(5)]
    assert np.all(np.diff(means) < -0.2)
    assert means[0] - means[3] > 1.5  # mm
    assert means[4] < 1.0


def test_the_joint_space_in_the_mean_picture_brightens_with_the_grade(cohort):
    rows = band(cohort)
    means = [rows[cohort.grades == grade].mean(0) for grade in range(5)]
    brightness = [np.sort(mean)[:4].mean() / np.median(mean) for mean in means]
    assert np.all(np.diff(brightness) > 0.01)
    assert brightness[4] > brightness[0] + 0.3


def test_pictures_use_the_range_of_grey_without_clipping_much(cohort):
    clipped = np.isin(cohort.images, (0, 255)).mean()
    assert clipped < 0.02
    assert 60 < cohort.images.mean() < 170


def test_no_two_pictures_are_equal(cohort):
    assert len({image.tobytes() for image in cohort.images}) == len(cohort.images)


def test_a_right_knee_shows_its_fibula_on_the_left(cohort):
    images = cohort.images.astype(np.float32)
    corner = images[:, 52:, 2:12].mean((1, 2)) - images[:, 52:, -12:-2].mean((1, 2))
    assert corner[cohort.knees.is_right].mean() > 5
    assert corner[~cohort.knees.is_right].mean() < -5


def test_a_seed_gives_the_same_pictures_again_and_another_seed_others():
    first, again, other = (make_cohort(5, pixels=32, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.grades, again.grades)
    assert not np.array_equal(first.images, other.images)


@pytest.mark.parametrize("pixels", [16, 28, 100, 256])
def test_other_sizes_show_the_same_field_of_view(pixels):
    images = make_cohort(3, pixels=pixels, seed=1).images
    assert images.shape == (6, pixels, pixels)
    assert images.dtype == np.uint8
    assert images.std() > 10


@pytest.mark.parametrize(("persons", "pixels"), [(0, 64), (5, 15)])
def test_impossible_cohorts_are_refused(persons, pixels):
    with pytest.raises(ValueError, match="refused"):
        make_cohort(persons, pixels=pixels)


def test_a_batch_has_the_asked_grades_and_shape_and_repeats_for_a_seed():
    grades = np.array([0, 4, 2, 2])
    first, again = (
        batch(4, pixels=(20, 32), rng=np.random.default_rng(1), grades=grades) for _ in range(2)
    )
    assert first[0].shape == (4, 20, 32)
    assert first[0].dtype == np.uint8
    assert first[1].tolist() == grades.tolist()
    np.testing.assert_array_equal(first[0], again[0])


def test_a_batch_without_grades_has_them_all_about_equally_often():
    _, grades = batch(1000, pixels=16, rng=np.random.default_rng(0))
    assert np.bincount(grades, minlength=5).min() > 140


@pytest.mark.parametrize("grades", [np.array([0, 5]), np.array([1]), np.array([-1, 0])])
def test_a_batch_with_impossible_grades_is_refused(grades):
    with pytest.raises(ValueError, match="refused"):
        batch(2, pixels=32, rng=np.random.default_rng(0), grades=grades)


def test_a_prior_of_ones_own_moves_the_pictures():
    def brightness(prior):
        images, _ = batch(40, pixels=28, rng=np.random.default_rng(2), prior=prior)
        return images.mean()

    assert brightness(Prior(exposure=Spread(1.3, 0.05))) > brightness(PUBLISHED) + 15


def test_published_narrowing_lies_between_none_and_the_exaggerated_one_and_blends():
    assert emphasised(0) == PUBLISHED
    assert emphasised(1) == EMPHASISED
    half = emphasised(0.5).joint_space_left
    for honest, middle, loud in zip(
        PUBLISHED.joint_space_left, half, EMPHASISED.joint_space_left, strict=True
    ):
        assert middle == pytest.approx((honest + loud) / 2)
    with pytest.raises(ValueError, match="refused"):
        emphasised(1.5)


@pytest.mark.parametrize(
    "change",
    [{"grade_shares": (0.5, 0.5, 0.5, 0, 0)}, {"exposure": Spread(1, -0.1)}],
)
def test_an_impossible_prior_is_refused(change):
    with pytest.raises(ValueError, match="refused"):
        Prior(**change)


def test_healthy_published_joint_spaces_have_the_published_mean_and_spread():
    """4.8 (0.7) mm in women, 5.7 (0.8) in men: together 5.25 (0.87), measured at the minimum."""
    knees = draw_knees(5000, np.random.default_rng(4), prior=PUBLISHED)
    healthy = knees.medial_joint_space[knees.grade == 0]
    assert healthy.mean() == pytest.approx(5.3, abs=0.2)
    assert healthy.std() == pytest.approx(0.87, abs=0.1)


def test_dicom_opens_in_pydicom_and_carries_identifiers_to_drop(tmp_path):
    cohort = make_cohort(3, seed=1)
    write_upload(cohort, tmp_path / "upload.zip")
    with zipfile.ZipFile(tmp_path / "upload.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))
        files = [pydicom.dcmread(io.BytesIO(archive.read(row["file"]))) for row in rows]
    for knee, (row, file) in enumerate(zip(rows, files, strict=True)):
        assert row["kl_grade"] == str(cohort.grades[knee])
        np.testing.assert_array_equal(file.pixel_array, cohort.images[knee])
        assert file.PhotometricInterpretation == "MONOCHROME2"
        assert file.ImageLaterality == ("R" if cohort.knees.is_right[knee] else "L")
    assert [file.PatientID for file in files[:3]] == ["PHANTOM-000000"] * 2 + ["PHANTOM-000001"]
    assert files[0].PatientName
    assert files[0].AccessionNumber
    assert len({file.SOPInstanceUID for file in files}) == 6
    assert set(rows[0]) == {"file", "kl_grade"}


def test_png_uploads_name_the_person_in_the_csv(tmp_path):
    cohort = make_cohort(2, seed=1)
    write_upload(cohort, tmp_path / "upload.zip", upload_format="png")
    with zipfile.ZipFile(tmp_path / "upload.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))
        image = np.asarray(Image.open(io.BytesIO(archive.read(rows[3]["file"]))))
    np.testing.assert_array_equal(image, cohort.images[3])
    assert [row["patient_id"] for row in rows] == ["PHANTOM-000000"] * 2 + ["PHANTOM-000001"] * 2


def test_the_truth_beside_an_upload_says_what_each_picture_was_drawn_from(tmp_path):
    out, truth = tmp_path / "upload.zip", tmp_path / "truth.csv"
    arguments = ["--persons", "3", "--out", str(out), "--truth", str(truth), "--pixels", "28"]
    main([*arguments, "--emphasis", "0"], standalone_mode=False)
    rows = list(csv.DictReader(io.StringIO(truth.read_text())))
    cohort = make_cohort(3, pixels=28, prior=PUBLISHED)
    assert [int(row["kl_grade"]) for row in rows] == cohort.grades.tolist()
    assert [row["side"] for row in rows] == ["L", "R"] * 3
    for row, width, slope in zip(
        rows, cohort.knees.medial_joint_space, cohort.knees.tilt, strict=True
    ):
        assert float(row["medial_joint_space_mm"]) == pytest.approx(width, rel=1e-4)
        assert float(row["tilt_mm_per_mm"]) == pytest.approx(slope, rel=1e-4, abs=1e-6)
    with zipfile.ZipFile(out) as archive:
        assert {row["file"] for row in rows} < set(archive.namelist())


def test_every_parameter_is_drawn_within_its_bounds_and_is_in_the_readme():
    table = as_table(draw_knees(2000, np.random.default_rng(1), prior=PUBLISHED))
    text = Path("training/phantoms/README.md").read_text()
    for column, parameter in enumerate(PARAMETERS):
        drawn = table[:, column]
        assert parameter.low <= drawn.min() < drawn.max() <= parameter.high
        assert f"| `{parameter.name}` | {parameter.unit} |" in text


def test_the_same_command_writes_the_same_bytes_without_torch(tmp_path):
    script = (
        "import sys; from training.phantoms.__main__ import main; "
        "main(sys.argv[1:], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    contents = []
    for name in ("a.zip", "b.zip"):
        out = tmp_path / name
        command = [sys.executable, "-c", script, "--persons", "4", "--out", str(out), "--seed", "9"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "8 radiographs of 4 phantom persons" in done.stdout
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
