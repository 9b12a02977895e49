"""The whole walk through the operations, on both databases."""

from collections.abc import Iterator

import pytest

from service.domain.jobs import JobKind
from service.domain.releases import ReleaseState
from service.operations import datasets, journal
from tests.databases import fresh_database
from tests.factories import Walk


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield an empty database of each kind: what is tested here depends on it."""
    with fresh_database(request.param, request) as url:
        yield url


def test_a_dataset_becomes_a_download_and_the_journal_is_whole(walk: Walk) -> None:
    release = walk.release(ReleaseState.PUBLISHED)
    ticket = walk.downloaded(release)
    assert ticket.sha256 == release.bundle_sha256
    with walk.application.uow(read_only=True) as uow:
        budget = datasets.get_budget(uow, walk.owner, dataset_id=release.dataset_id)
        assert journal.verify(uow) == []
    assert budget.epsilon.reserved == 0
    assert 0 < budget.epsilon.spent <= 1
    assert (budget.candidates_trained, budget.audits_attempted) == (1, 1)
    kinds = [kind for kind, _ in walk.application.dispatcher.sent]  # type: ignore[attr-defined]
    assert kinds == [
        JobKind.INGEST,
        JobKind.TRAIN,
        JobKind.SAMPLE,
        JobKind.AUDIT,
        JobKind.PACKAGE,
    ]
