"""A table over the web: its schema shown before it is declared, its pages, its release."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from privacy.mechanisms import UnitOfPrivacy
from service.client import KaimaClient, ProblemError
from service.domain.accounts import Actor
from service.domain.errors import InputRefused
from service.domain.releases import Release, ReleaseState
from service.operations import editing
from tests.factories import TABLE, Walk

PageOf = Callable[[Actor | None], FlaskClient]
SCHEMA = """
declared_count = 2500
person = "mrn"
[[columns]]
name = "age"
kind = "integer"
edges = [40, 60, 80]
[[columns]]
name = "outcome"
kind = "category"
levels = ["alive", "dead"]
role = "target"
"""
FORM = {
    "csrf": "right",
    "name": "Visits",
    "purpose": "Teaching",
    "holds": "table",
    "budget": "own",
    "epsilon": "3",
    "delta": "0.00001",
}


def sent(owner: FlaskClient, schema: str, **fields: str) -> Any:
    file = (io.BytesIO(schema.encode()), "schema.toml")
    return owner.post("/datasets/new", data=FORM | fields | {"schema": file})


def test_a_schema_is_shown_as_a_page_before_it_is_declared(page_of: PageOf, people: Walk) -> None:
    owner = page_of(people.owner)
    shown = sent(owner, SCHEMA)
    assert shown.status_code == 200
    for words in ("not made yet", "40 to 80 in 2 bins", "alive, dead", "about 2,500 persons"):
        assert words in shown.text
    assert "Visits" not in owner.get("/datasets").text
    again = FORM | {"schema_text": SCHEMA, "checked": "yes"}
    made = owner.post("/datasets/new", data=again)
    assert made.status_code == 303
    page = owner.get(made.headers["Location"]).text
    assert "2 columns" in page
    assert "told apart by <code>mrn</code>" in page
    assert "Upload the table" in page


def test_a_wrong_schema_is_refused_with_the_sentence_that_names_the_place(
    page_of: PageOf, people: Walk
) -> None:
    owner = page_of(people.owner)
    answer = sent(owner, SCHEMA.replace("[40, 60, 80]", "[40, 60, 50]"))
    assert answer.status_code == 422
    assert "refused at columns.0" in answer.text
    assert "each larger than the one before" in answer.text
    assert 'value="Visits"' in answer.text
    missing = owner.post("/datasets/new", data=FORM)
    assert "Choose the file of the schema" in missing.text


def test_pages_of_a_table_name_its_columns_suffixes_and_generators(
    page_of: PageOf, people: Walk
) -> None:
    owner, dataset = page_of(people.owner), people.dataset(schema=TABLE)
    version = people.version(dataset)
    upload = owner.get(f"/datasets/{dataset.id}/upload").text
    assert 'accept=".csv,.parquet"' in upload
    assert "patient_id,age,grade,time" in upload
    form = owner.get(f"/versions/{version.id}/training").text
    assert 'value="counts"' in form
    assert 'value="network"' not in form
    assert "Synthetic rows" in form
    query = {"generator": "counts", "epsilon": "1", "tier": "registered", "samples": "500"}
    plan = owner.get(f"/versions/{version.id}/training", query_string=query)
    assert "Reserve ε 1 and train" in plan.text
    page = owner.get(f"/datasets/{dataset.id}").text
    assert "Where grade is 0, time is missing." in page
    assert "1,000 persons" in owner.get("/datasets").text


def test_the_api_takes_columns_and_refuses_a_column_with_its_place(
    client_of: Callable[[Actor], KaimaClient], people: Walk
) -> None:
    owner = client_of(people.owner)
    made = owner.create_dataset("API table", purpose="tests", declared=TABLE, epsilon=3.0)
    assert owner.dataset(made.id).declared == TABLE
    wrong = TABLE.model_dump(mode="json") | {"person": "age"}
    with pytest.raises(ProblemError, match="cannot be released: leave it out"):
        owner._connection.send(
            "POST", "/v1/datasets", json={"name": "x", "purpose": "y", "declared": wrong}
        )


def with_certificate(people: Walk) -> Release:
    """Return a published release of a table, its certificate as a worker writes one."""
    audit = people.audited(people.version(people.dataset(schema=TABLE)), generator="counts")
    made = people.release(ReleaseState.PUBLISHED, audit=audit)
    with people.application.uow() as uow:
        uow.without_trail("a certificate as a worker writes it")
        found = uow.get(Release, made.id)
        assert found is not None
        table = {"declared": TABLE.model_dump(mode="json"), "formats": ["parquet", "csv"]}
        found.certificate = found.certificate | table | {"labels": {}}
    return people.current(made)


def test_a_release_of_a_table_shows_columns_and_how_to_load_it(
    page_of: PageOf, people: Walk
) -> None:
    release = with_certificate(people)
    page = page_of(people.collaborator).get(f"/releases/{release.id}").text
    assert "6,000 synthetic, 3 columns" in page
    assert "pd.read_parquet" in page
    assert "pydicom" not in page
    assert "Edit to a specification" not in page
    found = page_of(people.collaborator).get("/releases?modality=TABLE").text
    assert release.name in found
    with (
        people.application.uow() as uow,
        pytest.raises(InputRefused, match="edits change images only"),
    ):
        editing.check_may_edit(uow, people.collaborator, release_id=release.id)


def test_what_nobody_can_recognise_is_said_to_owner_and_auditor(
    page_of: PageOf, people: Walk
) -> None:
    images = people.dataset()
    people.version(images, persons=("17", "18"))
    joined = people.dataset(schema=TABLE, join_dataset_id=images.id)
    strangers = people.version(joined, persons=("017", "018"))
    known = people.version(joined, persons=("17", "18", "19"))
    rows = TABLE.model_copy(update={"unit": UnitOfPrivacy.RECORD, "person": ""})
    alone = people.version(people.dataset(schema=rows), persons=("r1", "r2"))
    for who in (people.owner, people.auditors[0]):
        reader = page_of(who)
        assert "Nobody in this version was known" in reader.get(f"/versions/{strangers.id}").text
        page = reader.get(f"/versions/{known.id}").text
        assert "Known in this budget before: some person(s)" in page
        assert "cannot be recognised" not in page
        page = reader.get(f"/versions/{alone.id}").text
        assert "cannot be recognised as being of a person" in page
        assert "Known in this budget" not in page
