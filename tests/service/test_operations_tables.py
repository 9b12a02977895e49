"""A table among the images of the same persons: one budget, its own generators, what is refused."""

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.table_schema import TableSchema
from service.domain.datasets import Dataset
from service.domain.declarations import TABLE_FORMATS, ReleaseDeclaration
from service.domain.errors import InputRefused
from service.domain.jobs import JobState
from service.domain.trail import TrailEvent
from service.operations import catalogue, datasets, jobs, releases, studies
from service.operations.ingests import JOIN
from service.store import journal
from tests.factories import TABLE, TARGET, Walk, content_digests, person_digests

PERSONS = ("p1", "p2", "p3")


@pytest.fixture
def images(sqlite_walk: Walk) -> Dataset:
    """Return a dataset of images of some persons."""
    found = sqlite_walk.dataset()
    sqlite_walk.version(found, persons=PERSONS)
    return found


def epsilon_left(walk: Walk, dataset: Dataset) -> float:
    """Return what is left of a dataset's budget."""
    with walk.application.uow(read_only=True) as uow:
        return float(datasets.get_budget(uow, walk.owner, dataset_id=dataset.id).epsilon.remaining)


def ingest(
    walk: Walk,
    dataset: Dataset,
    *,
    persons: tuple[str, ...],
    rows_of: tuple[str, ...],
    columns: NDArray[np.uint8] | None = None,
) -> None:
    """Ingest a table of these persons, with rows that are somebody's."""
    digests = person_digests(walk.application, walk.tenant_id, persons)
    named = person_digests(walk.application, walk.tenant_id, [f"row of {who}" for who in rows_of])
    job = walk.uploaded(dataset)
    token = walk.claim(job)
    with walk.application.uow() as uow:
        datasets.finish_ingest(
            uow,
            job.id,
            token=token,
            manifest=walk.manifest(dataset, 1, len(digests)),
            person_digests=digests,
            content_digests=content_digests(named),
            column_digests=columns,
        )


def test_images_and_the_table_of_the_same_persons_share_one_ledger(
    sqlite_walk: Walk, images: Dataset
) -> None:
    table = sqlite_walk.dataset(schema=TABLE, join_dataset_id=images.id)
    ingest(sqlite_walk, table, persons=PERSONS, rows_of=PERSONS)
    assert table.cohort_id == images.cohort_id
    before = epsilon_left(sqlite_walk, images)
    version = sqlite_walk.version(table, persons=PERSONS)
    sqlite_walk.training(version, generator="counts")
    assert epsilon_left(sqlite_walk, table) == epsilon_left(sqlite_walk, images) < before


def test_a_table_of_the_same_persons_cannot_get_a_second_budget(
    sqlite_walk: Walk, images: Dataset
) -> None:
    second = sqlite_walk.dataset(schema=TABLE)
    with pytest.raises(
        InputRefused, match=r"some person\(s\) in it already belong.*join_dataset_id"
    ):
        ingest(sqlite_walk, second, persons=PERSONS, rows_of=PERSONS)
    assert images.cohort_id != second.cohort_id


def test_the_same_rows_under_other_ids_buy_no_second_budget(sqlite_walk: Walk) -> None:
    ingest(sqlite_walk, sqlite_walk.dataset(schema=TABLE), persons=PERSONS, rows_of=PERSONS)
    renamed = sqlite_walk.dataset(schema=TABLE)
    others = tuple(f"x{person}" for person in PERSONS)
    with pytest.raises(InputRefused, match=r"row\(s\) in it are also .* cell for cell"):
        ingest(sqlite_walk, renamed, persons=others, rows_of=PERSONS)


def test_a_table_takes_tables_and_generators_of_tables_only(
    sqlite_walk: Walk, images: Dataset
) -> None:
    table = sqlite_walk.dataset(schema=TABLE)
    with sqlite_walk.application.uow() as uow:
        for dataset, suffix, fitting in (
            (table, ".zip", ".csv, .parquet"),
            (images, ".csv", ".npz"),
        ):
            with pytest.raises(InputRefused, match=fitting):
                datasets.start_upload(
                    uow, sqlite_walk.owner, dataset_id=dataset.id, suffix=suffix, size_bytes=9
                )
        assert set(catalogue.list_generators(uow, "table")) == {"counts"}
        assert "counts" not in catalogue.list_generators(uow, "image")
    version = sqlite_walk.version(table, persons=("t1", "t2"))
    with sqlite_walk.application.uow(read_only=True) as uow:
        asked = {"version_id": version.id, "config": {}, "target": TARGET}
        refused = jobs.plan_training(uow, sqlite_walk.owner, generator="network", **asked)
        plan = jobs.plan_training(uow, sqlite_walk.owner, generator="counts", **asked)
    assert "learns from images" in str(refused.refusal)
    assert (plan.refusal, plan.recommended) == (None, "counts")
    assert "over 3 columns" in plan.recommendation


