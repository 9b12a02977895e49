"""Edits of a release over HTTP: for whoever may download it, and theirs alone."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from service.client import KaimaClient, ProblemError
from service.domain.accounts import Actor
from service.domain.jobs import JobKind, JobState
from service.domain.releases import Release, ReleaseState
from service.operations import downloads, editing
from tests.factories import Walk


@pytest.fixture(scope="module")
def release(people: Walk) -> Release:
    found = people.release(ReleaseState.PUBLISHED)
    with people.application.uow() as uow:
        downloads.accept_terms(uow, people.collaborator, release_id=found.id)
    return found


@pytest.fixture
def visitor(client_of: Callable[[Actor], KaimaClient], people: Walk) -> KaimaClient:
    return client_of(people.collaborator)


def test_an_edit_is_queued_and_in_the_trail_and_its_requesters_alone(
    visitor: KaimaClient,
    client_of: Callable[[Actor], KaimaClient],
    people: Walk,
    release: Release,
) -> None:
    edit = visitor.request_edit(release.id, vary="joint_space", held=["exposure"], knees=True)
    assert edit.state == "queued"
    assert visitor.edit(edit.id).asked.held == ["exposure"]
    assert [found.id for found in visitor.edits(release.id)] == [edit.id]
    with pytest.raises(ProblemError) as refused:
        client_of(people.owner).edit(edit.id)
    assert refused.value.status == 404
    with pytest.raises(ProblemError) as refused:
        visitor.edit_sheet(edit.id)
    assert refused.value.status == 404
    events = [row.action for row in client_of(people.owner).trail(release.id)]
    assert "release:edit" in events


def test_a_fourth_edit_at_once_is_refused(visitor: KaimaClient, release: Release) -> None:
    while len(list(visitor.edits(release.id))) < editing.MOST_AT_ONCE:
        visitor.request_edit(release.id, vary="exposure")
    with pytest.raises(ProblemError, match="the limit is 3") as refused:
        visitor.request_edit(release.id, vary="exposure")
    assert refused.value.status == 429


@pytest.mark.parametrize(
    "asked",
    [{"vary": "colour"}, {"vary": "label", "steps": 1}, {"vary": "label", "images": 10_000}],
)
def test_odd_requests_are_refused_by_field(
    visitor: KaimaClient, release: Release, asked: dict[str, object]
) -> None:
    response = visitor._connection.http.post(f"/v1/releases/{release.id}/edits", json=asked)
    assert response.status_code == 422


def test_without_the_terms_the_button_says_why(
    page_of: Callable[[Actor | None], FlaskClient], people: Walk, release: Release
) -> None:
    page = page_of(people.owner).get(f"/releases/{release.id}/edits").get_data(as_text=True)
    assert "you have not accepted the terms" in page
    assert 'aria-disabled="true"' in page


def test_the_page_shows_what_became_of_an_edit(
    page_of: Callable[[Actor | None], FlaskClient], people: Walk, release: Release
) -> None:
    with people.application.uow(read_only=True) as uow:
        job = editing.list_edits(uow, people.collaborator, release_id=release.id).items[0]
    assert job.kind is JobKind.EDIT
    assert job.state is JobState.QUEUED
    page = page_of(people.collaborator).get(f"/edits/{job.id}").get_data(as_text=True)
    assert "Waiting for a worker" in page
    assert page_of(people.owner).get(f"/edits/{job.id}").status_code == 404
