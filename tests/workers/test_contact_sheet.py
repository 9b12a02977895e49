"""The contact sheet shows input beside synthetic, says so, and is private unless input is public."""

import io
import json
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.workers.intake import uploads
from workers.contact_sheet import (
    NOT_FOR_RELEASE,
    Block,
    describe,
    draw_contact_sheet,
    main,
    read_synthetic,
)

CERTIFICATE = {
    "unit": "person",
    "epsilon": 5.0,
    "delta": 1e-5,
    "generator": "statistics",
    "declared": uploads.schema().model_dump(mode="json"),
}


def block(title, level, *, records=12, dtype=np.uint8):
    images = np.full((records, 16, 16), level, dtype)
    return Block(title, images, np.arange(records) % 3)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_input_is_on_the_left_and_synthetic_on_the_right():
    drawn = pixels(
        draw_contact_sheet(
            [block("input", 40), block("synthetic", 200)],
            label="grade",
            labels=("0", "1", "2"),
            caption="a caption",
        )
    )
    middle = drawn.shape[1] // 2
    assert (drawn[:, :middle, 0] == 40).sum() > 3 * 4 * 90 * 90
    assert (drawn[:, middle:, 0] == 200).sum() > 3 * 4 * 90 * 90
    # Smoothed letters of the title may hit the same grey.
    assert (drawn[:, middle + 60 :, 0] == 40).sum() < 100


def test_the_warning_is_in_the_picture_unless_the_input_is_public():
    blocks = [block("input", 40)]
    sheets = [
        pixels(draw_contact_sheet(blocks, label="g", labels=("0",), caption="", warning=warning))
        for warning in (NOT_FOR_RELEASE, None)
    ]
    red = [((sheet[..., 0] > 120) & (sheet[..., 1] < 80)).sum() for sheet in sheets]
    assert red[0] > 300
    assert red[1] == 0
    assert NOT_FOR_RELEASE == "contains input images: not for release"


def test_a_label_without_images_and_sixteen_bits_are_drawn():
    drawn = draw_contact_sheet(
        [block("input", 40_000, dtype=np.uint16, records=2)],
        label="grade",
        labels=("0", "1", "2", "3"),
        caption="",
    )
    assert pixels(drawn).shape[0] > 4 * 96


def test_the_caption_names_epsilon_and_the_unit():
    assert "ε = 5 per person" in describe(CERTIFICATE)
    assert "per image" in describe({**CERTIFICATE, "unit": "record"})


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    images = np.stack([uploads.picture(number) for number in range(9)])
    labels = (np.arange(9) % 3)[:, None]
    np.savez(folder / "knees.npz", train_images=images, train_labels=labels)
    (folder / "certificate.json").write_text(json.dumps(CERTIFICATE))
    return folder


def test_a_zipped_bundle_reads_like_the_folder(tmp_path, bundle):
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        for file in bundle.iterdir():
            archive.write(file, f"knees-1.0.0/{file.name}")
    folder, zipped = read_synthetic(bundle), read_synthetic(tmp_path / "bundle.zip")
    np.testing.assert_array_equal(folder.images, zipped.images)
    assert folder.labels.shape == (9,)
    assert folder.certificate == zipped.certificate == CERTIFICATE


@pytest.mark.parametrize(("flags", "mode"), [([], 0o600), (["--input-is-public"], 0o644)])
def test_the_command_writes_a_file_of_the_right_mode(tmp_path, bundle, flags, mode):
    upload = uploads.png_upload().write(tmp_path / "upload.zip")
    out = tmp_path / "sheet.png"
    command = [sys.executable, "-m", "workers.contact_sheet", "--upload", str(upload)]
    command += ["--label", "grade", "--synthetic", str(bundle), "--out", str(out), *flags]
    subprocess.run(command, check=True, capture_output=True)
    assert stat.S_IMODE(out.stat().st_mode) == mode
    assert pixels(out.read_bytes()).shape[1] > 2 * 6 * 96


def test_the_command_refuses_an_upload_that_intake_refuses(tmp_path, bundle):
    upload = uploads.png_upload(10).write(tmp_path / "upload.zip")
    command = ["--upload", str(upload), "--synthetic", str(bundle)]
    done = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "sheet.png")])
    assert done.exit_code == 1
    assert "too few persons" in done.output
    assert not (tmp_path / "sheet.png").exists()


def test_the_command_needs_a_schema_from_somewhere(tmp_path):
    upload = uploads.png_upload().write(tmp_path / "upload.zip")
    done = CliRunner().invoke(main, ["--upload", str(upload), "--out", str(tmp_path / "s.png")])
    assert done.exit_code == 2
    assert "--schema" in done.output
