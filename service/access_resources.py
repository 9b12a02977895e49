"""The JSON of access: policies, agreements, requests, the download log, and what is declared."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from service.domain.access_fields import MOST_FIELDS, RequestField
from service.domain.declarations import ReleaseDeclaration
from service.resources import Body, Count, Identifier, Prose, Resource

Text = Annotated[str, Field(min_length=1, max_length=100_000, pattern=r"^[^\x00]+$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Days = Annotated[Count, Field(ge=1, le=3650)]
ModeName = Literal["open", "by_request"]
RequestStateName = Literal["submitted", "approved", "rejected", "withdrawn", "expired", "revoked"]


class NewAccessPolicy(Body):
    """Who may have a release: everybody who accepts its terms, or whoever is granted it."""

    mode: ModeName
    fields: list[RequestField] = Field(
        default=[], max_length=MOST_FIELDS, description="asked of whoever asks"
    )
    agreement_id: Identifier | None = None
    grant_days: Days = 365


class AccessPolicy(Resource):
    """Who may have a release, and what the actor lacks to download it."""

    release_id: str
    mode: str
    fields: list[RequestField] = Field(default=[])
    agreement_id: str | None = None
    grant_days: int
    refusals: list[str] = Field(
        default=[], description="what forbids the actor a download; the first to mend first"
    )


class NewAccessRequest(Body):
    """Answers to the release's questions, and the agreement that is entered into."""

    answers: dict[str, str | bool] = Field(default_factory=dict, max_length=MOST_FIELDS)
    agreement_number: Count | None = Field(default=None, ge=1, le=100_000)
    agreement_sha256: Digest | None = None


class AccessRequest(Resource):
    """A request for access; once approved, the grant. Shown to its author and who decides."""

    id: str
    release_id: str
    release_name: str
    release_version: str
    user_id: str
    user_name: str
    user_tenant: str
    state: str
    revision: int
    fields: list[RequestField] = Field(default=[])
    answers: dict[str, Any] = Field(default={})
    agreement_id: str | None = None
    agreement_number: int | None = None
    renews_id: str | None = None
    created_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str = ""


class AccessRequestPage(Resource):
    """One page of requests, newest first."""

    items: list[AccessRequest]
    next_cursor: str | None = None


class Approval(Body):
    """For how long; without days, as long as the release's policy says."""

    days: Days | None = None
    reason: Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")] = ""


class Why(Body):
    """Why a request is rejected, or a grant revoked; its user reads it."""

    reason: Prose


class NewAgreement(Body):
    """The first version of an agreement."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    text: Text
    effective_from: datetime | None = Field(default=None, description="now if left out")


class NewAgreementVersion(Body):
    """Another version; whoever accepted an older one is asked again once it is in force."""

    text: Text
    effective_from: datetime | None = None


class AgreementVersion(Resource):
    """One immutable text."""

    number: int
    text: str
    sha256: str
    effective_from: datetime
    created_at: datetime


class Agreement(Resource):
    """An agreement, the version in force, and whether the actor accepted that one."""

    id: str
    name: str
    tenant_id: str
    current: AgreementVersion | None = None
    versions: list[AgreementVersion] = Field(default=[])
    accepted_at: datetime | None = None


class Agreements(Resource):
    """The agreements of the actor's tenant, by name."""

    items: list[Agreement]


class NewAgreementAcceptance(Body):
    """Which text is accepted, by its number and digest."""

    number: Count = Field(ge=1, le=100_000)
    sha256: Digest


class AgreementAcceptance(Resource):
    """That the actor accepted a version, and when."""

    agreement_id: str
    number: int
    sha256: str
    user_id: str
    accepted_at: datetime


class LoggedDownload(Resource):
    """A link to the bundle that was handed out."""

    id: str
    at: datetime
    user_id: str
    user_name: str
    tenant: str
    release_name: str
    release_version: str
    grant_id: str | None = None


class DownloadLog(Resource):
    """One page of the download log, the last one first."""

    items: list[LoggedDownload]
    next_cursor: str | None = None


class CatalogueEntry(Resource):
    """One release of the catalogue, as its list shows it."""

    release_id: str
    name: str
    version: str
    title: str
    state: str
    tier: str
    verdict: str
    modality: str
    label: str
    licence: str
    epsilon: float | None = None
    unit: str = ""
    listed_at: datetime | None = None
    tenant: str
    mode: str


class CataloguePage(Resource):
    """One page of the catalogue."""

    items: list[CatalogueEntry]
    next_cursor: str | None = None


class NewDeclaration(ReleaseDeclaration, Body):
    """Licence, data use terms and citation of a release."""


class Declaration(Resource):
    """What is declared about a release, and how to cite it."""

    release_id: str
    declared: ReleaseDeclaration
    licence_words: str
    duo_words: dict[str, str] = Field(default={})
    citation: str
    bibtex: str
