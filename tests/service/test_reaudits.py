"""Published releases audited again: one that fails is suspended, and who holds it is listed."""

import pytest

from service.domain.datasets import Dataset
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
)
from service.domain.jobs import Job, JobKind
from service.domain.releases import Location, Release, ReleaseState
from service.operations import downloads, editing, jobs, reaudits, releases
from service.operations.budgets import count_audits
from service.operations.notifying import list_notifications
from service.store import journal
from tests.factories import Walk
from tests.service.test_policies import adopted


def asked(walk: Walk, *found: Release, actor=None, **options):
    with walk.application.uow() as uow:
        return reaudits.request_reaudits(
            uow, actor or walk.owner, release_ids=[release.id for release in found], **options
        )


def audited_again(walk: Walk, release: Release, verdict: str) -> Job:
    (job,), _ = asked(walk, release)
    result = {
        "report": "k",
        "digest": "4" * 64,
        "verdict": verdict,
        "summary": {"verdicts": {"near_copies": verdict, "sample_membership": "PASS-EMPIRICAL"}},
    }
    return walk.succeed(job, walk.claim(job), result)


def another(walk: Walk, state: ReleaseState) -> Release:
    version = walk.version(walk.dataset(), persons=("p3", "p4"))
    return walk.release(state, audit=walk.audited(version))


@pytest.fixture
def published(sqlite_walk: Walk) -> Release:
    release = sqlite_walk.release(ReleaseState.PUBLISHED)
    sqlite_walk.downloaded(release)
    return sqlite_walk.current(release)


def test_a_release_that_fails_now_is_suspended_and_its_bundle_is_out_of_reach(
    sqlite_walk: Walk, published: Release
) -> None:
    audited_again(sqlite_walk, published, "FAIL")
    now = sqlite_walk.current(published)
    assert (now.state, now.location) == (ReleaseState.SUSPENDED, Location.QUARANTINE)
    assert "failed (near copies)" in now.tombstone["reason"]
    with (
        pytest.raises(IllegalTransition, match="is suspended"),
        sqlite_walk.application.uow() as uow,
    ):
        downloads.create_download(uow, sqlite_walk.collaborator, release_id=published.id)


@pytest.mark.parametrize("verdict", ["PASS-EMPIRICAL", "PASS-PROVEN", "INCONCLUSIVE", "INVALID"])
def test_any_other_verdict_leaves_a_release_where_it_is(
    sqlite_walk: Walk, published: Release, verdict: str
) -> None:
    audited_again(sqlite_walk, published, verdict)
    now = sqlite_walk.current(published)
    assert (now.state, now.location) == (ReleaseState.PUBLISHED, Location.RELEASED)
    with sqlite_walk.application.uow(read_only=True) as uow:
        events = [
            row.document["body"] for row in journal.read_rows(uow.session, subject=published.id)
        ]
    (told,) = [body for body in events if body["event"] == "release:audit_again"]
    assert told["details"]["verdict"] == verdict


def test_a_failed_release_cannot_be_brought_back_under_the_same_policy(
    sqlite_walk: Walk, published: Release
) -> None:
    audited_again(sqlite_walk, published, "FAIL")
    audited_again(sqlite_walk, published, "PASS-EMPIRICAL")
    with pytest.raises(Conflict, match="a failed audit cannot be overruled"):
        sqlite_walk.withheld(published, "reinstate")
    assert sqlite_walk.withheld(published, "revoke").state is ReleaseState.REVOKED


def test_a_release_that_was_revoked_meanwhile_stays_revoked(
    sqlite_walk: Walk, published: Release
) -> None:
    (job,), _ = asked(sqlite_walk, published)
    sqlite_walk.withheld(published, "revoke")
    sqlite_walk.succeed(job, sqlite_walk.claim(job), {"verdict": "FAIL", "digest": "4" * 64})
    assert sqlite_walk.current(published).state is ReleaseState.REVOKED


def test_all_of_a_tenant_are_audited_again_once_each_and_the_rest_is_told_why(
    sqlite_walk: Walk, published: Release
) -> None:
    second = another(sqlite_walk, ReleaseState.PUBLISHED)
    with sqlite_walk.application.uow(read_only=True) as uow:
        draft = sqlite_walk.release(audit=jobs.load_job(uow, second.audit_job_id))
    queued, skipped = asked(sqlite_walk)
    assert {job.release_id for job in queued} == {published.id, second.id}
    assert {job.kind for job in queued} == {JobKind.REAUDIT}
    assert skipped == []
    again, refused = asked(sqlite_walk, published, draft)
    assert again == []
    assert [why.reason.split(";")[0] for why in refused] == [
        f"job {next(j.id for j in queued if j.release_id == published.id)} is auditing it already",
        "it is draft",
    ]


def test_another_tenants_owner_reaches_nothing_and_an_operator_everything(
    sqlite_walk: Walk, published: Release
) -> None:
    other = Walk(sqlite_walk.application)
    assert asked(other) == ([], [])
    with pytest.raises(NotFound):
        asked(other, published)
    with pytest.raises(PermissionDenied):
        asked(sqlite_walk, actor=sqlite_walk.collaborator)
    queued, _ = asked(other, published, actor=other.operator, depth="full")
    assert [job.tenant_id for job in queued] == [sqlite_walk.tenant_id]
    assert queued[0].payload["depth"] == "full"


