"""What every API request must satisfy before a model or a view looks at it.

This runs in the blueprint's `before_request`, because the framework validates bodies before view
decorators: without it a stranger could tell a valid body from an invalid one.
"""

import json

from flask import g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from werkzeug.exceptions import BadRequest

from service.api.problems import EVERY_ENDPOINT
from service.domain.accounts import Actor
from service.refusals import RequestRefused, Unauthenticated
from service.web import actor_of_token, count_failure

STREAMED_ENDPOINTS: set[str] = set()
"""Endpoints that read their body as a stream of bytes; they add themselves."""

_MALFORMED = (
    "The request was refused: its body is not valid JSON. "
    "Send UTF-8 JSON without NaN, Infinity or lone surrogates."
)


def make_blueprint(name: str, *, about: str) -> APIBlueprint:
    """Return a blueprint below /v1 whose requests need an API key."""
    blueprint = APIBlueprint(
        f"api_{name}",
        __name__,
        url_prefix="/v1",
        abp_tags=[Tag(name=name, description=about)],
        abp_security=[{"apiKey": []}],
        abp_responses=EVERY_ENDPOINT,
    )
    blueprint.before_request(_authenticate)
    blueprint.before_request(_check_body)
    return blueprint


def actor() -> Actor:
    """Return who sent the current request."""
    found: Actor = g.actor
    return found


def _authenticate() -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        count_failure()
        raise Unauthenticated(
            "The request was refused: it carries no API key. "
            "Send the header `Authorization: Bearer kaima_…`.",
            remedy="Ask an operator for an API key.",
        )
    g.actor, _ = actor_of_token(token.strip())


def _check_body() -> None:
    """Refuse a body that is not JSON.

    NaN, infinities and lone surrogates are malformed too: no database and no canonical form can
    hold them.
    """
    if request.endpoint in STREAMED_ENDPOINTS or request.method not in {"POST", "PUT", "PATCH"}:
        return
    if not request.get_data(cache=True):
        return
    if request.mimetype != "application/json":
        stated = request.mimetype[:80]
        raise RequestRefused(
            415,
            f"The request was refused: its body is {stated or 'of no stated type'}; "
            "it must be application/json. Set Content-Type.",
            value=stated,
            limit="application/json",
        )
    try:
        json.dumps(request.get_json(), ensure_ascii=False, allow_nan=False).encode()
    except (BadRequest, ValueError, RecursionError) as error:
        raise RequestRefused(400, _MALFORMED) from error
