"""A zip of a table and the image of each row becomes blobs in row order, or is refused whole."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import ExifTags, Image

from privacy.table_schema import parse_schema
from service.domain.errors import InputRefused
from tests.workers.intake import uploads
from tests.workers.intake.uploads import picture, png_upload
from tests.workers.joint_uploads import (
    FILE,
    PERSONS,
    dicom_zip,
    joint_schema,
    joint_zip,
)
from tests.workers.table_uploads import SECRET, write_csv
from workers.intake import Limits, read_upload
from workers.intake.joint import read_joint_upload
from workers.intake.tables import read_table_upload

KEY = b"key"
NAMES = ("table", "images", "persons", "person_digests", "duplicated_persons")


def read(made, folder, *, schema=None, **limits):
    folder.mkdir(exist_ok=True)
    path = made if hasattr(made, "open") else made.write(folder / "upload.zip")
    result = read_joint_upload(
        path,
        schema=schema or joint_schema(),
        tenant_key=KEY,
        out=folder / "out",
        limits=Limits(**limits),
    )
    return result, {n: np.load(folder / "out" / f"{n}.npy", allow_pickle=False) for n in NAMES}


def refusal_of(made, folder, **options):
    with pytest.raises(InputRefused) as caught:
        read(made, folder, **options)
    told = json.dumps([caught.value.sentence, caught.value.extensions])
    assert SECRET.casefold() not in told.casefold()
    assert caught.value.sentence.isprintable()
    assert all(caught.value.extensions[key] for key in ("file", "value", "limit", "remedy"))
    assert not (folder / "out").exists()
    return caught.value.sentence


def test_images_lie_in_the_order_of_the_rows_whatever_the_order_of_the_zip(tmp_path):
    made = joint_zip()
    made.files = dict(reversed(made.files.items()))
    result, stored = read(made, tmp_path)
    assert result.source_format == "csv+images"
    assert result.record_count == len(made.rows) == len(stored["images"])
    assert result.person_count == PERSONS
    for number, image in enumerate(stored["images"]):
        np.testing.assert_array_equal(image, picture(number))
    assert stored["table"][:, 0].tolist() == [row["age"] for row in made.rows]
    assert set(result.blobs) == {f"{name}.npy" for name in NAMES}


def test_csv_and_parquet_of_one_zip_are_stored_alike(tmp_path):
    from_csv, one = read(joint_zip(), tmp_path / "a")
    from_parquet, two = read(joint_zip(table="clinic/TABLE.parquet"), tmp_path / "b")
    assert from_parquet.source_format == "parquet+images"
    assert from_csv.blobs == from_parquet.blobs
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name])


def test_the_table_may_lie_beside_its_images_without_a_folder(tmp_path):
    made = joint_zip(table="table.csv")
    made.files = {name.removeprefix("clinic/"): body for name, body in made.files.items()}
    made.rows[0][FILE] = f"./{made.rows[0][FILE]}"
    assert read(made, tmp_path)[0].record_count == len(made.rows)


def test_rows_of_the_zip_are_stored_as_a_table_of_their_own_would_be(tmp_path):
    made = joint_zip()
    result, stored = read(made, tmp_path)
    alone = read_table_upload(
        write_csv(tmp_path / "alone.csv", made.rows),
        schema=joint_schema(images=None).model_copy(update={"images": None}),
        tenant_key=KEY,
        out=tmp_path / "alone",
    )
    np.testing.assert_array_equal(np.load(tmp_path / "alone" / "table.npy"), stored["table"])
    np.testing.assert_array_equal(alone.content_digests, result.row_digests)
    np.testing.assert_array_equal(alone.column_digests, result.column_digests)
    assert (alone.columns, alone.violations) == (result.columns, result.violations)


def test_images_of_the_zip_are_known_again_in_a_set_of_images_alone(tmp_path):
    result, _ = read(joint_zip(), tmp_path)
    alone = read_upload(
        png_upload().write(tmp_path / "alone.zip"),
        schema=uploads.schema(),
        tenant_key=KEY,
        out=tmp_path / "alone",
    )
    known = {bytes(digest) for digest in alone.content_digests}
    assert known <= {bytes(digest) for digest in result.content_digests}


def test_no_identifier_is_in_what_is_stored_or_told(tmp_path):
    result, _ = read(joint_zip(), tmp_path)
    for file in (tmp_path / "out").iterdir():
        assert SECRET.encode() not in file.read_bytes()
    told = (result.dropped, result.ignored_columns, result.columns, result.violations)
    assert SECRET not in json.dumps(told)
    assert SECRET not in str(result.duplicates)
    assert result.ignored_columns == ("note",)
    assert len(result.dropped) == 3  # ids, names of files, metadata of images


def test_dicom_headers_are_dropped_and_must_name_the_person_of_their_row(tmp_path):
    result, stored = read(dicom_zip(), tmp_path / "ids")
    assert result.source_format == "csv+dicom"
    assert any("PatientName" in kind for kind in result.dropped)
    np.testing.assert_array_equal(stored["images"][3], picture(3))
    read(dicom_zip(without_ids=True), tmp_path / "none")
    made = dicom_zip()
    made.rows[4][FILE], made.rows[7][FILE] = made.rows[7][FILE], made.rows[4][FILE]
    assert "the image of row 5" in refusal_of(made, tmp_path / "swapped")


def test_pixels_are_taken_as_stored_whatever_orientation_is_noted_beside_them(tmp_path):
    made = joint_zip()
    name = f"clinic/{made.rows[2][FILE]}"
    turned, noted = io.BytesIO(), Image.Exif()
    noted[ExifTags.Base.Orientation] = 6
    Image.fromarray(picture(2)).save(turned, "PNG", exif=noted)
    made.files[name] = turned.getvalue()
    _, stored = read(made, tmp_path)
    np.testing.assert_array_equal(stored["images"][2], picture(2))


def test_sixteen_bits_are_kept(tmp_path):
    made = joint_zip()
    deep = picture(5, dtype=np.uint16)
    made.files = dict.fromkeys(made.files, uploads.encode(deep))
    _, stored = read(made, tmp_path, schema=joint_schema(images={"bit_depth": 16}))
    assert stored["images"].dtype == np.uint16
    np.testing.assert_array_equal(stored["images"][1], deep)


def test_persons_who_share_an_image_are_marked_and_counted(tmp_path):
    made = joint_zip()
    first, last = made.rows[0], made.rows[-1]
    made.files[f"clinic/{last[FILE]}"] = made.files[f"clinic/{first[FILE]}"]
    result, stored = read(made, tmp_path)
    persons = stored["persons"]
    assert set(np.flatnonzero(stored["duplicated_persons"])) >= {persons[0], persons[-1]}
    assert result.duplicates.persons_with_shared_images == 2
    assert result.duplicates.images == 2
    assert result.duplicated_person_count == stored["duplicated_persons"].sum()


def test_persons_with_the_rows_of_another_are_marked_whatever_their_images(tmp_path):
    made = joint_zip()
    twin = next(row for row in made.rows if str(row["patient_id"]).endswith("-2"))
    twin |= {name: made.rows[0][name] for name in ("age", "bmi", "sex", "grade", "cause")}
    result, stored = read(made, tmp_path)
    assert result.duplicates.persons == 2
    assert result.duplicates.persons_with_shared_images == 0
    assert stored["duplicated_persons"].sum() == 2


def test_rows_too_coarse_to_tell_persons_apart_mark_nobody(tmp_path):
    made = joint_zip()
    for row in made.rows:
        row |= {"age": 50, "bmi": 25, "grade": 0, "cause": "", "sex": "f"}
    result, stored = read(made, tmp_path)
    assert result.duplicates.persons == PERSONS
    assert not stored["duplicated_persons"].any()


def test_every_image_has_one_row_and_every_row_one_image(tmp_path):
    cases = {
        "row 3, column 'file': the image that is named is not in the zip": {"named": "gone.png"},
        "row 3, column 'file': no image is named": {"named": " "},
        "row 3, column 'file': the path leaves the archive with '..'": {
            "named": f"../clinic/images/{SECRET}.png"
        },
        "row 3, column 'file': the path is absolute": {"named": f"/{SECRET}.png"},
        "row 3, column 'file': row 1 names the same image": {"same": True},
    }
    for number, (words, fault) in enumerate(cases.items()):
        made = joint_zip()
        made.rows[2][FILE] = made.rows[0][FILE] if "same" in fault else fault["named"]
        assert words in refusal_of(made, tmp_path / str(number))
    made = joint_zip(more={f"clinic/images/{SECRET}.png": uploads.encode(picture(1))})
    number = len(made.rows) + 1
    said = refusal_of(made, tmp_path / "more")
    assert said.startswith(f"entry {number} of the zip was refused: no row of table.csv names it")


def test_exactly_one_table_is_taken(tmp_path):
    assert "not exactly one table" in refusal_of(joint_zip(table=""), tmp_path / "none")
    two = joint_zip(more={f"{SECRET}/table.parquet": joint_zip().parquet()})
    assert "not exactly one table: 2 tables" in refusal_of(two, tmp_path / "two")
    other = joint_zip(more={"clinic/labels.csv": b"file\n"})
    said = refusal_of(other, tmp_path / "other")
    assert said.startswith(f"entry {len(other.rows) + 1} of the zip was refused: it is neither")


NAMED_AFTER_A_PATIENT = {
    "no row of": f"{SECRET}/images/{SECRET}.png",
    "neither an image nor the table": f"{SECRET}/x.{SECRET}",
    "an archive inside the archive": f"{SECRET}/images/{SECRET}.zip",
    "are mixed, such as entry 91 of the zip": f"{SECRET}/\u202e{SECRET}.dcm",
    "the name occurs twice": f"{SECRET}/images/{SECRET}-0000.PNG",
    "leaves the archive with '..'": f"../{SECRET}.png",
    "the path is absolute": f"/{SECRET}.png",
    "holds a backslash": f"{SECRET}\\x.png",
    "holds control characters": f"{SECRET}\x1b.png",
    "the name is longer than": f"{SECRET * 40}.png",
    "not exactly one table": f"{SECRET}/{SECRET}/table.csv",
}


@pytest.mark.parametrize("words", NAMED_AFTER_A_PATIENT)
def test_the_name_of_a_file_is_in_no_refusal(tmp_path, words):
    made = named_after_patients()
    made.more[NAMED_AFTER_A_PATIENT[words]] = uploads.encode(picture(1))
    assert words in refusal_of(made, tmp_path)


def named_after_patients():
    """Every folder and every file but the table bears the id of a patient."""
    made = joint_zip(table=f"{SECRET}/table.csv")
    made.files = {name.replace("clinic", SECRET): body for name, body in made.files.items()}
    return made


def edited(path, *, flags=0, method=0, kind=0, local_name=None):
    """Change what a zip says about its first image: in its directory, or in the file's own header."""
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 8] |= flags & 255
    content[at + 9] |= flags >> 8
    content[at + 10] = method or content[at + 10]
    content[at + 5] = 3  # made on Unix: the mode counts
    content[at + 41] = kind << 4 or content[at + 41]
    if local_name is not None:
        content[30 : 30 + len(local_name)] = local_name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("words", "edit"),
    {
        "a link or a special file": {"kind": 0o12},
        "it is encrypted": {"flags": 1},
        "its compression is not supported": {"method": 12},
        "its bytes do not match": {"local_name": b"other"},
        "not match what the zip says": {"flags": 0x800, "local_name": b"\xff\xfe"},
    }.items(),
    ids=str,
)
def test_the_name_of_a_damaged_entry_is_in_no_refusal(tmp_path, words, edit):
    path = edited(named_after_patients().write(tmp_path / "upload.zip"), **edit)
    assert words in refusal_of(path, tmp_path)


