"""Uploads that are right: every format, what is kept and what is dropped."""

import hashlib
import hmac

import numpy as np
import pytest
from PIL import Image

from privacy.mechanisms import UnitOfPrivacy
from service.domain.errors import InputRefused
from tests.workers.intake import uploads
from tests.workers.intake.uploads import PERSONS, SECRET, SIDE
from workers.intake import Limits, read_upload
from workers.intake.duplicates import (
    DIGEST_BYTES,
    comparable_digest,
    content_digest,
    find_duplicates,
)
from workers.intake.persons import keyed_content_digest

KEY = b"tenant key of the test"


def read(path, tmp_path, **options):
    out = tmp_path / "version"
    declared = options.pop("schema", None) or uploads.schema()
    result = read_upload(path, schema=declared, tenant_key=KEY, out=out, **options)
    return result, {name: np.load(out / name, allow_pickle=False) for name in result.blobs}


def assert_no_identifier_in(folder):
    for file in folder.rglob("*"):
        assert SECRET.encode() not in (file.read_bytes() if file.is_file() else b"")
        assert SECRET not in file.name


def test_a_zip_of_png_becomes_blobs_in_the_order_of_the_csv(tmp_path):
    upload = uploads.png_upload()
    upload.rows.append(["images/again.png", uploads.patient(7), "2"])
    upload.files["images/again.png"] = uploads.encode(uploads.picture(999))

    result, blobs = read(upload.write(tmp_path / "upload.zip"), tmp_path)

    assert result.source_format == "images+csv"
    assert (result.record_count, result.person_count) == (PERSONS + 1, PERSONS)
    assert blobs["images.npy"].shape == (PERSONS + 1, SIDE, SIDE)
    assert blobs["images.npy"].dtype == np.uint8
    np.testing.assert_array_equal(blobs["images.npy"][3], uploads.picture(3))
    assert blobs["labels.npy"].dtype == np.int16
    assert blobs["labels.npy"].tolist()[:4] == [0, 1, 2, 0]
    assert blobs["persons.npy"].dtype == np.int32
    assert blobs["persons.npy"][7] == blobs["persons.npy"][-1]
    assert blobs["duplicated_persons.npy"].tolist() == [False] * PERSONS
    assert_no_identifier_in(tmp_path / "version")


def test_persons_are_keyed_digests_in_ascending_order(tmp_path):
    _, blobs = read(uploads.png_upload().write(tmp_path / "upload.zip"), tmp_path)
    digests = blobs["person_digests.npy"]
    expected = hmac.digest(KEY, uploads.patient(4).encode(), hashlib.sha256)
    assert digests[blobs["persons.npy"][4]].tobytes() == expected
    assert [row.tobytes() for row in digests] == sorted(row.tobytes() for row in digests)


