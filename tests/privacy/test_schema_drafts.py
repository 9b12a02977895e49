"""Drafts of schemas: from the header alone, refused until somebody completes them."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.clinical_bins import CLINICAL_BINS, bins_for
from privacy.errors import InvalidParameter
from privacy.schema_drafts import draft_schema
from privacy.table_schema import Column, parse_schema

CODE_BOOK = """column,kind,low,high,bins,levels,missing,role,description
Stage,ordinal,,,,I|II|III|IV,yes,target,of the disease
score,integer,0,10,5,,,,
"""


def drafted(tmp_path: Path, header: str, *, book: str | None = None) -> str:
    path, dictionary = tmp_path / "header.csv", tmp_path / "book.csv"
    path.write_bytes(header.encode() + b"\n\xff\xfe not a line that anybody may read\n")
    if book is not None:
        dictionary.write_text(book, encoding="utf-8")
    return draft_schema(path, dictionary=None if book is None else dictionary)


def test_a_draft_comes_from_the_first_line_and_a_code_book_alone(tmp_path: Path) -> None:
    text = drafted(tmp_path, "MRN;Age;sex;stage;score", book=CODE_BOOK)
    schema = parse_schema(
        text.replace("declared_count = 0 ", "declared_count = 500 ").encode(), name="draft.toml"
    )
    assert schema.person == "MRN"
    assert [column.name for column in schema.columns] == ["Age", "sex", "stage", "score"]
    assert schema.column("Age").unit == "years"
    assert schema.column("stage").names == ("I", "II", "III", "IV", "missing")
    assert schema.column("stage").role == "target"
    assert schema.column("score").edges == (0, 2, 4, 6, 8, 10)


def test_what_a_draft_cannot_tell_is_refused_until_it_is_filled_in(tmp_path: Path) -> None:
    text = drafted(tmp_path, "patient_id,ward").replace(
        "declared_count = 0 ", "declared_count = 500 "
    )
    with pytest.raises(
        InvalidParameter, match=r"at columns\.0: the column 'ward' needs its levels"
    ):
        parse_schema(text.encode(), name="draft.toml")


def test_a_code_book_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"low 9 must be below high 2"):
        drafted(tmp_path, "a", book="column,low,high\na,9,2\n")
    with pytest.raises(InvalidParameter, match="needs a field 'column'"):
        drafted(tmp_path, "a", book="name,low\na,9\n")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_every_name_of_a_column_comes_back_as_it_was(name: str) -> None:
    from privacy.schema_drafts import _text

    assert tomllib.loads(f"name = {_text(name)}")["name"] == name


def test_clinical_bins_are_columns_and_go_by_whole_words() -> None:
    for bins in CLINICAL_BINS:
        Column(name="x", kind=bins.kind, unit=bins.unit, edges=bins.edges, decimals=bins.decimals)
        assert bins_for(f"First {bins.words[0].upper()}") is bins
    assert bins_for("stage") is bins_for("shape") is None
