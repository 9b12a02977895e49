"""Withdraw a person: a new version without them, the old bytes deleted, what is affected listed.

The person's id is turned into a keyed digest at once and stored nowhere. Spent epsilon stays spent.
The digest stays in the cohort, marked as withdrawn: a later upload that holds the person again is
refused with a sentence (dropping them silently would hide that the source still has them), and so
is every use of a stored version that they are in: training on it in any dataset of the cohort, and
submitting or publishing what was trained on it. What is published already is listed, not moved.
"""

import sqlalchemy as sa

from privacy.manifests import DatasetManifest
from privacy.mechanisms import UnitOfPrivacy
from service.domain import permissions
from service.domain.accounts import SYSTEM, Actor
from service.domain.datasets import Cohort, Dataset, DatasetVersion, VersionState
from service.domain.errors import Conflict, InputRefused, NotFound
from service.domain.identifiers import new_id
from service.domain.jobs import SHOW_RECORDS, TERMINAL, Job, JobKind
from service.domain.persons import canonical_person, spellings
from service.domain.trail import TrailEvent
from service.operations import fencing, membership
from service.operations.queueing import queue_job
from service.operations.uploads import next_number
from service.store import tables
from service.store.objects import Bucket
from service.store.unit_of_work import UnitOfWork

_persons = tables.cohort_persons
_versions = tables.dataset_versions
_held = tables.version_persons


def withdraw_person(uow: UnitOfWork, actor: Actor, *, dataset_id: str, patient_id: str) -> Job:
    """Queue the ERASE job that makes a version without the person.

    The person may be in older versions only; these are erased all the same.
    Raises: InputRefused if the unit is not the person, or nobody has this id; Conflict while the
    dataset has an unfinished job, because that job may read the bytes that are to be deleted.
    """
    dataset = permissions.check_may_change_dataset(
        actor, uow.get(Dataset, dataset_id, lock=True), asked=dataset_id
    )
    if dataset.schema.unit is not UnitOfPrivacy.PERSON:
        raise InputRefused(
            "The withdrawal was refused: this dataset protects single "
            f"{'rows' if dataset.modality == 'table' else 'images'} and knows no persons. "
            "Upload a version without the record."
        )
    uow.get(Cohort, dataset.cohort_id, lock=True)  # whoever requests a training holds it as well
    digest = _known_digest(uow, dataset, patient_id)
    _check_idle(uow, dataset)
    _check_stored(uow, dataset, digest)
    source = _newest_ready(uow, dataset.id)
    version = DatasetVersion(
        id=new_id("ver"),
        tenant_id=dataset.tenant_id,
        dataset_id=dataset.id,
        number=next_number(uow, dataset.id),
        created_by=actor.user_id,
        created_at=uow.now(),
        state=VersionState.INGESTING,
    )
    uow.session.add(version)
    job = queue_job(
        uow,
        actor,
        kind=JobKind.ERASE,
        tenant_id=dataset.tenant_id,
        dataset_id=dataset.id,
        version_id=version.id,
        payload={
            "person_digest": digest.hex(),
            "source_version_id": source.id,
            "number": version.number,
        },
    )
    uow.trail(actor, TrailEvent.PERSON_WITHDRAW, dataset.id, job=job.id)
    return job


