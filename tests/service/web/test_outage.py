"""What the service still answers while a component is away, and how it says what it cannot."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.domain.accounts import BOOTSTRAP
from service.embedded import pick_port
from service.operations import accounts
from service.wiring import Application, build, migrate
from tests.components import ObjectStoreServer
from tests.factories import RecordingDispatcher, Walk, settings_for


@pytest.fixture
def brokerless(tmp_path: Path, object_store: ObjectStoreServer) -> Application:
    """Return an application whose broker does not listen."""
    url = f"redis://127.0.0.1:{pick_port()}/0"
    settings = settings_for(tmp_path, object_store, redis_url=url)
    migrate(settings)
    return build(settings, dispatcher=RecordingDispatcher())


@pytest.fixture
def storeless(brokerless: Application, tmp_path: Path) -> Application:
    """Return the same instance once its object store is gone as well."""
    away = ObjectStoreServer(f"http://127.0.0.1:{pick_port()}", "key", "secret")
    return build(
        settings_for(tmp_path, away, redis_url=brokerless.settings.redis_url),
        dispatcher=RecordingDispatcher(),
    )


def signed_in(application: Application, walk: Walk) -> tuple[FlaskClient, dict[str, str]]:
    with application.uow() as uow:
        _, token = accounts.create_api_key(uow, BOOTSTRAP, user_id=walk.owner.user_id)
    return create_app(application).test_client(), {"Authorization": f"Bearer {token}"}


def test_requests_are_answered_while_the_broker_is_away(brokerless: Application) -> None:
    web, headers = signed_in(brokerless, Walk(brokerless))
    assert [web.get("/v1/me", headers=headers).status_code for _ in range(3)] == [200] * 3
    assert web.get("/v1/me").status_code == 401
    ready = web.get("/readyz")
    assert (ready.status_code, ready.get_json()["broker"]) == (503, "unavailable")


def test_an_object_store_that_is_away_is_a_503_that_shows_nothing_of_itself(
    brokerless: Application, storeless: Application
) -> None:
    walk = Walk(brokerless)
    dataset = walk.dataset()
    web, headers = signed_in(storeless, walk)
    answer = web.post(
        f"/v1/datasets/{dataset.id}/versions", json={"size_bytes": 10}, headers=headers
    )
    assert answer.status_code == 503
    assert answer.get_json()["type"] == "/problems/unavailable"
    assert "127.0.0.1" not in answer.get_data(as_text=True)
    assert int(answer.headers["Retry-After"]) > 0
    assert web.get("/healthz").status_code == 200
