"""Calls about access: who may have a release, who asks, who is granted it, who took it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

from service import access_resources as r
from service.connection import Connection
from service.domain.access_fields import RequestField


class AccessCalls:
    """The part of the client that is about access."""

    _connection: Connection

    def access_policy(self, release_id: str) -> r.AccessPolicy:
        """Return who may have a release, and what you lack to download it."""
        return self._connection.get(r.AccessPolicy, f"/v1/releases/{release_id}/access-policy")

    def set_access_policy(
        self,
        release_id: str,
        *,
        mode: Literal["open", "by_request"],
        fields: Sequence[RequestField] = (),
        agreement_id: str | None = None,
        grant_days: int = 365,
    ) -> r.AccessPolicy:
        """Choose who may have a release (data owner)."""
        body = r.NewAccessPolicy(
            mode=mode, fields=list(fields), agreement_id=agreement_id, grant_days=grant_days
        )
        path = f"/v1/releases/{release_id}/access-policy"
        return self._connection.post(r.AccessPolicy, path, body, method="PUT")

    def request_access(
        self,
        release_id: str,
        *,
        answers: Mapping[str, str | bool],
        agreement_number: int | None = None,
        agreement_sha256: str | None = None,
    ) -> r.AccessRequest:
        """Ask for a release; the agreement it needs is accepted with it."""
        body = r.NewAccessRequest(
            answers=dict(answers),
            agreement_number=agreement_number,
            agreement_sha256=agreement_sha256,
        )
        path = f"/v1/releases/{release_id}/access-requests"
        return self._connection.post(r.AccessRequest, path, body)

    def access_requests(
        self,
        *,
        whose: Literal["mine", "incoming"] = "mine",
        state: str | None = None,
        release_id: str | None = None,
    ) -> Iterator[r.AccessRequest]:
        """Yield your requests and grants, or those that your tenant decides on, newest first."""
        return self._connection.pages(
            r.AccessRequestPage,
            "/v1/access-requests",
            whose=whose,
            state=state,
            release_id=release_id,
        )

    def access_request(self, request_id: str) -> r.AccessRequest:
        """Return one request."""
        return self._connection.get(r.AccessRequest, f"/v1/access-requests/{request_id}")

    def approve_access(
        self, request_id: str, *, days: int | None = None, reason: str = ""
    ) -> r.AccessRequest:
        """Grant access (data owner); without days, for as long as the policy says."""
        body = r.Approval(days=days, reason=reason)
        path = f"/v1/access-requests/{request_id}/approve"
        return self._connection.post(r.AccessRequest, path, body)

    def reject_access(self, request_id: str, *, reason: str) -> r.AccessRequest:
        """Refuse access (data owner)."""
        path = f"/v1/access-requests/{request_id}/reject"
        return self._connection.post(r.AccessRequest, path, r.Why(reason=reason))

    def withdraw_access_request(self, request_id: str) -> r.AccessRequest:
        """Take back your own request."""
        path = f"/v1/access-requests/{request_id}/withdraw"
        return self._connection.post(r.AccessRequest, path)

    def revoke_access(self, request_id: str, *, reason: str) -> r.AccessRequest:
        """End a grant at once (data owner)."""
        path = f"/v1/access-requests/{request_id}/revoke"
        return self._connection.post(r.AccessRequest, path, r.Why(reason=reason))

    def agreements(self) -> list[r.Agreement]:
        """Return the agreements of your tenant (data owner)."""
        return self._connection.get(r.Agreements, "/v1/agreements").items

    def agreement(self, agreement_id: str) -> r.Agreement:
        """Return an agreement with the version in force."""
        return self._connection.get(r.Agreement, f"/v1/agreements/{agreement_id}")

    def create_agreement(
        self, name: str, *, text: str, effective_from: datetime | None = None
    ) -> r.Agreement:
        """Write an agreement (data owner)."""
        body = r.NewAgreement(name=name, text=text, effective_from=effective_from)
        return self._connection.post(r.Agreement, "/v1/agreements", body)

    def add_agreement_version(
        self, agreement_id: str, *, text: str, effective_from: datetime | None = None
    ) -> r.Agreement:
        """Write a new version of an agreement (data owner)."""
        body = r.NewAgreementVersion(text=text, effective_from=effective_from)
        path = f"/v1/agreements/{agreement_id}/versions"
        return self._connection.post(r.Agreement, path, body)

    def accept_agreement(
        self, agreement_id: str, *, number: int, sha256: str
    ) -> r.AgreementAcceptance:
        """Accept the version in force, by its number and the digest of its text."""
        body = r.NewAgreementAcceptance(number=number, sha256=sha256)
        path = f"/v1/agreements/{agreement_id}/acceptances"
        return self._connection.post(r.AgreementAcceptance, path, body)

    def search_catalogue(self, text: str = "", **filters: str) -> Iterator[r.CatalogueEntry]:
        """Yield the releases that everybody may see and that fit; filters as /openapi.json says."""
        return self._connection.pages(r.CataloguePage, "/v1/catalogue", q=text or None, **filters)

    def download_log(self, release_id: str) -> Iterator[r.LoggedDownload]:
        """Yield the links that were handed out to a release's bundle (data owner)."""
        return self._connection.pages(r.DownloadLog, f"/v1/releases/{release_id}/downloads")

    def declaration(self, release_id: str) -> r.Declaration:
        """Return licence, data use terms and citation of a release."""
        return self._connection.get(r.Declaration, f"/v1/releases/{release_id}/declaration")

    def declare_release(self, release_id: str, declared: r.NewDeclaration) -> r.Declaration:
        """Declare licence, data use terms and citation of a draft (data owner)."""
        path = f"/v1/releases/{release_id}/declaration"
        return self._connection.post(r.Declaration, path, declared, method="PUT")