def test_an_audit_again_counts_as_an_attempt_and_can_found_no_release(
    sqlite_walk: Walk, published: Release
) -> None:
    job = audited_again(sqlite_walk, published, "PASS-EMPIRICAL")
    assert job.payload["attempt"] == 2
    assert job.payload["policy_digest"] == sqlite_walk.application.policy.digest
    with sqlite_walk.application.uow() as uow:
        dataset = uow.get(Dataset, published.dataset_id)
        assert dataset is not None
        assert count_audits(uow, dataset.cohort_id) == 2
        assert jobs.get_report(uow, sqlite_walk.auditors[0], audit_job_id=job.id).id == job.id
        uow.commit()
    with pytest.raises(InputRefused), sqlite_walk.application.uow() as uow:
        releases.create_release(
            uow,
            sqlite_walk.owner,
            dataset_id=published.dataset_id,
            audit_job_id=job.id,
            name="again",
            terms="t",
        )


def test_downloaders_are_listed_for_insiders_and_operators_only(
    sqlite_walk: Walk, published: Release
) -> None:
    sqlite_walk.downloaded(published)
    sqlite_walk.downloaded(another(sqlite_walk, ReleaseState.PUBLISHED))

    def listed(actor):
        with sqlite_walk.application.uow(read_only=True) as uow:
            return reaudits.list_downloaders(uow, actor, release_id=published.id)

    for actor in (sqlite_walk.owner, sqlite_walk.auditors[0], sqlite_walk.operator):
        (found,) = listed(actor)
        assert (found.user_id, found.downloads) == (sqlite_walk.collaborator.user_id, 2)
        assert found.first_at <= found.last_at
    with pytest.raises(PermissionDenied):
        listed(sqlite_walk.collaborator)
    with pytest.raises(PermissionDenied):
        listed(Walk(sqlite_walk.application).owner)


def test_whoever_had_an_edit_made_holds_a_part_and_is_told_when_the_release_goes(
    sqlite_walk: Walk, published: Release
) -> None:
    who = Walk(sqlite_walk.application).collaborator
    with sqlite_walk.application.uow() as uow:
        downloads.accept_terms(uow, who, release_id=published.id)
    with sqlite_walk.application.uow() as uow:
        asked = {"vary": "label", "images": 1, "form": "series"}
        edit = editing.request_edit(uow, who, release_id=published.id, asked=asked)
    sqlite_walk.succeed(edit, sqlite_walk.claim(edit), {})
    with sqlite_walk.application.uow(read_only=True) as uow:
        found = reaudits.list_downloaders(uow, sqlite_walk.owner, release_id=published.id)
    assert {one.user_id: one.downloads for one in found}[who.user_id] == 0
    sqlite_walk.withheld(sqlite_walk.current(published), "revoke")
    with sqlite_walk.application.uow(read_only=True) as uow:
        assert [told.kind for told in list_notifications(uow, who).items] == ["release.revoked"]


def test_samples_that_failed_again_are_not_published_under_another_name(sqlite_walk):
    walk = sqlite_walk
    release = walk.release(ReleaseState.PUBLISHED)
    audited_again(walk, release, "FAIL")
    release = walk.withheld(walk.current(release), "revoke")
    with walk.application.uow(read_only=True) as uow:
        audit = uow.get(Job, release.audit_job_id)
    with pytest.raises(Conflict, match="A failed audit holds under every name"):
        walk.release(ReleaseState.DRAFT, audit=audit)


def test_edits_of_other_tenants_take_no_place_among_the_owners_jobs(
    sqlite_walk: Walk, published: Release
) -> None:
    who = Walk(sqlite_walk.application).collaborator
    version = sqlite_walk.version(sqlite_walk.dataset(), persons=("p5", "p6"))
    with sqlite_walk.application.uow() as uow:
        downloads.accept_terms(uow, who, release_id=published.id)
    with sqlite_walk.application.uow() as uow:
        asked = {"vary": "label", "images": 1, "form": "series"}
        editing.request_edit(uow, who, release_id=published.id, asked=asked)
    object.__setattr__(sqlite_walk.application.settings, "quota_jobs", 1)
    assert sqlite_walk.training(version).tenant_id == sqlite_walk.tenant_id


def test_another_policy_alone_does_not_undo_a_failure_and_a_pass_under_it_does(
    sqlite_walk: Walk, published: Release
) -> None:
    audited_again(sqlite_walk, published, "FAIL")
    adopted(sqlite_walk, {"tiers.public.epsilon": 1.5})
    with pytest.raises(Conflict, match="a failed audit cannot be overruled"):
        sqlite_walk.withheld(sqlite_walk.current(published), "reinstate")
    audited_again(sqlite_walk, published, "PASS-EMPIRICAL")
    back = sqlite_walk.withheld(sqlite_walk.current(published), "reinstate")
    assert back.state is ReleaseState.PUBLISHED
