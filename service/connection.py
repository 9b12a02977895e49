"""Talk to a Kaima service: problem details, patience, pages. No word of what is asked for.

Refusals are raised as `ProblemError`, whose text is the sentence that the service wrote for people.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from service.resources import Body, Problem

M = TypeVar("M", bound=BaseModel)

RETRIES = 4
_LONGEST_WAIT_SECONDS = 30.0
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_PROBLEM = "application/problem+json"


class ProblemError(Exception):
    """The service refused a request; the text is its sentence, `problem` the whole answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.status = problem.status
        self.slug = problem.type.rsplit("/", 1)[-1]


class Connection:
    """HTTP to one service, as one API key."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        *,
        timeout_seconds: float,
        transport: httpx.BaseTransport | None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout_seconds, transport=transport
        )

    def get(self, model: type[M], path: str) -> M:
        """Read one resource."""
        return model.model_validate_json(self.send("GET", path).content)

    def post(
        self,
        model: type[M],
        path: str,
        body: Body | None = None,
        *,
        idempotency_key: str | None = None,
        etag: str | None = None,
        method: str = "POST",
    ) -> M:
        """Send a body, or nothing; return what the service answers."""
        headers = {"Idempotency-Key": idempotency_key, "If-Match": etag}
        response = self.send(
            method,
            path,
            json=None if body is None else body.model_dump(mode="json"),
            headers={name: value for name, value in headers.items() if value is not None},
        )
        return model.model_validate_json(response.content)

    def put_blocks(
        self, model: type[M], path: str, blocks: Iterable[bytes], *, size_bytes: int
    ) -> M:
        """Stream a body of known length; it is sent once, because it cannot be rewound."""
        response = self.http.put(
            path,
            content=blocks,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size_bytes),
            },
            timeout=None,
        )
        _raise_for_problem(response)
        return model.model_validate_json(response.content)

    def pages(self, model: type[Any], path: str, **query: str | None) -> Iterator[Any]:
        """Yield the items of every page of a list."""
        parameters = {name: value for name, value in query.items() if value is not None}
        while True:
            page = model.model_validate_json(self.send("GET", path, params=parameters).content)
            yield from page.items
            if page.next_cursor is None:
                return
            parameters["cursor"] = str(page.next_cursor)

    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request; send it again where that is harmless and patience may help.

        Raises: ProblemError; httpx.TransportError if nobody answers.
        """
        repeatable = method in {"GET", "DELETE"} or "Idempotency-Key" in (headers or {})
        for attempt in range(RETRIES + 1):
            last = attempt == RETRIES
            try:
                response = self.http.request(
                    method, path, json=json, params=params, headers=headers
                )
            except httpx.TransportError as error:
                # Without a connection nothing was sent, so anything may be sent again.
                if last or not (repeatable or isinstance(error, httpx.ConnectError)):
                    raise
                wait(attempt)
                continue
            if last or not _may_repeat(response, repeatable=repeatable):
                _raise_for_problem(response)
                return response
            wait(attempt, asked=response.headers.get("Retry-After", ""))
        raise AssertionError("unreachable: the last attempt returns or raises")


def wait(attempt: int, *, asked: str = "") -> None:
    """Sleep as long as was asked, or else longer at each attempt."""
    seconds = float(asked) if asked.isdigit() else 0.5 * 2.0**attempt
    time.sleep(min(seconds, _LONGEST_WAIT_SECONDS))


def _may_repeat(response: httpx.Response, *, repeatable: bool) -> bool:
    if response.status_code not in _RETRIED_STATUSES:
        return False
    # A quota or an operator has to act first: coming again does not help.
    if _slug(response) in {"quota-exceeded", "journal-behind"}:
        return False
    return repeatable or response.status_code == 429


def _slug(response: httpx.Response) -> str:
    if response.headers.get("Content-Type", "").startswith(_PROBLEM):
        return str(response.json().get("type", "")).rsplit("/", 1)[-1]
    return ""


def _raise_for_problem(response: httpx.Response) -> None:
    if response.status_code < 400:
        return
    if response.headers.get("Content-Type", "").startswith(_PROBLEM):
        raise ProblemError(Problem.model_validate_json(response.content))
    raise ProblemError(
        Problem(
            type="/problems/not-kaima",
            title="Unexpected answer",
            status=response.status_code,
            detail=f"{response.request.url.host} answered {response.status_code} without saying "
            "why. Check that KAIMA_URL is the address of a Kaima service.",
        )
    )
