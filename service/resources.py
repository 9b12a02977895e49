"""The JSON that crosses the HTTP border: request bodies and resources, for both of its ends.

`service.api` validates and documents with these models, `service.client` reads and writes with
them, so the two cannot drift apart. No web framework and no database is imported here.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from privacy.manifests import Declared
from service.domain.declarations import ReleaseDeclaration
from service.domain.versions import VERSION_PATTERN

IDENTIFIER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""Ids are opaque: nobody may read anything into one, and none can hold a path or a quote."""

Identifier = Annotated[str, Field(pattern=IDENTIFIER_PATTERN, max_length=64)]
Count = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
"""Numbers that were sent as numbers: `true` and "1" are not taken for 1."""
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Prose = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00]+$")]
RoleName = Literal["data_owner", "collaborator", "auditor", "operator"]
TierName = Literal["public", "registered", "enclave"]
PresetName = Literal["quick", "balanced", "best"]

LARGEST_UPLOAD_BYTES = 2**40
LARGEST_PART_NUMBER = 10_000  # the S3 limit


class Body(BaseModel):
    """A request body: unknown fields are refused, so a misspelt limit is never ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Resource(BaseModel):
    """A response: clients ignore fields that are newer than they are."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# Accounts ---------------------------------------------------------------------------------------


class NewTenant(Body):
    """A hospital, or another organisation, that nobody else's people can look into."""

    name: Name


class NewUser(Body):
    """A person, or a program, that acts in one tenant."""

    name: Name
    roles: list[RoleName] = Field(min_length=1, max_length=4)
    tenant_id: Identifier


class NewApiKey(Body):
    """An API key for a user; no scopes means everything that the user's roles may do."""

    user_id: Identifier
    scopes: list[Annotated[str, Field(pattern=r"^[a-z_]+(:[a-z_]+)?$", max_length=64)]] = Field(
        default_factory=list, max_length=32
    )
    expires_in_days: Count | None = Field(default=None, ge=1, le=3650)


class Tenant(Resource):
    """A tenant."""

    id: str
    name: str


class User(Resource):
    """A user and the roles that they hold."""

    id: str
    tenant_id: str
    name: str
    roles: list[str]


class ApiKey(Resource):
    """A new API key. `token` is shown this once: only its hash is kept."""

    id: str
    user_id: str
    token: str
    scopes: list[str] = []
    expires_at: datetime | None = None


class Me(Resource):
    """Who the API key acts for."""

    user_id: str
    tenant_id: str
    roles: list[str]
    scopes: list[str] = []


class Instance(Resource):
    """Who signs the releases of this instance."""

    name: str
    url: str
    fingerprint: str = Field(description="SHA-256 of the raw Ed25519 public key, hex")
    public_key: str = Field(description="PEM")


# Datasets ---------------------------------------------------------------------------------------


class NewDataset(Body):
    """What the data owner declares to be public, and the budget that may ever be spent."""

    name: Name
    purpose: Prose
    declared: Declared
    epsilon: Number | None = Field(
        default=None, gt=0, le=100, description="of the budget; left out when joining another"
    )
    delta: Number | None = Field(default=None, gt=0, lt=1, description="of the budget")
    rule: Literal["basic", "renyi"] = "basic"
    join_dataset_id: Identifier | None = Field(
        default=None, description="share the cohort, and the budget, of this dataset"
    )


class Dataset(Resource):
    """A dataset: a lineage of versions about the same persons."""

    id: str
    name: str
    purpose: str
    declared: Declared
    cohort_id: str | None = None
    created_at: datetime | None = None
    versions: list["Version"] = []


class Version(Resource):
    """One immutable version of a dataset. Counts are private: its owner's and auditors' only."""

    id: str
    dataset_id: str
    number: int
    state: str
    record_count: int | None = None
    person_count: int | None = None
    manifest_digest: str | None = None
    created_at: datetime | None = None
    raw_erased_at: datetime | None = None
    ingest_report: dict[str, Any] = {}
    problem: dict[str, Any] | None = None


class BudgetEntry(Resource):
    """What one job holds or has cost; `epsilon` is its cost once it is closed."""

    job_id: str
    state: str
    open: bool
    generator: str | None = None
    epsilon_reserved: float
    epsilon: float
    delta: float
    mechanisms: list[dict[str, Any]] = []
    charged_steps: list[int] = []


class Budget(Resource):
    """The budget of a dataset's cohort. Epsilon is derived from the recorded mechanisms."""

    dataset_id: str
    cohort_id: str
    rule: str
    relation: str = "add_or_remove_one"
    unit: str
    epsilon: float
    epsilon_reserved: float
    epsilon_spent: float
    epsilon_remaining: float
    delta: float
    delta_reserved: float
    delta_spent: float
    delta_remaining: float
    candidates_trained: int
    audits_attempted: int
    entries: list[BudgetEntry] = []


class NewUpload(Body):
    """An upload about to start. The name of the file stays with you; only its suffix is sent."""

    suffix: Literal[".zip", ".npz", ".csv", ".parquet"] = ".zip"
    size_bytes: Count = Field(ge=1, le=LARGEST_UPLOAD_BYTES)


