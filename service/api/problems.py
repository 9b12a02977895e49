"""Refusals as RFC 9457 problem+json, and how the OpenAPI document describes them."""

import json

from flask import Response, g
from flask_openapi3.types import ResponseDict
from pydantic import ValidationError

from service.refusals import Refusal, from_validation_error
from service.resources import Problem

MEDIA_TYPE = "application/problem+json"


def problem(refusal: Refusal) -> Response:
    """Return a refusal as problem+json; `instance` names this request for the operator."""
    document = {
        **{name: value for name, value in refusal.extensions.items() if value is not None},
        "type": f"/problems/{refusal.slug}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.sentence,
        "instance": f"/requests/{g.get('request_id', 'unknown')}",
    }
    text = json.dumps(document, default=str)
    response = Response(text, status=refusal.status, content_type=MEDIA_TYPE)
    response.headers.update(dict(refusal.headers))
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="kaima"'
    return response


def refuse_validation(error: ValidationError) -> Response:
    """Answer a request whose body, query or path a model refused."""
    return problem(from_validation_error(error))


def documented(*statuses: int) -> ResponseDict:
    """Return the problem responses of an endpoint for its OpenAPI description."""
    schema = Problem.model_json_schema()
    return {
        status: {"description": "RFC 9457 problem", "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


EVERY_ENDPOINT = documented(400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
"""What any endpoint below /v1 may answer."""
