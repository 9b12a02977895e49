"""A contact sheet of rows with images shows, for each cell, images of the upload and of the bundle."""

import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from privacy.image_parts import image_labels
from tests.workers.joint_material import SCHEMA, make_joint_bundle, synthetic_joint
from tests.workers.joint_uploads import joint_schema, joint_zip
from workers.case_sheet import read_bundle_cases, read_upload_cases
from workers.contact_sheet import main


@pytest.fixture(scope="module")
def made():
    return synthetic_joint()


@pytest.fixture(scope="module")
def bundle(made, tmp_path_factory):
    return make_joint_bundle(tmp_path_factory.mktemp("sheet") / "bundle", made)


def test_images_of_a_bundle_come_with_the_cells_of_their_rows(made, bundle, tmp_path):
    images, cells = read_bundle_cases(bundle, SCHEMA)
    np.testing.assert_array_equal(images, made.images)
    np.testing.assert_array_equal(cells, made.cells)
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        for file in bundle.rglob("*"):
            archive.write(file, f"cases-1.0.0/{file.relative_to(bundle)}")
    np.testing.assert_array_equal(read_bundle_cases(tmp_path / "bundle.zip", SCHEMA)[1], cells)


def test_images_of_an_upload_come_with_the_cells_of_their_rows(tmp_path):
    schema, upload = joint_schema(), joint_zip()
    images, cells = read_upload_cases(upload.write(tmp_path / "upload.zip"), schema)
    grades = np.array([int(row["grade"]) for row in upload.rows])
    sexes = np.array(["fm".index(str(row["sex"])) for row in upload.rows])
    np.testing.assert_array_equal(cells, grades * 2 + sexes)  # grade, then sex
    assert len(images) == len(upload.rows)
    codes = np.zeros((1, len(schema.columns)), np.int16)
    assert image_labels(schema, codes)[0] == 0


def test_the_command_refuses_another_upload_by_the_sentence_of_intake(bundle, tmp_path):
    upload = tmp_path / "upload.zip"
    with zipfile.ZipFile(upload, "w") as archive:
        archive.writestr("labels.csv", "file\n")
    command = ["--upload", str(upload), "--synthetic", str(bundle)]
    done = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "sheet.png")])
    assert done.exit_code == 1
    assert "there is not exactly one table" in done.output
