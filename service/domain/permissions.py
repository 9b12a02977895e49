"""May this actor do this? One sentence per refusal; pages reuse it as the tooltip of a button.

Rules: a thing of another tenant is NotFound, never PermissionDenied, so that nobody learns that
it exists. Published releases and tombstones are the one exception: every collaborator of the
instance may see them. Operators run the machines and see no records, reports or candidates as
such. But they make accounts and keys, so they could make themselves an auditor: no rule here stops
that, the trail shows it (each user and key that is made, by whom and with which roles).
"""

from service.domain.accounts import Actor, Role, Scope
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.errors import NotFound, PermissionDenied
from service.domain.jobs import Job
from service.domain.releases import IN_CATALOGUE, Decision, Release

ROLE_WORDS = {
    Role.DATA_OWNER: "a data owner",
    Role.COLLABORATOR: "a collaborator",
    Role.AUDITOR: "an auditor",
    Role.OPERATOR: "an operator",
}
_PASSING = frozenset({"PASS-PROVEN", "PASS-EMPIRICAL"})


def check_may_administer(actor: Actor) -> None:
    """Tenants, users and API keys are made by operators."""
    _check(actor, "Administering accounts", Scope.ADMINISTRATION, Role.OPERATOR)


def check_may_read_journal(actor: Actor) -> None:
    """The journal names everybody's actions, so operators alone read it."""
    _check(actor, "Reading the journal", Scope.ADMINISTRATION, Role.OPERATOR)


def check_may_create_dataset(actor: Actor) -> None:
    """Data owners answer for records and budgets."""
    _check(actor, "Creating a dataset", Scope.DATASETS, Role.DATA_OWNER)


def check_may_see_dataset(actor: Actor, dataset: Dataset | None, *, asked: str) -> Dataset:
    """Return the dataset if the actor is a data owner or auditor of its tenant."""
    if dataset is None or dataset.tenant_id != actor.tenant_id:
        raise _not_found("dataset", asked)
    _check(actor, "Reading a dataset", Scope.READ, Role.DATA_OWNER, Role.AUDITOR)
    return dataset


def check_may_change_dataset(actor: Actor, dataset: Dataset | None, *, asked: str) -> Dataset:
    """Return the dataset if the actor is a data owner of its tenant."""
    if dataset is None or dataset.tenant_id != actor.tenant_id:
        raise _not_found("dataset", asked)
    _check(actor, "Changing a dataset", Scope.DATASETS, Role.DATA_OWNER)
    return dataset


def check_may_see_version(
    actor: Actor, version: DatasetVersion | None, *, asked: str
) -> DatasetVersion:
    """Return the version if the actor is a data owner or auditor of its tenant."""
    if version is None or version.tenant_id != actor.tenant_id:
        raise _not_found("dataset version", asked)
    _check(actor, "Reading a dataset version", Scope.READ, Role.DATA_OWNER, Role.AUDITOR)
    return version


def check_may_upload(actor: Actor, version: DatasetVersion | None, *, asked: str) -> DatasetVersion:
    """Return the version if the actor is a data owner of its tenant."""
    if version is None or version.tenant_id != actor.tenant_id:
        raise _not_found("dataset version", asked)
    _check(actor, "Uploading a dataset version", Scope.DATASETS, Role.DATA_OWNER)
    return version


def check_may_train(actor: Actor, version: DatasetVersion | None, *, asked: str) -> DatasetVersion:
    """Return the version if the actor may spend its cohort's budget."""
    if version is None or version.tenant_id != actor.tenant_id:
        raise _not_found("dataset version", asked)
    _check(actor, "Training on a dataset version", Scope.JOBS, Role.DATA_OWNER)
    return version


def check_may_see_job(actor: Actor, job: Job | None, *, asked: str) -> Job:
    """Return the job if the actor is a data owner or auditor of its tenant."""
    if job is None or job.tenant_id != actor.tenant_id:
        raise _not_found("job", asked)
    _check(actor, "Reading a job", Scope.READ, Role.DATA_OWNER, Role.AUDITOR)
    return job


def check_may_cancel(actor: Actor, job: Job | None, *, asked: str) -> Job:
    """Return the job if the actor is a data owner of its tenant."""
    if job is None or job.tenant_id != actor.tenant_id:
        raise _not_found("job", asked)
    _check(actor, "Cancelling a job", Scope.JOBS, Role.DATA_OWNER)
    return job


def check_may_list_jobs(actor: Actor) -> None:
    """Jobs concern data owners and auditors."""
    _check(actor, "Listing jobs", Scope.READ, Role.DATA_OWNER, Role.AUDITOR)


def check_may_list_datasets(actor: Actor) -> None:
    """Datasets concern data owners and auditors."""
    _check(actor, "Listing datasets", Scope.READ, Role.DATA_OWNER, Role.AUDITOR)


def check_may_read_report(actor: Actor, job: Job | None, *, asked: str) -> Job:
    """Return the audit job if the actor is a data owner or auditor of its tenant.

    Reports are computed from private records and are not differentially private.
    """
    if job is None or job.tenant_id != actor.tenant_id:
        raise _not_found("audit report", asked)
    _check(actor, "Reading an audit report", Scope.READ, Role.DATA_OWNER, Role.AUDITOR)
    return job


def check_may_create_release(actor: Actor) -> None:
    """Data owners propose releases."""
    _check(actor, "Proposing a release", Scope.RELEASES, Role.DATA_OWNER)


