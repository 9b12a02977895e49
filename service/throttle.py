"""Slow down whoever guesses passwords or codes, without letting a stranger lock somebody out.

Attempts are counted before anything is compared, whether the account exists or not:

- from one address, so that nobody keeps the machine busy with hashing;
- on one account from one address;
- on one account from every browser that never signed in to it, wherever they are. A browser that
  did carries a signed cookie and is counted by itself, so a flood of guesses from elsewhere leaves
  the account's owner alone ("device cookies", OWASP).
"""

import hashlib
import secrets

import redis
from flask import Response, current_app, request
from flask_limiter.util import get_remote_address
from itsdangerous import BadData, URLSafeTimedSerializer
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from service.refusals import RequestRefused
from service.web import limiter

PER_ADDRESS = RateLimitItemPerMinute(60)
PER_ACCOUNT_AND_ADDRESS = RateLimitItemPerMinute(10, 15)
PER_ACCOUNT_FROM_UNKNOWN_BROWSERS = RateLimitItemPerHour(60)
PER_KNOWN_BROWSER = RateLimitItemPerMinute(10, 15)
CODES_PER_USER = RateLimitItemPerMinute(10, 15)

_KNOWN_DAYS = 180
_without_broker = SlidingWindowCounterRateLimiter(MemoryStorage())


def count_password(sign_in_name: str) -> None:
    """Count one attempt at a password.  Raises: RequestRefused with 429."""
    address, account = get_remote_address(), _hidden(sign_in_name)
    limits: list[tuple[RateLimitItem, str, str]] = [(PER_ADDRESS, "address", address)]
    browser = _known_browser(account)
    if browser is None:
        limits += [
            (PER_ACCOUNT_AND_ADDRESS, account, address),
            (PER_ACCOUNT_FROM_UNKNOWN_BROWSERS, "account", account),
        ]
    else:
        limits.append((PER_KNOWN_BROWSER, "browser", browser))
    if not all(_hit(*limit) for limit in limits):
        raise RequestRefused(
            429,
            "Signing in was refused: too many attempts. Wait a quarter of an hour, or sign in from "
            "a browser that you have used here before, or in another way.",
        )


def count_address() -> None:
    """Count one attempt at anything from this address.  Raises: RequestRefused with 429."""
    if not _hit(PER_ADDRESS, "address", get_remote_address()):
        raise RequestRefused(
            429, "The request was refused: too many attempts from your address. Wait a minute."
        )


def count_code(user_id: str) -> None:
    """Count one attempt at a second factor.  Raises: RequestRefused with 429."""
    if not _hit(CODES_PER_USER, "code", user_id):
        raise RequestRefused(
            429, "The code was refused: too many attempts. Wait a quarter of an hour."
        )


def remember_browser(response: Response, sign_in_name: str) -> None:
    """Give the browser a cookie that says: this account signed in from here."""
    account = _hidden(sign_in_name)
    response.set_cookie(
        _cookie_name(),
        _signer().dumps([account, secrets.token_hex(8)]),
        max_age=_KNOWN_DAYS * 86_400,
        secure=bool(current_app.config["SESSION_COOKIE_SECURE"]),
        httponly=True,
        samesite="Strict",
    )


def forget_failures(sign_in_name: str) -> None:
    """Start counting anew after a sign-in that went well."""
    account = _hidden(sign_in_name)
    try:
        limiter.limiter.clear(PER_ACCOUNT_AND_ADDRESS, "sign-in", account, get_remote_address())
    except redis.RedisError:
        _without_broker.clear(PER_ACCOUNT_AND_ADDRESS, "sign-in", account, get_remote_address())


def _hit(item: RateLimitItem, *identifiers: str) -> bool:
    try:
        return limiter.limiter.hit(item, "sign-in", *identifiers)
    except redis.RedisError:  # without the broker, each process counts for itself
        return _without_broker.hit(item, "sign-in", *identifiers)


def _known_browser(account: str) -> str | None:
    try:
        found = _signer().loads(
            request.cookies.get(_cookie_name(), ""), max_age=_KNOWN_DAYS * 86_400
        )
    except BadData:
        return None
    return str(found[1]) if found[0] == account else None


def _cookie_name() -> str:
    return f"{current_app.config['SESSION_COOKIE_NAME']}-browser"


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="known browser")


def _hidden(sign_in_name: str) -> str:
    """Return what stands for a sign-in name at the broker and in a cookie."""
    name = sign_in_name.strip().casefold()
    key: bytes = current_app.config["SECRET_KEY"]
    return hashlib.blake2b(name.encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()
