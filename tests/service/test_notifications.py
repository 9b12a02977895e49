"""Notices: who gets one, what leaves with it, and that it lives and dies with its change."""

import pytest
import sqlalchemy as sa

from service.domain.accounts import BOOTSTRAP
from service.domain.notifications import Message
from service.domain.trail import TrailEvent
from service.operations import notifying
from tests.factories import Walk

NOTICE = {"kind": "release.returned", "subject": "A release was returned", "text": "Look at it."}


def told(walk: Walk, *to: str, **options: str) -> None:
    with walk.application.uow() as uow:
        uow.trail(BOOTSTRAP, TrailEvent.USER_CREATE, "test")
        notifying.notify(uow, to=to, link="/releases", **{**NOTICE, **options})


def notices(walk: Walk, actor, **options):
    with walk.application.uow(read_only=True) as uow:
        return notifying.list_notifications(uow, actor, **options).items


def messages(walk: Walk) -> list[Message]:
    with walk.application.uow(read_only=True) as uow:
        return list(uow.session.execute(sa.select(Message)).scalars())


def test_each_person_named_gets_one_notice_and_nobody_else(sqlite_walk):
    walk = sqlite_walk
    told(walk, walk.owner.user_id, walk.owner.user_id, walk.auditors[0].user_id, "system")
    assert [notice.subject for notice in notices(walk, walk.owner)] == ["A release was returned"]
    assert len(notices(walk, walk.auditors[0])) == 1
    assert notices(walk, walk.auditors[1]) == []
    assert messages(walk) == []  # nobody chose e-mail, no tenant has a webhook


def test_reading_is_counted_and_only_ones_own_can_be_read(sqlite_walk):
    walk = sqlite_walk
    told(walk, walk.owner.user_id)
    told(walk, walk.owner.user_id, subject="Another")
    newest = notices(walk, walk.owner)[0]
    assert newest.subject == "Another"
    with walk.application.uow() as uow:
        assert notifying.mark_read(uow, walk.auditors[0], notification_ids=[newest.id]) == 0
        assert notifying.count_unread(uow, walk.owner) == 2
    with walk.application.uow() as uow:
        assert notifying.mark_read(uow, walk.owner, notification_ids=[newest.id]) == 1
        assert notifying.count_unread(uow, walk.owner) == 1
    assert [n.subject for n in notices(walk, walk.owner, unread_only=True)] == [NOTICE["subject"]]


def test_a_notice_is_undone_with_the_change_that_it_tells_of(sqlite_walk):
    walk = sqlite_walk

    def change_that_fails():
        with walk.application.uow() as uow:
            notifying.notify(uow, to=[walk.owner.user_id], link="/releases", **NOTICE)
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        change_that_fails()
    assert notices(walk, walk.owner) == []


def test_a_notice_alone_is_a_change_without_a_trail(sqlite_walk):
    walk = sqlite_walk
    with pytest.raises(RuntimeError, match="trail"), walk.application.uow() as uow:
        notifying.notify(uow, to=[walk.owner.user_id], link="/releases", **NOTICE)
