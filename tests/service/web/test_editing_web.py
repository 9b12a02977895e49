"""Edits of a release over HTTP: for whoever may download it, and theirs alone."""

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from service.client import KaimaClient, ProblemError
from service.domain.accounts import Actor
from service.domain.errors import InputRefused
from service.domain.jobs import Job, JobKind, JobState
from service.domain.releases import Release, ReleaseState
from service.operations import downloads, editing, editing_models
from service.store.objects import Bucket
from tests.factories import Walk
from tests.service.web.test_pages import form_token


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


@pytest.fixture
def fresh(people: Walk) -> Release:
    """Return a release of a collaborator whose earlier edits have ended."""
    found = people.release(ReleaseState.PUBLISHED)
    with people.application.uow() as uow:
        downloads.accept_terms(uow, people.collaborator, release_id=found.id)
        for job in uow.session.execute(sa.select(Job)).scalars():
            if job.kind is JobKind.EDIT and job.state is JobState.QUEUED:
                job.move_to(JobState.CANCELLED)
        uow.without_trail("room for other edits")
    return found


def test_a_model_is_its_senders_alone_and_needed_by_a_stress_test(
    visitor: KaimaClient,
    client_of: Callable[[Actor], KaimaClient],
    people: Walk,
    fresh: Release,
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    model = visitor.upload_model(fresh.id, path)
    asked = {"form": "stress_test", "vary": "exposure", "model": model}
    with people.application.uow() as uow:
        downloads.accept_terms(uow, people.owner, release_id=fresh.id)
    with pytest.raises(ProblemError, match="of yours was found") as refused:
        client_of(people.owner).request_edit(fresh.id, **asked)
    assert refused.value.status == 404
    assert visitor.request_edit(fresh.id, **asked).asked.model == model
    without = visitor._connection.http.post(
        f"/v1/releases/{fresh.id}/edits", json={"form": "stress_test", "vary": "label"}
    )
    assert without.status_code == 422
    assert "needs a model" in without.text


def test_a_model_that_is_too_large_or_empty_is_refused_and_not_kept(
    people: Walk, fresh: Release
) -> None:
    half = 1 << 26
    with people.application.uow(read_only=True) as uow:
        kept = list(uow.objects.list_keys(Bucket.WORK, "models/"))
        with pytest.raises(InputRefused, match="larger than 128 MiB"):
            editing_models.put_model(
                uow, people.collaborator, release_id=fresh.id, chunks=[bytes(half)] * 2 + [b"1"]
            )
        with pytest.raises(InputRefused, match="empty"):
            editing_models.put_model(uow, people.collaborator, release_id=fresh.id, chunks=[])
        assert list(uow.objects.list_keys(Bucket.WORK, "models/")) == kept


def test_the_form_takes_a_model_along(
    page_of: Callable[[Actor | None], FlaskClient], people: Walk, fresh: Release
) -> None:
    browser = page_of(people.collaborator)
    address = f"/releases/{fresh.id}/edits"
    typed = {"csrf": form_token(browser.get(address)), "form": "stress_test", "vary": "exposure"}
    refused = browser.post(address, data=typed)
    assert refused.status_code == 422
    assert "choose the classifier" in refused.get_data(as_text=True)
    large = io.BytesIO(bytes(3 << 20))  # more than any other form may hold
    sent = browser.post(address, data={**typed, "white": "255", "model": (large, "my.onnx")})
    assert sent.status_code == 303
    with people.application.uow(read_only=True) as uow:
        job = editing.list_edits(uow, people.collaborator, release_id=fresh.id).items[0]
        key = editing_models.model_key(people.collaborator.user_id, job.payload["asked"]["model"])
        assert uow.objects.head(Bucket.WORK, key).size == 3 << 20
    assert job.payload["asked"]["white"] == 255


def test_whoever_is_not_signed_in_may_send_no_large_form(
    page_of: Callable[[Actor | None], FlaskClient], fresh: Release
) -> None:
    large = (io.BytesIO(bytes(3 << 20)), "my.onnx")
    address = f"/releases/{fresh.id}/edits"
    assert page_of(None).post(address, data={"csrf": "x", "model": large}).status_code == 413


def test_models_that_nobody_came_back_for_are_swept(people: Walk, fresh: Release) -> None:
    with people.application.uow(read_only=True) as uow:
        model = editing_models.put_model(
            uow, people.collaborator, release_id=fresh.id, chunks=[b"a model"]
        )
        key = editing_models.model_key(people.collaborator.user_id, model)
        assert editing_models.sweep_models(uow) == 0
        later = uow.now() + timedelta(hours=editing_models.KEPT_HOURS + 1)
        uow.now = lambda: later  # type: ignore[method-assign]
        assert editing_models.sweep_models(uow) >= 1
        assert not uow.objects.exists(Bucket.WORK, key)
