"""Who may do what: every check, every role, own and foreign tenant; hidden things are NotFound."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from privacy.manifests import DatasetSchema
from service.domain import permissions
from service.domain.accounts import ALL_SCOPES, Actor, Role, Scope
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.errors import NotFound, PermissionDenied
from service.domain.jobs import Job, JobKind
from service.domain.releases import Decision, Release, ReleaseState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = DatasetSchema(declared_count=100, height=8, width=8, label="g", labels=("0",))
DATASET = Dataset("d", "here", "c", "n", "p", SCHEMA.model_dump(mode="json"), "author", NOW)
VERSION = DatasetVersion("v", "here", "d", 1, "author", NOW)
JOB = Job("j", JobKind.AUDIT, "here", "d", "author", {}, NOW)
DRAFT = Release("r", "here", "d", "j", "n", "1.0.0", "", "author", NOW)
PUBLISHED = Release(
    "r", "here", "d", "j", "n", "1.0.0", "", "author", NOW, state=ReleaseState.PUBLISHED
)
OWNER, COLLABORATOR, AUDITOR, OPERATOR = (
    Role.DATA_OWNER,
    Role.COLLABORATOR,
    Role.AUDITOR,
    Role.OPERATOR,
)
Check = Callable[[Actor], object]

WITHOUT_SUBJECT: dict[str, tuple[Check, set[Role], Scope]] = {
    "administer": (permissions.check_may_administer, {OPERATOR}, Scope.ADMINISTRATION),
    "read journal": (permissions.check_may_read_journal, {OPERATOR}, Scope.ADMINISTRATION),
    "create dataset": (permissions.check_may_create_dataset, {OWNER}, Scope.DATASETS),
    "create release": (permissions.check_may_create_release, {OWNER}, Scope.RELEASES),
    "list jobs": (permissions.check_may_list_jobs, {OWNER, AUDITOR}, Scope.READ),
    "list datasets": (permissions.check_may_list_datasets, {OWNER, AUDITOR}, Scope.READ),
}
ON_SUBJECT: dict[str, tuple[Check, set[Role], Scope]] = {
    "see dataset": (
        lambda a: permissions.check_may_see_dataset(a, DATASET, asked="d"),
        {OWNER, AUDITOR},
        Scope.READ,
    ),
    "change dataset": (
        lambda a: permissions.check_may_change_dataset(a, DATASET, asked="d"),
        {OWNER},
        Scope.DATASETS,
    ),
    "see version": (
        lambda a: permissions.check_may_see_version(a, VERSION, asked="v"),
        {OWNER, AUDITOR},
        Scope.READ,
    ),
    "upload": (
        lambda a: permissions.check_may_upload(a, VERSION, asked="v"),
        {OWNER},
        Scope.DATASETS,
    ),
    "train": (lambda a: permissions.check_may_train(a, VERSION, asked="v"), {OWNER}, Scope.JOBS),
    "see job": (
        lambda a: permissions.check_may_see_job(a, JOB, asked="j"),
        {OWNER, AUDITOR},
        Scope.READ,
    ),
    "cancel": (lambda a: permissions.check_may_cancel(a, JOB, asked="j"), {OWNER}, Scope.JOBS),
    "read report": (
        lambda a: permissions.check_may_read_report(a, JOB, asked="j"),
        {OWNER, AUDITOR},
        Scope.READ,
    ),
    "see draft": (
        lambda a: permissions.check_may_see_release(a, DRAFT, asked="r"),
        {OWNER, AUDITOR},
        Scope.READ,
    ),
    "change draft": (
        lambda a: permissions.check_may_change_release(a, DRAFT, asked="r"),
        {OWNER},
        Scope.RELEASES,
    ),
    "withhold draft": (
        lambda a: permissions.check_may_withhold_release(a, DRAFT, asked="r"),
        {OWNER},
        Scope.RELEASES,
    ),
    "review draft": (
        lambda a: permissions.check_may_review(a, DRAFT, asked="r"),
        {AUDITOR},
        Scope.REVIEWS,
    ),
}


def actor(
    role: Role, *, tenant: str = "here", scopes: frozenset[Scope] = ALL_SCOPES, user: str = "u"
) -> Actor:
    """Return somebody with one role."""
    return Actor(user, tenant, frozenset({role}), scopes)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", {**WITHOUT_SUBJECT, **ON_SUBJECT})
def test_a_role_may_do_what_is_listed_and_nothing_else(name: str, role: Role) -> None:
    check, allowed, _ = {**WITHOUT_SUBJECT, **ON_SUBJECT}[name]
    if role in allowed:
        check(actor(role))
    else:
        with pytest.raises((PermissionDenied, NotFound)):
            check(actor(role))


@pytest.mark.parametrize("name", {**WITHOUT_SUBJECT, **ON_SUBJECT})
def test_a_key_without_the_scope_is_refused_naming_it(name: str) -> None:
    check, allowed, scope = {**WITHOUT_SUBJECT, **ON_SUBJECT}[name]
    for role in allowed:
        with pytest.raises(PermissionDenied, match=scope.value):
            check(actor(role, scopes=ALL_SCOPES - {scope}))


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", ON_SUBJECT)
def test_things_of_another_tenant_do_not_exist(name: str, role: Role) -> None:
    check, _, _ = ON_SUBJECT[name]
    with pytest.raises(NotFound):
        check(actor(role, tenant="elsewhere"))


@pytest.mark.parametrize("tenant", ["here", "elsewhere"])
def test_every_collaborator_may_see_and_download_a_published_release(tenant: str) -> None:
    somebody = actor(COLLABORATOR, tenant=tenant)
    assert permissions.check_may_see_release(somebody, PUBLISHED, asked="r") is PUBLISHED
    assert permissions.check_may_download(somebody, PUBLISHED, asked="r") is PUBLISHED
    assert not permissions.is_insider(somebody, PUBLISHED)


def test_a_collaborator_of_the_tenant_does_not_see_a_draft() -> None:
    with pytest.raises(NotFound):
        permissions.check_may_see_release(actor(COLLABORATOR), DRAFT, asked="r")


def test_nobody_of_another_tenant_changes_a_published_release() -> None:
    with pytest.raises(PermissionDenied):
        permissions.check_may_change_release(actor(OWNER, tenant="elsewhere"), PUBLISHED, asked="r")


def test_an_operator_may_withhold_a_published_release_but_not_reinstate_it() -> None:
    operator = actor(OPERATOR, tenant="elsewhere")
    assert permissions.check_may_withhold_release(operator, PUBLISHED, asked="r") is PUBLISHED
    with pytest.raises(PermissionDenied):
        permissions.check_may_change_release(operator, PUBLISHED, asked="r")


def test_the_author_may_not_review_the_release() -> None:
    with pytest.raises(PermissionDenied, match="its author cannot review it"):
        permissions.check_may_review(actor(AUDITOR, user="author"), DRAFT, asked="r")


@pytest.mark.parametrize(
    ("verdict", "tier", "reason", "refusal"),
    [
        ("PASS-PROVEN", "public", "", None),
        ("PASS-EMPIRICAL", "registered", "", None),
        ("FAIL", "enclave", "because", "audit verdict is FAIL"),
        ("INVALID", "enclave", "because", "audit verdict is INVALID"),
        ("", "enclave", "because", "audit verdict is missing"),
        ("INCONCLUSIVE", "public", "because", "Only releases of the enclave tier"),
        ("INCONCLUSIVE", "registered", "because", "Only releases of the enclave tier"),
        ("INCONCLUSIVE", "enclave", "  ", "without a written reason"),
        ("INCONCLUSIVE", "enclave", "because", None),
    ],
)
def test_an_approval_needs_a_pass_or_an_enclave_and_a_reason(
    verdict: str, tier: str, reason: str, refusal: str | None
) -> None:
    release = Release("r", "t", "d", "j", "n", "1.0.0", "", "a", NOW, tier=tier, verdict=verdict)
    if refusal is None:
        permissions.check_decision(release, decision=Decision.APPROVE, reason=reason)
        return
    with pytest.raises(PermissionDenied, match=refusal):
        permissions.check_decision(release, decision=Decision.APPROVE, reason=reason)


@pytest.mark.parametrize("decision", [Decision.RETURN, Decision.REJECT])
def test_returning_or_rejecting_needs_a_reason(decision: Decision) -> None:
    with pytest.raises(PermissionDenied, match="without a reason"):
        permissions.check_decision(DRAFT, decision=decision, reason=" ")
