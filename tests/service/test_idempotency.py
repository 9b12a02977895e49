"""A repeated request gets the first answer; the key and the effect are one transaction."""

import threading
from collections.abc import Iterator

import pytest

from service.domain.errors import BudgetRefused, InputRefused
from service.domain.jobs import JobKind
from service.operations import idempotency, jobs
from service.operations.idempotency import Replay
from tests.databases import fresh_database
from tests.factories import TARGET, Walk

NAMES = {"method": "POST", "path": "/v1/jobs"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield an empty database of each kind: what is tested here depends on it."""
    with fresh_database(request.param, request) as url:
        yield url


def post(walk: Walk, version_id: str, key: str, request: bytes = b"{}") -> Replay:
    """Answer as the API does."""
    with walk.application.uow() as uow:
        found = idempotency.begin(uow, walk.owner, key=key, request=request, **NAMES)
        if found is not None:
            return found
        job = jobs.request_training(
            uow,
            walk.owner,
            version_id=version_id,
            generator="statistics",
            config={},
            target=TARGET,
        )
        answer = Replay(202, {"Location": f"/v1/jobs/{job.id}"}, {"id": job.id})
        idempotency.finish(uow, walk.owner, key=key, **NAMES, **vars(answer))
        return answer


def trainings(walk: Walk) -> int:
    """Return how many trainings were requested."""
    with walk.application.uow(read_only=True) as uow:
        return len(jobs.list_jobs(uow, walk.owner, kind=JobKind.TRAIN).items)


def test_a_repeated_request_gets_the_first_answer_and_no_second_job(walk: Walk) -> None:
    version = walk.version(walk.dataset())
    assert post(walk, version.id, "k1") == post(walk, version.id, "k1")
    assert trainings(walk) == 1
    post(walk, version.id, "k2")
    assert trainings(walk) == 2


def test_a_key_cannot_be_used_for_another_request(walk: Walk) -> None:
    version = walk.version(walk.dataset())
    post(walk, version.id, "k1")
    with pytest.raises(InputRefused, match="another request"):
        post(walk, version.id, "k1", b'{"other": 1}')


def test_a_refused_request_leaves_its_key_free(walk: Walk) -> None:
    version = walk.version(walk.dataset(epsilon="0.5"))
    for _ in range(2):
        with pytest.raises(BudgetRefused):
            post(walk, version.id, "k1")


def test_requests_with_one_key_at_once_make_one_job(walk: Walk) -> None:
    version = walk.version(walk.dataset())
    answers: list[Replay] = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(walk, version.id, "k1")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trainings(walk) == 1
    assert len(answers) == 6
    assert len({str(answer) for answer in answers}) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"])
def test_a_key_that_is_none_is_refused(sqlite_walk: Walk, key: str) -> None:
    with pytest.raises(InputRefused):
        post(sqlite_walk, "ver_0", key)
