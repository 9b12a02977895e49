"""The JSON of notices, of the choice of e-mail, and of webhooks."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, Strict

from service.resources import Body, Identifier, Page, Resource

Url = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[\x21-\x7e]+$")]
Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]{0,63}$")]
Flag = Annotated[bool, Strict()]


class Notification(Resource):
    """One notice; `link` is a path of the pages."""

    id: str
    kind: str
    subject: str
    text: str
    link: str
    created_at: datetime
    read_at: datetime | None = None


class NotificationPage(Page):
    """Your notices, newest first, and how many of all you have not read."""

    items: list[Notification]
    unread: int = 0


class ReadNotifications(Body):
    """Which notices were read; none named means all."""

    ids: list[Identifier] = Field(default=[], max_length=200)


class Unread(Resource):
    """How many notices you have not read."""

    unread: int


class NewEmailChoice(Body):
    """Where your notices go by e-mail, and whether they do."""

    address: Annotated[str, Field(max_length=320, pattern=r"^[^\x00-\x20]*$")] = ""
    on: Flag
    muted: list[Kind] | None = Field(
        default=None,
        max_length=20,
        description="subjects, the first words of kinds, of which none are wanted; as before without",
    )


class EmailChoice(Resource):
    """Where your notices go by e-mail, and whether they do."""

    address: str
    on: bool
    muted: list[str] = Field(default=[], description="subjects of which none are wanted")


class NewWebhook(Body):
    """Where notices about your tenant's people are sent; no kinds means all."""

    url: Url
    kinds: list[Kind] = Field(default=[], max_length=50)


class ChangedWebhook(Body):
    """What is to change of a webhook."""

    url: Url | None = None
    kinds: list[Kind] | None = Field(default=None, max_length=50)
    enabled: Flag | None = None


class Webhook(Resource):
    """A webhook; its secret is shown only when it is made."""

    id: str
    url: str
    kinds: list[str]
    enabled: bool
    created_at: datetime
    created_by: str
    rotated_at: datetime | None = None


class WebhookSecret(Webhook):
    """A webhook and the secret that verifies its messages, shown this once."""

    secret: str


class Webhooks(Resource):
    """The webhooks of your tenant, oldest first."""

    items: list[Webhook]


class WebhookMessage(Resource):
    """One message to a webhook: waiting, sent or dead, and what was wrong the last time."""

    id: str
    kind: str
    state: str
    attempts: int
    problem: str
    body: dict[str, Any]
    created_at: datetime
    next_at: datetime
    ended_at: datetime | None = None


class WebhookMessagePage(Page):
    """Messages, newest first."""

    items: list[WebhookMessage]
