"""No operator enters somebody's account alone: a reset of second factors waits, and is told."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pyotp
import pytest
import sqlalchemy as sa

from service.domain.accounts import BOOTSTRAP, Actor, Role, User
from service.domain.errors import Conflict, InputRefused, NotFound, PermissionDenied
from service.domain.releases import Decision
from service.domain.sign_in import FactorReset, SignIn
from service.domain.trail import TrailEvent
from service.operations import (
    accounts,
    factor_resets,
    invitations,
    passwords,
    reviewing,
    second_factors,
    users,
)
from service.operations.notifying import list_notifications
from service.operations.webhooks import choose_email
from service.store import notification_tables, tables
from service.store.unit_of_work import utc_now
from service.wiring import Application
from tests.components import ObjectStoreServer
from tests.databases import BOTH, fresh_database
from tests.factories import (
    Walk,
    copied_clock,
    running_application,
)

PASSWORD = "river copper lantern seven"


class Clock:
    """A clock that a test puts forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        """Return the moment."""
        return utc_now() + self.ahead


@pytest.fixture(scope="module", params=BOTH)
def service(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    object_store: ObjectStoreServer,
) -> Iterator[Application]:
    """Yield an application of the module's own: who its operators are matters."""
    folder = tmp_path_factory.mktemp("resets")
    with (
        fresh_database(request.param, request) as url,
        running_application(folder, object_store, database_url=url) as made,
    ):
        yield made


@pytest.fixture
def clock() -> Clock:
    """Return a clock that runs."""
    return Clock()


@pytest.fixture
def walk(service: Application, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    """Yield a tenant with its people, whose first auditor has a password and an app.

    Its operators leave afterwards, so that each test knows how many there are.
    """
    hasher = passwords.argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "HASHER", hasher)
    walk = Walk(copied_clock(service, clock))
    with walk.application.uow() as uow:
        link = invitations.invite_again(
            uow, walk.operator, user_id=walk.auditors[0].user_id, sign_in_name=f"{walk.tenant_id}@x"
        )
    enter(walk, link)
    yield walk
    with service.uow() as uow:
        for operator in factor_resets.operators(uow):
            users.disable_user(uow, BOOTSTRAP, user_id=operator)


def enter(walk: Walk, link: invitations.Invited) -> Actor:
    """Take a link up with a password, and set up an app if there is no factor."""
    _, _, invitation_id, secret = link.path.split("/")
    with walk.application.uow() as uow:
        who = invitations.use_invitation(uow, invitation_id, secret=secret, password=PASSWORD)
    with walk.application.uow() as uow:
        if not second_factors.list_factors(uow, who.user_id):
            secret = second_factors.start_totp(uow, who).secret
            second_factors.confirm_totp(uow, who, code=pyotp.TOTP(secret).at(uow.now()))
    return who


def another_operator(walk: Walk, by: Actor = BOOTSTRAP) -> Actor:
    with walk.application.uow() as uow:
        user = accounts.create_user(
            uow,
            by,
            tenant_id=walk.tenant_id,
            name=f"operator of {by.name}",
            roles=[Role.OPERATOR],
        )
        uow.session.flush()
        return accounts.load_actor(uow, user_id=user.id)


def ask(walk: Walk, by: Actor | None = None) -> FactorReset:
    with walk.application.uow() as uow:
        return factor_resets.request_reset(
            uow, by or walk.operator, user_id=walk.auditors[0].user_id
        )


def finish(walk: Walk, by: Actor) -> invitations.Invited:
    with walk.application.uow() as uow:
        return invitations.finish_reset(uow, by, user_id=walk.auditors[0].user_id)


def keep(walk: Walk, by: Actor) -> None:
    with walk.application.uow() as uow:
        factor_resets.cancel_reset(uow, by, user_id=walk.auditors[0].user_id)


def has_factor(walk: Walk) -> bool:
    with walk.application.uow(read_only=True) as uow:
        return bool(second_factors.list_factors(uow, walk.auditors[0].user_id))


def kinds(walk: Walk, who: Actor) -> list[str]:
    with walk.application.uow(read_only=True) as uow:
        return [notice.kind for notice in list_notifications(uow, who).items]


def test_one_operator_alone_waits_a_day_and_then_makes_the_link(walk: Walk, clock: Clock) -> None:
    assert not ask(walk).needs_second
    with pytest.raises(PermissionDenied, match="waits until"):
        finish(walk, walk.operator)
    assert has_factor(walk), "they stay until then"
    clock.ahead = timedelta(hours=24, minutes=1)
    link = finish(walk, walk.operator)
    assert not has_factor(walk)
    assert not link.invitation.sets_password, "the link still asks for the password"
    assert kinds(walk, walk.auditors[0])[0] == "account.factors_reset"


def test_where_there_is_another_operator_that_one_confirms_and_time_does_not_help(
    walk: Walk, clock: Clock
) -> None:
    other = another_operator(walk)
    assert ask(walk).needs_second
    assert "account.factor_reset_waits" in kinds(walk, other)
    clock.ahead = timedelta(days=3)
    with pytest.raises(PermissionDenied, match="another operator must confirm"):
        finish(walk, walk.operator)
    finish(walk, other)
    assert not has_factor(walk)


