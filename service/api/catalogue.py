"""The catalogue, searched: one narrow row for each release that everybody may see."""

from flask import Response
from pydantic import Field

from service import access_resources as r
from service.api.answers import ListQuery, answer_page
from service.api.auth import actor, make_blueprint
from service.domain.releases import ReleaseState
from service.operations import catalogue_search
from service.operations.catalogue_search import Filters, Order
from service.web import application

blueprint = make_blueprint("catalogue", about="The catalogue of releases, searched.")

_PLAIN = r"^[^\x00-\x1f\x7f]*$"


class CatalogueQuery(ListQuery):
    """What is looked for; what is left out looks for everything."""

    q: str = Field(
        default="", max_length=200, pattern=_PLAIN, description="words; each must be found"
    )
    label: str = Field(default="", max_length=64, pattern=_PLAIN)
    modality: str = Field(default="", max_length=16, pattern=_PLAIN)
    tenant_id: str = Field(default="", max_length=64, pattern=_PLAIN)
    tier: str = Field(default="", max_length=32, pattern=_PLAIN)
    licence: str = Field(default="", max_length=40, pattern=_PLAIN)
    duo: str = Field(default="", max_length=16, pattern=_PLAIN, description="such as DUO:0000042")
    state: ReleaseState | None = None
    epsilon_min: float | None = Field(default=None, ge=0, le=1e6, allow_inf_nan=False)
    epsilon_max: float | None = Field(default=None, ge=0, le=1e6, allow_inf_nan=False)
    order: Order = Order.NEWEST


@blueprint.get("/catalogue", summary="Search the catalogue", responses={200: r.CataloguePage})
def search_catalogue(query: CatalogueQuery) -> Response:
    """Search what everybody may see: published releases, and tombstones."""
    filters = Filters(
        text=query.q,
        **query.model_dump(exclude={"q", "order", "cursor", "limit"}),
    )
    with application().uow(read_only=True) as uow:
        page = catalogue_search.search_catalogue(
            uow,
            actor(),
            filters=filters,
            order=query.order,
            cursor=query.cursor,
            limit=query.limit,
        )
        return answer_page(r.CataloguePage, page, lambda row: r.CatalogueEntry(**vars(row)))
