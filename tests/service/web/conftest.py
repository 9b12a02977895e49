"""The web app over real components, with a client for each role."""

import functools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser

from service.app import create_app
from service.client import KaimaClient
from service.config import Settings
from service.domain.accounts import BOOTSTRAP, Actor
from service.domain.datasets import Dataset, DatasetVersion
from service.domain.releases import Release, ReleaseState
from service.domain.sign_in import Method
from service.operations import accounts, sessions
from service.web import limiter
from service.wiring import Application
from tests.chromium import running_chromium
from tests.components import ObjectStoreServer
from tests.factories import Walk, application_for, settings_for
from tests.filled import running_web


@pytest.fixture(scope="module")
def web_settings(
    tmp_path_factory: pytest.TempPathFactory, object_store: ObjectStoreServer, valkey_url: str
) -> Settings:
    """Return settings on DATABASE_URL or SQLite, a real object store and a real broker, one set per module."""
    return settings_for(
        tmp_path_factory.mktemp("web"),
        object_store,
        redis_url=valkey_url,
        database_url=os.environ.get("DATABASE_URL", ""),
    )


@pytest.fixture(scope="module")
def web_application(web_settings: Settings) -> Iterator[Application]:
    """Yield the application of a module's tests."""
    application = application_for(web_settings)
    yield application
    application.close()


CERTIFICATE = {
    "epsilon": 4.998,
    "delta": 1e-5,
    "cohort_epsilon": 4.998,
    "cohort_delta": 1e-5,
    "unit": "person",
    "candidates_trained": 1,
    "image_count": 6000,
    "generator": "diffusion",
    "labels": {"0": 3000, "1": 3000},
    "declared": {"height": 64, "width": 64, "label": "kl_grade"},
}
"""What a worker writes, as far as pages and answers show it."""


class ManyCohorts(Walk):
    """A walk whose every version is about somebody else, so that each dataset has its budget."""

    def version(self, dataset: Dataset, *, persons: Iterable[str] = ()) -> DatasetVersion:
        """Upload and ingest a version."""
        return super().version(dataset, persons=tuple(persons) or (secrets.token_hex(8),))

    def release(self, state: ReleaseState = ReleaseState.DRAFT, **options: Any) -> Release:
        """Return a release in `state`, with a whole certificate once it has one."""
        made = super().release(state, **options)
        with self.application.uow() as uow:
            uow.without_trail("a certificate as a worker writes it")
            found = uow.get(Release, made.id)
            assert found is not None
            if found.certificate:
                found.certificate = CERTIFICATE
        return self.current(made)


@pytest.fixture(scope="module")
def people(web_application: Application) -> Walk:
    """Return a tenant with its people."""
    return ManyCohorts(web_application)


@pytest.fixture(scope="module")
def others(web_application: Application) -> Walk:
    """Return another tenant with its people."""
    return ManyCohorts(web_application)


@pytest.fixture(scope="module")
def token_of(web_application: Application) -> Callable[[Actor], str]:
    """Return what makes an API key for an actor."""
    made: dict[str, str] = {}

    def make(actor: Actor) -> str:
        if actor.user_id not in made:
            with web_application.uow() as uow:
                _, made[actor.user_id] = accounts.create_api_key(
                    uow, BOOTSTRAP, user_id=actor.user_id
                )
        return made[actor.user_id]

    return make


@pytest.fixture(scope="module")
def page_of(web_application: Application) -> Callable[[Actor | None], FlaskClient]:
    """Return what gives an actor, or nobody, a browser; those are signed in with their factor.

    The form token of all of them is `right`.
    """
    app = create_app(web_application)

    @functools.cache
    def make(actor: Actor | None) -> FlaskClient:
        client = app.test_client()
        client.environ_base["HTTP_ACCEPT"] = "text/html"
        with client.session_transaction() as session:
            session["csrf"] = "right"
            if actor is not None:
                session["token"] = _open_session(web_application, actor)
        return client

    return make


def _open_session(application: Application, actor: Actor) -> str:
    with application.uow() as uow:
        _, token = sessions.open_session(
            uow,
            actor,
            method=Method.PASSWORD,
            origin=sessions.Origin(),
            factor_at=uow.now(),
        )
    return token


@pytest.fixture(autouse=True)
def _no_failures_counted_yet() -> None:
    """Forget the wrong keys that earlier tests sent from the address that all tests share."""
    if limiter.initialized and limiter.storage.check():  # false where a test took the broker away
        limiter.reset()


@pytest.fixture(scope="module")
def web(web_application: Application) -> Iterator[FlaskClient]:
    """Yield a bare HTTP client of the app, without any credential."""
    app = create_app(web_application)
    with app.test_client(use_cookies=False) as client:
        yield client


@pytest.fixture(scope="module")
def client_of(web: FlaskClient, token_of: Callable[[Actor], str]) -> Callable[[Actor], KaimaClient]:
    """Return what makes a `KaimaClient` that talks to the app in process."""

    def make(actor: Actor) -> KaimaClient:
        transport = httpx.WSGITransport(app=web.application)
        return KaimaClient("http://kaima.test", token_of(actor), transport=transport)

    return make


@pytest.fixture(scope="module")
def live_url(
    web_settings: Settings, web_application: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Yield the address of the app under gunicorn, on the module's components."""
    del web_application  # it has migrated the database
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    with running_web(web_settings, log) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield a real browser; without one, the test fails with the command that installs it."""
    with running_chromium() as browser:
        yield browser
