"""Calls about what surrounds a vote, approvals of plans, notices and webhooks."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from service import notification_resources as n
from service import resources
from service import review_resources as r
from service.connection import Connection


class ReviewCalls:
    """The part of the client that is about reviews and notices."""

    _connection: Connection

    def begin_review(self, release_id: str, *, revision: int | None = None) -> resources.Release:
        """Say that you read a release (auditor)."""
        return self._review("POST", release_id, "begin-review", revision=revision)

    def comments(self, release_id: str) -> list[r.Comment]:
        """Return the comments that you may see, oldest first."""
        return self._connection.get(r.Comments, f"/v1/releases/{release_id}/comments").items

    def comment(
        self,
        release_id: str,
        text: str,
        *,
        audience: Literal["auditors", "author"] = "auditors",
        reply_to: str | None = None,
    ) -> r.Comment:
        """Say something about a release while it is reviewed."""
        body = r.NewComment(text=text, audience=audience, reply_to=reply_to)
        return self._connection.post(r.Comment, f"/v1/releases/{release_id}/comments", body)

    def reviewers(self, release_id: str) -> list[r.Candidate]:
        """Return the tenant's auditors, each with the rule that forbids them this review."""
        return self._connection.get(r.Candidates, f"/v1/releases/{release_id}/reviewers").items

    def assignments(self, release_id: str) -> r.Assignments:
        """Return who is to review a release, and who was."""
        return self._connection.get(r.Assignments, f"/v1/releases/{release_id}/assignments")

    def assign_auditors(
        self, release_id: str, auditor_ids: Sequence[str], *, revision: int | None = None
    ) -> resources.Release:
        """Name the two auditors of a release (auditor)."""
        body = r.NewAssignments(auditor_ids=list(auditor_ids))
        return self._review("PUT", release_id, "assignments", body, revision=revision)

    def delegate_review(
        self, release_id: str, *, to: str, reason: str, revision: int | None = None
    ) -> resources.Release:
        """Hand your assignment to another auditor."""
        body = r.NewDelegation(to=to, reason=reason)
        return self._review("POST", release_id, "delegations", body, revision=revision)

    def recuse(self, dataset_id: str, *, reason: str) -> r.Recusal:
        """Declare that you must not judge what comes from a dataset (auditor)."""
        path = f"/v1/datasets/{dataset_id}/recusals"
        return self._connection.post(r.Recusal, path, r.NewRecusal(reason=reason))

    def renew_release(self, release_id: str, *, version: str | None = None) -> resources.Release:
        """Draft the next version of a published or expired release (data owner)."""
        path = f"/v1/releases/{release_id}/renewals"
        return self._connection.post(resources.Release, path, r.NewRenewal(version=version))

    def change_lab(self, user_id: str, lab: str) -> r.Lab:
        """Say in which lab a user works (operator)."""
        path = f"/v1/users/{user_id}/lab"
        return self._connection.post(r.Lab, path, r.ChangedLab(lab=lab), method="PUT")

    # Plans --------------------------------------------------------------------------------------

    def require_plan_approval(self, tenant_id: str, *, required: bool) -> r.TenantPlanRule:
        """Say whether a tenant's plans need approval (operator)."""
        path = f"/v1/tenants/{tenant_id}/plan-approval"
        body = r.PlanRule(required=required)
        return self._connection.post(r.TenantPlanRule, path, body, method="PUT")

    def request_plan_approval(
        self, version_id: str, *, purpose: str, **asked: Any
    ) -> r.PlanApproval:
        """Ask an auditor to approve a training; `asked` is what the training will be asked with."""
        body = r.NewPlanApproval(version_id=version_id, purpose=purpose, **asked)
        return self._connection.post(r.PlanApproval, "/v1/plan-approvals", body)

    def plan_approvals(self, *, state: str | None = None) -> Iterator[r.PlanApproval]:
        """Yield the plans of your tenant, newest first."""
        return self._connection.pages(r.PlanApprovalPage, "/v1/plan-approvals", state=state)

    def plan_approval(self, plan_id: str) -> r.PlanApproval:
        """Return a plan and what was decided of it."""
        return self._connection.get(r.PlanApproval, f"/v1/plan-approvals/{plan_id}")

    def decide_plan(
        self,
        plan_id: str,
        *,
        decision: Literal["approve", "refuse"],
        reason: str,
        revision: int | None = None,
    ) -> r.PlanApproval:
        """Approve or refuse a plan (auditor)."""
        body = r.PlanDecision(decision=decision, reason=reason)
        path = f"/v1/plan-approvals/{plan_id}/decision"
        return self._connection.post(
            r.PlanApproval, path, body, etag=self._plan_etag(plan_id, revision)
        )

    def withdraw_plan(self, plan_id: str, *, revision: int | None = None) -> r.PlanApproval:
        """Take back a request, or an approval that was not used."""
        path = f"/v1/plan-approvals/{plan_id}/withdraw"
        return self._connection.post(r.PlanApproval, path, etag=self._plan_etag(plan_id, revision))

    # Notices ------------------------------------------------------------------------------------

    def notifications(self, *, unread: bool = False) -> Iterator[n.Notification]:
        """Yield your notices, newest first."""
        only = "true" if unread else None
        return self._connection.pages(n.NotificationPage, "/v1/notifications", unread=only)

    def mark_read(self, ids: Sequence[str] = ()) -> int:
        """Mark notices as read, all of them if none is named; return how many are left."""
        body = n.ReadNotifications(ids=list(ids))
        return self._connection.post(n.Unread, "/v1/notifications/read", body).unread

    def email_choice(self) -> n.EmailChoice:
        """Return where your notices go by e-mail, and whether they do."""
        return self._connection.get(n.EmailChoice, "/v1/notifications/email")

    def choose_email(
        self, address: str = "", *, on: bool, muted: Sequence[str] | None = None
    ) -> n.EmailChoice:
        """Say where your notices go by e-mail, and whether and of which subjects you want them."""
        wanted = None if muted is None else list(muted)
        body = n.NewEmailChoice(address=address, on=on, muted=wanted)
        return self._connection.post(n.EmailChoice, "/v1/notifications/email", body, method="PUT")

    def webhooks(self) -> list[n.Webhook]:
        """Return the webhooks of your tenant."""
        return self._connection.get(n.Webhooks, "/v1/webhooks").items

    def create_webhook(self, url: str, *, kinds: Sequence[str] = ()) -> n.WebhookSecret:
        """Add a webhook; the secret is in this answer only."""
        body = n.NewWebhook(url=url, kinds=list(kinds))
        return self._connection.post(n.WebhookSecret, "/v1/webhooks", body)

    def change_webhook(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        kinds: Sequence[str] | None = None,
        enabled: bool | None = None,
    ) -> n.Webhook:
        """Change where and what is sent, or stop and start it."""
        body = n.ChangedWebhook(
            url=url, kinds=None if kinds is None else list(kinds), enabled=enabled
        )
        path = f"/v1/webhooks/{webhook_id}"
        return self._connection.post(n.Webhook, path, body, method="PATCH")

    def delete_webhook(self, webhook_id: str) -> None:
        """Forget a webhook."""
        self._connection.send("DELETE", f"/v1/webhooks/{webhook_id}")

    def rotate_webhook_secret(self, webhook_id: str) -> n.WebhookSecret:
        """Make another secret; for a day the old one signs as well."""
        return self._connection.post(n.WebhookSecret, f"/v1/webhooks/{webhook_id}/secret")

    def test_webhook(self, webhook_id: str) -> n.WebhookMessage:
        """Queue a test message."""
        return self._connection.post(n.WebhookMessage, f"/v1/webhooks/{webhook_id}/test")

    def webhook_messages(self, webhook_id: str) -> Iterator[n.WebhookMessage]:
        """Yield what was sent to a webhook or waits for it, newest first."""
        path = f"/v1/webhooks/{webhook_id}/messages"
        return self._connection.pages(n.WebhookMessagePage, path)

    def retry_webhook_message(self, webhook_id: str, message_id: str) -> n.WebhookMessage:
        """Give a dead message all its tries again."""
        path = f"/v1/webhooks/{webhook_id}/messages/{message_id}/retry"
        return self._connection.post(n.WebhookMessage, path)

    def _review(
        self,
        method: str,
        release_id: str,
        action: str,
        body: resources.Body | None = None,
        *,
        revision: int | None,
    ) -> resources.Release:
        if revision is None:
            found = self._connection.get(resources.Release, f"/v1/releases/{release_id}")
            revision = found.revision
        path = f"/v1/releases/{release_id}/{action}"
        etag = f'"{revision}"'
        return self._connection.post(resources.Release, path, body, etag=etag, method=method)

    def _plan_etag(self, plan_id: str, revision: int | None) -> str:
        return f'"{self.plan_approval(plan_id).revision if revision is None else revision}"'
