"""Releases: frozen evidence, two blind auditors, publication, tombstones, downloads."""

import httpx
import pytest

from service.api import views
from service.domain.accounts import Actor, Role
from service.domain.datasets import DatasetVersion
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    LeaseLost,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from service.domain.jobs import Job
from service.domain.releases import Decision, Location, Release, ReleaseState, Review
from service.operations import downloads, jobs, releases, reviewing
from service.store import journal
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
    with walk.application.uow() as uow:
        found = uow.get(Release, release.id)
        assert found is not None
        found.declared = {"licence": "CC0-1.0"}
        uow.without_trail("the test plays somebody who tampers")
    with pytest.raises(Conflict, match="every vote is void"):
        walk.voted(now, walk.auditors[0])
    now = walk.current(release)
    walk.voted(now, walk.auditors[0])
    assert walk.voted(now, walk.auditors[1]).state is ReleaseState.APPROVED


def test_auditors_are_blind_to_each_other_until_both_have_voted(walk: Walk) -> None:
    release = walk.release(ReleaseState.UNDER_REVIEW)
    first, second, _ = walk.auditors
    assert len(view(walk, first, release).reviews) == 1
    for other in (second, walk.owner):
        seen = view(walk, other, release)
        assert (seen.reviews, seen.votes_cast) == ([], 0)
        with walk.application.uow(read_only=True) as uow:
            trail = releases.list_trail(uow, other, release_id=release.id)
        assert "release:review" not in [row["body"]["event"] for row in trail]
    walk.voted(release, second)
    assert len(view(walk, walk.owner, release).reviews) == 2


def test_a_vote_is_hidden_in_the_journal_until_both_are_in(walk: Walk) -> None:
    release = walk.release(ReleaseState.SUBMITTED)
    walk.voted(release, walk.auditors[0], Decision.REJECT, reason="A ghost in the third row.")
    told = journal_of(walk, release)
    assert "ghost" not in told
    assert "reject" not in told
    walk.voted(release, walk.auditors[1])
    with walk.application.uow(read_only=True) as uow:
        rows = [row.document["body"] for row in journal.read_rows(uow.session, subject=release.id)]
        votes = uow.session.query(Review).filter_by(release_id=release.id).all()
        opened = {vote.auditor_id: reviewing.vote_commitment(uow, vote) for vote in votes}
    promised = {
        row["actor"]: row["details"]["commitment"]
        for row in rows
        if row["event"] == "release:review"
    }
    revealed = {
        row["details"]["auditor"]: row["details"]["decision"]
        for row in rows
        if row["event"] == "release:reveal_vote"
    }
    first, second, _ = walk.auditors
    assert promised == opened
    assert revealed == {first.user_id: "reject", second.user_id: "approve"}


def proposed_again(walk: Walk, release: Release, version: str = "1.1.1") -> Release:
    """Propose the samples of a release under another version."""
    with walk.application.uow() as uow:
        return releases.create_release(
            uow,
            walk.owner,
            dataset_id=release.dataset_id,
            audit_job_id=release.audit_job_id,
            name=release.name,
            version=version,
            terms="Use for research.",
        )


def test_a_rejection_holds_for_the_samples_under_every_other_version(walk: Walk) -> None:
    release = walk.release(ReleaseState.SUBMITTED)
    drafted = proposed_again(walk, release, "1.0.1")
    under_review = walk.voted(
        walk.submitted(proposed_again(walk, release, "1.0.2")), walk.auditors[2]
    )
    for auditor in walk.auditors[:2]:
        release = walk.voted(release, auditor, Decision.REJECT, reason="Near-copies on page 3.")
    assert release.state is ReleaseState.REJECTED
    with pytest.raises(Conflict, match=r"auditors rejected these samples as .* 1\.0\.0"):
        proposed_again(walk, release)
    with pytest.raises(Conflict, match=r"Submitting was refused: auditors rejected"):
        walk.submitted(drafted)
    with pytest.raises(Conflict, match=r"Approving was refused: auditors rejected"):
        walk.voted(under_review, walk.auditors[0])
    assert (
        walk.voted(under_review, walk.auditors[0], Decision.REJECT).state is ReleaseState.REJECTED
    )


