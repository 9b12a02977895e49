"""Entities of access as the JSON that crosses the border."""

import dataclasses
from typing import Any

from service import access_resources as r
from service.citations import cite
from service.domain.access import AccessPolicy, AgreementVersion
from service.domain.accounts import Actor, Tenant
from service.domain.declarations import DUO_TERMS, LICENCES
from service.domain.errors import PermissionDenied
from service.operations import declaring, downloads, releases
from service.operations.access import RequestView
from service.operations.access_policies import asked_fields
from service.operations.agreements import AgreementView
from service.store.unit_of_work import UnitOfWork


def fields_of(found: Any) -> dict[str, Any]:
    """Return the fields of an entity by name."""
    return {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}


def policy(uow: UnitOfWork, actor: Actor, found: AccessPolicy) -> r.AccessPolicy:
    """Show a policy with what the actor lacks; a role that downloads nothing lacks the role."""
    try:
        standing = downloads.download_standing(uow, actor, release_id=found.release_id)
        refusals = list(standing.refusals)
    except PermissionDenied as error:
        refusals = [error.sentence]
    return r.AccessPolicy(
        release_id=found.release_id,
        mode=found.mode.value,
        fields=asked_fields(found) if found.mode.value == "by_request" else [],
        agreement_id=found.agreement_id,
        grant_days=found.grant_days,
        refusals=refusals,
    )


def access_request(view: RequestView) -> r.AccessRequest:
    """Show a request."""
    shown = fields_of(view.request)
    return r.AccessRequest.model_validate(
        {
            **shown,
            "state": view.request.state.value,
            "release_name": view.release_name,
            "release_version": view.release_version,
            "user_name": view.user_name,
            "user_tenant": view.user_tenant,
        }
    )


def agreement(view: AgreementView) -> r.Agreement:
    """Show an agreement."""
    return r.Agreement(
        id=view.agreement.id,
        name=view.agreement.name,
        tenant_id=view.agreement.tenant_id,
        current=_version(view.current) if view.current else None,
        versions=[_version(version) for version in view.versions],
        accepted_at=view.acceptance.accepted_at if view.acceptance else None,
    )


def declaration(uow: UnitOfWork, actor: Actor, release_id: str) -> r.Declaration:
    """Show what is declared about a release, in words as well."""
    found = releases.get_release(uow, actor, release_id=release_id).release
    declared = declaring.declaration_of(found)
    tenant = uow.get(Tenant, found.tenant_id)
    cited = cite(
        declared,
        name=found.name,
        version=found.version,
        tenant=tenant.name if tenant else "",
        published_at=found.published_at,
        sha256=found.bundle_sha256,
        modality=found.modality,
    )
    return r.Declaration(
        release_id=found.id,
        declared=declared,
        licence_words=LICENCES.get(declared.licence, ""),
        duo_words={code: DUO_TERMS[code][1] for code in declared.duo},
        citation=cited.text,
        bibtex=cited.bibtex,
    )


def _version(found: AgreementVersion) -> r.AgreementVersion:
    return r.AgreementVersion.model_validate(fields_of(found))
