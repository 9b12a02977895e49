"""Datasets, their budgets and versions: JSON in, operation, JSON out."""

from collections.abc import Iterator
from decimal import Decimal

from flask import Response, request

from service import resources as r
from service.api import views
from service.api.answers import (
    DatasetPath,
    ListQuery,
    VersionPath,
    answer,
    answer_job,
    answer_page,
)
from service.api.auth import STREAMED_ENDPOINTS, actor, make_blueprint
from service.operations import datasets
from service.refusals import RequestRefused
from service.web import application

DEFAULT_DELTA = Decimal("1e-5")
BLOCK_BYTES = 256 * 1024

blueprint = make_blueprint("datasets", about="Datasets, budgets, versions and their uploads.")


@blueprint.post("/datasets", summary="Create a dataset and its budget", responses={201: r.Dataset})
def create_dataset(body: r.NewDataset) -> Response:
    """Declare a dataset; everything in `declared` is public."""
    epsilon, delta = _decimal(body.epsilon), _decimal(body.delta)
    if body.join_dataset_id is None and delta is None:
        delta = DEFAULT_DELTA
    with application().uow() as uow:
        found = datasets.create_dataset(
            uow,
            actor(),
            name=body.name,
            purpose=body.purpose,
            schema=body.declared,
            budget_epsilon=epsilon,
            budget_delta=delta,
            rule=body.rule,
            join_dataset_id=body.join_dataset_id,
        )
        view = views.dataset(found)
    return answer(view, status=201, headers={"Location": f"/v1/datasets/{view.id}"})


@blueprint.get("/datasets", summary="List datasets", responses={200: r.DatasetPage})
def list_datasets(query: ListQuery) -> Response:
    """List the datasets of the actor's tenant, newest first."""
    with application().uow(read_only=True) as uow:
        page = datasets.list_datasets(uow, actor(), cursor=query.cursor, limit=query.limit)
        return answer_page(r.DatasetPage, page, views.dataset)


@blueprint.get("/datasets/<string:dataset_id>", summary="A dataset", responses={200: r.Dataset})
def get_dataset(path: DatasetPath) -> Response:
    """Show a dataset and its newest versions."""
    with application().uow(read_only=True) as uow:
        found = datasets.get_dataset(uow, actor(), dataset_id=path.dataset_id)
        versions = datasets.list_versions(uow, actor(), dataset_id=path.dataset_id, limit=200)
        return answer(views.dataset(found, versions.items))


@blueprint.get(
    "/datasets/<string:dataset_id>/budget", summary="A dataset's budget", responses={200: r.Budget}
)
def get_budget(path: DatasetPath) -> Response:
    """Show what is reserved, spent and left, job by job."""
    with application().uow(read_only=True) as uow:
        dataset = datasets.get_dataset(uow, actor(), dataset_id=path.dataset_id)
        found = datasets.get_budget(uow, actor(), dataset_id=path.dataset_id)
        return answer(views.budget(found, dataset_id=dataset.id, unit=dataset.schema.unit))


@blueprint.post(
    "/datasets/<string:dataset_id>/versions", summary="Start an upload", responses={201: r.Upload}
)
def start_upload(path: DatasetPath, body: r.NewUpload) -> Response:
    """Make a version whose bytes come next, in parts or as one stream."""
    with application().uow() as uow:
        version = datasets.start_upload(
            uow,
            actor(),
            dataset_id=path.dataset_id,
            suffix=body.suffix,
            size_bytes=body.size_bytes,
        )
        view = r.Upload(
            version=views.version(version),
            part_size_bytes=version.part_bytes,
            part_count=version.part_count,
        )
    headers = {"Location": f"/v1/versions/{view.version.id}"}
    return answer(view, status=201, headers=headers)


@blueprint.get("/versions/<string:version_id>", summary="A version", responses={200: r.Version})
def get_version(path: VersionPath) -> Response:
    """Show a dataset version: its state, and why it was refused if it was."""
    with application().uow(read_only=True) as uow:
        return answer(views.version(datasets.get_version(uow, actor(), version_id=path.version_id)))


@blueprint.post(
    "/versions/<string:version_id>/parts", summary="URLs for parts", responses={200: r.PartUrls}
)
def presign_parts(path: VersionPath, body: r.PartNumbers) -> Response:
    """Return presigned URLs that parts are PUT to; each lives for minutes only."""
    with application().uow() as uow:
        urls = datasets.presign_upload_parts(
            uow, actor(), version_id=path.version_id, part_numbers=body.part_numbers
        )
    view = [r.PartUrl(part_number=number, url=url) for number, url in urls.items()]
    return answer(r.PartUrls(urls=view))


@blueprint.post(
    "/versions/<string:version_id>/complete", summary="Finish an upload", responses={202: r.Job}
)
def complete_upload(path: VersionPath, body: r.CompletedUpload) -> Response:
    """Put the parts together and queue the INGEST job."""
    with application().uow() as uow:
        job = datasets.complete_upload(
            uow,
            actor(),
            version_id=path.version_id,
            parts=[(part.part_number, part.etag) for part in body.parts],
        )
        view = views.job(job)
    return answer_job(view)


@blueprint.put(
    "/versions/<string:version_id>/content",
    summary="Upload as one stream",
    responses={202: r.Job},
    openapi_extensions={"x-body": "application/octet-stream, streamed; may be chunked"},
)
def put_content(path: VersionPath) -> Response:
    """Stream the bytes of a version to object storage and queue the INGEST job."""
    if request.mimetype != "application/octet-stream":
        stated = request.mimetype[:80]
        raise RequestRefused(
            415,
            f"The upload was refused: its body is {stated or 'of no stated type'}; "
            "it must be application/octet-stream. Set Content-Type.",
            value=stated,
            limit="application/octet-stream",
        )
    # The one request that may be large. A number, because None would mean the global limit.
    request.max_content_length = application().settings.max_upload_bytes
    with application().uow() as uow:
        job = datasets.put_upload(uow, actor(), version_id=path.version_id, chunks=_blocks())
        view = views.job(job)
    return answer_job(view)


@blueprint.post(
    "/datasets/<string:dataset_id>/withdrawals",
    summary="Withdraw a person",
    responses={202: r.Job},
)
def withdraw_person(path: DatasetPath, body: r.NewWithdrawal) -> Response:
    """Queue the ERASE job that makes a version without a person."""
    with application().uow() as uow:
        job = datasets.withdraw_person(
            uow, actor(), dataset_id=path.dataset_id, patient_id=body.patient_id
        )
        view = views.job(job)
    return answer_job(view)


STREAMED_ENDPOINTS.add("api_datasets.put_content")


def _blocks() -> Iterator[bytes]:
    while block := request.stream.read(BLOCK_BYTES):
        yield block


def _decimal(number: float | None) -> Decimal | None:
    return None if number is None else Decimal(str(number))
