"""Versions of the audit policy: proposed by one auditor, in force when two others approve."""

from dataclasses import replace

import pytest

from privacy.errors import InvalidParameter
from privacy.policy import load_policy, parse_policy
from privacy.policy_limits import ENTRIES, Effect, changed, check_limits, compare
from service.domain.accounts import Actor, Role
from service.domain.errors import (
    Conflict,
    IllegalTransition,
    InputRefused,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from service.domain.jobs import Job, JobKind
from service.domain.policies import PolicyState, PolicyVersion
from service.domain.releases import ReleaseState
from service.operations import policies
from service.store import journal
from tests.factories import Walk
from workers.policy_of_job import under_its_policy

TIGHTER = {"tiers.registered.auc": 0.55}


def proposed(walk: Walk, values: dict[str, float] | None = None) -> PolicyVersion:
    with walk.application.uow() as uow:
        return policies.propose_version(
            uow,
            walk.auditors[0],
            values=values or TIGHTER,
            depth="quick",
            reason="Knees are easy to tell apart.",
        )


def voted(
    walk: Walk,
    version: PolicyVersion,
    auditor: Actor,
    *,
    approves: bool = True,
    reason: str = "Yes.",
) -> PolicyVersion:
    with walk.application.uow() as uow:
        current = uow.get(PolicyVersion, version.id)
        assert current is not None
        return policies.vote_on_version(
            uow,
            auditor,
            policy_id=version.id,
            approves=approves,
            reason=reason,
            if_match=current.etag,
        )


def adopted(walk: Walk, values: dict[str, float] | None = None) -> PolicyVersion:
    version = proposed(walk, values)
    voted(walk, version, walk.auditors[1])
    return voted(walk, version, walk.auditors[2])


def digest_in_force(walk: Walk) -> str:
    with walk.application.uow(read_only=True) as uow:
        return policies.policy_in_force(uow, walk.tenant_id).digest


def test_the_shipped_policy_stands_at_its_fixed_limits_and_none_is_looser() -> None:
    shipped = load_policy()
    check_limits(shipped)
    for entry in ENTRIES:
        if entry.path.startswith("tiers."):
            assert entry.read(shipped) == entry.limit
        looser = entry.limit * 1.5 if entry.higher_is_looser else entry.limit / 2 - 1e-9
        with pytest.raises(InvalidParameter, match="no policy is looser"):
            changed(shipped, {entry.path: looser}, depth="quick", version="x")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('required = ["near_copies", "sample_membership"]', "required = []", "must gate"),
        ("full = []", 'full = ["near_copies"]', "leaves audits out"),
        ("fpr = [0.01, 0.05, 0.10]", "fpr = [0.10]", "by rule"),
        ("auc = 0.65", "auc = 0.9", "no policy is looser"),
    ],
)
def test_a_file_beyond_the_limits_is_refused(before: str, after: str, words: str) -> None:
    from privacy import policy

    text = policy._DEFAULT.read_text(encoding="utf-8")
    assert before in text
    with pytest.raises(InvalidParameter, match=words):
        check_limits(parse_policy(text.replace(before, after).encode(), name="other"))


def test_what_loosens_is_told_from_what_tightens() -> None:
    shipped = load_policy()
    values = {"tiers.public.tpr.0.05": 0.1, "errors.near_copies": 0.02}
    other = parse_policy(changed(shipped, values, depth="full", version="x").encode(), name="x")
    assert {change.effect for change in compare(shipped, other)} == {Effect.TIGHTENS}
    assert {change.effect for change in compare(other, shipped)} == {Effect.LOOSENS}
    assert [change.path for change in compare(shipped, other)] == [*values, "grid.depth"]


def test_two_other_auditors_put_a_version_in_force_for_new_trainings_only(walk: Walk) -> None:
    shipped = walk.application.policy.digest
    old = walk.training(walk.version(walk.dataset()))
    version = proposed(walk)
    with pytest.raises(PermissionDenied, match="you proposed it"):
        voted(walk, version, walk.auditors[0])
    with pytest.raises(PermissionDenied, match="only an auditor"):
        voted(walk, version, walk.owner)
    voted(walk, version, walk.auditors[1])
    with pytest.raises(Conflict, match="voted on this version already"):
        voted(walk, version, walk.auditors[1])
    assert digest_in_force(walk) == shipped
    assert voted(walk, version, walk.auditors[2]).state is PolicyState.IN_FORCE
    assert digest_in_force(walk) == version.digest
    new = walk.training(walk.version(walk.dataset(), persons=("p3", "p4")))
    assert old.payload["policy_digest"] == shipped
    assert new.payload["policy_digest"] == new.payload["plan"]["policy"] == version.digest
    with pytest.raises(IllegalTransition):
        voted(walk, version, walk.auditors[1])
    with walk.application.uow(read_only=True) as uow:
        told = [row.document["body"] for row in journal.read_rows(uow.session, subject=version.id)]
    assert [body["event"] for body in told] == [
        "policy:propose",
        *2 * ["policy:vote"],
        "policy:adopt",
    ]
    assert told[-1]["details"]["policy"] == {"in_force": version.digest, "before": shipped}


