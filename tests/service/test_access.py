"""Who may have a release: requests, grants, agreements, and a download that checks it all again."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest

from service.domain.access import AccessMode, AccessRequest, RequestState
from service.domain.access_fields import RequestField, check_answers, check_fields
from service.domain.accounts import BOOTSTRAP, Actor, Role, User
from service.domain.errors import (
    Conflict,
    DomainError,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
)
from service.domain.releases import Release, ReleaseState
from service.domain.reviews import Conditions
from service.domain.trail import TrailEvent
from service.operations import (
    access,
    access_policies,
    accounts,
    agreements,
    downloads,
    releases,
)
from service.operations.notifying import list_notifications
from service.store.unit_of_work import utc_now
from service.wiring import Application
from tests.components import ObjectStoreServer
from tests.databases import fresh_database
from tests.factories import (
    Walk,
    copied_clock,
    running_application,
)

ANSWERS = {"purpose": "Teaching radiographers."}


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def application(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    object_store: ObjectStoreServer,
) -> Iterator[Application]:
    """Yield one application of each database: nothing here depends on a fresh one."""
    folder = tmp_path_factory.mktemp("access")
    with (
        fresh_database(request.param, request) as url,
        running_application(folder, object_store, database_url=url) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def walk(application: Application) -> Walk:
    return Walk(application)


@pytest.fixture(scope="module")
def others(application: Application) -> Walk:
    return Walk(application)


@pytest.fixture(scope="module")
def audit(walk: Walk) -> object:
    """Return one audited set of samples that every release here is of."""
    return walk.audited(walk.version(walk.dataset()))


@pytest.fixture
def gated(walk: Walk, audit: object) -> Release:
    """Return a published release that is given on request, without an agreement."""
    release = walk.release(ReleaseState.PUBLISHED, audit=audit)
    choose(walk, release)
    return release


def choose(walk: Walk, release: Release, **options: object) -> None:
    with walk.application.uow() as uow:
        access_policies.set_access_policy(
            uow, walk.owner, release_id=release.id, mode=AccessMode.BY_REQUEST, **options
        )


def asked(walk: Walk, release: Release, who: Actor, **options: object) -> AccessRequest:
    with walk.application.uow() as uow:
        return access.request_access(
            uow, who, release_id=release.id, **{"answers": ANSWERS, **options}
        )


def granted(walk: Walk, release: Release, who: Actor, **options: object) -> AccessRequest:
    request = asked(walk, release, who)
    with walk.application.uow() as uow:
        downloads.accept_terms(uow, who, release_id=release.id)
    with walk.application.uow() as uow:
        return access.approve_access(uow, walk.owner, request_id=request.id, **options)


def accepted(walk: Walk, release: Release, who: Actor) -> Actor:
    with walk.application.uow() as uow:
        downloads.accept_terms(uow, who, release_id=release.id)
    return who


def link(walk: Walk, release: Release, who: Actor) -> downloads.DownloadTicket:
    with walk.application.uow() as uow:
        return downloads.create_download(uow, who, release_id=release.id)


def refused(kind: type[DomainError], what: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        what()
    return caught.value.sentence


def test_a_request_that_is_approved_opens_the_download_and_both_sides_are_told(
    walk: Walk, others: Walk, gated: Release
) -> None:
    who = others.collaborator
    with walk.application.uow() as uow:
        downloads.accept_terms(uow, who, release_id=gated.id)
    assert "on request" in refused(PermissionDenied, lambda: link(walk, gated, who))
    request = asked(walk, gated, who)
    assert "not decided yet" in refused(PermissionDenied, lambda: link(walk, gated, who))
    with walk.application.uow() as uow:
        access.approve_access(uow, walk.owner, request_id=request.id, days=7)
    ticket = link(walk, gated, who)
    assert hashlib.sha256(httpx.get(ticket.url).content).hexdigest() == ticket.sha256
    with walk.application.uow(read_only=True) as uow:
        told = list_notifications(uow, who).items[0]
        heard = list_notifications(uow, walk.owner).items[0]
        logged = downloads.list_downloads(uow, walk.owner, release_id=gated.id).items
    assert told.kind == "access.granted"
    assert heard.kind == "access.requested"
    assert [(row.user_id, row.grant_id) for row in logged] == [(who.user_id, request.id)]


def test_a_rest_of_an_interrupted_download_is_fetched_by_range(
    walk: Walk, others: Walk, gated: Release
) -> None:
    granted(walk, gated, others.collaborator)
    ticket = link(walk, gated, others.collaborator)
    rest = httpx.get(ticket.url, headers={"Range": "bytes=60-"})
    assert (rest.status_code, len(rest.content)) == (206, ticket.size - 60)


def test_an_expired_grant_hands_out_nothing_and_is_ended_by_the_reaper(
    walk: Walk, others: Walk, gated: Release
) -> None:
    grant = granted(walk, gated, others.collaborator, days=3)
    later = copied_clock(walk.application, lambda: utc_now() + timedelta(days=3, seconds=1))
    with later.uow(read_only=True) as uow, pytest.raises(PermissionDenied, match="expired on"):
        downloads.create_download(uow, others.collaborator, release_id=gated.id)
    with later.uow() as uow:
        assert access.expire_grants(uow) >= 1
    with walk.application.uow(read_only=True) as uow:
        found = uow.get(AccessRequest, grant.id)
        assert found is not None
        assert (found.state, found.slot) == (RequestState.EXPIRED, None)


def test_a_link_never_outlives_its_grant(walk: Walk, others: Walk, gated: Release) -> None:
    grant = granted(walk, gated, others.collaborator, days=1)
    assert grant.expires_at is not None
    nearly = grant.expires_at - timedelta(seconds=30)
    with copied_clock(walk.application, lambda: nearly).uow() as uow:
        ticket = downloads.create_download(uow, others.collaborator, release_id=gated.id)
    assert ticket.expires_at <= grant.expires_at


def test_a_revoked_grant_hands_out_nothing(walk: Walk, others: Walk, gated: Release) -> None:
    grant = granted(walk, gated, others.collaborator)
    with walk.application.uow() as uow:
        access.revoke_access(uow, walk.owner, request_id=grant.id, reason="Misused.")
    sentence = refused(PermissionDenied, lambda: link(walk, gated, others.collaborator))
    assert "revoked: Misused." in sentence


def test_a_link_from_before_the_release_was_revoked_leads_nowhere(
    walk: Walk, others: Walk, gated: Release
) -> None:
    granted(walk, gated, others.collaborator)
    ticket = link(walk, gated, others.collaborator)
    assert httpx.get(ticket.url).status_code == 200
    walk.withheld(gated, "revoke")
    assert httpx.get(ticket.url).status_code in {403, 404}
    assert "revoked" in refused(IllegalTransition, lambda: link(walk, gated, others.collaborator))


def test_a_disabled_user_gets_no_link_even_within_a_request_that_began_before(
    walk: Walk, gated: Release
) -> None:
    with walk.application.uow() as uow:
        made = accounts.create_user(
            uow,
            BOOTSTRAP,
            tenant_id=walk.tenant_id,
            name=f"leaver of {gated.id}",
            roles=[Role.COLLABORATOR],
        )
        uow.session.flush()
        leaver = accounts.load_actor(uow, user_id=made.id)
    granted(walk, gated, leaver)
    with walk.application.uow() as uow:
        uow.without_trail("as an operator disables an account")
        user = uow.get(User, leaver.user_id)
        assert user is not None
        user.disabled_at = uow.now()
    assert "disabled" in refused(PermissionDenied, lambda: link(walk, gated, leaver))


def test_a_new_version_of_the_agreement_asks_again(
    walk: Walk, others: Walk, gated: Release
) -> None:
    who = others.collaborator
    with walk.application.uow() as uow:
        made = agreements.create_agreement(
            uow, walk.owner, name=f"Use of {gated.id}", text="Do not identify anybody."
        )
    choose(walk, gated, agreement_id=made.agreement.id)
    assert "needs an agreement" in refused(InputRefused, lambda: asked(walk, gated, who))
    first = made.current
    assert first is not None
    wrong = {"agreement_number": 1, "agreement_sha256": "0" * 64}
    assert "another version" in refused(Conflict, lambda: asked(walk, gated, who, **wrong))
    request = asked(walk, gated, who, agreement_number=first.number, agreement_sha256=first.sha256)
    with walk.application.uow() as uow:
        downloads.accept_terms(uow, who, release_id=gated.id)
    with walk.application.uow() as uow:
        access.approve_access(uow, walk.owner, request_id=request.id)
    link(walk, gated, who)
    with walk.application.uow() as uow:
        view = agreements.add_agreement_version(
            uow, walk.owner, agreement_id=made.agreement.id, text="Nor share it with anybody."
        )
    second = view.versions[-1]
    assert "version 2" in refused(PermissionDenied, lambda: link(walk, gated, who))
    with walk.application.uow() as uow:
        agreements.accept_agreement(
            uow, who, agreement_id=made.agreement.id, number=2, sha256=second.sha256
        )
    assert link(walk, gated, who).sha256 == gated.bundle_sha256


def test_a_version_that_rules_from_tomorrow_changes_nothing_today(walk: Walk) -> None:
    tomorrow = utc_now() + timedelta(days=1)
    with walk.application.uow() as uow:
        made = agreements.create_agreement(uow, walk.owner, name="Later", text="Today's text.")
        view = agreements.add_agreement_version(
            uow,
            walk.owner,
            agreement_id=made.agreement.id,
            text="Tomorrow's text.",
            effective_from=tomorrow,
        )
    assert view.current is not None
    assert view.current.text == "Today's text."


def test_of_two_who_decide_at_once_one_is_told_that_the_other_came_first(
    walk: Walk, others: Walk, gated: Release
) -> None:
    request = asked(walk, gated, others.collaborator)
    together = threading.Barrier(2)

    def decide(days: int) -> str:
        together.wait()
        try:
            with walk.application.uow() as uow:
                access.approve_access(uow, walk.owner, request_id=request.id, days=days)
        except (Conflict, IllegalTransition):
            return "refused"
        return "approved"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(decide, [7, 30])) == ["approved", "refused"]


def test_of_two_requests_at_once_one_is_kept(walk: Walk, others: Walk, gated: Release) -> None:
    together = threading.Barrier(2)

    def ask(_: int) -> str:
        together.wait()
        try:
            asked(walk, gated, others.collaborator)
        except Conflict:
            return "refused"
        return "open"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(ask, range(2))) == ["open", "refused"]


def test_nobody_decides_on_their_own_request(walk: Walk, gated: Release) -> None:
    request = asked(walk, gated, walk.collaborator)
    promoted = Actor(
        walk.collaborator.user_id,
        walk.tenant_id,
        frozenset({Role.COLLABORATOR, Role.DATA_OWNER}),
    )
    with walk.application.uow() as uow, pytest.raises(PermissionDenied, match="made it yourself"):
        access.approve_access(uow, promoted, request_id=request.id)


def test_a_request_of_somebody_else_does_not_exist(
    walk: Walk, others: Walk, gated: Release
) -> None:
    request = asked(walk, gated, walk.collaborator)
    for actor in (others.owner, others.collaborator, walk.auditors[0], others.operator):
        with walk.application.uow(read_only=True) as uow, pytest.raises(NotFound):
            access.get_access_request(uow, actor, request_id=request.id)
    with walk.application.uow() as uow, pytest.raises(NotFound):
        access.approve_access(uow, others.owner, request_id=request.id)


def test_a_renewal_takes_the_place_of_the_grant_and_comes_not_too_early(
    walk: Walk, others: Walk, gated: Release
) -> None:
    who = others.collaborator
    first = granted(walk, gated, who, days=100)
    assert "can be renewed from" in refused(Conflict, lambda: asked(walk, gated, who))
    late = copied_clock(walk.application, lambda: utc_now() + timedelta(days=90))
    with late.uow() as uow:
        second = access.request_access(uow, who, release_id=gated.id, answers=ANSWERS)
    assert second.renews_id == first.id
    with late.uow() as uow:
        access.approve_access(uow, walk.owner, request_id=second.id, days=100)
    with late.uow(read_only=True) as uow:
        states = [uow.get(AccessRequest, found.id).state.value for found in (first, second)]  # type: ignore[union-attr]
    assert states == ["expired", "approved"]


def test_an_open_release_is_not_asked_for_and_insiders_need_no_grant(
    walk: Walk, others: Walk, gated: Release, audit: object
) -> None:
    insider = refused(Conflict, lambda: asked(walk, gated, walk.auditors[0]))
    assert "need no grant" in insider
    with walk.application.uow() as uow:
        access_policies.set_access_policy(
            uow, walk.owner, release_id=gated.id, mode=AccessMode.OPEN
        )
    assert "open to everybody" in refused(Conflict, lambda: asked(walk, gated, others.collaborator))


def opened(walk: Walk, release: Release) -> None:
    with walk.application.uow() as uow:
        access_policies.set_access_policy(
            uow, walk.owner, release_id=release.id, mode=AccessMode.OPEN
        )


def test_a_release_that_conditions_narrowed_to_the_enclave_is_given_on_request_only(
    walk: Walk, others: Walk, audit: object
) -> None:
    who = others.collaborator
    release = walk.release(ReleaseState.SUBMITTED, audit=audit)
    opened(walk, release)  # the tier allows it still
    walk.voted(release, walk.auditors[0], conditions=Conditions(max_tier="enclave"))
    release = walk.published(walk.voted(release, walk.auditors[1]))
    assert release.tier == "enclave"
    accepted(walk, release, who)
    assert "on request" in refused(PermissionDenied, lambda: link(walk, release, who))
    assert "tier is enclave" in refused(Conflict, lambda: opened(walk, release))
    granted(walk, release, who)
    assert link(walk, release, who).sha256 == release.bundle_sha256


def test_a_release_planned_for_the_enclave_is_given_on_request_without_a_choice(
    walk: Walk, others: Walk
) -> None:
    version = walk.version(walk.dataset(), persons=("e1", "e2"))
    planned = walk.audited(version, verdict="INCONCLUSIVE", tier="enclave")
    release = walk.release(ReleaseState.PUBLISHED, audit=planned)
    with walk.application.uow(read_only=True) as uow:
        found = access_policies.get_access_policy(uow, others.collaborator, release_id=release.id)
    assert found.mode is AccessMode.BY_REQUEST
    assert "on request" in refused(
        PermissionDenied, lambda: link(walk, release, accepted(walk, release, others.collaborator))
    )


def test_opening_what_was_given_on_request_is_told_to_those_who_voted_for_it(
    walk: Walk, gated: Release
) -> None:
    opened(walk, gated)
    opened(walk, gated)
    with walk.application.uow(read_only=True) as uow:
        for auditor, times in zip(walk.auditors, (1, 1, 0), strict=True):
            found = list_notifications(uow, auditor, limit=100).items
            told = [one for one in found if one.link == f"/releases/{gated.id}"]
            assert [one.kind for one in told].count("access.opened") == times
        (last, first, _) = [
            row["body"]["details"]
            for row in releases.list_trail(uow, walk.owner, release_id=gated.id, limit=200)[::-1]
            if row["body"]["event"] == TrailEvent.ACCESS_SET_POLICY
        ]
    assert (first["before"], first["mode"], last["before"]) == ("by_request", "open", "open")


@pytest.mark.parametrize(
    ("kind", "options", "good", "bad"),
    [
        ("text", {}, "Teaching", ""),
        ("text", {}, "Teaching", "x" * 2001),
        ("choice", {"choices": ("a", "b")}, "a", "c"),
        ("checkbox", {}, True, False),
        ("date", {}, "2027-01-31", "31.1.2027"),
        ("country", {}, "DE", "Germany"),
    ],
)
def test_an_answer_is_held_against_its_question(
    kind: str, options: dict[str, object], good: object, bad: object
) -> None:
    fields = check_fields([RequestField(name="q", label="Question?", kind=kind, **options)])
    assert check_answers(fields, {"q": good}) == {"q": good}
    with pytest.raises(InputRefused) as caught:
        check_answers(fields, {"q": bad, "other": "x"})
    assert {entry["field"] for entry in caught.value.extensions["errors"]} == {"q", "other"}  # type: ignore[attr-defined]
