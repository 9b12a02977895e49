"""Releases: frozen evidence, two blind auditors, publication, tombstones, downloads."""

import httpx
import pytest

from service.domain.accounts import Actor, Role
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from service.domain.jobs import Job
from service.domain.releases import Decision, Location, Release, ReleaseState
from service.operations import downloads, jobs, releases
from service.store.objects import Bucket
from tests.factories import Walk


def view(walk: Walk, actor: Actor, release: Release) -> releases.ReleaseView:
    """Return a release as somebody sees it."""
    with walk.application.uow(read_only=True) as uow:
        return releases.get_release(uow, actor, release_id=release.id)


@pytest.mark.parametrize("state", ReleaseState)
def test_every_state_is_reached_by_the_real_operations(walk: Walk, state: ReleaseState) -> None:
    assert walk.current(walk.release(state)).state is state


def test_submitting_freezes_the_evidence_and_the_position_of_the_ledger(walk: Walk) -> None:
    release = walk.release(ReleaseState.SUBMITTED)
    evidence = release.evidence
    assert (evidence["generator"], evidence["samples"], evidence["report"]) == (
        "1" * 64,
        "2" * 64,
        "3" * 64,
    )
    assert evidence["ledger"]["seq"] > 0
    assert evidence["policy"] == walk.application.policy.digest


def test_changed_evidence_voids_every_vote(walk: Walk) -> None:
    release = walk.release(ReleaseState.UNDER_REVIEW)
    with walk.application.uow() as uow:
        audit = jobs.load_job(uow, release.audit_job_id)
        audit.result = {**audit.result, "digest": "f" * 64}
        uow.without_trail("the test plays somebody who tampers")
    with pytest.raises(Conflict, match="every vote is void"):
        walk.voted(release, walk.auditors[1])
    now = walk.current(release)
    assert (now.state, now.round) == (ReleaseState.SUBMITTED, 2)
    assert now.evidence["report"] == "f" * 64
    walk.voted(now, walk.auditors[0])
    assert walk.voted(now, walk.auditors[1]).state is ReleaseState.APPROVED


def test_auditors_are_blind_to_each_other_until_both_have_voted(walk: Walk) -> None:
    release = walk.release(ReleaseState.UNDER_REVIEW)
    first, second, _ = walk.auditors
    assert len(view(walk, first, release).reviews) == 1
    for other in (second, walk.owner):
        seen = view(walk, other, release)
        assert (seen.reviews, seen.votes_cast) == ([], 1)
        with walk.application.uow(read_only=True) as uow:
            trail = releases.list_trail(uow, other, release_id=release.id)
        assert "release:review" not in [row["body"]["event"] for row in trail]
    walk.voted(release, second)
    assert len(view(walk, walk.owner, release).reviews) == 2


def test_one_auditor_has_one_vote(walk: Walk) -> None:
    release = walk.release(ReleaseState.UNDER_REVIEW)
    with pytest.raises(Conflict, match="voted already"):
        walk.voted(release, walk.auditors[0])


def test_whoever_trained_or_submitted_cannot_review(walk: Walk) -> None:
    release = walk.release(ReleaseState.SUBMITTED)
    both = Actor(walk.owner.user_id, walk.tenant_id, frozenset({Role.AUDITOR, Role.DATA_OWNER}))
    with pytest.raises(PermissionDenied):
        walk.voted(release, both)


def test_an_auditor_of_another_tenant_sees_no_candidate(walk: Walk) -> None:
    release = walk.release(ReleaseState.SUBMITTED)
    stranger = Walk(walk.application)
    with pytest.raises(NotFound):
        walk.voted(release, stranger.auditors[0])
    with pytest.raises(NotFound):
        view(walk, stranger.owner, release)


@pytest.mark.parametrize("verdict", ["FAIL", "INVALID"])
def test_a_failed_audit_can_never_be_approved(walk: Walk, verdict: str) -> None:
    release = walk.release(ReleaseState.SUBMITTED, verdict=verdict, tier="enclave")
    with pytest.raises(PermissionDenied, match=f"the audit verdict is {verdict}"):
        walk.voted(release, walk.auditors[0])
    walk.voted(release, walk.auditors[0], Decision.REJECT)
    assert walk.voted(release, walk.auditors[1], Decision.REJECT).state is ReleaseState.REJECTED


def test_an_inconclusive_audit_needs_the_enclave_and_two_reasons(walk: Walk) -> None:
    guarded = walk.release(ReleaseState.SUBMITTED, verdict="INCONCLUSIVE", tier="enclave")
    with pytest.raises(PermissionDenied, match="written reason"):
        walk.voted(guarded, walk.auditors[0], reason="")
    walk.voted(guarded, walk.auditors[0], reason="Few persons.")
    with pytest.raises(PermissionDenied, match="written reason"):
        walk.voted(guarded, walk.auditors[1], reason="")
    assert walk.voted(guarded, walk.auditors[1]).state is ReleaseState.APPROVED


@pytest.mark.parametrize(
    ("second", "state"),
    [(Decision.RETURN, ReleaseState.RETURNED), (Decision.REJECT, ReleaseState.REJECTED)],
)
def test_one_approval_is_not_enough(walk: Walk, second: Decision, state: ReleaseState) -> None:
    release = walk.release(ReleaseState.UNDER_REVIEW)
    assert walk.voted(release, walk.auditors[1], second).state is state


