"""Tables that are broken, hostile or not what was declared are refused with a sentence."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.domain.errors import InputRefused
from tests.workers.intake.test_mutated_files import mutated
from tests.workers.table_uploads import SECRET, clinic_rows, clinic_schema, write_csv
from workers.intake import Limits
from workers.intake.tables import read_table_upload

HEADER = "patient_id,age,bmi,sex,grade,cause\n"
GOOD = f"{SECRET},50,20.5,f,0,\n"


@dataclass(frozen=True)
class Case:
    """A file's bytes, and the words that refuse it."""

    content: bytes
    words: str
    limits: dict[str, Any] = field(default_factory=dict)


def text(body: str) -> bytes:
    return (HEADER + body).encode()


CASES = {
    "no bytes": Case(b"", "has no header"),
    "only a header": Case(text(""), "has no rows"),
    "a column too few": Case(b"patient_id,age,bmi,sex,grade\n1,2,3,f,0\n", "missing: cause"),
    "no person": Case(b"age,bmi,sex,grade,cause\n50,20,f,0,\n", "Add the person of each row"),
    "semicolons": Case(HEADER.replace(",", ";").encode() + b"1;2\n", "Separate the columns"),
    "a title twice": Case((HEADER.strip() + ",age\n").encode(), "two columns have one name: age"),
    "too many columns": Case(text(GOOD), "too many columns", {"table_columns": 5}),
    "a ragged row": Case(text(GOOD + "1,2,3\n"), "3 cells in row 2"),
    "a longer row": Case(text(GOOD.strip() + ",,\n"), "8 cells in row 1"),
    "an open quote": Case(text(GOOD + '"' + "a,\n" * 2_000_000), "cells in row 2"),
    "latin-1": Case(HEADER.encode() + b"M\xfcller,50,20,f,0,\n", "not plain UTF-8 text"),
    "half a character": Case(text(GOOD) + b"\xe8", "not plain UTF-8 text"),
    "utf-16": Case((HEADER + GOOD).encode("utf-16"), "not plain UTF-8 text"),
    "a NUL": Case(text(GOOD + "a,50,2\0,f,0,\n"), "without NUL"),
    "a NUL in the header": Case(b"patient\0_id,age\n", "without NUL"),
    "a formula as a number": Case(
        text(GOOD.replace("50", "=1+1")), "'age' holds what is no number"
    ),
    "a formula as a level": Case(text(GOOD.replace(",f,", ",=cmd(),")), "'sex' holds levels"),
    "a word as a number": Case(text(GOOD.replace("20.5", SECRET)), "'bmi' holds what is no number"),
    "a decimal comma": Case(text(GOOD.replace("20.5", '"20,5"')), "'bmi' holds what is no number"),
    "half a year": Case(text(GOOD.replace("50", "50.5")), "'age' holds numbers that are not whole"),
    "an undeclared level": Case(text(GOOD.replace(",f,", f",{SECRET},")), "1 cell; allowed: f, m"),
    "an empty cell": Case(
        text(GOOD.replace(",f,", ",NA,")), "'sex' has empty cells, first in row 1"
    ),
    "an infinite number": Case(text(GOOD.replace("50", "inf")), "'age' has empty cells"),
    "nobody": Case(text(GOOD + GOOD.replace(SECRET, "")), "have nobody in the column 'patient_id'"),
    "a huge cell": Case(text(GOOD.replace(",f,", f",{'f' * 300},")), "a cell that is too long"),
    "a huge id": Case(text(GOOD.replace(SECRET, SECRET * 40)), "a cell that is too long"),
    "too few persons": Case(text(GOOD), "too few persons"),
    "too many rows": Case(text(GOOD * 20), "too many rows", {"records": 10}),
    "too large": Case(text(GOOD), "the table is too large", {"table_expanded_bytes": 10}),
    "a zip": Case(b"PK\x03\x04" + bytes(100), "it is a zip"),
    "half a Parquet file": Case(b"PAR1" + bytes(100), "cannot be read as Parquet"),
    "only the magic": Case(b"PAR1", "cannot be read as Parquet"),
}