def finish_erase(
    uow: UnitOfWork, job_id: str, *, token: str, manifest: DatasetManifest
) -> DatasetVersion:
    """Make the version without the person READY and erase every older one of the dataset.

    Releases that were trained on a version with the person, erased now or before, in this dataset
    or another one of the cohort, are listed in the trail and in the version's ingest report, and so
    are the other datasets that still hold them. Repeating it after an interruption changes nothing.
    Raises: LeaseLost, JournalBehind.
    """
    job = fencing.check_token(uow, job_id, token=token)
    version = uow.get(DatasetVersion, str(job.version_id), lock=True)
    dataset = uow.get(Dataset, job.dataset_id)
    if version is None or dataset is None:
        raise NotFound(f"The dataset version of job {job_id} is missing.")
    if version.state is VersionState.READY:
        return version
    old = _ready_versions(uow, dataset.id)
    digest = bytes.fromhex(job.payload["person_digest"])
    affected = _affected_releases(uow, dataset, digest)
    version.manifest = manifest.model_dump(mode="json")
    version.manifest_digest = manifest.digest()
    version.ingest_report = {
        "affected_releases": affected,
        "also_in_datasets": _others_with(uow, dataset, digest),
        **_still_true(uow, job.payload["source_version_id"]),
    }
    version.move_to(VersionState.READY)
    for item in old:
        item.move_to(VersionState.ERASED)
    _copy_persons(uow, job.payload["source_version_id"], to=version.id, without=digest)
    membership.withdraw(uow, dataset, person_digest=digest)
    uow.trail(
        SYSTEM,
        TrailEvent.PERSON_ERASE,
        dataset.id,
        job=job.id,
        version=version.id,
        erased_versions=[item.id for item in old],
        affected_releases=affected,
    )
    return version


def _still_true(uow: UnitOfWork, source_id: str) -> dict[str, object]:
    """Return what the check told of a version that holds of it without somebody as well."""
    source = uow.get(DatasetVersion, source_id)
    report = {} if source is None else source.ingest_report
    return {name: report[name] for name in ("nobody_known",) if name in report}


def sweep_erasures(uow: UnitOfWork, *, dataset_id: str | None = None) -> int:
    """Delete raw uploads and blobs that no state needs any more; return how many versions.

    Runs after every ending and by the reaper, so an interruption only delays a deletion.
    """
    raw_due = sa.and_(
        _versions.c.raw_key.is_not(None),
        _versions.c.raw_erased_at.is_(None),
        _versions.c.state.in_([VersionState.READY, VersionState.REFUSED, VersionState.ERASED]),
    )
    blobs_due = sa.and_(
        _versions.c.blobs_erased_at.is_(None),
        _versions.c.state.in_([VersionState.REFUSED, VersionState.ERASED]),
    )
    due = sa.select(_versions.c.id).where(raw_due | blobs_due)
    if dataset_id is not None:
        due = due.where(_versions.c.dataset_id == dataset_id)
    found = list(uow.session.execute(due.order_by(_versions.c.id)).scalars())
    return sum(sweep_version(uow, version_id) for version_id in found)


def sweep_version(uow: UnitOfWork, version_id: str) -> int:
    """Delete what one version no longer needs; commits before and after. Safe to repeat."""
    version = uow.get(DatasetVersion, version_id)
    if version is None or _has_unfinished_ingest(uow, version.dataset_id):
        return 0  # an interrupted job may still need these bytes to be repeated
    raw_key, prefix, state = version.raw_key, version.prefix, version.state
    upload_id = version.upload_id
    gone = state in {VersionState.REFUSED, VersionState.ERASED}
    audits = _audits_of(uow, version.id) if gone else []
    raw_due = raw_key is not None and version.raw_erased_at is None
    raw_due = raw_due and state not in {VersionState.UPLOADING, VersionState.INGESTING}
    uow.commit()  # deletions may take long; no lock is held meanwhile
    if raw_due and raw_key is not None:
        if upload_id is not None:
            uow.objects.abort_multipart(Bucket.WORK, raw_key, upload_id=upload_id)
        uow.objects.delete(Bucket.WORK, raw_key)
    if gone:
        uow.objects.delete_prefix(Bucket.WORK, prefix)
        for audit_id in audits:
            _delete_pictures(uow, audit_id)
    version = uow.get(DatasetVersion, version_id, lock=True)
    if version is None:
        return 0
    if raw_due:
        version.raw_erased_at = uow.now()
        uow.trail(SYSTEM, TrailEvent.VERSION_ERASE_RAW, version.id)
    if gone and version.blobs_erased_at is None:
        version.blobs_erased_at = uow.now()
        uow.trail(SYSTEM, TrailEvent.VERSION_ERASE, version.id)
        for audit_id in audits:
            _forget_page(uow, audit_id)
    uow.commit()
    return 1