def test_an_operator_whom_the_first_one_let_in_is_no_other_one(walk: Walk, clock: Clock) -> None:
    puppet = another_operator(walk, by=walk.operator)
    assert not ask(walk).needs_second, "nor does it make a second one necessary"
    with pytest.raises(PermissionDenied, match="waits until"):
        finish(walk, puppet)
    promoted = walk.collaborator
    with walk.application.uow() as uow:
        users.change_roles(uow, walk.operator, user_id=promoted.user_id, roles=[Role.OPERATOR])
    with walk.application.uow() as uow:
        promoted = accounts.load_actor(uow, user_id=promoted.user_id)
    with pytest.raises(PermissionDenied, match="waits until"):
        finish(walk, promoted)
    clock.ahead = timedelta(days=31)
    keep(walk, walk.operator)
    assert ask(walk).needs_second, "a month later they count"
    finish(walk, puppet)


def test_the_person_is_told_by_every_way_and_keeps_the_factors(walk: Walk) -> None:
    auditor = walk.auditors[0]
    with walk.application.uow() as uow:
        choose_email(uow, auditor, address="ada@elsewhere.test", is_on=False)
    ask(walk)
    with walk.application.uow(read_only=True) as uow:
        outbox = notification_tables.outbox.c
        sent = set(uow.session.execute(sa.select(outbox.target)).scalars())
    assert {"ada@elsewhere.test", f"{walk.tenant_id}@x"} <= sent, "though e-mail is off"
    assert "account.factor_reset_asked" in kinds(walk, auditor)
    assert "account.factor_reset_of_auditor" in kinds(walk, walk.auditors[1])
    keep(walk, auditor)
    assert has_factor(walk)
    assert "account.factors_kept" in kinds(walk, walk.operator)
    with pytest.raises(NotFound):
        finish(walk, walk.operator)
    with walk.application.uow(read_only=True) as uow:
        events = uow.session.execute(
            sa.select(tables.journal.c.event)
            .where(tables.journal.c.subject == auditor.user_id)
            .order_by(tables.journal.c.seq)
        ).scalars()
        found = list(events)
    assert found[-2:] == [TrailEvent.FACTORS_RESET_REQUEST, TrailEvent.FACTORS_RESET_CANCEL]


def test_nothing_is_approved_in_the_name_of_somebody_whose_factors_are_to_go(walk: Walk) -> None:
    release = walk.submitted(walk.release())
    ask(walk)

    def vote() -> None:
        with walk.application.uow() as uow:
            reviewing.review_release(
                uow,
                walk.auditors[0],
                release_id=release.id,
                decision=Decision.APPROVE,
                if_match=walk.current(release).etag,
            )

    with pytest.raises(PermissionDenied, match="until that is settled"):
        vote()
    keep(walk, walk.auditors[0])
    vote()


def test_a_link_to_a_password_is_no_way_around_it(walk: Walk, clock: Clock) -> None:
    """An auditor without a factor would set up both with one link."""
    late = walk.auditors[1]
    with walk.application.uow() as uow:
        accounts.create_api_key(uow, BOOTSTRAP, user_id=late.user_id)

    def invite() -> invitations.Invited:
        with walk.application.uow() as uow:
            return invitations.invite_again(
                uow, walk.operator, user_id=late.user_id, sign_in_name=f"late@{walk.tenant_id}"
            )

    with pytest.raises(PermissionDenied, match="the link alone"):
        invite()
    with walk.application.uow() as uow:  # the first operator has a key, and gets a password so
        uow.get(User, late.user_id).roles = ["auditor", "operator"]  # type: ignore[union-attr]
        uow.session.flush()
        own = accounts.load_actor(uow, user_id=late.user_id)
        name = f"{late.user_id}@own"
        assert invitations.invite_again(uow, own, user_id=late.user_id, sign_in_name=name)
        uow.rollback()
    with walk.application.uow() as uow:  # nor is it one to take the role away for a moment
        users.change_roles(uow, walk.operator, user_id=late.user_id, roles=["collaborator"])
    assert "account.roles" in kinds(walk, late)
    with pytest.raises(PermissionDenied, match="the link alone"):
        invite()
    with walk.application.uow() as uow:
        factor_resets.request_reset(uow, walk.operator, user_id=late.user_id)
    with pytest.raises(PermissionDenied, match="the link alone"):
        invite()
    clock.ahead = timedelta(hours=25)
    with walk.application.uow() as uow:
        link = invitations.finish_reset(
            uow, walk.operator, user_id=late.user_id, sign_in_name=f"late@{walk.tenant_id}"
        )
    assert link.invitation.sets_password
    with walk.application.uow(read_only=True) as uow:
        assert uow.get(SignIn, late.user_id) is not None


def refused_requests(walk: Walk) -> list[tuple[Callable[[], object], type[Exception]]]:
    def of(actor: Actor, user: Actor) -> Callable[[], object]:
        def request() -> None:
            with walk.application.uow() as uow:
                factor_resets.request_reset(uow, actor, user_id=user.user_id)

        return request

    return [
        (of(walk.operator, walk.operator), PermissionDenied),
        (of(walk.owner, walk.auditors[0]), PermissionDenied),
        (of(walk.operator, walk.auditors[2]), InputRefused),
        (of(walk.operator, walk.auditors[0]), Conflict),
    ]


def test_what_cannot_be_reset_is_refused(walk: Walk) -> None:
    ask(walk)
    for request, refusal in refused_requests(walk):
        with pytest.raises(refusal):
            request()
    with pytest.raises(PermissionDenied):
        keep(walk, walk.auditors[1])
