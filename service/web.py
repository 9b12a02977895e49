"""What both HTTP faces share: the application, the rate limiter, and the actor behind a credential.

The API presents an API key with each request; the pages keep the *id* of the key that somebody
signed in with, so that revoking the key ends the session at once.
"""

import re
from contextlib import suppress

from flask import current_app
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from service.domain.accounts import Actor, ApiKey
from service.domain.errors import PermissionDenied
from service.operations.accounts import authenticate, load_actor
from service.refusals import Unauthenticated
from service.wiring import Application

EXTENSION = "kaima"
FAILURES_PER_ADDRESS = "30 per minute"
"""Wrong API keys from one address, at the API and at the sign-in page together.

Right keys are neither counted nor ever refused for it: behind one address there may be a hospital.
"""

limiter = Limiter(
    get_remote_address,
    in_memory_fallback_enabled=True,
    headers_enabled=True,
    strategy="sliding-window-counter",
)

_KEY_ID = re.compile(r"kaima_(key_[0-9a-f]+)_")
_REFUSAL = "The API key was refused: unknown, expired or revoked. Ask an operator for another."


def application() -> Application:
    """Return the application that this Flask app was made for."""
    found: Application = current_app.extensions[EXTENSION]
    return found


def actor_of_token(token: str) -> tuple[Actor, str]:
    """Return the actor behind an API key, and the id of the key.

    Raises: Unauthenticated, with the same words whatever is wrong with the key; TooManyRequests
    after FAILURES_PER_ADDRESS.
    """
    match = _KEY_ID.match(token)
    if match is not None:
        with application().uow(read_only=True) as uow, suppress(PermissionDenied):
            return authenticate(uow, token), match[1]
    count_failure()
    raise Unauthenticated(_REFUSAL)


@limiter.shared_limit(FAILURES_PER_ADDRESS, scope="wrong API keys")
def count_failure() -> None:
    """Count a wrong API key; calling it is what the limit limits.  Raises: TooManyRequests."""


def actor_of_key(key_id: str) -> Actor:
    """Return the actor behind the id of an API key that was presented before.

    Raises: Unauthenticated if it has been revoked or has expired since.
    """
    with application().uow(read_only=True) as uow:
        key = uow.get(ApiKey, key_id)
        if key is None or key.revoked_at or (key.expires_at and key.expires_at <= uow.now()):
            raise Unauthenticated(_REFUSAL)
        try:
            return load_actor(uow, user_id=key.user_id, scopes=key.scopes)
        except PermissionDenied as error:
            raise Unauthenticated(_REFUSAL) from error