def _has_unfinished_ingest(uow: UnitOfWork, dataset_id: str) -> bool:
    statement = sa.select(tables.jobs.c.id).where(
        tables.jobs.c.dataset_id == dataset_id,
        tables.jobs.c.kind.in_([JobKind.INGEST, JobKind.ERASE]),
        tables.jobs.c.state.not_in(list(TERMINAL)),
    )
    return uow.session.execute(statement).first() is not None


def _known_digest(uow: UnitOfWork, dataset: Dataset, patient_id: str) -> bytes:
    """Return the digest under which the cohort knows a person, first one that the dataset holds.

    Raises: InputRefused if nobody has the id, in any spelling.
    """
    found = []
    for text in spellings(patient_id):
        digest = uow.keys.person_digest(dataset.tenant_id, canonical_person(text))
        statement = sa.select(_persons.c.cohort_id).where(
            _persons.c.tenant_id == dataset.tenant_id,
            _persons.c.person_digest == digest,
            _persons.c.cohort_id == dataset.cohort_id,
        )
        if uow.session.execute(statement).first() is not None:
            found.append(digest)
    if not found:
        raise InputRefused(
            "The withdrawal was refused: nobody in this dataset's cohort has this id. "
            "Check the spelling, leading zeros included."
        )
    # Somebody withdrawn before may still be in another dataset of the cohort, so that is no bar.
    held = [one for one in found if dataset.id in _ready_places(uow, dataset, one)]
    return (held or found)[0]


def _check_idle(uow: UnitOfWork, dataset: Dataset) -> None:
    statement = sa.select(tables.jobs.c.id).where(
        tables.jobs.c.dataset_id == dataset.id, tables.jobs.c.state.not_in(list(TERMINAL))
    )
    busy = uow.session.execute(statement).scalars().first()
    if busy is not None:
        raise Conflict(
            f"The withdrawal was refused: job {busy} still reads this dataset. "
            "Cancel it, or wait until it ends."
        )


def _ready_versions(uow: UnitOfWork, dataset_id: str) -> list[DatasetVersion]:
    statement = (
        sa.select(DatasetVersion)
        .where(_versions.c.dataset_id == dataset_id, _versions.c.state == VersionState.READY)
        .order_by(_versions.c.number)
    )
    return list(uow.session.execute(statement).scalars())


def _newest_ready(uow: UnitOfWork, dataset_id: str) -> DatasetVersion:
    ready = _ready_versions(uow, dataset_id)
    if not ready:
        raise InputRefused("The withdrawal was refused: this dataset has no ready version.")
    return ready[-1]


def _affected_releases(uow: UnitOfWork, dataset: Dataset, digest: bytes) -> list[str]:
    releases = tables.releases
    statement = (
        sa.select(releases.c.id)
        .join(tables.jobs, tables.jobs.c.id == releases.c.audit_job_id)
        .join(_held, _held.c.version_id == tables.jobs.c.version_id)
        .where(releases.c.tenant_id == dataset.tenant_id, _held.c.person_digest == digest)
        .order_by(releases.c.id)
    )
    return list(uow.session.execute(statement).scalars())


