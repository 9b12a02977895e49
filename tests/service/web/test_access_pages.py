"""Pages and endpoints of access: ask, decide, download, what is refused, what is searched."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from service.app import create_app
from service.cli import kaima
from service.client import KaimaClient, ProblemError
from service.domain.access import AccessMode
from service.domain.access_fields import RequestField
from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.domain.declarations import ReleaseDeclaration
from service.domain.jobs import Job
from service.domain.releases import Release, ReleaseState
from service.domain.reviews import Conditions
from service.operations import access_policies, accounts, agreements, catalogue_search, downloads
from service.operations.catalogue_search import Filters, Order
from service.spreadsheets import to_csv
from service.store.objects import Bucket
from service.wiring import Application
from tests.factories import Walk

PageOf = Callable[[Actor], FlaskClient]
ClientOf = Callable[[Actor], KaimaClient]
FIELDS = [
    RequestField(name="purpose", label="What for?"),
    RequestField(name="country", label="Where?", kind="country"),
    RequestField(name="alone", label="You will not pass it on.", kind="checkbox"),
]
GOOD = {"answer.purpose": "Teaching", "answer.country": "DE", "answer.alone": "yes"}


@pytest.fixture(scope="module")
def audit(people: Walk) -> Job:
    """Return one audited set of samples that every release here is of."""
    return people.audited(people.version(people.dataset()))


@pytest.fixture(scope="module")
def gated(people: Walk, audit: Job) -> Release:
    """Return a published release that is given on request, under an agreement."""
    release = people.release(ReleaseState.PUBLISHED, audit=audit)
    with people.application.uow() as uow:
        made = agreements.create_agreement(
            uow, people.owner, name="Use of data", text="Do not identify anybody."
        )
    with people.application.uow() as uow:
        access_policies.set_access_policy(
            uow,
            people.owner,
            release_id=release.id,
            mode=AccessMode.BY_REQUEST,
            fields=FIELDS,
            agreement_id=made.agreement.id,
            grant_days=30,
        )
    return release


@pytest.fixture
def command(
    web_application: Application,
    token_of: Callable[[Actor], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Any]]:
    """Yield what runs one `kaima --json` command as an actor and returns its document."""
    server = make_server("127.0.0.1", 0, create_app(web_application), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("KAIMA_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("KAIMA_CONFIG", str(tmp_path / "config"))

    def run(actor: Actor, *words: str) -> Any:
        monkeypatch.setenv("KAIMA_API_KEY", token_of(actor))
        done = CliRunner().invoke(kaima, ["--json", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        # The server of this process writes its log to the same stream, before the answer.
        lines = done.output.splitlines()
        start = next(n for n, line in enumerate(lines) if line.startswith(("{", "[")))
        return json.loads("\n".join(lines[start:]))

    yield run
    server.shutdown()
    thread.join(10)
    server.server_close()


def text_of(page: FlaskClient, path: str, *, status: int = 200) -> str:
    answer = page.get(path)
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


def sent(page: FlaskClient, path: str, **fields: str | list[str]) -> tuple[int, str, str]:
    answer = page.post(path, data={"csrf": "right", **fields})
    text = answer.get_data(as_text=True)
    return answer.status_code, answer.headers.get("Location", ""), text


def agreed(people: Walk, gated: Release, who: Actor) -> dict[str, str]:
    with people.application.uow(read_only=True) as uow:
        policy = access_policies.policy_of(uow, gated)
        view = agreements.get_agreement(uow, who, agreement_id=str(policy.agreement_id))
    assert view.current is not None
    return {
        "agreement": "yes",
        "agreement_number": str(view.current.number),
        "agreement_sha256": view.current.sha256,
    }


def test_a_collaborator_asks_on_the_page_is_granted_and_downloads_through_the_service(
    people: Walk, others: Walk, gated: Release, page_of: PageOf
) -> None:
    theirs, ours = page_of(others.collaborator), page_of(people.owner)
    here = f"/releases/{gated.id}"
    assert "this release is given on request only" in text_of(theirs, here)
    assert theirs.get(f"{here}/bundle").status_code == 403
    form = text_of(theirs, f"{here}/access")
    assert "Do not identify anybody." in form
    status, _, again = sent(theirs, f"{here}/access", **{"answer.purpose": "Teaching"})
    assert status == 422
    assert "Choose a country" in again or "This must be answered." in again
    assert "This must be confirmed." in again
    assert ">Teaching</textarea>" in again
    filled = GOOD | agreed(people, gated, others.collaborator)
    status, request, _ = sent(theirs, f"{here}/access", **filled)
    assert status == 303
    assert "waits for a decision" in text_of(theirs, here)
    incoming = text_of(ours, "/access/requests")
    assert others.collaborator.name in incoming
    shown = text_of(ours, request)
    assert "Germany" in shown
    assert sent(theirs, f"{request}/approve", days="3")[0] == 403
    assert sent(ours, f"{request}/approve", days="3", reason="Fine.")[0] == 303
    assert "granted" in text_of(theirs, request)
    digest = downloads.terms_digest(people.current(gated))
    assert sent(theirs, f"{here}/terms", terms_digest=digest)[0] == 303
    answer = theirs.get(f"{here}/bundle")
    assert answer.status_code == 302
    assert httpx.get(answer.headers["Location"]).status_code == 200
    log = text_of(ours, f"{here}/downloads")
    assert others.collaborator.user_id in log
    stale = {"if_match": '"1"', "reason": "Misused."}
    assert sent(ours, f"{request}/revoke", **stale)[0] == 412
    assert sent(ours, f"{request}/revoke", reason="Misused.")[0] == 303
    assert "revoked: Misused." in text_of(theirs, here)
    assert theirs.get(f"{here}/bundle").status_code == 403


def test_what_is_not_theirs_does_not_exist_on_any_page_of_access(
    people: Walk, audit: Job, others: Walk, gated: Release, page_of: PageOf, client_of: ClientOf
) -> None:
    with client_of(people.collaborator) as client:
        policy = client.access_policy(gated.id)
        text = client.agreement(str(policy.agreement_id)).current
        assert text is not None
        made = client.request_access(
            gated.id,
            answers={"purpose": "x", "country": "DE", "alone": True},
            agreement_number=text.number,
            agreement_sha256=text.sha256,
        )
        assert [found.id for found in client.access_requests()] == [made.id]
    foreign = page_of(others.owner)
    draft = people.release(audit=audit)
    for path in (
        f"/access/{made.id}",
        f"/releases/{draft.id}/access",
        f"/releases/{draft.id}/downloads",
        f"/releases/{draft.id}/declaration",
        f"/releases/{draft.id}/preview.png",
        "/agreements/agr_none",
    ):
        assert foreign.get(path).status_code == 404, path
    for path in ("access/policy", "downloads", "downloads.csv", "declaration"):
        assert foreign.get(f"/releases/{gated.id}/{path}").status_code == 403, path
        assert page_of(people.collaborator).get(f"/releases/{gated.id}/{path}").status_code == 403
    with client_of(others.owner) as client, pytest.raises(ProblemError) as caught:
        client.approve_access(made.id)
    assert caught.value.status == 404
    with client_of(people.collaborator) as client:
        assert client.withdraw_access_request(made.id).state == "withdrawn"


def test_pictures_of_a_release_that_is_lent_are_shown_to_whoever_may_have_it(
    people: Walk, audit: Job, others: Walk, gated: Release, page_of: PageOf
) -> None:
    free = people.release(ReleaseState.PUBLISHED, audit=audit)
    with people.application.uow() as uow:
        uow.without_trail("the test draws what packaging draws")
        for release in (gated, free):
            found = uow.get(Release, release.id)
            assert found is not None
            found.preview_key = f"candidate/{release.id}/preview.png"
            uow.objects.put_bytes(Bucket.WORK, found.preview_key, body=b"PNG")
    asked = {
        (who.user_id, release.id): page_of(who).get(f"/releases/{release.id}/preview.png")
        for who in (others.collaborator, others.operator, people.owner)
        for release in (gated, free)
    }
    for (who, release_id), answer in asked.items():
        is_theirs = who == people.owner.user_id or release_id == free.id
        assert answer.status_code == (200 if is_theirs else 404)
    here = text_of(page_of(others.collaborator), f"/releases/{gated.id}")
    assert "preview.png" not in here
    assert "its pictures are shown to whoever may download it" in here


def test_the_form_offers_no_opening_of_a_release_of_the_enclave_tier(
    people: Walk, audit: Job, page_of: PageOf
) -> None:
    release = people.release(ReleaseState.SUBMITTED, audit=audit)
    people.voted(release, people.auditors[0], conditions=Conditions(max_tier="enclave"))
    people.voted(release, people.auditors[1])
    form = f"/releases/{release.id}/access/policy"
    text = text_of(page_of(people.owner), form)
    assert 'value="open" disabled' in text
    assert "its tier is enclave" in text
    status, _, text = sent(page_of(people.owner), form, mode="open", grant_days="30")
    assert (status, "given on request only" in text) == (422, True)


def test_a_tombstone_says_what_holders_must_do_and_offers_no_download(
    people: Walk, audit: Job, others: Walk, page_of: PageOf
) -> None:
    release = people.release(ReleaseState.REVOKED, audit=audit)
    page = text_of(page_of(others.collaborator), f"/releases/{release.id}")
    assert "stop using it and delete it" in page
    assert "Asked by the hospital." in page
    assert f"/releases/{release.id}/bundle" not in page
    assert page_of(others.collaborator).get(f"/releases/{release.id}/bundle").status_code == 409


def test_a_declaration_is_shown_with_its_citation_and_refused_after_the_draft(
    people: Walk, audit: Job, others: Walk, page_of: PageOf, client_of: ClientOf
) -> None:
    draft, ours = people.release(audit=audit), page_of(people.owner)
    here = f"/releases/{draft.id}/declaration"
    wrong = {"licence": "CC-BY-4.0", "duo": "DUO:0000007", "if_match": draft.etag}
    status, _, page = sent(ours, here, **wrong)
    assert status == 422
    assert "refused without its detail" in page
    right = wrong | {"detail.DUO:0000007": "osteoarthritis", "authors": "A. One\nB. Two & Sons"}
    assert sent(ours, here, **right)[0] == 303
    shown = text_of(ours, f"/releases/{draft.id}")
    assert "Any use, also commercial, if the source is named." in shown
    assert "osteoarthritis" in shown
    assert "B. Two \\&amp; Sons" in shown
    with client_of(people.owner) as client:
        assert client.declaration(draft.id).declared.authors == ("A. One", "B. Two & Sons")
        chosen = right | {"formats": ["dicom", "parquet"], "if_match": people.current(draft).etag}
        assert sent(ours, here, **chosen)[0] == 303
        assert client.declaration(draft.id).declared.formats == ("dicom", "parquet")
    form = text_of(ours, here)
    assert 'value="dicom" checked' in form
    assert 'value="medmnist"> ' in form
    assert 'value="csv"' not in form
    people.submitted(people.current(draft))
    assert sent(ours, here, **right | {"if_match": people.current(draft).etag})[0] == 409


def test_no_cell_of_the_log_is_run_as_a_formula(
    people: Walk, audit: Job, page_of: PageOf, client_of: ClientOf
) -> None:
    assert to_csv(["a"], [["=1+1"], ["-1"], ["@x"], ["fine, too"]]).splitlines()[1:] == [
        "'=1+1",
        "'-1",
        "'@x",
        '"fine, too"',
    ]
    release = people.release(ReleaseState.PUBLISHED, audit=audit)
    with people.application.uow() as uow:
        name = '=HYPERLINK("http://x.test")'
        user = accounts.create_user(
            uow, BOOTSTRAP, tenant_id=people.tenant_id, name=name, roles=[Role.COLLABORATOR]
        )
        uow.session.flush()
        sly = accounts.load_actor(uow, user_id=user.id)
    with client_of(sly) as client:
        client.accept_terms(release.id)
        client.create_download(release.id)
    answer = page_of(people.owner).get(f"/releases/{release.id}/downloads.csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert [row["user"] for row in rows] == ["'" + name]


def test_the_catalogue_finds_by_each_filter_and_pages_without_gaps(
    people: Walk, audit: Job, others: Walk, page_of: PageOf
) -> None:
    made = [people.release(ReleaseState.PUBLISHED, audit=audit) for _ in range(3)]
    told = ReleaseDeclaration(
        title="Knees of giants", keywords=("gonarthrosis",), licence="ODbL-1.0", modality="CR",
        duo=("DUO:0000018",),
    )  # fmt: skip
    with people.application.uow() as uow:
        uow.without_trail("a certificate as a worker writes it")
        for number, release in enumerate(made):
            found = uow.get(Release, release.id)
            assert found is not None
            found.certificate = {**found.certificate, "epsilon": 0.25 + number}
            found.published_at = uow.now() + timedelta(seconds=number)
            found.declared = told.model_dump(mode="json") if number == 1 else {}
    with people.application.uow(read_only=True) as uow:

        def found_by(**options: object) -> list[str]:
            page = catalogue_search.search_catalogue(
                uow, others.collaborator, filters=Filters(**options)
            )
            return [row.release_id for row in page.items]

        for options in (
            {"text": "GIANTS gonarthrosis"},
            {"licence": "ODbL-1.0"},
            {"modality": "CR"},
            {"duo": "DUO:0000018"},
            {"epsilon_min": 1.2, "epsilon_max": 1.3},
        ):
            assert found_by(**options) == [made[1].id], options
        assert found_by(text="100%_nobody") == []
        assert set(found_by(tenant_id=people.tenant_id)) >= {release.id for release in made}
        assert found_by(tenant_id=others.tenant_id) == []
        for order in Order:
            seen, cursor = [], None
            while True:
                page = catalogue_search.search_catalogue(
                    uow,
                    others.collaborator,
                    filters=Filters(),
                    order=order,
                    cursor=cursor,
                    limit=2,
                )
                seen += [row.release_id for row in page.items]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert len(seen) == len(set(seen)) >= 3
            kept = [row for row in seen if row in {release.id for release in made}]
            newest = [release.id for release in reversed(made)]
            wanted = newest[::-1] if order is Order.EPSILON else newest
            if order is not Order.NAME:
                assert kept == wanted
    page = text_of(page_of(others.collaborator), "/releases?q=giants&min=1&max=2&sort=epsilon")
    assert "1 release found" in page
    assert "Knees of giants" in page
    assert "No release is like that." in text_of(
        page_of(others.collaborator), "/releases?q=nothing-like-it&min=nan"
    )


@pytest.mark.slow
def test_every_step_of_access_is_one_command(
    people: Walk, audit: Job, others: Walk, command: Callable[..., Any], tmp_path: Path
) -> None:
    owner, asker = people.owner, others.collaborator
    release = people.release(ReleaseState.PUBLISHED, audit=audit)
    text = tmp_path / "agreement.txt"
    text.write_text("Identify nobody.")
    agreement = command(owner, "agreement", "create", "By hand", "--text-file", str(text))["id"]
    questions = ["--field", "purpose:text:What for?", "--field", "kind:choice:Kind?:a|b"]
    chosen = ["access", "policy", release.id, "--mode", "by_request", "--agreement", agreement]
    assert command(owner, *chosen, *questions, "--days", "9")["grant_days"] == 9
    asked = command(asker, "access", "request", release.id)
    assert [field["name"] for field in asked] == ["purpose", "kind"]
    answers = ["--answer", "purpose=x", "--answer", "kind=b", "--accept-agreement"]
    first = command(asker, "access", "request", release.id, *answers)["id"]
    assert command(asker, "access", "withdraw", first)["state"] == "withdrawn"
    second = command(asker, "access", "request", release.id, *answers)["id"]
    waiting = ["access", "list", "--incoming", "--state", "submitted", "--release", release.id]
    assert [row["id"] for row in command(owner, *waiting)] == [second]
    assert command(owner, "access", "reject", second, "--reason", "Why?")["reason"] == "Why?"
    third = command(asker, "access", "request", release.id, *answers)["id"]
    assert command(owner, "access", "approve", third, "--days", "2")["state"] == "approved"
    text.write_text("Identify nobody, ever.")
    command(owner, "agreement", "new-version", agreement, "--text-file", str(text))
    accepted = command(asker, "agreement", "accept", agreement, "--number", "2")
    assert accepted["user_id"] == asker.user_id
    saved = ["download", release.id, "--accept-terms", "--folder", str(tmp_path)]
    assert Path(command(asker, *saved)["path"]).stat().st_size == release.bundle_bytes
    assert [row["grant_id"] for row in command(owner, "access", "log", release.id)] == [third]
    revoked = command(owner, "access", "revoke", third, "--reason", "Done.")
    assert (revoked["state"], command(asker, "access", "show", third)["end_reason"]) == (
        "revoked",
        "Done.",
    )
    found = command(asker, "access", "search", release.name, "--filter", "order=name")
    assert [row["release_id"] for row in found] == [release.id]
    assert "By hand" in [row["name"] for row in command(owner, "agreement", "list")]
    assert command(asker, "agreement", "show", agreement)["current"]["number"] == 2
    declared = command(asker, "access", "declare", release.id)
    assert declared["citation"].startswith("Hospital")
