"""Repeating a request with the same Idempotency-Key repeats the answer, not the work."""

from collections.abc import Callable

from flask import Response, json, request

from service.api.auth import actor
from service.domain.accounts import Scope
from service.domain.permissions import check_scope
from service.operations import idempotency
from service.store.unit_of_work import UnitOfWork

_KEPT_HEADERS = frozenset({"ETag", "Location", "Retry-After"})


def answer_once(
    uow: UnitOfWork, key: str | None, answer: Callable[[], Response], *, scope: Scope
) -> Response:
    """Return `answer()`, or what the first request with this key was answered.

    `scope` is what `answer` needs: an API key without it gets no repeated answer either.

    The answer is stored in the transaction of its effect. A refusal is not stored: the same
    request may be sent again.
    """
    if key is None:
        return answer()
    sender, method, path = actor(), request.method, request.path
    check_scope(sender, "The request", scope)
    replay = idempotency.begin(
        uow, sender, key=key, method=method, path=path, request=request.get_data()
    )
    if replay is not None:
        repeated = Response(
            json.dumps(replay.body), status=replay.status, content_type="application/json"
        )
        repeated.headers.update(replay.headers)
        repeated.headers["Idempotent-Replayed"] = "true"
        return repeated
    response = answer()
    idempotency.finish(
        uow,
        sender,
        key=key,
        method=method,
        path=path,
        status=response.status_code,
        headers={name: value for name, value in response.headers if name in _KEPT_HEADERS},
        body=response.get_json(),
    )
    return response
