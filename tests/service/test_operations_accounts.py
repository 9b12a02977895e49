"""Accounts and API keys: shown once, stored hashed, refused with one sentence."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from service.domain.accounts import BOOTSTRAP, Actor, Role, Scope
from service.domain.errors import Conflict, InputRefused, NotFound, PermissionDenied
from service.operations import accounts, invitations, users
from service.operations.notifying import list_notifications
from service.store import tables
from tests.factories import Walk, copied_clock


def make_key(walk: Walk, **options: object) -> tuple[str, str]:
    """Return the id and the text of a new key of the data owner."""
    with walk.application.uow() as uow:
        key, text = accounts.create_api_key(uow, BOOTSTRAP, user_id=walk.owner.user_id, **options)
    return key.id, text


def test_a_key_opens_the_account_of_its_user(walk: Walk) -> None:
    _, text = make_key(walk)
    with walk.application.uow(read_only=True) as uow:
        actor = accounts.authenticate(uow, text)
    assert (actor.user_id, actor.tenant_id) == (walk.owner.user_id, walk.tenant_id)
    assert actor.roles == {Role.DATA_OWNER}


def test_the_secret_is_stored_nowhere(sqlite_walk: Walk) -> None:
    _, text = make_key(sqlite_walk)
    secret = text[-43:]
    with sqlite_walk.application.engine.connect() as connection:
        for table in tables.metadata.tables.values():
            for row in connection.execute(sa.select(table)):
                assert secret not in repr(row)


def test_a_wrong_expired_or_revoked_key_is_refused_with_the_same_sentence(walk: Walk) -> None:
    key_id, text = make_key(walk, lifetime_days=1)
    wrong = text[:-1] + ("A" if text[-1] != "A" else "B")
    sentences = set()
    clock = walk.application.parts.clock
    tomorrow = copied_clock(walk.application, lambda: clock() + timedelta(days=2))
    _, short_lived = make_key(walk, lifetime_days=1)
    with walk.application.uow() as uow:
        accounts.revoke_api_key(uow, walk.operator, key_id=key_id)
    for application, token in (
        (walk.application, wrong),
        (walk.application, text),
        (tomorrow, short_lived),
        (walk.application, "kaima_nonsense"),
        (walk.application, ""),
    ):
        with pytest.raises(PermissionDenied) as refusal, application.uow(read_only=True) as uow:
            accounts.authenticate(uow, token)
        sentences.add(refusal.value.sentence)
    assert len(sentences) == 1


def test_a_key_holds_only_the_scopes_it_was_given(walk: Walk) -> None:
    _, text = make_key(walk, scopes=[Scope.READ])
    with walk.application.uow(read_only=True) as uow:
        assert accounts.authenticate(uow, text).scopes == {Scope.READ}


def test_an_operator_makes_somebodys_first_key_alone_and_they_are_told(sqlite_walk: Walk) -> None:
    auditor, invited, linked = (
        who.user_id for who in (*sqlite_walk.auditors[:2], sqlite_walk.owner)
    )
    with sqlite_walk.application.uow() as uow:
        first, _ = accounts.create_api_key(uow, sqlite_walk.operator, user_id=auditor)
        accounts.create_api_key(uow, sqlite_walk.operator, user_id=sqlite_walk.operator.user_id)
        invitations.invite_again(
            uow, sqlite_walk.operator, user_id=invited, sign_in_name=f"{invited}@hospital.test"
        )
        users.link_identity(
            uow, sqlite_walk.operator, user_id=linked, issuer="https://idp.test", subject=linked
        )
        accounts.revoke_api_key(uow, sqlite_walk.operator, key_id=first.id)
    for user_id in (auditor, invited, linked):
        with (
            pytest.raises(PermissionDenied, match="invitation"),
            sqlite_walk.application.uow() as uow,
        ):
            accounts.create_api_key(uow, sqlite_walk.operator, user_id=user_id)
    assert told(sqlite_walk, sqlite_walk.auditors[0]) == ["account.new_key"]
    assert told(sqlite_walk, sqlite_walk.operator) == []


def test_a_link_to_an_account_elsewhere_or_to_a_password_is_told(sqlite_walk: Walk) -> None:
    operator, owner = sqlite_walk.operator, sqlite_walk.owner
    with sqlite_walk.application.uow() as uow:
        made = users.link_identity(
            uow, operator, user_id=owner.user_id, issuer="https://idp.test", subject="somebody"
        )
    with sqlite_walk.application.uow() as uow:
        users.unlink_identity(uow, operator, identity_id=made.id)
        accounts.create_api_key(uow, BOOTSTRAP, user_id=owner.user_id)
    with sqlite_walk.application.uow() as uow:
        invitations.invite_again(
            uow, operator, user_id=owner.user_id, sign_in_name="not-theirs@hospital.test"
        )
    assert told(sqlite_walk, owner) == ["account.new_password", "account.link", "account.link"]


def told(walk: Walk, who: Actor) -> list[str]:
    with walk.application.uow(read_only=True) as uow:
        return [notice.kind for notice in list_notifications(uow, who).items]


def test_only_operators_make_accounts(sqlite_walk: Walk) -> None:
    for actor in (sqlite_walk.owner, sqlite_walk.collaborator, *sqlite_walk.auditors):
        with pytest.raises(PermissionDenied), sqlite_walk.application.uow() as uow:
            accounts.create_tenant(uow, actor, name="another")


def test_what_cannot_be_an_account_is_refused(sqlite_walk: Walk) -> None:
    def create(**options: object) -> None:
        given = {"tenant_id": sqlite_walk.tenant_id, "name": "n", "roles": ["auditor"], **options}
        with sqlite_walk.application.uow() as uow:
            accounts.create_user(uow, BOOTSTRAP, **given)

    create()
    for options, refusal in (
        ({}, Conflict),
        ({"name": "m", "roles": ["emperor"]}, InputRefused),
        ({"name": "m", "roles": []}, InputRefused),
        ({"name": " "}, InputRefused),
        ({"name": "m", "tenant_id": "ten_0"}, NotFound),
    ):
        with pytest.raises(refusal):
            create(**options)
