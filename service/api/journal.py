"""The journal: who did what to which thing, when; for operators."""

from flask import Response

from service import resources as r
from service.api import views
from service.api.answers import TrailQuery, answer
from service.api.auth import actor, make_blueprint
from service.operations import journal
from service.web import application

blueprint = make_blueprint("journal", about="The hash-chained record of everything.")


@blueprint.get("/journal", summary="List the journal", responses={200: r.TrailPage})
def list_rows(query: TrailQuery) -> Response:
    """List the rows of ledger and trail, oldest first, each with its digest."""
    with application().uow(read_only=True) as uow:
        rows = journal.list_rows(uow, actor(), after=query.cursor, limit=query.limit)
    return answer(views.trail_page(rows, limit=query.limit))
