"""Rows with an image each over the web: declared by a schema, their pages, their release."""

import io
from collections.abc import Callable

from flask.testing import FlaskClient

from service.client import KaimaClient
from service.domain.accounts import Actor
from service.domain.releases import Release, ReleaseState
from tests.factories import JOINT, Walk

PageOf = Callable[[Actor | None], FlaskClient]
SCHEMA = """
declared_count = 2500
person = "mrn"
[images]
column = "scan"
height = 64
width = 48
condition_on = ["outcome"]
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
    "name": "Scans with visits",
    "purpose": "Teaching",
    "holds": "table",
    "budget": "own",
    "epsilon": "3",
    "delta": "0.00001",
}


def test_a_schema_with_images_is_shown_declared_and_says_what_to_upload(
    page_of: PageOf, people: Walk
) -> None:
    owner = page_of(people.owner)
    file = (io.BytesIO(SCHEMA.encode()), "schema.toml")
    shown = owner.post("/datasets/new", data=FORM | {"schema": file})
    assert shown.status_code == 200
    assert "an image of 64 × 48 pixels, drawn for outcome" in shown.text
    made = owner.post("/datasets/new", data=FORM | {"schema_text": SCHEMA, "checked": "yes"})
    assert made.status_code == 303
    page = owner.get(made.headers["Location"]).text
    assert "2 columns and 64 × 48 pixels" in page
    assert "named by <code>scan</code>, which is dropped" in page
    upload = owner.get(made.headers["Location"] + "/upload").text
    assert 'accept=".zip"' in upload
    assert "scan,mrn,age,outcome" in upload
    assert "64 pixels high and 48 wide, 8 bits" in upload


def test_images_without_a_person_are_refused_with_a_sentence(page_of: PageOf, people: Walk) -> None:
    schema = SCHEMA.replace('person = "mrn"', 'unit = "record"')
    answer = page_of(people.owner).post(
        "/datasets/new", data=FORM | {"schema_text": schema, "checked": "yes"}
    )
    assert answer.status_code == 422
    assert "need unit = &#39;person&#39;" in answer.text


def test_pages_of_a_version_offer_generators_of_both_and_tell_duplicates_apart(
    page_of: PageOf, people: Walk
) -> None:
    owner, version = page_of(people.owner), people.version(people.dataset(schema=JOINT))
    form = owner.get(f"/versions/{version.id}/training").text
    assert 'value="cases"' in form
    assert 'value="counts"' not in form
    assert "Synthetic rows with images" in form
    with people.application.uow() as uow:
        uow.without_trail("a report as a worker writes it")
        found = uow.get(type(version), version.id)
        found.ingest_report = {
            "duplicates": {
                "rows": 900,
                "persons": 880,
                "rows_repeated_within_person": 1,
                "images": 4,
                "persons_with_shared_images": 3,
                "images_repeated_within_person": 2,
            }
        }
    page = owner.get(f"/versions/{version.id}").text
    assert "4 images occur with more than one person; 3 persons share one" in page
    assert "880 persons have exactly the rows of another" in page


def test_a_release_says_what_its_rows_and_images_are_and_how_to_load_both(
    page_of: PageOf, client_of: Callable[[Actor], KaimaClient], people: Walk
) -> None:
    audit = people.audited(people.version(people.dataset(schema=JOINT)), generator="cases")
    made = people.release(ReleaseState.PUBLISHED, audit=audit)
    with people.application.uow() as uow:
        uow.without_trail("a certificate as a worker writes it")
        found = uow.get(Release, made.id)
        assert found is not None
        declared = {"declared": JOINT.model_dump(mode="json"), "formats": ["parquet"]}
        found.certificate = found.certificate | declared | {"labels": {}}
    page = page_of(people.collaborator).get(f"/releases/{made.id}").text
    assert "6,000 synthetic, 3 columns and 8 × 8 pixels" in page
    assert "Images follow</dt><dd>grade" in page
    assert 'cases[0]["image"]' in page
    assert "Edit to a specification" not in page
    assert "synthetic radiographs with their table" in page
    seen = client_of(people.collaborator).release(made.id)
    assert (seen.modality, seen.height, seen.columns[0]) == ("joint", 8, "age")
