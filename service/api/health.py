"""Health, readiness and the instance's public signing key: the answers that need no API key."""

from typing import Any

import redis
import sqlalchemy as sa
import structlog
from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from privacy import signing
from service import resources as r
from service.api.answers import answer
from service.logs import describe_error
from service.web import application
from service.wiring import Application

_LOG = structlog.get_logger("kaima.health")
_TIMEOUT_SECONDS = 2.0

blueprint = APIBlueprint("health", __name__, abp_tags=[Tag(name="health", description="Is it up?")])


@blueprint.get("/healthz", summary="The process answers")
def healthz() -> Response:
    """Return 200 while the process answers at all."""
    return jsonify(status="ok")


@blueprint.get("/readyz", summary="Database, object store and broker answer")
def readyz() -> Response:
    """Return 200 if every component answers, 503 with the names of those that do not."""
    found = application()
    checks = {"database": _database, "object_store": _object_store, "broker": _broker}
    states = {name: _state(name, check, found) for name, check in checks.items()}
    response = jsonify(states)
    response.status_code = 200 if set(states.values()) == {"ok"} else 503
    return response


@blueprint.get("/v1/instance", summary="Who signs releases here", responses={200: r.Instance})
def instance() -> Response:
    """Return the public half of the instance's signing key; clients pin it at first use."""
    found = application()
    public_key = found.signing_key().public_key()
    return answer(
        r.Instance(
            name=found.settings.publisher,
            url=found.settings.public_url,
            fingerprint=signing.fingerprint(public_key),
            public_key=signing.public_key_pem(public_key).decode("ascii"),
        )
    )


def _state(name: str, check: Any, found: Application) -> str:
    try:
        check(found)
    except Exception as error:  # noqa: BLE001 - whatever it is, the component is not ready
        _LOG.warning("A component is not ready.", component=name, **describe_error(error))
        return "unavailable"
    return "ok"


def _database(found: Application) -> None:
    with found.uow(read_only=True) as uow:
        uow.session.execute(sa.text("SELECT 1"))


def _object_store(found: Application) -> None:
    found.objects.ping()


def _broker(found: Application) -> None:
    with redis.Redis.from_url(
        found.settings.redis_url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
    ) as connection:
        connection.ping()
