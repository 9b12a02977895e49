"""Ask an OpenID Connect provider who somebody is: authorization code, PKCE, state and nonce.

Knows nothing of users: it returns issuer and subject of a token that it has checked, and when, and
whether with several factors, the provider says that the person signed in.
"""

import functools
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from service.config import Settings
from service.domain.errors import DomainError

ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519")
"""Signed with the provider's private key; never with a shared secret, never unsigned."""

_TIMEOUT_SECONDS = 10.0
_REMEMBERED_SECONDS = 3600
_LEEWAY_SECONDS = 60


class OidcRefused(DomainError):
    """The other sign-in service did not say, or not credibly, who this is."""

    status = 401
    slug = "sign-in-elsewhere-refused"


@dataclass(frozen=True)
class Started:
    """What the browser carries until the provider sends it back."""

    state: str
    nonce: str
    verifier: str
    next_page: str

    def as_dict(self) -> dict[str, str]:
        """Return it for a signed cookie."""
        return asdict(self)


@dataclass(frozen=True)
class Person:
    """Who signed in elsewhere."""

    issuer: str
    subject: str
    has_factor: bool
    signed_in_at: datetime | None


def start(
    settings: Settings, *, redirect_uri: str, next_page: str, again: bool = False
) -> tuple[str, Started]:
    """Return where to send the browser, and what it must bring back.

    `again` asks the provider to make sure anew who it is, although it knows the browser.
    """
    started = Started(
        secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), next_page
    )
    query = {
        "response_type": "code",
        "client_id": settings.oidc_client_id,
        "redirect_uri": redirect_uri,
        "scope": "openid",
        "state": started.state,
        "nonce": started.nonce,
        "code_challenge": create_s256_code_challenge(started.verifier),
        "code_challenge_method": "S256",
    }
    if again:
        query |= {"prompt": "login", "max_age": "0"}
    address = str(_provider(settings)["authorization_endpoint"])
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", started


def finish(
    settings: Settings, *, redirect_uri: str, started: Started, answer: Mapping[str, str]
) -> Person:
    """Exchange the code that the browser brought for who it is.  Raises: OidcRefused."""
    if not secrets.compare_digest(answer.get("state", ""), started.state):
        raise _refused("its answer belongs to another sign-in")
    if answer.get("iss", settings.oidc_issuer) != settings.oidc_issuer:
        raise _refused("another service answered")
    if "error" in answer or "code" not in answer:
        raise _refused("it did not let you in")
    provider = _provider(settings)
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": redirect_uri,
        "code_verifier": started.verifier,
    }
    token = _post(settings, str(provider["token_endpoint"]), form).get("id_token")
    if not isinstance(token, str):
        raise _refused("it sent no ID token")
    claims = _checked(settings, token, nonce=started.nonce)
    signed_in = claims.get("auth_time")
    return Person(
        issuer=settings.oidc_issuer,
        subject=str(claims["sub"]),
        has_factor="mfa" in (claims.get("amr") or []),  # RFC 8176
        signed_in_at=None if signed_in is None else datetime.fromtimestamp(signed_in, tz=UTC),
    )


def _checked(settings: Settings, token: str, *, nonce: str) -> CodeIDToken:
    """Check signature, issuer, audience, nonce and times of an ID token."""
    try:
        try:
            decoded = jwt.decode(token, _keys(settings, _hour()), algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):
            # The provider may have changed its keys since they were read.
            decoded = jwt.decode(
                token, _keys(settings, time.monotonic()), algorithms=list(ALGORITHMS)
            )
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            {
                "iss": {"essential": True, "value": settings.oidc_issuer},
                "aud": {"essential": True, "value": settings.oidc_client_id},
            },
            {"nonce": nonce, "client_id": settings.oidc_client_id},
        )
        claims.validate(leeway=_LEEWAY_SECONDS)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _refused("its ID token does not hold") from error
    if not claims["sub"] or not isinstance(claims["sub"], str):
        raise _refused("its ID token names nobody")
    return claims


def _provider(settings: Settings) -> dict[str, Any]:
    found = _discovered(settings.oidc_issuer, _hour())
    if found.get("issuer") != settings.oidc_issuer:
        raise _refused("it calls itself by another name than KAIMA_OIDC_ISSUER")
    return found


@functools.lru_cache(maxsize=4)
def _discovered(issuer: str, hour: float) -> dict[str, Any]:
    del hour
    _check_address(issuer)
    return _get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")


@functools.lru_cache(maxsize=4)
def _key_document(address: str, moment: float) -> dict[str, Any]:
    del moment
    _check_address(address)
    return _get(address)


def _keys(settings: Settings, moment: float) -> KeySet:
    document = _key_document(str(_provider(settings)["jwks_uri"]), moment)
    return KeySet.import_key_set(document)  # type: ignore[arg-type]


def _post(settings: Settings, address: str, form: dict[str, str]) -> dict[str, Any]:
    _check_address(address)
    secret = _client_secret(settings)
    auth = None
    if secret is None:
        form = {**form, "client_id": settings.oidc_client_id}
    else:  # RFC 6749, section 2.3.1: both halves are form-encoded first
        auth = httpx.BasicAuth(quote(settings.oidc_client_id, safe=""), quote(secret, safe=""))
    try:
        response = httpx.post(address, data=form, auth=auth, timeout=_TIMEOUT_SECONDS)
        found = response.json() if response.status_code == 200 else {}
    except (httpx.HTTPError, ValueError) as error:
        raise _refused("it did not answer") from error
    if not found:
        raise _refused("it did not take the code")
    return dict(found)


def _get(address: str) -> dict[str, Any]:
    try:
        response = httpx.get(address, timeout=_TIMEOUT_SECONDS)
        response.raise_for_status()
        return dict(response.json())
    except (httpx.HTTPError, ValueError) as error:
        raise _refused("it did not answer") from error


def _client_secret(settings: Settings) -> str | None:
    path = settings.oidc_client_secret_file
    if path is None:
        return None
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path} was refused: others may read it. Run: chmod 600 {path}")
    return path.read_text(encoding="utf-8").strip()


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise _refused("its address is not https")


def _hour() -> float:
    return time.monotonic() // _REMEMBERED_SECONDS


def _refused(why: str) -> OidcRefused:
    return OidcRefused(
        f"Signing in was refused: the other service was asked who you are, but {why}. "
        "Start again; if it stays so, tell an operator."
    )
