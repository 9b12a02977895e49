"""Imperative mapping of domain classes to tables. `start_mappers` runs once per process."""

from sqlalchemy.orm import registry

from service.domain import (
    access,
    accounts,
    datasets,
    jobs,
    notifications,
    plan_approvals,
    policies,
    releases,
    reviews,
    sign_in,
    studies,
)
from service.store import (
    access_tables,
    listings,
    notification_tables,
    policy_tables,
    review_tables,
    sign_in_tables,
    study_tables,
    tables,
)

_CLASSES = (
    (accounts.Tenant, tables.tenants),
    (accounts.User, tables.users),
    (accounts.ApiKey, tables.api_keys),
    (datasets.Cohort, tables.cohorts),
    (datasets.Dataset, tables.datasets),
    (datasets.DatasetVersion, tables.dataset_versions),
    (datasets.StoredReservation, tables.reservations),
    (jobs.Job, tables.jobs),
    (releases.Release, tables.releases),
    (releases.Review, tables.reviews),
    (releases.Acceptance, tables.acceptances),
    (releases.Download, tables.downloads),
    (access.AccessPolicy, access_tables.access_policies),
    (access.Agreement, access_tables.agreements),
    (access.AgreementVersion, access_tables.agreement_versions),
    (access.AgreementAcceptance, access_tables.agreement_acceptances),
    (access.AccessRequest, access_tables.access_requests),
    (notifications.Notification, notification_tables.notifications),
    (notifications.Message, notification_tables.outbox),
    (notifications.WebhookEndpoint, notification_tables.webhook_endpoints),
    (notifications.EmailChoice, notification_tables.email_choices),
    (reviews.Comment, review_tables.review_comments),
    (reviews.Assignment, review_tables.review_assignments),
    (reviews.Recusal, review_tables.recusals),
    (reviews.Reminder, review_tables.reminders),
    (plan_approvals.PlanApproval, review_tables.plan_approvals),
    (policies.PolicyVersion, policy_tables.policy_versions),
    (policies.PolicyVote, policy_tables.policy_votes),
    (sign_in.SignIn, sign_in_tables.sign_ins),
    (sign_in.Passkey, sign_in_tables.passkeys),
    (sign_in.RecoveryCode, sign_in_tables.recovery_codes),
    (sign_in.Identity, sign_in_tables.identities),
    (sign_in.Invitation, sign_in_tables.invitations),
    (sign_in.FactorReset, sign_in_tables.factor_resets),
    (sign_in.WebSession, sign_in_tables.web_sessions),
    (studies.Study, study_tables.reader_studies),
    (studies.StudyCase, study_tables.study_cases),
    (studies.StudyConsent, study_tables.study_consents),
    (studies.StudyReader, study_tables.study_readers),
    (studies.StudyAnswer, study_tables.study_answers),
)
_registry = registry(metadata=tables.metadata)


def start_mappers() -> None:
    """Map every class; a second call does nothing."""
    if next(iter(_registry.mappers), None) is not None:
        return
    listings.follow_releases()
    for domain_class, table in _CLASSES:
        # `revision` is compared and raised at every update, so a lost update is an error.
        revision = table.c.get("revision")
        options = {} if revision is None else {"version_id_col": revision}
        _registry.map_imperatively(domain_class, table, **options)
