"""Files with random damage: read or refused with a sentence, never another error.

Seeded, so a failure repeats. Each kind of file gets cuts, flipped bytes and swapped pieces.
"""

import io
import zipfile

import numpy as np
import pytest

from service.domain.errors import InputRefused
from tests.workers.intake import uploads
from workers.intake import Limits, read_upload
from workers.intake.dicom import decode_dicom
from workers.intake.image import decode_image

ROUNDS = 400


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(damaged[: rng.integers(len(damaged))])
    if kind == 1:
        start, stop = sorted(rng.integers(len(damaged), size=2))
        return bytes(damaged[:start] + damaged[stop:])
    for at in rng.integers(len(damaged), size=rng.integers(1, 8)):
        damaged[at] = rng.choice([0, 255, damaged[at] ^ (1 << rng.integers(8))])
    return bytes(damaged)


@pytest.mark.parametrize("suffix", ["PNG", "JPEG"])
def test_a_damaged_image_is_read_or_refused(suffix):
    rng = np.random.default_rng(1)
    whole = uploads.encode(uploads.picture(1), suffix)
    refusals = 0
    for _ in range(ROUNDS):
        try:
            pixels = decode_image(
                mutated(whole, rng), file=f"a.{suffix.lower()}", schema=uploads.schema()
            )
            assert pixels.shape == (uploads.SIDE, uploads.SIDE)
        except InputRefused:
            refusals += 1
    assert refusals > ROUNDS // 10


def test_a_damaged_dicom_is_read_or_refused():
    rng = np.random.default_rng(2)
    whole = uploads.dicom(1)
    refusals = 0
    for _ in range(ROUNDS):
        try:
            image = decode_dicom(
                mutated(whole, rng), file="a.dcm", schema=uploads.schema(), limits=Limits()
            )
            assert image.pixels.shape == (uploads.SIDE, uploads.SIDE)
        except InputRefused:
            refusals += 1
    assert refusals > ROUNDS // 10


@pytest.mark.parametrize("kind", ["zip", "npz"])
def test_a_damaged_archive_is_read_or_refused(tmp_path, kind):
    rng = np.random.default_rng(3)
    path = tmp_path / f"upload.{kind}"
    if kind == "zip":
        uploads.png_upload().write(path)
    else:
        np.savez_compressed(path, **uploads.npz_arrays())
    whole = path.read_bytes()
    refusals = 0
    for number in range(ROUNDS // 2):
        path.write_bytes(mutated(whole, rng))
        out = tmp_path / str(number)
        try:
            read_upload(path, schema=uploads.schema(), tenant_key=b"key", out=out)
        except InputRefused:
            refusals += 1
            assert not out.exists()
    assert refusals > ROUNDS // 10


def test_a_damaged_npy_header_is_read_or_refused(tmp_path):
    rng = np.random.default_rng(4)
    arrays = uploads.npz_arrays()
    buffer = io.BytesIO()
    np.save(buffer, arrays["train_labels"])
    whole = buffer.getvalue()
    for _ in range(ROUNDS // 2):
        path = tmp_path / "upload.npz"
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("train_images", "train_patient_ids"):
                content = io.BytesIO()
                np.save(content, arrays[name])
                archive.writestr(f"{name}.npy", content.getvalue())
            archive.writestr("train_labels.npy", mutated(whole[:128], rng) + whole[128:])
        try:
            read_upload(path, schema=uploads.schema(), tenant_key=b"key", out=tmp_path / "out")
        except InputRefused as refusal:
            assert "train_labels.npy" in refusal.sentence  # noqa: PT017 - either way is right
