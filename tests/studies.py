"""Bring a reader study to any state by its real operations, playing owner, auditors and worker."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from service.domain.jobs import Job
from service.domain.studies import REAL, SYNTHETIC, Phase, Study, StudyCase
from service.operations import studies, study_reading
from service.store.objects import Bucket
from tests.factories import Walk

PLAN: dict[str, object] = {
    "question": "Can radiologists tell them from real ones?",
    "margin": 0.2,
    "readers": 2,
    "cases_per_class": 4,
    "scale": ["0", "1"],
    "scale_is_the_label": True,
    "least_seconds": 0,
}


def plain_picture(number: int) -> bytes:
    """Return bytes that tell the number."""
    return f"picture {number}".encode()


def phantom_picture(number: int) -> bytes:
    """Return a PNG of a soft blob, another one for each number: nobody's joint."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[0:96, 0:96]
    middle = 48 + rng.integers(-12, 12)
    image = 200 * np.exp(-((columns - middle) ** 2 + (rows - 48) ** 2) / 900)
    image += rng.normal(0, 6, image.shape) + 20
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def drafted(walk: Walk, *, audit_job_id: str | None = None, **plan: object) -> Study:
    """Draft a study of a candidate; without one named, of a new one."""
    audit_job_id = audit_job_id or walk.audited(walk.version(walk.dataset())).id
    with walk.application.uow() as uow:
        return studies.create_study(
            uow, walk.owner, audit_job_id=audit_job_id, name="Readers", plan={**PLAN, **plan}
        )


def registered(walk: Walk, *, audit_job_id: str | None = None, **plan: object) -> Study:
    study = drafted(walk, audit_job_id=audit_job_id, **plan)
    with walk.application.uow() as uow:
        return studies.register_study(uow, walk.owner, study_id=study.id)


def consented(walk: Walk, study: Study, *, by: tuple[int, ...] = (0, 1)) -> Study:
    for index in by:
        with walk.application.uow() as uow:
            study = studies.consent_to_study(
                uow, walk.auditors[index], study_id=study.id, plan_digest=str(study.plan_digest)
            )
    return study


def opened(
    walk: Walk,
    *,
    picture: Callable[[int], bytes] = plain_picture,
    audit_job_id: str | None = None,
    **plan: object,
) -> Study:
    """Play the worker: two pictures a pair, numbered as they come."""
    study = consented(walk, registered(walk, audit_job_id=audit_job_id, **plan))
    with walk.application.uow(read_only=True) as uow:
        job = uow.get(Job, str(study.job_id))
    assert job is not None
    token = walk.claim(job)
    cases = []
    for number in range(1, 2 * study.design.cases_per_class + 1):
        key = f"candidate/{job.id}/1/case-{number:04d}.png"
        digest = walk.application.objects.put_bytes(Bucket.WORK, key, body=picture(number))
        truth = REAL if number % 2 else SYNTHETIC
        cases.append(StudyCase(study.id, number, truth, number % 2, (number + 1) // 2, digest, key))
    with walk.application.uow() as uow:
        study = studies.lock_cases(uow, job.id, token=token, cases=cases, digest="c" * 64)
    walk.succeed(job, token, {"digest": "c" * 64})
    return study


def joined(walk: Walk, study: Study, name: str = "Reader A") -> str:
    with walk.application.uow() as uow:
        _, link = study_reading.invite_reader(uow, walk.auditors[0], study_id=study.id, name=name)
    with walk.application.uow() as uow:
        return study_reading.join_study(uow, link)[1]


def step(walk: Walk, session: str) -> study_reading.Step:
    with walk.application.uow(read_only=True) as uow:
        return study_reading.current_step(uow, session)


def answer(walk: Walk, session: str, value: int) -> None:
    reader = step(walk, session).reader
    with walk.application.uow() as uow:
        study_reading.answer_step(
            uow, session, phase=reader.phase.value, position=reader.position, value=value
        )


def read_all(walk: Walk, session: str, *, confidence: Callable[[int], int]) -> None:
    """Answer everything; `confidence` says what is answered to a case number in phase B."""
    while step(walk, session).reader.phase is Phase.GRADING:
        answer(walk, session, step(walk, session).cases[0] % 2)
    with walk.application.uow() as uow:
        study_reading.begin_judging(uow, session)
    while step(walk, session).reader.phase is Phase.JUDGING:
        answer(walk, session, confidence(step(walk, session).cases[0]))
