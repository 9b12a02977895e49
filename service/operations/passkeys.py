"""Passkeys (WebAuthn): register one, confirm with one. Challenges live in the session, once."""

import json
from urllib.parse import urlsplit

import sqlalchemy as sa
import webauthn
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from service.config import Settings
from service.domain.accounts import Actor
from service.domain.errors import InputRefused, NotFound
from service.domain.identifiers import new_id
from service.domain.sign_in import Passkey, WebSession
from service.domain.trail import TrailEvent
from service.operations import second_factors
from service.operations.passwords import load_sign_in
from service.store import sign_in_tables as tables
from service.store.unit_of_work import UnitOfWork

MOST_PASSKEYS = 10
_LARGEST_ANSWER = 20_000
_REFUSED = "The passkey was refused: {why}. Try again, or use another second factor."


def why_not(settings: Settings) -> str | None:
    """Return why passkeys cannot be used at this address, or None if they can."""
    host = urlsplit(settings.public_url).hostname or ""
    if host == "localhost" or (settings.public_url.startswith("https://") and not _is_number(host)):
        return None
    return (
        f"Passkeys need an https:// address with a host name (or http://localhost); this service "
        f"is reached at {settings.public_url}. An operator sets KAIMA_PUBLIC_URL."
    )


def start_registration(uow: UnitOfWork, actor: Actor, *, session_id: str) -> str | None:
    """Return what the browser needs to make a passkey, as JSON; None where it cannot."""
    if why_not(uow.settings):
        uow.without_trail("nothing was started")
        return None
    load_sign_in(uow, actor.user_id)
    session = _load_session(uow, session_id)
    known = second_factors.list_factors(uow, actor.user_id).passkeys
    options = webauthn.generate_registration_options(
        rp_id=_host(uow.settings),
        rp_name=uow.settings.publisher,
        user_id=actor.user_id.encode(),
        user_name=actor.name or actor.user_id,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=key.credential_id) for key in known],
    )
    session.challenge = options.challenge
    uow.without_trail("a challenge is no act")
    return webauthn.options_to_json(options)


def add_passkey(
    uow: UnitOfWork, actor: Actor, *, session_id: str, credential: str, name: str
) -> Passkey:
    """Keep the passkey that the browser made.  Raises: InputRefused."""
    challenge = _take_challenge(uow, session_id)
    try:
        made = webauthn.verify_registration_response(
            credential=_parsed(credential),
            expected_challenge=challenge,
            expected_rp_id=_host(uow.settings),
            expected_origin=_origin(uow.settings),
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise InputRefused(_REFUSED.format(why="its answer does not fit the question")) from error
    if len(second_factors.list_factors(uow, actor.user_id).passkeys) >= MOST_PASSKEYS:
        raise InputRefused(
            f"The passkey was refused: you have {MOST_PASSKEYS} already. Remove one first.",
            limit=MOST_PASSKEYS,
        )
    taken = sa.select(tables.passkeys.c.id).where(
        tables.passkeys.c.credential_id == made.credential_id
    )
    if uow.session.execute(taken).first():
        raise InputRefused(_REFUSED.format(why="it is registered already"))
    passkey = Passkey(
        id=new_id("pky"),
        user_id=actor.user_id,
        credential_id=made.credential_id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        name=name.strip()[:100] or "Passkey",
        created_at=uow.now(),
    )
    uow.session.add(passkey)
    uow.trail(actor, TrailEvent.FACTOR_ADD, actor.user_id, kind="passkey", passkey=passkey.id)
    return passkey


def start_use(uow: UnitOfWork, session_id: str, known: list[Passkey]) -> str | None:
    """Return what the browser needs to confirm with a passkey, as JSON; None without any."""
    if not known or why_not(uow.settings):
        uow.without_trail("nothing was started")
        return None
    session = _load_session(uow, session_id)
    options = webauthn.generate_authentication_options(
        rp_id=_host(uow.settings),
        allow_credentials=[PublicKeyCredentialDescriptor(id=key.credential_id) for key in known],
        user_verification=UserVerificationRequirement.PREFERRED,
    )
    session.challenge = options.challenge
    uow.without_trail("a challenge is no act")
    return webauthn.options_to_json(options)


def use_passkey(uow: UnitOfWork, actor: Actor, *, session_id: str, credential: str) -> None:
    """Check the answer of one of the actor's own passkeys.  Raises: InputRefused."""
    challenge = _take_challenge(uow, session_id)
    answer = _parsed(credential)
    passkey = _find(uow, actor.user_id, answer)
    try:
        used = webauthn.verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=_host(uow.settings),
            expected_origin=_origin(uow.settings),
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise InputRefused(_REFUSED.format(why="its answer does not fit the question")) from error
    passkey.sign_count, passkey.used_at = used.new_sign_count, uow.now()
    uow.without_trail("what the passkey is good for is in the trail")


def remove_passkey(uow: UnitOfWork, actor: Actor, *, passkey_id: str) -> None:
    """Remove one of one's own passkeys.  Raises: NotFound, InputRefused for the last factor."""
    passkey = uow.get(Passkey, passkey_id, lock=True)
    if passkey is None or passkey.user_id != actor.user_id:
        raise NotFound(f"No passkey {passkey_id!r} was found. Check the identifier.")
    second_factors.check_may_remove_factor(uow, actor)
    uow.session.delete(passkey)
    uow.trail(actor, TrailEvent.FACTOR_REMOVE, actor.user_id, kind="passkey", passkey=passkey_id)


def _find(uow: UnitOfWork, user_id: str, answer: dict[str, object]) -> Passkey:
    try:
        credential_id = base64url_to_bytes(str(answer["id"]))
    except (KeyError, ValueError) as error:
        raise InputRefused(_REFUSED.format(why="it is not one of yours")) from error
    wanted = sa.select(Passkey).where(
        tables.passkeys.c.credential_id == credential_id, tables.passkeys.c.user_id == user_id
    )
    found: Passkey | None = uow.session.execute(wanted).scalars().first()
    if found is None:
        raise InputRefused(_REFUSED.format(why="it is not one of yours"))
    return found


def _take_challenge(uow: UnitOfWork, session_id: str) -> bytes:
    """Return the session's challenge, which is spent by this, whatever comes of it."""
    session = _load_session(uow, session_id)
    challenge, session.challenge = session.challenge, None
    uow.without_trail("a challenge is good once")
    uow.commit()
    if challenge is None:
        raise InputRefused(_REFUSED.format(why="the page is too old"))
    return challenge


def _load_session(uow: UnitOfWork, session_id: str) -> WebSession:
    session = uow.get(WebSession, session_id, lock=True)
    if session is None:
        raise NotFound("The session is over. Sign in again.")
    return session


def _parsed(credential: str) -> dict[str, object]:
    try:
        parsed = json.loads(credential[:_LARGEST_ANSWER])
    except ValueError as error:
        raise InputRefused(_REFUSED.format(why="the browser sent no answer")) from error
    if not isinstance(parsed, dict):
        raise InputRefused(_REFUSED.format(why="the browser sent no answer"))
    return parsed


def _host(settings: Settings) -> str:
    return urlsplit(settings.public_url).hostname or ""


def _origin(settings: Settings) -> str:
    parts = urlsplit(settings.public_url)
    return f"{parts.scheme}://{parts.netloc}"


def _is_number(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