def test_the_folder_of_the_table_is_in_no_refusal(tmp_path):
    for number, (words, change) in enumerate(
        {
            "table.csv was refused: row 3": lambda rows: rows[2].update({FILE: f"{SECRET}.png"}),
            "table.csv was refused: the column 'patient_id'": lambda rows: rows[2].update(
                {"patient_id": SECRET * 50}
            ),
            "too few persons": lambda rows: [row.update({"patient_id": SECRET}) for row in rows],
        }.items()
    ):
        made = named_after_patients()
        change(made.rows)
        assert words in refusal_of(made, tmp_path / str(number))
    made = named_after_patients()
    assert "the table is too large" in refusal_of(
        made, tmp_path / "large", table_expanded_bytes=100
    )
    assert "unpacks like a zip bomb" in refusal_of(
        made, tmp_path / "bomb", ratio_free_bytes=1, expansion_ratio=1
    )


def test_a_table_without_rows_is_refused(tmp_path):
    made = joint_zip()
    empty = made.csv().splitlines(keepends=True)[0]
    made = joint_zip(table="", more={"table.csv": empty})
    made.files.clear()
    assert "the table has no rows" in refusal_of(made, tmp_path / "csv")


def test_a_table_without_the_column_of_the_images_is_refused(tmp_path):
    made = joint_zip()
    schema = joint_schema(images={"column": "scan"})
    assert "declared columns are missing: scan" in refusal_of(made, tmp_path, schema=schema)


