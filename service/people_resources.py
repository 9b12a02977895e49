"""JSON about people and their ways to sign in; no secret but a new link is ever in it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from service.resources import Body, Identifier, Name, Resource, RoleName, User

SignInName = Annotated[str, Field(min_length=3, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")]


class NewInvitation(Body):
    """A new user, or with `user_id` a link for one who exists already."""

    user_id: Identifier | None = None
    tenant_id: Identifier | None = Field(default=None, description="of a new user")
    name: Name | None = Field(default=None, description="of a new user")
    roles: list[RoleName] = Field(default_factory=list, max_length=4)
    sign_in_name: SignInName | None = Field(
        default=None, description="an e-mail address for example; needed once for each user"
    )


class Invitation(Resource):
    """A link that is good once. `url` is shown this once: only its hash is kept."""

    user_id: str
    url: str
    expires_at: datetime
    sets_password: bool


class FactorReset(Resource):
    """A removal of second factors that waits: for another operator, or until `due_at`."""

    user_id: str
    requested_by: str
    requested_at: datetime
    due_at: datetime
    needs_second: bool = Field(description="another operator must confirm it")


class ResetCompletion(Body):
    """What the link needs of an account that had API keys only."""

    sign_in_name: SignInName | None = None


class NewRoles(Body):
    """The roles that a user has from now on."""

    roles: list[RoleName] = Field(min_length=1, max_length=4)


class NewIdentity(Body):
    """An account elsewhere that a user may sign in with."""

    issuer: str = Field(min_length=8, max_length=500, pattern=r"^https?://[^\s\x00-\x1f\x7f]+$")
    subject: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")


class Identity(Resource):
    """A linked account elsewhere."""

    id: str
    user_id: str
    issuer: str
    subject: str


class KeyFacts(Resource):
    """An API key without its secret."""

    id: str
    scopes: list[str] = Field(default_factory=list)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class UserFacts(User):
    """A user and how they sign in."""

    disabled_at: datetime | None = None
    sign_in_name: str | None = None
    has_password: bool = False
    has_second_factor: bool = False
    identities: list[Identity] = Field(default_factory=list)
    keys: list[KeyFacts] = Field(default_factory=list)
    factor_reset: FactorReset | None = None


class UserPage(Resource):
    """One page of users."""

    items: list[User]
    next_cursor: str | None = None


class WebSession(Resource):
    """A browser that is signed in."""

    id: str
    method: str
    browser: str
    address: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


class OwnAccount(Resource):
    """One's own sessions and keys."""

    sessions: list[WebSession] = Field(default_factory=list)
    keys: list[KeyFacts] = Field(default_factory=list)
    factor_reset: FactorReset | None = None
