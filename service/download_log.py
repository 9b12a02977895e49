"""The download log of a release as a file, for whoever answers for it."""

from service.domain.accounts import Actor
from service.operations import downloads
from service.spreadsheets import to_csv
from service.store.pages import MOST
from service.store.unit_of_work import UnitOfWork

HEADER = ("when", "user", "user_id", "organisation", "release", "version", "grant", "download")


def as_csv(uow: UnitOfWork, actor: Actor, *, release_id: str) -> str:
    """Return every link that was handed out, the last one first.

    Raises: NotFound, PermissionDenied.
    """
    rows, cursor = [], None
    while True:
        page = downloads.list_downloads(
            uow, actor, release_id=release_id, cursor=cursor, limit=MOST
        )
        rows += [
            (
                row.at.isoformat(timespec="seconds"),
                row.user_name,
                row.user_id,
                row.tenant,
                row.release_name,
                row.release_version,
                row.grant_id,
                row.id,
            )
            for row in page.items
        ]
        cursor = page.next_cursor
        if cursor is None:
            return to_csv(HEADER, rows)
