"""What every exception means to the person who sent the request, in one table.

`service.api` answers a `Refusal` as problem+json, `service.pages` as a page: the same sentence in
both. An internal error never shows its text; it is logged once, by `service.app`.
"""

import http
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from privacy import errors as privacy_errors
from service.domain.errors import DomainError

RETRY_AFTER_SECONDS = 5

PRIVACY_ERRORS: tuple[tuple[type[Exception], int, str], ...] = (
    (privacy_errors.BudgetExceeded, 409, "budget-refused"),
    (privacy_errors.ReservationExceeded, 409, "reservation-exceeded"),
    (privacy_errors.PrivacyError, 422, "privacy-refused"),
)
"""Kernel errors to status and slug; the first class that fits wins."""

HTTP_STATUSES: Mapping[int, tuple[str, str]] = {
    400: ("malformed-request", "Send a body that is valid JSON."),
    404: ("not-found", "Check the address; /openapi.json lists every one."),
    405: ("method-not-allowed", "/openapi.json lists the methods of this address."),
    406: ("not-acceptable", "Accept application/json."),
    408: ("timeout", "Send the request again."),
    411: ("length-required", "Send a Content-Length, or a chunked body."),
    413: ("too-large", "Upload files to /v1/versions/{id}/content or by presigned parts."),
    415: ("unsupported-media-type", "Send the body as application/json."),
    422: ("validation", "Correct the field that is named; see /openapi.json."),
    416: ("range-not-satisfiable", "Ask for a range inside the file."),
    428: ("precondition-required", "Send If-Match with the ETag of the thing you have read."),
    429: ("too-many-requests", "Wait as long as Retry-After says."),
    500: ("internal", "Tell the operator the id of the request."),
    503: ("unavailable", "Try again when Retry-After has passed."),
}
"""Refusals by HTTP itself: status to slug and remedy."""

_OUTAGES = frozenset(
    {
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "EndpointConnectionError",
        "OperationalError",
        "ReadTimeoutError",
    }
)
"""By name, so that the web layer imports neither a database nor an object store."""


@dataclass(frozen=True)
class Refusal:
    """A status, a stable slug, the sentence for people, and named values for programs."""

    status: int
    slug: str
    sentence: str
    extensions: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the slug in words."""
        return title_of(self.slug)


class RequestRefused(DomainError):
    """A request was refused at the HTTP edge, before any operation saw it."""

    def __init__(self, status: int, sentence: str, **extensions: object) -> None:
        super().__init__(sentence, **extensions)
        self.status = status
        self.slug = HTTP_STATUSES.get(status, ("refused", ""))[0]


class Unauthenticated(DomainError):
    """No valid API key came with the request."""

    status = 401
    slug = "unauthenticated"


def title_of(slug: str) -> str:
    """Return a slug in words."""
    return slug.replace("-", " ").capitalize()


def from_exception(error: Exception) -> Refusal:
    """Return what an exception means; an unknown one means 500 and shows nothing of itself."""
    if isinstance(error, DomainError):
        return Refusal(error.status, error.slug, error.sentence, error.extensions, _wait(error))
    for kind, status, slug in PRIVACY_ERRORS:
        if isinstance(error, kind):
            return Refusal(status, slug, str(error))
    if isinstance(error, ValidationError):
        return from_validation_error(error)
    if isinstance(error, HTTPException):
        return _from_http_exception(error)
    if _OUTAGES & {kind.__name__ for kind in type(error).__mro__}:
        return Refusal(
            503,
            "unavailable",
            "The request was not carried out: a part of the service does not answer. "
            "Try again in a few seconds.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    return Refusal(
        500,
        "internal",
        "The request failed for a reason inside the service. Tell the operator its id.",
    )


def from_validation_error(error: ValidationError) -> Refusal:
    """Return 422 that names every field that was refused; the sentence names the first."""
    fields = [
        {
            "field": _dotted(entry["loc"]),
            "value": _short(entry["input"]),
            "reason": _plain(entry["msg"]),
        }
        for entry in error.errors(include_url=False, include_context=False)
    ]
    first = fields[0]
    where = f"The field {first['field']!r}" if first["field"] else "The request"
    return Refusal(
        422,
        "validation",
        f"{where} was refused: {first['reason']} (it was {first['value']}). "
        "Correct it and send the request again.",
        {**first, "errors": fields, "remedy": "See the schema in /openapi.json."},
    )


def _from_http_exception(error: HTTPException) -> Refusal:
    status = error.code or 500
    slug, remedy = HTTP_STATUSES.get(status, ("refused", "See /openapi.json."))
    headers = {
        name: value
        for name, value in error.get_headers()
        if name in {"Allow", "Content-Range", "Retry-After"}
    }
    sentence = f"The request was refused: {http.HTTPStatus(status).phrase.lower()}. {remedy}"
    return Refusal(status, slug, sentence, {"remedy": remedy}, headers)


def _wait(error: DomainError) -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_SECONDS)} if error.status in {429, 503} else {}


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def _dotted(location: tuple[int | str, ...]) -> str:
    """Return a field as it was sent: which kind of data was declared is no part of its name."""
    sent = [
        part
        for before, part in zip(("", *location), location, strict=False)
        if not (before == "declared" and part in {"image", "table"})
    ]
    return ".".join(str(part) for part in sent)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= 80 else text[:77] + "..."