class Upload(Resource):
    """Where the parts of an upload go."""

    version: Version
    part_size_bytes: int
    part_count: int


class PartNumbers(Body):
    """Which parts to get URLs for; each URL lives for minutes only."""

    part_numbers: list[Annotated[Count, Field(ge=1, le=LARGEST_PART_NUMBER)]] = Field(
        min_length=1, max_length=100
    )


class PartUrl(Resource):
    """A presigned URL that one part is PUT to."""

    part_number: int
    url: str


class PartUrls(Resource):
    """Presigned URLs."""

    urls: list[PartUrl]


class Part(Body):
    """A part that object storage has taken."""

    part_number: Count = Field(ge=1, le=LARGEST_PART_NUMBER)
    etag: str = Field(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]+$")


class CompletedUpload(Body):
    """Every part of an upload, in order."""

    parts: list[Part] = Field(min_length=1, max_length=LARGEST_PART_NUMBER)


class NewWithdrawal(Body):
    """A person who withdraws. The id is turned into a keyed digest and kept nowhere."""

    patient_id: str = Field(min_length=1, max_length=256, pattern=r"^[^\x00]+$")


# Jobs -------------------------------------------------------------------------------------------


class Generators(Resource):
    """Name to title, documentation, JSON Schema of the config, defaults and stages."""

    generators: dict[str, Any]


class NewTarget(Body):
    """The epsilon and delta of one run."""

    epsilon: Number = Field(gt=0, le=100)
    delta: Number | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="a tenth of the budget's if left out, so that several runs fit",
    )


class NewTraining(Body):
    """What is asked of a training run: a generator, a preset or settings of one's own, a target."""

    generator: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    preset: PresetName | None = Field(
        default=None, description="settings by name; fields of config have the last word"
    )
    config: dict[str, Any] = Field(default_factory=dict)
    target: NewTarget
    tier: TierName = "registered"
    samples: Count = Field(
        default=8000, ge=1, le=200_000, description="synthetic images, or rows, to draw"
    )


class NewTrainingPlan(NewTraining):
    """A training run to be costed; nothing is reserved."""

    estimate: Annotated[bool, Strict()] = Field(
        default=True, description="find out time and memory by a dry run on random records"
    )


class Estimate(Resource):
    """The time and memory a run is expected to take, from a dry run on random records.

    Each unit is taken to have one; the audit that follows the sampling is not in it.
    """

    state: Literal["pending", "ready", "failed", "unavailable"]
    job_id: str | None = None
    seconds: float | None = Field(default=None, description="of training and sampling")
    fit_seconds: float | None = None
    sample_seconds: float | None = None
    peak_bytes: int | None = Field(default=None, description="of main memory")
    device_bytes: int | None = Field(default=None, description="of a GPU's memory")
    device: str | None = Field(default=None, description="what the dry run ran on")
    reason: str | None = Field(default=None, description="why there is none")


class TrainingPlan(Resource):
    """The mechanisms a run would reserve, their epsilon, and why it would be refused."""

    preset: str | None = None
    mechanisms: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    epsilon: float | None = None
    delta: float
    epsilon_remaining: float | None = None
    delta_remaining: float | None = None
    accepted: bool
    refusal: str | None = None
    units: int | None = Field(
        default=None, description="expected size of the training arm, from the declared count"
    )
    warnings: list[str] = Field(default=[], description="sentences to read before paying")
    recommended: str = Field(default="", description="the generator for this many units")
    recommendation: str = Field(default="", description="the same as a sentence")
    estimate: Estimate | None = None


class NewJob(NewTraining):
    """A training run: its mechanisms are reserved in the budget before this is answered."""

    version_id: Identifier
    canaries: Count = Field(
        default=0,
        ge=0,
        le=2000,
        description="made-up units of an audit twin, which is charged and never released; 0 for none",
    )


class Job(Resource):
    """One piece of work. `status` is for people, `state` for programs."""

    id: str
    kind: str
    state: str
    status: str
    stage: str
    step: int = 0
    total: int = 0
    eta_seconds: float | None = None
    attempt: int = 0
    dataset_id: str | None = None
    version_id: str | None = None
    release_id: str | None = None
    parent_id: str | None = None
    payload: dict[str, Any] = {}
    progress: dict[str, Any] = {}
    result: dict[str, Any] = {}
    problem: dict[str, Any] | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """Say whether the job will never change again."""
        return self.state in {"succeeded", "failed", "cancelled"}


# Releases ---------------------------------------------------------------------------------------


class NewRelease(Body):
    """A candidate for publication, from one audited set of samples."""

    dataset_id: Identifier
    audit_job_id: Identifier
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    version: Annotated[str, Field(pattern=VERSION_PATTERN)] = "1.0.0"
    terms: Prose
    declared: ReleaseDeclaration = Field(
        default=ReleaseDeclaration(), description="licence, data use terms, citation"
    )


class RevisedRelease(Body):
    """What may change while a release is a draft or was returned."""

    audit_job_id: Identifier | None = None
    terms: Prose | None = None