def check_may_see_release(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if it is in the catalogue, or the actor is of its tenant."""
    if release is None or not is_visible(actor, release):
        raise _not_found("release", asked)
    check_scope(actor, "Reading a release", Scope.READ)
    return release


def is_visible(actor: Actor, release: Release) -> bool:
    """Tell whether the actor may know that the release exists."""
    return release.state in IN_CATALOGUE or is_insider(actor, release)


def is_insider(actor: Actor, release: Release) -> bool:
    """Tell whether the actor may see the evidence of the release."""
    inside = {Role.DATA_OWNER, Role.AUDITOR}
    return release.tenant_id == actor.tenant_id and bool(actor.roles & inside)


def check_may_change_release(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor is a data owner of its tenant."""
    if release is None or not is_visible(actor, release):
        raise _not_found("release", asked)
    if release.tenant_id != actor.tenant_id:
        raise PermissionDenied("Changing this release was refused: it belongs to another tenant.")
    _check(actor, "Changing a release", Scope.RELEASES, Role.DATA_OWNER)
    return release


def check_may_withhold_release(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor may suspend or revoke it: its data owners, and operators.

    An operator must be able to stop a download at night; only data owners may bring it back.
    """
    if release is not None and actor.has(Role.OPERATOR) and release.state in IN_CATALOGUE:
        check_scope(actor, "Withholding a release", Scope.RELEASES)
        return release
    return check_may_change_release(actor, release, asked=asked)


def check_may_audit_again(actor: Actor) -> None:
    """Data owners and auditors audit their tenant's releases again, operators everybody's.

    An operator sees no more by it than which releases there are, and what failed.
    """
    _check(
        actor,
        "Auditing releases again",
        Scope.JOBS,
        Role.DATA_OWNER,
        Role.AUDITOR,
        Role.OPERATOR,
    )


def audits_everywhere(actor: Actor) -> bool:
    """Tell whether the actor's bulk audits reach every tenant: whoever changes the policy."""
    return actor.has(Role.OPERATOR)


def check_may_audit_release_again(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor may have it audited again."""
    is_everybodys = release is not None and (
        audits_everywhere(actor) and release.state in IN_CATALOGUE
    )
    if release is None or not (is_insider(actor, release) or is_everybodys):
        raise _not_found("release", asked)
    check_may_audit_again(actor)
    return release


def check_may_see_downloaders(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor may know who holds it: insiders, and operators."""
    if release is None or not is_visible(actor, release):
        raise _not_found("release", asked)
    if not (is_insider(actor, release) or actor.has(Role.OPERATOR)):
        raise PermissionDenied(
            "Listing downloaders was refused: only data owners and auditors of the release's own "
            "tenant may, and operators."
        )
    check_scope(actor, "Listing downloaders", Scope.READ)
    return release


def check_may_review(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor is an auditor of its tenant and not its author."""
    if release is None or release.tenant_id != actor.tenant_id:
        raise _not_found("release", asked)
    _check(actor, "Reviewing a release", Scope.REVIEWS, Role.AUDITOR)
    if release.author_id == actor.user_id:
        raise PermissionDenied(
            "Reviewing this release was refused: its author cannot review it. "
            "Two other auditors must."
        )
    return release


def check_decision(release: Release, *, decision: Decision, reason: str) -> None:
    """Refuse an approval that the audit verdict forbids, and any decision without its reason."""
    if decision is not Decision.APPROVE:
        if not reason.strip():
            raise PermissionDenied(
                f"The decision to {decision.value} was refused without a reason. "
                "Write what the author must know."
            )
        return
    if release.verdict in _PASSING:
        return
    if release.verdict != "INCONCLUSIVE":
        raise PermissionDenied(
            f"Approving was refused: the audit verdict is {release.verdict or 'missing'}. "
            "Return or reject the release; its author may train another candidate.",
            verdict=release.verdict,
        )
    if release.tier != "enclave":
        raise PermissionDenied(
            f"Approving was refused: the audit verdict is INCONCLUSIVE and the tier is "
            f"{release.tier}. Only releases of the enclave tier may be approved inconclusively.",
            verdict=release.verdict,
            tier=release.tier,
        )
    if not reason.strip():
        raise PermissionDenied(
            "Approving an INCONCLUSIVE audit was refused without a written reason. "
            "Both auditors must write one.",
            verdict=release.verdict,
        )


def check_may_download(actor: Actor, release: Release | None, *, asked: str) -> Release:
    """Return the release if the actor may download it once terms are accepted."""
    if release is None or not is_visible(actor, release):
        raise _not_found("release", asked)
    _check(
        actor,
        "Downloading a release",
        Scope.DOWNLOADS,
        Role.COLLABORATOR,
        Role.DATA_OWNER,
        Role.AUDITOR,
    )
    return release


def _check(actor: Actor, action: str, scope: Scope, *roles: Role) -> None:
    if not actor.roles & set(roles):
        needed = " or ".join(ROLE_WORDS[role] for role in roles)
        raise PermissionDenied(f"{action} was refused: only {needed} may. Ask an operator.")
    check_scope(actor, action, scope)


def check_scope(actor: Actor, action: str, scope: Scope) -> None:
    """Refuse an API key that was not made for this."""
    if scope not in actor.scopes:
        raise PermissionDenied(
            f"{action} was refused: this API key lacks the scope {scope.value!r}. "
            "Use a key that has it.",
            scope=scope.value,
        )


def _not_found(what: str, asked: str) -> NotFound:
    return NotFound(f"No {what} {asked!r} was found. Check the identifier.")