def test_a_returned_release_cannot_be_revised_to_rejected_samples(walk: Walk) -> None:
    version = walk.version(walk.dataset())
    rejected = walk.release(ReleaseState.REJECTED, audit=walk.audited(version))
    other = walk.release(audit=walk.audited(version))
    with walk.application.uow() as uow, pytest.raises(Conflict, match="Train another candidate"):
        releases.revise_release(
            uow,
            walk.owner,
            release_id=other.id,
            if_match=other.etag,
            audit_job_id=rejected.audit_job_id,
        )


def test_auditors_see_what_was_decided_about_the_same_samples(walk: Walk) -> None:
    audit = walk.audited(walk.version(walk.dataset()))
    returned = walk.release(ReleaseState.SUBMITTED, audit=audit)
    for auditor in walk.auditors[:2]:
        returned = walk.voted(returned, auditor, Decision.RETURN, reason="Say who may use them.")
    again = walk.submitted(proposed_again(walk, returned))
    walk.voted(again, walk.auditors[0])
    (earlier,) = view(walk, walk.auditors[2], again).earlier
    assert earlier.release.id == returned.id
    assert [vote.reason for vote in earlier.reviews] == ["Say who may use them."] * 2
    (later,) = view(walk, walk.auditors[2], returned).earlier
    assert later.reviews == []  # that round is open, so its one vote stays hidden
    assert views.release(view(walk, walk.auditors[2], again)).earlier[0].state == "returned"
    published = walk.release(ReleaseState.PUBLISHED, audit=audit)
    assert view(walk, walk.collaborator, published).earlier == []


def test_a_revision_must_be_named_to_be_changed(walk: Walk) -> None:
    release = walk.release(ReleaseState.SUBMITTED)
    with walk.application.uow() as uow, pytest.raises(PreconditionFailed, match="names a revision"):
        releases.review_release(
            uow, walk.auditors[0], release_id=release.id, decision="approve", if_match="*"
        )


def journal_of(walk: Walk, release: Release) -> str:
    """Return all that the journal says of a release, in the database itself."""
    with walk.application.uow(read_only=True) as uow:
        rows = journal.read_rows(uow.session, subject=release.id)
        return "".join(row.text for row in rows)


def test_a_voided_round_stays_blind(walk: Walk) -> None:
    release = walk.release(ReleaseState.UNDER_REVIEW)
    first, second, _ = walk.auditors
    with walk.application.uow() as uow:
        audit = jobs.load_job(uow, release.audit_job_id)
        audit.result = {**audit.result, "digest": "f" * 64}
        uow.without_trail("the test plays somebody who tampers")
    with pytest.raises(Conflict, match="every vote is void"):
        walk.voted(release, second)
    assert [vote.round for vote in view(walk, first, release).reviews] == [1]
    for other in (second, walk.owner):
        assert view(walk, other, release).reviews == []
        with walk.application.uow(read_only=True) as uow:
            trail = releases.list_trail(uow, other, release_id=release.id)
        assert "release:review" not in [row["body"]["event"] for row in trail]


def test_whoever_wrote_a_release_or_brought_its_data_cannot_review_it(walk: Walk) -> None:
    release = walk.release()
    writer = Actor(
        walk.auditors[0].user_id, walk.tenant_id, frozenset({Role.AUDITOR, Role.DATA_OWNER})
    )
    with walk.application.uow() as uow:
        releases.revise_release(
            uow,
            writer,
            release_id=release.id,
            if_match=walk.current(release).etag,
            terms="Terms of the writer.",
        )
    release = walk.submitted(walk.current(release))
    with pytest.raises(PermissionDenied, match="wrote, declared or submitted"):
        walk.voted(release, walk.auditors[0])
    with walk.application.uow() as uow:
        version = uow.get(DatasetVersion, str(jobs.load_job(uow, release.audit_job_id).version_id))
        assert version is not None
        version.created_by = walk.auditors[1].user_id
        uow.without_trail("the test plays an upload by an auditor")
    with pytest.raises(PermissionDenied, match="brought the data"):
        walk.voted(release, walk.auditors[1])
    walk.voted(release, walk.auditors[2])