class Conditions(Body):
    """What an approval depends on; `expires_on` is the first day on which it no longer holds."""

    text: Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")] = ""
    max_tier: TierName | None = None
    expires_on: date | None = None


class NewReview(Body):
    """An auditor's vote; hidden from the other auditor until both have voted."""

    decision: Literal["approve", "return", "reject"]
    reason: Prose
    conditions: Conditions | None = Field(default=None, description="of an approval only")


class Reason(Body):
    """Why a release is taken away, or brought back; shown on its tombstone."""

    reason: Prose


class Review(Resource):
    """A vote that may be seen."""

    auditor_id: str
    decision: str
    reason: str
    round: int
    created_at: datetime | None = None
    conditions: dict[str, Any] = {}


class EarlierRelease(Resource):
    """Another release of the same samples, and the votes on it that may be seen."""

    id: str
    name: str
    version: str
    state: str
    reviews: list[Review] = []


class Release(Resource):
    """A release. What is measured on real records is not in it.

    Fields of the candidate (`dataset_id`, `audit_job_id`, `author_id`, `reviews`, `votes`,
    `earlier`) are shown inside the tenant only.
    """

    id: str
    name: str
    version: str
    state: str
    revision: int
    tier: str | None = None
    verdict: str | None = None
    unit: str | None = None
    relation: str = "add_or_remove_one"
    epsilon: float | None = Field(default=None, description="stated once published")
    delta: float | None = None
    cohort_epsilon: float | None = Field(default=None, description="at publication")
    terms: str | None = None
    has_accepted: bool = False
    labels: list[str] = []
    modality: str | None = Field(
        default=None, description="image, table or joint: rows with an image each; once published"
    )
    columns: list[str] = Field(default=[], description="of a table, with images or without")
    image_count: int | None = Field(default=None, description="images, or rows")
    height: int | None = None
    width: int | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    tombstone: dict[str, Any] | None = None
    created_at: datetime | None = None
    published_at: datetime | None = None
    expires_at: datetime | None = None
    conditions: dict[str, Any] = Field(default={}, description="of both approvals, joined")
    due_at: datetime | None = Field(default=None, description="when its owner should have acted")
    renews_id: str | None = None
    dataset_id: str | None = None
    audit_job_id: str | None = None
    package_job_id: str | None = None
    author_id: str | None = None
    reviews: list[Review] = []
    votes: int = 0
    earlier: list[EarlierRelease] = Field(
        default=[], description="other releases of the same samples, and what was decided of them"
    )


class Acceptance(Resource):
    """That a collaborator has accepted the terms of a release."""

    release_id: str
    user_id: str
    accepted_at: datetime | None = None


class Download(Resource):
    """A short-lived URL of a release's bundle, and what must come out of it."""

    url: str
    expires_at: datetime
    size_bytes: int
    sha256: str
    file_name: str


class NewReaudits(Body):
    """Which releases are audited again; none named means all that are published or suspended."""

    release_ids: list[Identifier] = Field(default=[], max_length=1000)
    depth: Literal["quick", "full"] = "quick"


class Reaudit(Resource):
    """A release that is audited again, and the job that does it."""

    release_id: str
    job_id: str
    verdict: str | None = None
    state: str | None = None


class SkippedRelease(Resource):
    """A release that is not audited again, and why."""

    release_id: str
    reason: str


class Reaudits(Resource):
    """What was queued. A release that fails is suspended by itself."""

    policy_version: str
    policy_digest: str
    queued: list[Reaudit]
    skipped: list[SkippedRelease]


class Downloader(Resource):
    """Somebody to whom a link to a release was handed out."""

    user_id: str
    name: str
    tenant: str
    downloads: int
    first_at: datetime
    last_at: datetime


class Downloaders(Resource):
    """Everybody who holds a release, or could; the last one first."""

    items: list[Downloader]


class TrailEvent(Resource):
    """Who did what to which thing, when."""

    sequence: int
    happened_at: datetime
    kind: str
    actor_id: str | None = None
    action: str
    subject_id: str
    details: dict[str, Any] = {}
    digest: str | None = None


# Lists ------------------------------------------------------------------------------------------


class Page(Resource):
    """One page of a list; `next_cursor` is null on the last one."""

    next_cursor: str | None = None


class DatasetPage(Page):
    """Datasets, newest first."""

    items: list[Dataset]


class JobPage(Page):
    """Jobs, newest first."""

    items: list[Job]


class ReleasePage(Page):
    """Releases, newest first."""

    items: list[Release]


class TrailPage(Resource):
    """Events, oldest first; `next_cursor` is the position of the last one."""

    next_cursor: int | None = None
    items: list[TrailEvent]


class Problem(BaseModel):
    """RFC 9457 problem details: `detail` is the sentence a user reads."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="stable relative reference, such as /problems/budget-refused")
    title: str
    status: int
    detail: str
    instance: str | None = Field(default=None, description="id of this request, for the operator")
    file: str | None = None
    value: Any = None
    limit: Any = None
    remedy: str | None = None
