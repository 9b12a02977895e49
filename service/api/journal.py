"""The journal: who did what to which thing, when; its signed head, and proofs of what is under it."""

from flask import Response
from pydantic import BaseModel, ConfigDict, Field

from service import journal_resources as j
from service import resources as r
from service.api import views
from service.api.answers import TrailQuery, answer
from service.api.auth import actor, make_blueprint
from service.operations import journal, journal_heads
from service.web import application

blueprint = make_blueprint("journal", about="The hash-chained record of everything.")
_LONGEST = 2**53


class RowPath(BaseModel):
    """A row of the journal, by its position."""

    seq: int = Field(ge=1, le=_LONGEST)


class OldSizeQuery(BaseModel):
    """Which older head the proof starts from."""

    model_config = ConfigDict(extra="forbid")

    old_size: int = Field(ge=1, le=_LONGEST, description="`size` of the head that you kept")


@blueprint.get("/journal", summary="List the journal", responses={200: r.TrailPage})
def list_rows(query: TrailQuery) -> Response:
    """List the rows of ledger and trail, oldest first, each with its digest."""
    with application().uow(read_only=True) as uow:
        rows = journal.list_rows(uow, actor(), after=query.cursor, limit=query.limit)
    return answer(views.trail_page(rows, limit=query.limit))


@blueprint.get("/journal/head", summary="The signed head", responses={200: j.JournalHead})
def get_head() -> Response:
    """Return how many rows the journal has now and their root, signed. Keep it: it is evidence."""
    with application().uow(read_only=True) as uow:
        head = journal_heads.get_head(uow, actor())
    return answer(j.JournalHead.model_validate(head))


@blueprint.get(
    "/journal/proofs/<int:seq>", summary="Prove one row", responses={200: j.InclusionProof}
)
def prove_row(path: RowPath) -> Response:
    """Return the proof that a row which you may read is under the present head."""
    with application().uow(read_only=True) as uow:
        proof = journal_heads.prove_row(uow, actor(), seq=path.seq)
    return answer(j.InclusionProof.model_validate(proof))


@blueprint.get(
    "/journal/consistency", summary="Prove the growth", responses={200: j.ConsistencyProof}
)
def prove_consistency(query: OldSizeQuery) -> Response:
    """Return the proof that the rows of an older head begin the present journal, unchanged."""
    with application().uow(read_only=True) as uow:
        proof = journal_heads.prove_consistency(uow, actor(), old_size=query.old_size)
    return answer(j.ConsistencyProof.model_validate(proof))
