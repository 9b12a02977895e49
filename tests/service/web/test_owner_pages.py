"""The data owner's pages: what is declared, sent, filtered and proposed, and what is refused."""

import hashlib
from collections.abc import Callable

from flask.testing import FlaskClient

from service.domain.accounts import Actor
from service.domain.datasets import VersionState
from service.domain.jobs import JobState
from service.domain.releases import ReleaseState
from service.operations import datasets
from tests.factories import Walk

PageOf = Callable[[Actor | None], FlaskClient]
BODY = b"PK" + bytes(40)
DECLARED = {
    "name": "Wrists",
    "purpose": "Teaching",
    "declared_count": "1000",
    "height": "8",
    "width": "8",
    "label": "grade",
    "labels": "0, 1",
    "budget": "own",
    "epsilon": "3",
    "delta": "0.00001",
}


def started(owner: FlaskClient, dataset_id: str) -> dict[str, str]:
    answer = owner.post(
        f"/datasets/{dataset_id}/upload",
        data={"csrf": "right", "suffix": ".zip", "size_bytes": str(len(BODY))},
    )
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return dict(answer.get_json())


def send(owner: FlaskClient, places: dict[str, str], **headers: str) -> tuple[int, str]:
    right = {"X-Csrf-Token": "right", "X-Part-Sha256": hashlib.sha256(BODY).hexdigest()}
    answer = owner.put(f"{places['parts']}/1", data=BODY, headers=right | headers)
    return answer.status_code, answer.get_data(as_text=True)


def test_a_declaration_is_shown_again_with_its_mistake_beside_the_field(
    page_of: PageOf, people: Walk
) -> None:
    owner = page_of(people.owner)
    wrong = owner.post("/datasets/new", data=DECLARED | {"csrf": "right", "height": "tall"})
    assert wrong.status_code == 422
    page = wrong.get_data(as_text=True)
    assert 'id="height-error"' in page
    assert 'value="Wrists"' in page
    made = owner.post("/datasets/new", data=DECLARED | {"csrf": "right"})
    assert made.status_code == 303
    assert "ε 3 of 3 is left" in owner.get(made.headers["Location"]).get_data(as_text=True)
    assert page_of(people.auditors[0]).get("/datasets/new").status_code == 403


def test_parts_are_checked_and_what_has_arrived_is_told(
    page_of: PageOf, people: Walk, others: Walk
) -> None:
    owner, dataset = page_of(people.owner), people.dataset()
    places = started(owner, dataset.id)
    assert owner.get(places["parts"]).get_json() == {"parts": []}
    assert send(owner, places, **{"X-Csrf-Token": "wrong"})[0] == 400
    status, told = send(owner, places, **{"X-Part-Sha256": "0" * 64})
    assert (status, "damaged on the way" in told) == (422, True)
    missing = owner.post(places["complete"], data={"csrf": "right"})
    assert "1 of 1 parts are missing" in missing.get_data(as_text=True)
    assert send(page_of(others.owner), places)[0] == 404
    assert send(owner, places)[0] == 200
    assert owner.get(places["parts"]).get_json() == {"parts": [1]}
    assert owner.post(places["complete"], data={"csrf": "right"}).get_json() == {
        "location": f"/versions/{places['version']}"
    }
    assert send(owner, places)[0] == 409


def test_an_upload_that_is_given_up_is_refused_and_its_parts_are_gone(
    page_of: PageOf, people: Walk
) -> None:
    owner, dataset = page_of(people.owner), people.dataset()
    places = started(owner, dataset.id)
    send(owner, places)
    address = f"/versions/{places['version']}/upload/abandon"
    assert owner.post(address, data={"csrf": "right"}).status_code == 303
    with people.application.uow(read_only=True) as uow:
        version = datasets.load_version(uow, places["version"])
    assert version.state is VersionState.REFUSED
    page = owner.get(f"/versions/{places['version']}").get_data(as_text=True)
    assert "given up by its owner" in page


def test_jobs_are_filtered_and_an_ended_one_says_why_it_is_not_resumed(
    page_of: PageOf, people: Walk
) -> None:
    owner, job = page_of(people.owner), people.training(people.version(people.dataset()))
    assert owner.post(f"/jobs/{job.id}/cancel", data={"csrf": "right"}).status_code == 303
    page = owner.get(f"/jobs/{job.id}").get_data(as_text=True)
    assert "A training that has ended is not resumed" in page
    query = {"dataset": job.dataset_id, "state": JobState.CANCELLED.value}
    assert job.id in owner.get("/jobs", query_string=query).get_data(as_text=True)
    query["state"] = JobState.FAILED.value
    assert "No job is like this." in owner.get("/jobs", query_string=query).get_data(as_text=True)
    assert owner.get("/jobs?dataset='").status_code == 404


def test_an_expired_release_is_renewed_by_a_button_and_others_say_why_not(
    page_of: PageOf, people: Walk
) -> None:
    owner = page_of(people.owner)
    expired = people.release(ReleaseState.EXPIRED)
    assert "Draft the next version" in owner.get(f"/releases/{expired.id}/manage").text
    made = owner.post(f"/releases/{expired.id}/manage/renew", data={"csrf": "right"})
    assert made.status_code == 303
    assert "1.0.1" in owner.get(made.headers["Location"]).text
    revoked = people.release(ReleaseState.REVOKED)
    assert "Only a published or an expired release may be renewed" in (
        owner.get(f"/releases/{revoked.id}/manage").text
    )
    refused = owner.post(f"/releases/{revoked.id}/manage/renew", data={"csrf": "right"})
    assert refused.status_code == 409
