"""What both HTTP faces share: the application, the rate limiter, and the actor behind a credential.

The API presents an API key with each request; the pages look a session up instead
(`pages.session`).
"""

import re
from contextlib import suppress

from flask import current_app
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from service.domain.accounts import Actor
from service.domain.errors import PermissionDenied
from service.operations.accounts import authenticate
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