def test_no_page_of_a_trail_is_cut_short_by_what_is_hidden(sqlite_walk: Walk) -> None:
    walk = sqlite_walk
    release = walk.release(ReleaseState.SUSPENDED)
    seen: list[str] = []
    after: int | None = 0
    while after is not None:
        with walk.application.uow(read_only=True) as uow:
            rows = releases.list_trail(
                uow, walk.collaborator, release_id=release.id, after=after, limit=1
            )
        after = views.trail_page(rows, limit=1).next_cursor
        seen += [row["body"]["event"] for row in rows]
    assert seen == ["release:publish", "release:suspend"]


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


def test_a_late_packaging_worker_cannot_bring_a_revoked_bundle_back(sqlite_walk: Walk) -> None:
    walk, objects = sqlite_walk, sqlite_walk.application.objects
    release = walk.release(ReleaseState.APPROVED)
    with walk.application.uow() as uow:
        job = releases.publish_release(
            uow, walk.owner, release_id=release.id, if_match=release.etag
        )
    token = walk.claim(job)
    with walk.application.uow() as uow:
        late = releases.publication_facts(uow, job.id, token=token)
        jobs.requeue_job(uow, job.id, token=token)
    second = walk.claim(job)
    with walk.application.uow() as uow:
        facts = releases.publication_facts(uow, job.id, token=second)
    objects.put_bytes(Bucket.QUARANTINE, facts.bundle_key, body=b"bundle")
    published = finished(walk, job, second, facts)
    assert objects.get_bytes(Bucket.RELEASED, facts.bundle_key) == b"bundle"
    walk.withheld(published, "revoke")
    objects.put_bytes(Bucket.QUARANTINE, late.bundle_key, body=b"bundle")
    with pytest.raises(LeaseLost):
        finished(walk, job, token, late)
    with pytest.raises(Conflict, match="became revoked"):
        finished(walk, job, second, facts)
    with walk.application.uow() as uow:
        jobs.reap(uow)
    assert late.bundle_key != facts.bundle_key
    assert list(objects.list_keys(Bucket.RELEASED, "")) == []


def test_a_repeated_publication_keeps_the_bundle_that_is_out(sqlite_walk: Walk) -> None:
    walk, objects = sqlite_walk, sqlite_walk.application.objects
    release = walk.release(ReleaseState.APPROVED)
    with walk.application.uow() as uow:
        job = releases.publish_release(
            uow, walk.owner, release_id=release.id, if_match=release.etag
        )
    for sha256 in ("a" * 64, "b" * 64):
        token = walk.claim(job)
        with walk.application.uow() as uow:
            facts = releases.publication_facts(uow, job.id, token=token)
        objects.put_bytes(Bucket.QUARANTINE, facts.bundle_key, body=sha256.encode())
        published = finished(walk, job, token, facts, sha256=sha256)
        assert published.bundle_sha256 == "a" * 64
        with walk.application.uow() as uow:
            jobs.requeue_job(uow, job.id, token=token)
    assert list(objects.list_keys(Bucket.RELEASED, "")) == [published.bundle_key]


def finished(
    walk: Walk,
    job: Job,
    token: str,
    facts: releases.PublicationFacts,
    *,
    sha256: str = "a" * 64,
) -> Release:
    """End the packaging of a release, as its worker does."""
    with walk.application.uow() as uow:
        return releases.finish_publication(
            uow,
            job.id,
            token=token,
            bundle_key=facts.bundle_key,
            sha256=sha256,
            size=6,
            certificate={"epsilon": 1.0},
        )