def test_a_dry_run_of_a_table_is_told_its_columns_and_remembered(sqlite_walk: Walk) -> None:
    version = sqlite_walk.version(sqlite_walk.dataset(schema=TABLE))
    with sqlite_walk.application.uow() as uow:
        plan = jobs.plan_training(
            uow,
            sqlite_walk.owner,
            version_id=version.id,
            generator="counts",
            config={},
            target=TARGET,
        )
        assert plan.planned is not None
        asked = {"version_id": version.id, "planned": plan.planned}
        first = jobs.request_estimate(uow, sqlite_walk.owner, **asked)
        uow.session.flush()
        assert jobs.request_estimate(uow, sqlite_walk.owner, **asked).job_id == first.job_id
        job = jobs.get_job(uow, sqlite_walk.owner, job_id=str(first.job_id))
    assert job.state is JobState.QUEUED
    assert TableSchema.model_validate(job.payload["declared"]) == TABLE


def test_a_release_of_a_table_has_formats_of_tables_and_takes_no_study_or_edit(
    sqlite_walk: Walk,
) -> None:
    audit = sqlite_walk.audited(
        sqlite_walk.version(sqlite_walk.dataset(schema=TABLE)), generator="counts"
    )
    draft = sqlite_walk.release(audit=audit)
    assert tuple(draft.declared["formats"]) == TABLE_FORMATS
    with sqlite_walk.application.uow() as uow:
        with pytest.raises(InputRefused, match=r"dicom was refused: this dataset holds a table"):
            releases.create_release(
                uow,
                sqlite_walk.owner,
                dataset_id=audit.dataset_id,
                audit_job_id=audit.id,
                name="pictures",
                terms="Use for research.",
                declared=ReleaseDeclaration(formats=("parquet", "dicom")),
            )
        with pytest.raises(InputRefused, match=r"A reader study was refused: .* is a table"):
            studies.create_study(
                uow, sqlite_walk.owner, audit_job_id=audit.id, name="Readers", plan={}
            )


def test_a_column_of_another_table_buys_no_second_budget_whatever_else_there_is(
    sqlite_walk: Walk,
) -> None:
    columns = np.arange(96, dtype=np.uint8).reshape(3, 32)
    first = sqlite_walk.dataset(schema=TABLE)
    ingest(sqlite_walk, first, persons=PERSONS, rows_of=PERSONS, columns=columns)
    others = tuple(f"x{person}" for person in PERSONS)
    second = sqlite_walk.dataset(schema=TABLE)
    with pytest.raises(InputRefused, match=r"stretches of a column of numbers.*join_dataset_id"):
        ingest(sqlite_walk, second, persons=others, rows_of=others, columns=columns[2:])
    joined = sqlite_walk.dataset(schema=TABLE, join_dataset_id=first.id)
    ingest(sqlite_walk, joined, persons=PERSONS, rows_of=others, columns=columns)


def test_an_owner_who_joins_a_budget_is_told_whether_it_knew_anybody(
    sqlite_walk: Walk, images: Dataset
) -> None:
    table = sqlite_walk.dataset(schema=TABLE, join_dataset_id=images.id)
    strangers = sqlite_walk.version(table, persons=("017", "018"))
    known = sqlite_walk.version(table, persons=(*PERSONS, "new"))
    assert strangers.ingest_report["known_in_budget"] == "none"
    assert known.ingest_report == {"known_in_budget": "some"}
    with sqlite_walk.application.uow(read_only=True) as uow:
        plans = [
            jobs.plan_training(
                uow,
                sqlite_walk.owner,
                generator="counts",
                version_id=version.id,
                config={},
                target=TARGET,
            )
            for version in (strangers, known)
        ]
    told = strangers.ingest_report["nobody_known"]
    assert "ids are written in another way" in told
    assert told in plans[0].warnings
    assert told not in plans[1].warnings


def test_the_trail_says_which_uploads_asked_who_is_elsewhere(sqlite_walk: Walk) -> None:
    dataset = sqlite_walk.dataset(schema=TABLE)
    problems: tuple[dict[str, str], ...] = ({"remedy": JOIN}, {"remedy": "Add the rows."})
    for problem in problems:
        job = sqlite_walk.uploaded(dataset)
        token = sqlite_walk.claim(job)
        with sqlite_walk.application.uow() as uow:
            jobs.fail_job(uow, job.id, token=token, problem=problem)
    with sqlite_walk.application.uow(read_only=True) as uow:
        rows = journal.read_newest(uow.session, before=None, limit=50)
        found = [
            row.document["body"]["details"].get("known_elsewhere", False)
            for row in rows
            if row.document["body"]["event"] == TrailEvent.VERSION_REFUSE
        ]
    assert found == [False, True]  # newest first
