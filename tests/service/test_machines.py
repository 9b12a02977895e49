"""What operators see and may do: counts and reasons, a repeat where it decides nothing."""

import pytest

from service.domain.errors import Conflict, IllegalTransition, PermissionDenied
from service.domain.jobs import JobKind, JobState
from service.operations import invitations, jobs, machines, users
from service.store.objects import Bucket
from tests.factories import Walk


def failed(walk: Walk, *, kind: JobKind) -> str:
    """Return the id of a failed training, or of a failed drawing of samples."""
    job = walk.training(walk.version(walk.dataset()))
    token = walk.claim(job)
    if kind is JobKind.SAMPLE:
        walk.charge(job, token)
        walk.succeed(job, token, {"generator_manifest": "k", "digest": "1" * 64})
        job = walk.child_of(job)
        token = walk.claim(job)
    with walk.application.uow() as uow:
        jobs.fail_job(
            uow, job.id, token=token, problem={"type": "t", "detail": "The disk is full."}
        )
    return job.id


def test_a_failed_drawing_of_samples_is_repeated_once_and_a_training_never(
    sqlite_walk: Walk,
) -> None:
    sample = failed(sqlite_walk, kind=JobKind.SAMPLE)
    with sqlite_walk.application.uow() as uow:
        again = machines.repeat_job(uow, sqlite_walk.operator, job_id=sample)
    assert (again.kind, again.state) == (JobKind.SAMPLE, JobState.QUEUED)
    with (
        pytest.raises(IllegalTransition, match="repeated already"),
        sqlite_walk.application.uow() as uow,
    ):
        machines.repeat_job(uow, sqlite_walk.operator, job_id=sample)


def test_a_training_is_its_owners_to_request_again(sqlite_walk: Walk) -> None:
    training = failed(sqlite_walk, kind=JobKind.TRAIN)
    with (
        pytest.raises(IllegalTransition, match="spends budget"),
        sqlite_walk.application.uow() as uow,
    ):
        machines.repeat_job(uow, sqlite_walk.operator, job_id=training)
    with sqlite_walk.application.uow(read_only=True) as uow:
        page = machines.list_failed_jobs(uow, sqlite_walk.operator)
        queues = machines.view_queues(uow, sqlite_walk.operator)
    assert [job.id for job in page.items] == [training]
    assert not queues.running


def test_what_nothing_refers_to_is_counted(sqlite_walk: Walk) -> None:
    version = sqlite_walk.version(sqlite_walk.dataset())
    objects = sqlite_walk.application.objects
    lost = f"candidate/job_{'0' * 28}/1/samples.npz"
    objects.put_bytes(Bucket.WORK, lost, body=b"left over")
    with sqlite_walk.application.uow(read_only=True) as uow:
        found = {view.name: view for view in machines.view_storage(uow, sqlite_walk.operator)}
    work = found[objects.bucket(Bucket.WORK)]
    assert version.prefix.startswith("versions/")
    assert (work.unreferenced, work.unreferenced_size) == (1, 9)
    assert work.objects >= 2


def test_the_journal_is_walked_and_the_trail_says_so(sqlite_walk: Walk) -> None:
    sqlite_walk.version(sqlite_walk.dataset())
    with sqlite_walk.application.uow() as uow:
        result = machines.check_journal(uow, sqlite_walk.operator)
    assert result.problems == []
    assert 0 < result.anchored <= result.length
    assert len(result.head) == 64


@pytest.mark.parametrize(
    "look", [machines.view_queues, machines.list_failed_jobs, machines.view_storage]
)
def test_nobody_but_operators_looks_at_the_machines(sqlite_walk: Walk, look) -> None:
    for actor in (sqlite_walk.owner, sqlite_walk.auditors[0], sqlite_walk.collaborator):
        with (
            pytest.raises(PermissionDenied, match="only an operator may"),
            sqlite_walk.application.uow(read_only=True) as uow,
        ):
            look(uow, actor)


def test_an_operator_neither_disables_nor_promotes_themselves(sqlite_walk: Walk) -> None:
    me = sqlite_walk.operator
    for act in (
        lambda uow: users.disable_user(uow, me, user_id=me.user_id),
        lambda uow: users.change_roles(uow, me, user_id=me.user_id, roles=["auditor"]),
    ):
        with (
            pytest.raises(PermissionDenied, match="their own account"),
            sqlite_walk.application.uow() as uow,
        ):
            act(uow)


def test_an_account_elsewhere_belongs_to_one_person(sqlite_walk: Walk) -> None:
    given = {"issuer": "https://login.test", "subject": "s-1"}
    with sqlite_walk.application.uow() as uow:
        users.link_identity(uow, sqlite_walk.operator, user_id=sqlite_walk.owner.user_id, **given)
    with (
        pytest.raises(Conflict, match="linked to a user already"),
        sqlite_walk.application.uow() as uow,
    ):
        users.link_identity(
            uow, sqlite_walk.operator, user_id=sqlite_walk.collaborator.user_id, **given
        )


def test_a_sign_in_name_is_taken_whatever_its_case(sqlite_walk: Walk) -> None:
    given = {"tenant_id": sqlite_walk.tenant_id, "roles": ["auditor"]}
    with sqlite_walk.application.uow() as uow:
        invitations.invite_user(
            uow, sqlite_walk.operator, name="Ada", sign_in_name="Ada@Hospital.test", **given
        )
    with pytest.raises(Conflict, match="is taken"), sqlite_walk.application.uow() as uow:
        invitations.invite_user(
            uow, sqlite_walk.operator, name="Other", sign_in_name="ada@hospital.TEST", **given
        )