def test_a_job_is_done_under_the_policy_that_its_training_committed_to(sqlite_walk: Walk) -> None:
    walk = sqlite_walk
    shipped = walk.application.policy
    first = adopted(walk)
    training = walk.training(walk.version(walk.dataset()))
    second = adopted(walk, {"tiers.registered.auc": 0.58})
    assert digest_in_force(walk) == second.digest
    used = under_its_policy(walk.application, training).policy
    assert (used.digest, used.tiers["registered"].auc) == (first.digest, 0.55)
    audit = Job(
        **{**_bare(training), "kind": JobKind.AUDIT, "payload": {"train_job_id": training.id}}
    )
    assert under_its_policy(walk.application, audit).policy.digest == first.digest
    unknown = Job(**{**_bare(training), "payload": {"policy_digest": "0" * 64}})
    assert under_its_policy(walk.application, unknown).policy is shipped


def test_a_stored_version_that_was_tampered_with_judges_nothing(sqlite_walk: Walk) -> None:
    walk = sqlite_walk
    version = adopted(walk)
    with walk.application.uow() as uow:
        found = uow.get(PolicyVersion, version.id)
        assert found is not None
        found.toml = found.toml.replace("auc = 0.65", "auc = 0.64")
        uow.without_trail("the test plays somebody who tampers")
    with walk.application.uow(read_only=True) as uow:
        assert policies.adopted_policy(uow, version.digest) is None
        with pytest.raises(Conflict, match="no longer has the digest"):
            policies.policy_in_force(uow, walk.tenant_id)


def test_what_is_refused_of_a_proposal(sqlite_walk: Walk) -> None:
    walk = sqlite_walk
    other = Walk(walk.application)
    with pytest.raises(InputRefused, match="nothing in it differs"):
        proposed(walk, {"tiers.registered.auc": 0.6})
    with pytest.raises(InputRefused, match="no policy is looser"):
        proposed(walk, {"tiers.registered.auc": 0.7})
    version = proposed(walk)
    with pytest.raises(Conflict, match="still waits for votes"):
        proposed(walk)
    with pytest.raises(NotFound):
        voted(walk, version, other.auditors[1])
    with pytest.raises(PermissionDenied, match="without a reason"):
        voted(walk, version, walk.auditors[1], approves=False, reason=" ")
    with walk.application.uow() as uow, pytest.raises(PreconditionFailed):
        policies.vote_on_version(
            uow, walk.auditors[1], policy_id=version.id, approves=True, if_match='"999"'
        )
    assert voted(walk, version, walk.auditors[1], approves=False).state is PolicyState.REJECTED
    proposed(walk)


def test_votes_begin_again_when_the_policy_changes_under_a_review(sqlite_walk: Walk) -> None:
    walk = sqlite_walk
    release = walk.release(ReleaseState.UNDER_REVIEW)
    adopted(walk)
    with pytest.raises(Conflict, match="every vote is void"):
        walk.voted(release, walk.auditors[1])


def test_whoever_owns_data_as_well_sets_no_policy(sqlite_walk: Walk) -> None:
    walk = sqlite_walk
    both = replace(
        walk.auditors[0],
        user_id=walk.owner.user_id,
        roles=frozenset({Role.AUDITOR, Role.DATA_OWNER}),
    )
    with walk.application.uow() as uow, pytest.raises(PermissionDenied, match="Proposing a policy"):
        policies.propose_version(uow, both, values=TIGHTER, depth="quick", reason="Mine.")
    with pytest.raises(PermissionDenied, match="does not set its bar"):
        voted(walk, proposed(walk), both)


def _bare(job: Job) -> dict[str, object]:
    names = ("id", "kind", "tenant_id", "dataset_id", "requested_by", "payload", "created_at")
    return {name: getattr(job, name) for name in names}
