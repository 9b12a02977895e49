"""Notices, the choice of e-mail, and webhooks: JSON in, operation, JSON out."""

import functools

from flask import Response
from pydantic import BaseModel, Field

from service import notification_resources as r
from service.api.answers import ListQuery, answer, answer_page
from service.api.auth import actor, make_blueprint
from service.domain.notifications import EmailChoice, Message, Notification, WebhookEndpoint
from service.operations import notifying, webhooks
from service.resources import Identifier
from service.web import application

blueprint = make_blueprint("notifications", about="Notices, e-mail and signed webhooks.")


class NotificationQuery(ListQuery):
    """Which notices."""

    unread: bool = Field(default=False, description="only those that were not read")


class WebhookPath(BaseModel):
    """A webhook."""

    webhook_id: Identifier


class MessagePath(WebhookPath):
    """A message to a webhook."""

    message_id: Identifier


@blueprint.get("/notifications", summary="Your notices", responses={200: r.NotificationPage})
def list_notifications(query: NotificationQuery) -> Response:
    """List your notices, newest first."""
    with application().uow(read_only=True) as uow:
        page = notifying.list_notifications(
            uow, actor(), unread_only=query.unread, cursor=query.cursor, limit=query.limit
        )
        unread = notifying.count_unread(uow, actor())
        return answer_page(
            functools.partial(r.NotificationPage, unread=unread), page, _notification
        )


@blueprint.post("/notifications/read", summary="Mark as read", responses={200: r.Unread})
def mark_read(body: r.ReadNotifications) -> Response:
    """Mark your notices as read; say how many are left."""
    with application().uow() as uow:
        notifying.mark_read(uow, actor(), notification_ids=body.ids)
        return answer(r.Unread(unread=notifying.count_unread(uow, actor())))


@blueprint.get(
    "/notifications/email", summary="Your choice of e-mail", responses={200: r.EmailChoice}
)
def get_email_choice() -> Response:
    """Say where your notices go by e-mail, and whether they do."""
    with application().uow(read_only=True) as uow:
        return answer(_choice(webhooks.email_choice(uow, actor())))


@blueprint.put("/notifications/email", summary="Choose e-mail", responses={200: r.EmailChoice})
def choose_email(body: r.NewEmailChoice) -> Response:
    """Say where your notices go by e-mail, and whether you want them."""
    with application().uow() as uow:
        found = webhooks.choose_email(
            uow, actor(), address=body.address, is_on=body.on, muted=body.muted
        )
        return answer(_choice(found))


@blueprint.get("/webhooks", summary="Webhooks", responses={200: r.Webhooks})
def list_webhooks() -> Response:
    """List the webhooks of your tenant."""
    with application().uow(read_only=True) as uow:
        found = webhooks.list_webhooks(uow, actor())
        return answer(r.Webhooks(items=[r.Webhook(**_webhook(item)) for item in found]))


@blueprint.post("/webhooks", summary="Add a webhook", responses={201: r.WebhookSecret})
def create_webhook(body: r.NewWebhook) -> Response:
    """Add a webhook; its secret is in this answer only."""
    with application().uow() as uow:
        made = webhooks.create_webhook(uow, actor(), url=body.url, kinds=body.kinds)
        return answer(r.WebhookSecret(**_webhook(made.endpoint), secret=made.secret), status=201)


@blueprint.patch(
    "/webhooks/<string:webhook_id>", summary="Change a webhook", responses={200: r.Webhook}
)
def change_webhook(path: WebhookPath, body: r.ChangedWebhook) -> Response:
    """Change where and what is sent, or stop and start it."""
    with application().uow() as uow:
        found = webhooks.change_webhook(
            uow,
            actor(),
            webhook_id=path.webhook_id,
            url=body.url,
            kinds=body.kinds,
            enabled=body.enabled,
        )
        return answer(r.Webhook(**_webhook(found)))


@blueprint.delete("/webhooks/<string:webhook_id>", summary="Delete a webhook")
def delete_webhook(path: WebhookPath) -> Response:
    """Forget a webhook; what waits for it is not sent."""
    with application().uow() as uow:
        webhooks.delete_webhook(uow, actor(), webhook_id=path.webhook_id)
    return Response(status=204)


@blueprint.post(
    "/webhooks/<string:webhook_id>/secret",
    summary="Another secret",
    responses={200: r.WebhookSecret},
)
def rotate_secret(path: WebhookPath) -> Response:
    """Make another secret; for a day the old one signs as well."""
    with application().uow() as uow:
        made = webhooks.rotate_secret(uow, actor(), webhook_id=path.webhook_id)
        return answer(r.WebhookSecret(**_webhook(made.endpoint), secret=made.secret))


@blueprint.post(
    "/webhooks/<string:webhook_id>/test", summary="Send a test", responses={202: r.WebhookMessage}
)
def send_test(path: WebhookPath) -> Response:
    """Queue a message of kind webhook.test."""
    with application().uow() as uow:
        message = webhooks.send_test(uow, actor(), webhook_id=path.webhook_id)
        return answer(_message(message), status=202)


@blueprint.get(
    "/webhooks/<string:webhook_id>/messages",
    summary="What was sent",
    responses={200: r.WebhookMessagePage},
)
def list_messages(path: WebhookPath, query: ListQuery) -> Response:
    """List what was sent to a webhook or waits for it, newest first."""
    with application().uow(read_only=True) as uow:
        page = webhooks.list_messages(
            uow, actor(), webhook_id=path.webhook_id, cursor=query.cursor, limit=query.limit
        )
        return answer_page(r.WebhookMessagePage, page, _message)


@blueprint.post(
    "/webhooks/<string:webhook_id>/messages/<string:message_id>/retry",
    summary="Try again",
    responses={202: r.WebhookMessage},
)
def retry_message(path: MessagePath) -> Response:
    """Give a dead message all its tries again."""
    with application().uow() as uow:
        message = webhooks.retry_message(
            uow, actor(), webhook_id=path.webhook_id, message_id=path.message_id
        )
        return answer(_message(message), status=202)


def _notification(found: Notification) -> r.Notification:
    return r.Notification(
        id=found.id,
        kind=found.kind,
        subject=found.subject,
        text=found.text,
        link=found.link,
        created_at=found.created_at,
        read_at=found.read_at,
    )


def _choice(found: EmailChoice) -> r.EmailChoice:
    return r.EmailChoice(address=found.address, on=found.is_on, muted=found.muted)


def _webhook(found: WebhookEndpoint) -> dict[str, object]:
    return {
        "id": found.id,
        "url": found.url,
        "kinds": found.kinds,
        "enabled": found.disabled_at is None,
        "created_at": found.created_at,
        "created_by": found.created_by,
        "rotated_at": found.rotated_at,
    }


def _message(found: Message) -> r.WebhookMessage:
    return r.WebhookMessage(
        id=found.id,
        kind=found.kind,
        state=found.state.value,
        attempts=found.attempts,
        problem=found.problem,
        body=found.body,
        created_at=found.created_at,
        next_at=found.next_at,
        ended_at=found.ended_at,
    )