def test_names_of_files_are_text(tmp_path):
    made = joint_zip(table="clinic/table.parquet")
    for number, row in enumerate(made.rows):
        row[FILE] = number
    assert "the column 'file' does not hold text" in refusal_of(made, tmp_path)


def test_a_long_word_of_a_dictionary_is_not_written_out_for_every_row(tmp_path):
    made = joint_zip(table="clinic/table.parquet")
    for row in made.rows:
        row[FILE] = "x" * 100_000
    assert "the column 'file' has a cell that is too long" in refusal_of(made, tmp_path)


def test_an_image_that_is_not_as_declared_is_refused_by_its_row(tmp_path):
    small = uploads.encode(picture(1, side=8))
    deep = uploads.encode(picture(1, dtype=np.uint16))
    for number, (content, words) in enumerate(
        {
            small: "the image has another size than declared",
            deep: "another bit depth",
            b"": "its bytes are not of the format",
            uploads.encode(picture(1))[:-20]: "the file is cut off",
            uploads.png_claiming(uploads.SIDE, uploads.SIDE, rows=9000): "more rows than declared",
        }.items()
    ):
        made = joint_zip()
        made.files[f"clinic/{made.rows[1][FILE]}"] = content
        said = refusal_of(made, tmp_path / str(number))
        assert said.startswith("the image of row 2 was refused: ")
        assert words in said


