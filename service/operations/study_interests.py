"""Who must not consent to a reader study or hand out its links: whoever planned it, made what it shows, or stepped aside."""

from service.domain.accounts import Actor
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.errors import PermissionDenied
from service.domain.jobs import Job
from service.domain.studies import CONSENTS_NEEDED, Study
from service.domain.trail import TrailEvent
from service.operations import conflicts, factor_resets
from service.store import journal, tables
from service.store.unit_of_work import UnitOfWork

_PLANNING = frozenset(
    {
        TrailEvent.STUDY_CREATE.value,
        TrailEvent.STUDY_REVISE.value,
        TrailEvent.STUDY_REGISTER.value,
    }
)


def interest_of(uow: UnitOfWork, user_id: str, study: Study) -> conflicts.Interest | None:
    """Return why a user must not agree to a study, or None."""
    return conflicts.interest_in(
        uow,
        user_id,
        tenant_id=study.tenant_id,
        dataset_id=study.dataset_id,
        involved=_makers(uow, study),
    )


def check_uninvolved(
    uow: UnitOfWork, actor: Actor, study: Study, *, what: str = "Consenting to a reader study"
) -> None:
    """Refuse whoever has an interest in the study, as for a release; changes nothing.

    Raises: PermissionDenied.
    """
    factor_resets.check_settled(uow, actor, what)
    interest = interest_of(uow, actor.user_id, study)
    if interest is not None:
        raise PermissionDenied(
            f"{what} was refused: you wrote or locked its plan, brought the data "
            "or trained the candidate, work in the lab of somebody who did, or stepped aside. "
            f"{CONSENTS_NEEDED} other auditors must consent, and one of them invites.",
            interest=interest.name.lower(),
        )


def _makers(uow: UnitOfWork, study: Study) -> set[str]:
    """Return everybody who wrote or locked the plan, or made what it is about."""
    audit = uow.get(Job, study.audit_job_id)
    train = uow.get(Job, str(audit.payload.get("train_job_id"))) if audit is not None else None
    version = uow.get(DatasetVersion, str(audit.version_id)) if audit is not None else None
    dataset = uow.get(Dataset, study.dataset_id)
    found = {study.created_by}
    found |= {made.created_by for made in (version, dataset) if made is not None}
    found |= {job.requested_by for job in (train, audit) if job is not None}
    written = tables.journal.c.event.in_(sorted(_PLANNING))
    for row in journal.read_rows(uow.session, subject=study.id, only=[written]):
        found.add(row.document["body"]["actor"])
    return found
