"""Delete the checkpoints of trainings that have ended, however they ended.

No worker deletes them: one that woke up late would take them from the attempt that goes on, and a
crash between deleting and ending would leave an attempt that has spent everything and kept nothing.
"""

from service.domain.jobs import TERMINAL, Job
from service.store.objects import Bucket
from service.store.unit_of_work import UnitOfWork

PREFIX = "checkpoints/"


def delete_checkpoints(uow: UnitOfWork, job_id: str) -> int:
    """Delete every attempt's checkpoint of one job; return how many there were."""
    return uow.objects.delete_prefix(Bucket.WORK, f"{PREFIX}{job_id}/")


def sweep_checkpoints(uow: UnitOfWork) -> int:
    """Delete what trainings that ended have left, or stored after their end; return how many jobs.

    Costs one LIST of the checkpoints that there are.
    """
    keys = uow.objects.list_keys(Bucket.WORK, PREFIX)
    jobs = {key.removeprefix(PREFIX).partition("/")[0] for key in keys}
    ended = [job_id for job_id in sorted(jobs) if _has_ended(uow, job_id)]
    uow.commit()  # ends the reading transaction: deletions may take long
    for job_id in ended:
        delete_checkpoints(uow, job_id)
    return len(ended)


def _has_ended(uow: UnitOfWork, job_id: str) -> bool:
    job = uow.get(Job, job_id)
    return job is None or job.state in TERMINAL