def test_what_is_no_zip_is_refused(tmp_path):
    path = write_csv(tmp_path / "table.csv", joint_zip().rows)
    assert "it is no zip" in refusal_of(path, tmp_path / "csv")
    (tmp_path / "empty").write_bytes(b"")
    assert "empty file" in refusal_of(tmp_path / "empty", tmp_path / "nothing")


@pytest.mark.parametrize("table", ["clinic/table.csv", "clinic/table.parquet"])
def test_a_bomb_in_place_of_the_table_is_refused(tmp_path, table):
    made = joint_zip(table="", more={table: b"0" * 20_000_000})
    assert "unpacks like a zip bomb" in refusal_of(made, tmp_path / "ratio")
    assert "unpacks to too much" in refusal_of(made, tmp_path / "total", expanded_bytes=1_000_000)
    made = joint_zip(table=table)
    assert "the table is too large" in refusal_of(
        made, tmp_path / "table", table_expanded_bytes=100
    )


def test_too_many_files_rows_and_too_few_persons_are_refused(tmp_path):
    assert "too many files" in refusal_of(joint_zip(), tmp_path / "files", archive_entries=20)
    assert "too many rows" in refusal_of(joint_zip(), tmp_path / "rows", records=20)
    assert "too few persons" in refusal_of(joint_zip(20), tmp_path / "few")


def test_a_link_and_a_climbing_entry_are_refused(tmp_path):
    path = joint_zip().write(tmp_path / "upload.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../out.png", b"")
    assert "leaves the archive" in refusal_of(path, tmp_path / "climbs")


def test_a_cell_that_cannot_be_stored_is_refused_by_its_column_and_row(tmp_path):
    made = joint_zip()
    made.rows[6]["sex"] = SECRET
    assert "row 7" in refusal_of(made, tmp_path)


def test_a_row_cannot_be_the_unit(tmp_path):
    with pytest.raises(Exception, match="unit"):
        joint_schema(unit="record", person="")
    with pytest.raises(Exception, match="unit"):
        parse_schema(
            b'unit = "record"\ndeclared_count = 60\n[[columns]]\nname = "a"\nkind = "ordinal"\n'
            b'levels = ["0", "1"]\n[images]\nheight = 16\nwidth = 16\ncondition_on = ["a"]\n',
            name="joint.toml",
        )
