"""Keep the catalogue's narrow rows: each is written whenever its release is.

A release's own row holds its certificate and evidence, kilobytes that a search must not read. The
projection follows from the release alone, so no operation needs to think of it, and `fill_missing`
can make it again.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session

from service.domain.declarations import DUO_TERMS, TABLE_MODALITY
from service.domain.releases import IN_CATALOGUE, Release
from service.store import access_tables, tables

_ROWS_AT_ONCE = 500


def listing_of(release: Any) -> dict[str, Any]:
    """Return the row of a release, given as an entity or as a row with the same names."""
    declared: Mapping[str, Any] = release.declared or {}
    certificate: Mapping[str, Any] = release.certificate or {}
    schema: Mapping[str, Any] = certificate.get("declared") or {}
    duo = [str(code) for code in declared.get("duo", ())]
    label, labels = str(schema.get("label", "")), certificate.get("labels") or ()
    columns = [str(column.get("name", "")) for column in schema.get("columns", ())]
    words = [
        release.name, declared.get("title"), declared.get("description"),
        declared.get("body_part"), *declared.get("keywords", ()), label, *labels, *columns,
        certificate.get("generator"), *duo, *(DUO_TERMS.get(code, ("",))[0] for code in duo),
    ]  # fmt: skip
    return {
        "release_id": release.id,
        "tenant_id": release.tenant_id,
        "state": str(getattr(release.state, "value", release.state)),
        "is_public": release.state in IN_CATALOGUE,
        "name": release.name,
        "version": release.version,
        "title": str(declared.get("title") or release.name),
        "tier": release.tier or "",
        "verdict": release.verdict or "",
        "modality": (
            TABLE_MODALITY
            if columns and not schema.get("images")
            else str(declared.get("modality") or "DX")
        ),
        "label": label,
        "licence": str(declared.get("licence") or ""),
        "duo": " ".join(duo),
        "words": " ".join(str(word) for word in words if word).casefold(),
        "epsilon": certificate.get("epsilon"),
        "unit": str(certificate.get("unit", "")),
        "listed_at": release.published_at or release.created_at,
    }


def follow_releases() -> None:
    """Write a release's row after each flush that writes the release; a second call does nothing."""
    if not event.contains(Session, "after_flush", _follow):
        event.listen(Session, "after_flush", _follow)


def _follow(session: Session, _context: object) -> None:
    written = {found for found in (*session.new, *session.dirty) if isinstance(found, Release)}
    for release in written:
        row = listing_of(release)
        key = access_tables.listings.c.release_id == release.id
        changed = session.connection().execute(
            sa.update(access_tables.listings).where(key).values(**row)
        )
        if not changed.rowcount:
            session.connection().execute(sa.insert(access_tables.listings).values(**row))


def fill_missing(connection: sa.Connection) -> int:
    """List every release that has no row yet; return how many there were."""
    releases, listings = tables.releases.c, access_tables.listings
    wanted = [
        releases[name]
        for name in (
            "id", "tenant_id", "state", "name", "version", "tier", "verdict", "declared",
            "certificate", "published_at", "created_at",
        )
    ]  # fmt: skip
    statement = (
        sa.select(*wanted)
        .outerjoin(listings, listings.c.release_id == releases.id)
        .where(listings.c.release_id.is_(None))
        .limit(_ROWS_AT_ONCE)
    )
    count = 0
    while found := connection.execute(statement).all():
        connection.execute(sa.insert(listings), [listing_of(row) for row in found])
        count += len(found)
    return count