def check_usable(uow: UnitOfWork, version: DatasetVersion, *, what: str) -> None:
    """Refuse the use of a version while a withdrawal runs, or that holds somebody withdrawn.

    `what` begins the sentence: "The training".  Raises: Conflict.
    """
    cohort_id = sa.select(tables.datasets.c.cohort_id).where(
        tables.datasets.c.id == version.dataset_id
    )
    running = (
        sa.select(tables.jobs.c.id)
        .join(tables.datasets, tables.datasets.c.id == tables.jobs.c.dataset_id)
        .where(
            tables.datasets.c.cohort_id == cohort_id.scalar_subquery(),
            tables.jobs.c.kind == JobKind.ERASE,
            tables.jobs.c.state.not_in(list(TERMINAL)),
        )
    )
    busy = uow.session.execute(running).scalars().first()
    if busy is not None:
        raise Conflict(
            f"{what} was refused: job {busy} is withdrawing a person from these data. "
            "Wait until it has ended."
        )
    withdrawn = (
        sa.select(sa.func.count())
        .select_from(_held.join(_persons, _persons.c.person_digest == _held.c.person_digest))
        .where(
            _held.c.version_id == version.id,
            _persons.c.tenant_id == version.tenant_id,
            _persons.c.withdrawn_at.is_not(None),
        )
    )
    count = int(uow.session.execute(withdrawn).scalar_one())
    if count:
        raise Conflict(
            f"{what} was refused: version {version.number} of dataset {version.dataset_id} holds "
            f"{count} person(s) who were withdrawn. Train on a version without them; where there "
            "is none, withdraw them from this dataset as well.",
            value=count,
            limit=0,
        )


def _check_stored(uow: UnitOfWork, dataset: Dataset, digest: bytes) -> None:
    places = _ready_places(uow, dataset, digest)
    if dataset.id in places:
        return
    elsewhere = [place for place in places if place != dataset.id]
    where = f"They are in {', '.join(elsewhere)}: withdraw them there." if elsewhere else ""
    raise InputRefused(
        "The withdrawal was refused: no ready version of this dataset holds the person. "
        f"{where}".strip()
    )


def _ready_places(uow: UnitOfWork, dataset: Dataset, digest: bytes) -> list[str]:
    """Return the datasets of the tenant with a READY version that holds the person."""
    statement = (
        sa.select(_versions.c.dataset_id)
        .join(_held, _held.c.version_id == _versions.c.id)
        .where(
            _versions.c.tenant_id == dataset.tenant_id,
            _versions.c.state == VersionState.READY,
            _held.c.person_digest == digest,
        )
        .distinct()
        .order_by(_versions.c.dataset_id)
    )
    return list(uow.session.execute(statement).scalars())


def _others_with(uow: UnitOfWork, dataset: Dataset, digest: bytes) -> list[str]:
    return [place for place in _ready_places(uow, dataset, digest) if place != dataset.id]


def _copy_persons(uow: UnitOfWork, source_id: str, *, to: str, without: bytes) -> None:
    kept = sa.select(sa.literal(to), _held.c.person_digest).where(
        _held.c.version_id == source_id, _held.c.person_digest != without
    )
    statement = sa.insert(_held).from_select(["version_id", "person_digest"], kept)
    uow.execute_update(statement)


def _audits_of(uow: UnitOfWork, version_id: str) -> list[str]:
    statement = sa.select(tables.jobs.c.id).where(
        tables.jobs.c.version_id == version_id, tables.jobs.c.kind.in_(SHOW_RECORDS)
    )
    return list(uow.session.execute(statement.order_by(tables.jobs.c.id)).scalars())


def _delete_pictures(uow: UnitOfWork, audit_id: str) -> None:
    """Delete whatever an audit stored beside its report: pictures of records, scores on them."""
    audit = uow.get(Job, audit_id)
    kept = None if audit is None else audit.result.get("report")
    for key in list(uow.objects.list_keys(Bucket.WORK, f"candidate/{audit_id}/")):
        if key != kept:
            uow.objects.delete(Bucket.WORK, key)


def _forget_page(uow: UnitOfWork, audit_id: str) -> None:
    audit = uow.get(Job, audit_id, lock=True)
    if audit is None or "report_html" not in audit.result:
        return
    gone = {"report_html", "utility"}
    kept = {name: value for name, value in audit.result.items() if name not in gone}
    audit.result = {**kept, "pictures_erased": True}
    uow.trail(SYSTEM, TrailEvent.REPORT_ERASE_PICTURES, audit_id)
