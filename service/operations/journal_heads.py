"""Sign the journal's head, store it beside the anchors, and prove what is under it.

A head is signed when somebody asks, and stored once an hour by the reaper if the journal grew; the
bucket may lock it. Whoever holds one can later demand a proof that the journal only grew since.
"""

from datetime import timedelta
from typing import Any

import rfc8785
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import signing
from service.domain import journal_heads, permissions
from service.domain.accounts import Actor, Role, Scope
from service.domain.errors import InputRefused, NotFound
from service.operations import stories
from service.store import journal, journal_tree, tables
from service.store.journal_proof import HEADS
from service.store.unit_of_work import UnitOfWork

STORE_EVERY = timedelta(hours=1)
"""How old the last stored head may become while the journal grows."""


def signing_key(uow: UnitOfWork) -> Ed25519PrivateKey:
    """Return the instance's signing key, the same that signs releases."""
    return signing.load_or_create_signing_key(uow.settings.effective_signing_key_file)


def sign_head(uow: UnitOfWork) -> dict[str, Any]:
    """Return the journal's head as it is now, signed."""
    position = journal.position(uow.session)
    return _head(uow, position)


def get_head(uow: UnitOfWork, actor: Actor) -> dict[str, Any]:
    """Return the signed head to anybody with an account: it names nobody and nothing."""
    permissions.check_scope(actor, "Reading the journal's head", Scope.READ)
    return sign_head(uow)


def prove_row(uow: UnitOfWork, actor: Actor, *, seq: int) -> dict[str, Any]:
    """Return the proof that row `seq` is under the present head.

    Whoever may not read the row learns nothing, not even that it is there; an operator, who may
    read it without the digests inside, gets its digest in place of its text.
    Raises: NotFound.
    """
    permissions.check_scope(actor, "Proving a row of the journal", Scope.READ)
    row = journal.read_row(uow.session, seq)
    is_shown = row is not None and stories.may_see_row(uow, actor, row)
    if row is None or not (is_shown or actor.has(Role.OPERATOR)):
        raise NotFound(f"No row {seq} of the journal was found. Check its number.")
    return proof_of(uow, row, with_text=is_shown)


def proof_of(uow: UnitOfWork, row: journal.Row, *, with_text: bool) -> dict[str, Any]:
    """Return the proof that a row is under the present head, whoever asks."""
    head = sign_head(uow)
    return journal_heads.inclusion(
        head,
        seq=row.seq,
        digest=row.digest,
        path=journal_tree.inclusion_path(uow.session, row.seq, size=head["size"]),
        text=row.text if with_text else None,
    )


def prove_consistency(uow: UnitOfWork, actor: Actor, *, old_size: int) -> dict[str, Any]:
    """Return the proof that the first `old_size` rows, which somebody's head names, are unchanged.

    Its `old` names the size alone: whoever asks puts the head there that they kept.
    Raises: InputRefused for a size that the journal never had.
    """
    permissions.check_scope(actor, "Proving the journal's growth", Scope.READ)
    return consistency_with(uow, {"size": old_size})


def consistency_with(uow: UnitOfWork, old: dict[str, Any]) -> dict[str, Any]:
    """Return the proof that a head's rows begin the present journal.  Raises: InputRefused."""
    head, size = sign_head(uow), int(old["size"])
    if not 0 < size <= head["size"]:
        raise InputRefused(
            f"The proof was refused: a head of {size} rows was named, and this journal has "
            f"{head['size']}. If the service signed that head, the journal was truncated: keep it, "
            "and run: kaima journal verify --head FILE",
            value=size,
            limit=head["size"],
        )
    path = journal_tree.consistency_path(uow.session, size, new=head["size"])
    return journal_heads.consistency(old, head, path=path)


def store_head(uow: UnitOfWork) -> dict[str, Any]:
    """Sign the head and store it in the journal's bucket, where it is never overwritten. Commits."""
    head = sign_head(uow)
    uow.session.commit()  # nothing is held while the store is written
    key = f"{HEADS}{head['size']:016d}-{head['root'][:16]}.json"
    uow.objects.put_immutable(
        key, rfc8785.dumps(head), retention_days=uow.settings.journal_retention_days
    )
    uow.without_trail("a head says what the journal says already")
    uow.execute_update(
        sa.update(tables.journal_head).values(signed_seq=head["size"], signed_at=uow.now())
    )
    uow.commit()
    return head


def store_head_if_due(uow: UnitOfWork) -> int:
    """Store a head if the journal grew and the last one is an hour old; return how many. Commits.

    A machine without the signing key leaves it to the others.
    """
    columns = tables.journal_head.c
    found = uow.session.execute(
        sa.select(columns.seq, columns.signed_seq, columns.signed_at)
    ).first()
    uow.commit()
    is_due = (
        found is not None
        and found.seq > found.signed_seq
        and (found.signed_at is None or found.signed_at + STORE_EVERY <= uow.now())
    )
    if not is_due or not uow.settings.effective_signing_key_file.exists():
        return 0
    store_head(uow)
    return 1


def rebuild_tree(uow: UnitOfWork) -> int:
    """Make the tree again from the rows' digests; return how many rows it is over.

    Changes nothing that is proven: the same rows give the same tree.
    """
    uow.without_trail("the tree says what the rows say already")
    journal_tree.truncate(uow.session, keep=0)
    size = 0
    while found := list(journal.read_rows(uow.session, after=size, limit=journal.BATCH)):
        journal_tree.extend(uow.session, size=size, digests=[row.digest for row in found])
        size = found[-1].seq
    return size


def _head(uow: UnitOfWork, position: journal.Position) -> dict[str, Any]:
    return journal_heads.signed_head(
        size=position.seq,
        root=journal_tree.root_at(uow.session, position.seq),
        digest=position.digest,
        at=uow.now(),
        key=signing_key(uow),
    )