def test_blobs_are_named_with_the_digest_of_their_bytes(tmp_path):
    result, _ = read(uploads.png_upload().write(tmp_path / "upload.zip"), tmp_path)
    for name, digest in result.blobs.items():
        content = (tmp_path / "version" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    assert sorted(path.name for path in (tmp_path / "version").iterdir()) == sorted(result.blobs)


def test_dicom_gives_the_same_blobs_as_png_of_the_same_pixels(tmp_path):
    (tmp_path / "png").mkdir()
    (tmp_path / "dicom").mkdir()
    png, _ = read(uploads.png_upload().write(tmp_path / "png.zip"), tmp_path / "png")
    result, _ = read(uploads.dicom_upload().write(tmp_path / "dcm.zip"), tmp_path / "dicom")
    assert result.source_format == "dicom+csv"
    assert result.blobs == png.blobs
    assert_no_identifier_in(tmp_path / "dicom" / "version")


def test_dicom_reports_which_header_elements_it_dropped_but_not_their_values(tmp_path):
    result, _ = read(uploads.dicom_upload().write(tmp_path / "upload.zip"), tmp_path)
    assert {"DICOM PatientName", "DICOM PatientID", "DICOM AccessionNumber"} <= set(result.dropped)
    assert "file and folder names" in result.dropped
    assert SECRET not in repr(result)


def test_odd_header_values_reach_neither_logs_nor_warnings(tmp_path, caplog, recwarn):
    upload = uploads.dicom_upload(PatientBirthDate=f"born {SECRET}", StudyInstanceUID=SECRET)
    read(upload.write(tmp_path / "upload.zip"), tmp_path)
    assert caplog.text == ""
    assert not recwarn.list


def test_monochrome1_is_inverted_so_that_bone_is_bright(tmp_path):
    inverted = uploads.dicom_upload(PhotometricInterpretation="MONOCHROME1")
    _, blobs = read(inverted.write(tmp_path / "upload.zip"), tmp_path)
    np.testing.assert_array_equal(blobs["images.npy"][5], 255 - uploads.picture(5))


def test_twelve_bits_stored_in_sixteen_are_kept_as_they_are(tmp_path):
    pixels = uploads.picture(1, dtype=np.uint16) >> 4
    upload = uploads.dicom_upload(pixels=pixels, BitsStored=12, HighBit=11)
    _, blobs = read(
        upload.write(tmp_path / "upload.zip"), tmp_path, schema=uploads.schema(bit_depth=16)
    )
    assert blobs["images.npy"].dtype == np.uint16
    np.testing.assert_array_equal(blobs["images.npy"][0], pixels)


def test_sixteen_bit_png_keeps_every_bit(tmp_path):
    upload = uploads.png_upload(
        encoder=lambda number: uploads.encode(uploads.picture(number, dtype=np.uint16))
    )
    _, blobs = read(
        upload.write(tmp_path / "upload.zip"), tmp_path, schema=uploads.schema(bit_depth=16)
    )
    np.testing.assert_array_equal(blobs["images.npy"][9], uploads.picture(9, dtype=np.uint16))


def test_exif_of_a_jpeg_does_not_survive(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = SECRET  # ImageDescription
    upload = uploads.png_upload(
        encoder=lambda number: uploads.encode(uploads.picture(number), "JPEG", exif=exif),
        suffix="jpg",
    )
    result, blobs = read(upload.write(tmp_path / "upload.zip"), tmp_path)
    assert blobs["images.npy"].shape == (PERSONS, SIDE, SIDE)
    assert any("EXIF" in kind for kind in result.dropped)
    assert_no_identifier_in(tmp_path / "version")


def test_a_medmnist_npz_gives_the_same_blobs_as_the_zip(tmp_path):
    (tmp_path / "zip").mkdir()
    (tmp_path / "npz").mkdir()
    png, _ = read(uploads.png_upload().write(tmp_path / "png.zip"), tmp_path / "zip")
    np.savez_compressed(tmp_path / "upload.npz", **uploads.npz_arrays())
    result, _ = read(tmp_path / "upload.npz", tmp_path / "npz")
    assert result.source_format == "npz"
    assert result.blobs == png.blobs


@pytest.mark.parametrize("names", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
def test_an_npz_of_records_needs_no_patient_ids_and_joins_its_splits(tmp_path, names):
    arrays = uploads.npz_arrays(60)
    parts = {"train": slice(0, 45), "test": slice(45, 60)}
    content = {}
    for split, part in parts.items():
        content[names[0].format(split)] = arrays["train_images"][part]
        content[names[1].format(split)] = arrays["train_labels"][part].reshape(-1)
    np.savez(tmp_path / "upload.npz", **content)
    declared = uploads.schema(unit="record")
    result, blobs = read(tmp_path / "upload.npz", tmp_path, schema=declared)
    assert result.person_count == result.record_count == 60
    np.testing.assert_array_equal(blobs["images.npy"], arrays["train_images"])


def test_equal_images_are_distinct_units_when_the_unit_is_the_record(tmp_path):
    upload = uploads.png_upload()
    upload.files["images/001.png"] = upload.files["images/000.png"]
    declared = uploads.schema(unit=UnitOfPrivacy.RECORD)
    result, blobs = read(upload.write(tmp_path / "upload.zip"), tmp_path, schema=declared)
    assert result.person_count == PERSONS
    assert len({row.tobytes() for row in blobs["person_digests.npy"]}) == PERSONS
    assert blobs["duplicated_persons.npy"].sum() == 2
    assert "patient_id" in result.ignored_columns


def test_a_record_uploaded_again_has_the_same_digests(tmp_path):
    declared = uploads.schema(unit="record")
    path = uploads.png_upload().write(tmp_path / "upload.zip")
    first, _ = read(path, tmp_path / "a", schema=declared)
    renamed = uploads.png_upload()
    renamed.rows.reverse()
    second, _ = read(renamed.write(tmp_path / "again.zip"), tmp_path / "b", schema=declared)
    assert first.blobs["person_digests.npy"] == second.blobs["person_digests.npy"]


@pytest.mark.parametrize("label", ["0", "2"])
def test_the_arm_of_a_record_depends_on_no_other_record(tmp_path, label):
    """Equal pixels, perhaps with another label: leaving one out leaves the other's digest alone."""
    declared = uploads.schema(unit="record")

    def digests(kept: list[int]) -> set[tuple[int, bytes]]:
        upload = uploads.png_upload(PERSONS + 2)
        twins = [["images/000.png", uploads.patient(0), "0"], ["images/001.png", "x", label]]
        upload.files["images/001.png"] = upload.files["images/000.png"]
        upload.rows[:2] = [twins[number] for number in kept]
        for number in {0, 1} - set(kept):
            del upload.files[f"images/00{number}.png"]
        folder = tmp_path / "".join(map(str, kept))
        folder.mkdir()
        _, blobs = read(upload.write(folder / "upload.zip"), folder, schema=declared)
        owners = blobs["person_digests.npy"][blobs["persons.npy"]]
        labels = blobs["labels.npy"].tolist()
        return {(of, row.tobytes()) for of, row in zip(labels, owners, strict=True)}

    both = digests([0, 1])
    assert len(both) == PERSONS + 2
    assert digests([1, 0]) == both
    assert digests([0]) < both
    assert digests([1]) < both


def test_the_content_of_an_image_is_recognised_under_another_id_unit_and_depth(tmp_path):
    first = uploads.png_upload()
    as_persons, _ = read(first.write(tmp_path / "a.zip"), tmp_path / "a")
    second = uploads.png_upload()
    for row in second.rows:
        row[1] = f"renamed-{row[1]}"
    as_records, _ = read(
        second.write(tmp_path / "b.zip"), tmp_path / "b", schema=uploads.schema(unit="record")
    )
    np.testing.assert_array_equal(as_persons.content_digests, as_records.content_digests)
    assert as_persons.content_digests.shape == (PERSONS, 32)
    assert len(np.unique(as_persons.content_digests, axis=0)) == PERSONS
    eight = uploads.picture(0)
    assert keyed_content_digest(KEY, eight) == keyed_content_digest(KEY, eight.astype(np.uint16))
    assert keyed_content_digest(KEY, eight) != keyed_content_digest(bytes(32), eight)


def test_duplicates_across_persons_are_reported_and_flagged_but_kept(tmp_path):
    upload = uploads.png_upload()
    upload.files["images/010.png"] = upload.files["images/020.png"]
    upload.rows.append(["images/twin.png", uploads.patient(30), "0"])
    upload.files["images/twin.png"] = upload.files["images/030.png"]
    result, blobs = read(upload.write(tmp_path / "upload.zip"), tmp_path)
    assert result.record_count == PERSONS + 1
    assert result.duplicated_person_count == result.duplicates.persons == 2
    assert result.duplicates.images == 2
    assert result.duplicates.images_repeated_within_person == 1
    assert set(result.duplicates.examples[0]) == {"images/010.png", "images/020.png"}
    flagged = np.flatnonzero(blobs["duplicated_persons.npy"])
    assert set(flagged) == set(blobs["persons.npy"][[10, 20]])


@pytest.mark.parametrize("cell", ["1", "1.0", " 1 ", "1e0"])
def test_a_numeric_label_is_understood_as_spreadsheets_write_it(tmp_path, cell):
    upload = uploads.png_upload()
    upload.rows[0][2] = cell
    _, blobs = read(upload.write(tmp_path / "upload.zip"), tmp_path)
    assert blobs["labels.npy"][0] == 1


def test_a_declared_label_may_look_like_a_missing_value(tmp_path):
    upload = uploads.png_upload()
    for number, row in enumerate(upload.rows):
        row[2] = ("nan", "none", "NA")[number % 3]
    declared = uploads.schema(labels=("nan", "none", "NA"))
    _, blobs = read(upload.write(tmp_path / "upload.zip"), tmp_path, schema=declared)
    assert blobs["labels.npy"].tolist()[:3] == [0, 1, 2]


@pytest.mark.parametrize(
    "changes",
    [{"encoding": "utf-8-sig"}, {"newline": "\r\n"}, {"table_name": "my labels.CSV"}],
    ids=["byte order mark", "Windows line ends", "another name"],
)
def test_ordinary_variants_of_the_csv_are_read(tmp_path, changes):
    upload = uploads.png_upload()
    for name, value in changes.items():
        setattr(upload, name, value)
    result, _ = read(upload.write(tmp_path / "upload.zip"), tmp_path)
    assert result.record_count == PERSONS


def test_paths_are_relative_to_the_folder_of_the_csv_and_clutter_is_skipped(tmp_path):
    upload = uploads.png_upload()
    upload.files = {f"export/{name}": content for name, content in upload.files.items()}
    upload.table_name = "export/labels.csv"
    upload.files["__MACOSX/export/._labels.csv"] = b"resource fork"
    upload.files["export/.DS_Store"] = b"finder"
    upload.files["export/"] = b""
    result, _ = read(upload.write(tmp_path / "upload.zip"), tmp_path)
    assert result.record_count == PERSONS


def test_other_columns_are_ignored_and_named(tmp_path):
    upload = uploads.png_upload()
    upload.header += ["name of patient", "change"]
    for row in upload.rows:
        row += [SECRET, "-3.5"]
    result, _ = read(upload.write(tmp_path / "upload.zip"), tmp_path)
    assert result.ignored_columns == ("name of patient", "change")
    assert_no_identifier_in(tmp_path / "version")


def test_progress_counts_the_records(tmp_path):
    seen = []
    path = uploads.png_upload(130).write(tmp_path / "upload.zip")
    read(
        path,
        tmp_path,
        schema=uploads.schema(declared_count=130),
        progress=lambda stage, step, total: seen.append((stage, step, total)),
    )
    assert [step for _, step, _ in seen] == [64, 128, 130]
    assert {total for _, _, total in seen} == {130}


def test_a_failed_read_leaves_an_existing_folder_as_it_was(tmp_path):
    out = tmp_path / "version"
    out.mkdir()
    (out / "kept").write_text("before")
    upload = uploads.png_upload()
    upload.files["images/049.png"] = b"broken at the very end"
    with pytest.raises(InputRefused):
        read(upload.write(tmp_path / "upload.zip"), tmp_path)
    assert [path.name for path in out.iterdir()] == ["kept"]


def test_the_unit_range_follows_the_declared_count():
    limits = Limits()
    assert limits.unit_range(uploads.schema(declared_count=60)) == (50, 120)
    assert limits.unit_range(uploads.schema(declared_count=3000)) == (1500, 6000)


def test_blank_frames_of_many_persons_are_no_duplicates():
    persons = np.arange(6, dtype=np.int32)
    pictures = np.random.default_rng(1).integers(0, 255, (6, 16, 16)).astype(np.uint8)
    pictures[:3] = 0
    pictures[2, 0, :5] = 1  # five pixels show nobody either
    pictures[5] = pictures[4]
    digests = b"".join(comparable_digest(p, content_digest(p)) for p in pictures)
    flags, report = find_duplicates(
        np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES),
        persons,
        names=[f"{i}.png" for i in persons],
        examples=5,
    )
    assert np.flatnonzero(flags).tolist() == [4, 5]
    assert report.examples == (("4.png", "5.png"),)
    blank = np.zeros((6, DIGEST_BYTES), np.uint8)
    assert not find_duplicates(blank, persons, names=["a"] * 6, examples=5)[0].any()