def refusal_of(path, folder, **limits) -> InputRefused:
    out = folder / "out"
    with pytest.raises(InputRefused) as caught:
        read_table_upload(
            path, schema=clinic_schema(), tenant_key=b"key", out=out, limits=Limits(**limits)
        )
    refusal = caught.value
    assert all(refusal.extensions[key] for key in ("file", "value", "limit", "remedy"))
    assert SECRET not in refusal.sentence
    assert refusal.sentence.isprintable()
    assert not out.exists()
    return refusal


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_hostile_csv_is_refused_with_a_sentence(case, tmp_path):
    (tmp_path / "a.csv").write_bytes(case.content)
    assert case.words in refusal_of(tmp_path / "a.csv", tmp_path, **case.limits).sentence


def columns(**changes) -> dict[str, Any]:
    rows = clinic_rows()
    made = {name: [None if row[name] == "" else row[name] for row in rows] for name in rows[0]}
    return made | changes


def parquet(path, table: dict[str, Any], **options):
    pq.write_table(pa.table(table), path, **options)
    return path


COUNT = len(clinic_rows())
TABLES = {
    "dates": ({"age": pa.array([0] * COUNT, pa.date32())}, "neither numbers nor text"),
    "lists": ({"age": [[1, 2]] * COUNT}, "neither numbers nor text"),
    "bytes": ({"sex": [b"f"] * COUNT}, "neither numbers nor text"),
    "records": ({"sex": [{"f": 1}] * COUNT}, "neither numbers nor text"),
    "long words": ({"sex": ["f" * 100_000] * COUNT}, "a cell that is too long"),
    "words for numbers": ({"age": [SECRET] * COUNT}, "'age' holds what is no number"),
    "undeclared": ({"sex": [SECRET] * COUNT}, f"{COUNT} cells; allowed: f, m"),
    "nobody": ({"patient_id": [None] * COUNT}, "have nobody in the column"),
}


@pytest.mark.parametrize(("changes", "words"), TABLES.values(), ids=TABLES)
def test_a_parquet_file_of_something_else_is_refused(changes, words, tmp_path):
    path = parquet(tmp_path / "a.parquet", columns(**changes))
    assert words in refusal_of(path, tmp_path).sentence


def test_a_parquet_file_that_becomes_much_larger_is_refused_before_it_is_unpacked(tmp_path):
    rng = np.random.default_rng(0)
    words = [bytes(rng.integers(97, 100, 64, dtype=np.uint8)).decode() * 2000 for _ in range(100)]
    made = columns(note=[words[n % 100] for n in range(COUNT)])
    path = parquet(tmp_path / "a.parquet", made, use_dictionary=False, compression="zstd")
    limits = {"ratio_free_bytes": 1024, "expansion_ratio": 5}
    assert "too large when it is unpacked" in refusal_of(path, tmp_path, **limits).sentence


def test_a_parquet_file_with_too_many_rows_is_refused_by_its_directory(tmp_path):
    path = parquet(tmp_path / "a.parquet", columns())
    assert "too many rows" in refusal_of(path, tmp_path, records=10).sentence


def test_an_encrypted_directory_is_refused(tmp_path):
    path = parquet(tmp_path / "a.parquet", columns())
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"PARE")
    assert "cannot be read as Parquet" in refusal_of(path, tmp_path).sentence


def test_a_table_that_is_declared_with_images_is_never_read_without_them(tmp_path):
    schema = clinic_schema(images={"height": 32, "width": 32, "condition_on": ["grade"]})
    path = write_csv(tmp_path / "a.csv", clinic_rows())
    with pytest.raises(InputRefused, match="declared with images"):
        read_table_upload(path, schema=schema, tenant_key=b"key", out=tmp_path / "out")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_damaged_table_is_read_or_refused(kind, tmp_path):
    rng = np.random.default_rng(3)
    source = tmp_path / "whole"
    if kind == "csv":
        write_csv(source, clinic_rows())
    else:
        parquet(source, columns())
    whole = source.read_bytes()
    path, refusals = tmp_path / "damaged", []
    for number in range(40):
        path.write_bytes(mutated(whole, rng))
        try:
            read_table_upload(
                path, schema=clinic_schema(), tenant_key=b"key", out=tmp_path / f"out{number}"
            )
        except InputRefused as refusal:
            refusals.append(refusal.sentence)
    assert len(refusals) > 10
    assert not any(SECRET in sentence for sentence in refusals)


def test_what_was_begun_is_gone_after_a_refusal(tmp_path):
    rows = clinic_rows()
    rows[-1]["sex"] = "x"
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputRefused):
        read_table_upload(
            write_csv(tmp_path / "a.csv", rows), schema=clinic_schema(), tenant_key=b"k", out=out
        )
    assert not list(out.iterdir())