def test_a_returned_release_is_reviewed_anew_after_it_was_submitted_again(walk: Walk) -> None:
    release = walk.submitted(walk.current(walk.release(ReleaseState.RETURNED)))
    assert (release.round, release.state) == (2, ReleaseState.SUBMITTED)
    walk.voted(release, walk.auditors[0])
    assert walk.voted(release, walk.auditors[2]).state is ReleaseState.APPROVED


def test_a_write_needs_the_current_revision(walk: Walk) -> None:
    release = walk.release()
    with walk.application.uow() as uow:
        revised = releases.revise_release(
            uow, walk.owner, release_id=release.id, if_match=release.etag, terms="Other terms."
        )
    assert revised.revision == release.revision + 1
    for stale in (release.etag, None, '"99"'):
        with pytest.raises(PreconditionFailed), walk.application.uow() as uow:
            releases.submit_release(uow, walk.owner, release_id=release.id, if_match=stale)


def test_a_candidate_that_is_no_finished_audit_cannot_be_proposed(sqlite_walk: Walk) -> None:
    version = sqlite_walk.version(sqlite_walk.dataset())
    train = sqlite_walk.training(version)
    with pytest.raises(InputRefused, match="not a finished audit"):
        sqlite_walk.release(audit=train)


def test_publishing_needs_an_approval_and_happens_once(walk: Walk) -> None:
    release = walk.release(ReleaseState.UNDER_REVIEW)

    def publish() -> Job:
        now = walk.current(release)
        with walk.application.uow() as uow:
            return releases.publish_release(
                uow, walk.owner, release_id=release.id, if_match=now.etag
            )

    with pytest.raises(IllegalTransition, match="Two auditors must approve"):
        publish()
    walk.voted(release, walk.auditors[1])
    job = publish()
    with pytest.raises(Conflict, match="packaging it already"):
        publish()
    token = walk.claim(job)
    with walk.application.uow() as uow:
        jobs.fail_job(uow, job.id, token=token, problem={"type": "x", "detail": "y"})
    assert publish().id != job.id


def test_the_certificate_is_told_what_the_cohort_has_spent(walk: Walk) -> None:
    dataset = walk.dataset()
    version = walk.version(dataset)
    walk.audited(version)
    release = walk.release(ReleaseState.APPROVED, audit=walk.audited(version))
    with walk.application.uow() as uow:
        job = releases.publish_release(
            uow, walk.owner, release_id=release.id, if_match=release.etag
        )
    token = walk.claim(job)
    with walk.application.uow() as uow:
        facts = releases.publication_facts(uow, job.id, token=token)
    assert (facts.candidates_trained, facts.audits_attempted, facts.approvers_count) == (2, 2, 2)
    assert 1 < facts.cohort_epsilon <= 2


def test_a_collaborator_of_another_tenant_accepts_and_downloads(walk: Walk) -> None:
    release = walk.release(ReleaseState.PUBLISHED)
    stranger = Walk(walk.application)
    with (
        pytest.raises(PermissionDenied, match="accepted the terms"),
        walk.application.uow() as uow,
    ):
        downloads.create_download(uow, stranger.collaborator, release_id=release.id)
    ticket = stranger.downloaded(release)
    assert len(httpx.get(ticket.url).content) == ticket.size
    seen = view(walk, stranger.collaborator, release)
    assert (seen.is_insider, seen.reviews, seen.has_accepted) == (False, [], True)
    with walk.application.uow(read_only=True) as uow:
        listed = releases.list_releases(uow, stranger.collaborator)
        trail = releases.list_trail(uow, stranger.collaborator, release_id=release.id)
    assert [item.id for item in listed.items] == [release.id]
    assert {row["body"]["event"] for row in trail} == {"release:publish"}


def test_a_withheld_release_cannot_be_downloaded_not_even_by_an_old_url(walk: Walk) -> None:
    release = walk.release(ReleaseState.PUBLISHED)
    ticket = walk.downloaded(release)
    suspended = walk.withheld(release, "suspend")
    assert suspended.tombstone is not None
    assert suspended.tombstone["reason"] == "Asked by the hospital."
    assert httpx.get(ticket.url).status_code == httpx.codes.NOT_FOUND
    with pytest.raises(IllegalTransition), walk.application.uow() as uow:
        downloads.create_download(uow, walk.collaborator, release_id=release.id)
    assert view(walk, walk.collaborator, release).release.state is ReleaseState.SUSPENDED
    walk.withheld(release, "reinstate")
    assert httpx.get(walk.downloaded(release).url).status_code == httpx.codes.OK
    walk.withheld(release, "revoke")
    with pytest.raises(IllegalTransition):
        walk.withheld(release, "reinstate")


def test_an_interrupted_move_is_finished_by_the_reaper(walk: Walk) -> None:
    release = walk.release(ReleaseState.PUBLISHED)
    with walk.application.uow() as uow:
        found = uow.get(Release, release.id)
        assert found is not None
        found.move_to(ReleaseState.REVOKED)
        uow.without_trail("the test plays a crash between commit and move")
    with walk.application.uow() as uow:
        assert jobs.reap(uow).settled_bundles == 1
    objects = walk.application.objects
    assert not objects.exists(Bucket.RELEASED, str(release.bundle_key))
    assert objects.exists(Bucket.QUARANTINE, str(release.bundle_key))
    assert walk.current(release).location is Location.QUARANTINE


def test_drafts_are_in_no_catalogue(walk: Walk) -> None:
    walk.release(ReleaseState.APPROVED)
    with walk.application.uow(read_only=True) as uow:
        assert releases.list_releases(uow, walk.collaborator).items == []
        assert len(releases.list_releases(uow, walk.owner, catalogue=False).items) == 1
