"""Rows with an image each in the service: created, known again by either, their own generators and formats."""

import numpy as np
import pytest

from privacy.table_schema import TableSchema
from service.domain.datasets import Dataset
from service.domain.declarations import JOINT_FORMATS, ReleaseDeclaration
from service.domain.errors import InputRefused
from service.operations import catalogue, datasets, jobs, releases, studies
from tests.factories import JOINT, SCHEMA, TABLE, TARGET, Walk, content_digests, person_digests

PERSONS = ("p1", "p2", "p3")


def ingest(walk: Walk, dataset: Dataset, *, persons: str, rows: str, images: str) -> None:
    """Ingest three persons whose ids, rows and images begin with these words."""

    def named(words: str) -> np.ndarray:
        ids = [f"{words} {person}" for person in PERSONS]
        return person_digests(walk.application, walk.tenant_id, ids)

    job = walk.uploaded(dataset)
    token = walk.claim(job)
    has_rows = dataset.modality == "joint"
    with walk.application.uow() as uow:
        datasets.finish_ingest(
            uow,
            job.id,
            token=token,
            manifest=walk.manifest(dataset, 1, len(PERSONS)),
            person_digests=named(persons),
            content_digests=content_digests(named(images if dataset.modality != "table" else rows)),
            row_digests=content_digests(named(rows)) if has_rows else None,
        )


def test_the_same_images_or_rows_under_other_ids_buy_no_second_budget(sqlite_walk: Walk) -> None:
    first = sqlite_walk.dataset(schema=JOINT)
    ingest(sqlite_walk, first, persons="a", rows="row", images="image")
    for schema, what in (
        (JOINT, r"image\(s\) in it .* pixel for pixel"),
        (SCHEMA, r"image\(s\) in it .* pixel for pixel"),
        (TABLE, r"row\(s\) in it .* cell for cell"),
    ):
        with pytest.raises(InputRefused, match=what):
            ingest(
                sqlite_walk,
                sqlite_walk.dataset(schema=schema),
                persons="b",
                rows="row",
                images="image",
            )
    with pytest.raises(InputRefused, match=r"row\(s\) in it .* cell for cell"):
        ingest(
            sqlite_walk,
            sqlite_walk.dataset(schema=JOINT),
            persons="b",
            rows="row",
            images="other",
        )
    joined = sqlite_walk.dataset(schema=JOINT, join_dataset_id=first.id)
    ingest(sqlite_walk, joined, persons="a", rows="row", images="image")


def test_images_without_their_table_keep_out_the_table_with_its_images(sqlite_walk: Walk) -> None:
    alone = sqlite_walk.dataset()
    ingest(sqlite_walk, alone, persons="a", rows="", images="image")
    both = sqlite_walk.dataset(schema=JOINT)
    with pytest.raises(InputRefused, match="pixel for pixel"):
        ingest(sqlite_walk, both, persons="b", rows="row", images="image")


def test_rows_with_images_take_zips_and_generators_of_both_only(sqlite_walk: Walk) -> None:
    dataset = sqlite_walk.dataset(schema=JOINT)
    with sqlite_walk.application.uow() as uow:
        for suffix in (".csv", ".parquet", ".npz"):
            with pytest.raises(InputRefused, match=r"\.zip"):
                datasets.start_upload(
                    uow, sqlite_walk.owner, dataset_id=dataset.id, suffix=suffix, size_bytes=9
                )
        assert set(catalogue.list_generators(uow, "joint")) == {"cases"}
    version = sqlite_walk.version(dataset)
    with sqlite_walk.application.uow(read_only=True) as uow:
        asked = {"version_id": version.id, "config": {}, "target": TARGET}
        refused = jobs.plan_training(uow, sqlite_walk.owner, generator="counts", **asked)
        plan = jobs.plan_training(uow, sqlite_walk.owner, generator="cases", **asked)
    assert "this dataset holds rows with an image each" in str(refused.refusal)
    assert (plan.refusal, plan.recommended) == (None, "cases")
    assert len(plan.planned.mechanisms) == 2  # counts and average, in one reservation


def test_a_release_of_both_has_its_own_formats_and_takes_no_study(sqlite_walk: Walk) -> None:
    audit = sqlite_walk.audited(
        sqlite_walk.version(sqlite_walk.dataset(schema=JOINT)), generator="cases"
    )
    draft = sqlite_walk.release(audit=audit)
    assert tuple(draft.declared["formats"]) == JOINT_FORMATS
    with sqlite_walk.application.uow() as uow:
        asked = {
            "dataset_id": audit.dataset_id,
            "audit_job_id": audit.id,
            "name": "pictures",
            "terms": "Use for research.",
        }
        for declared, words in (
            (ReleaseDeclaration(formats=("dicom",)), "holds rows with an image each"),
            (ReleaseDeclaration(marginals=True), "Noisy marginals were refused"),
        ):
            with pytest.raises(InputRefused, match=words):
                releases.create_release(uow, sqlite_walk.owner, declared=declared, **asked)
        with pytest.raises(InputRefused, match="is a table with images"):
            studies.create_study(
                uow, sqlite_walk.owner, audit_job_id=audit.id, name="Readers", plan={}
            )


def test_a_dry_run_depends_on_the_size_of_the_images(sqlite_walk: Walk) -> None:
    larger = TableSchema.model_validate(
        JOINT.model_dump(mode="json")
        | {"images": {"height": 16, "width": 8, "condition_on": ["grade"]}}
    )
    found = []
    for schema in (JOINT, larger):
        version = sqlite_walk.version(
            sqlite_walk.dataset(schema=schema), persons=(str(schema.images.height),)
        )
        with sqlite_walk.application.uow() as uow:
            asked = {"version_id": version.id, "config": {}, "target": TARGET}
            plan = jobs.plan_training(uow, sqlite_walk.owner, generator="cases", **asked)
            found.append(
                jobs.request_estimate(
                    uow, sqlite_walk.owner, version_id=version.id, planned=plan.planned
                ).job_id
            )
    assert found[0] != found[1]
