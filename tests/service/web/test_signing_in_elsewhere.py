"""OpenID Connect against a real provider: who gets in, and which answers are refused."""

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from joserfc.jwk import RSAKey
from werkzeug.test import TestResponse

from service.app import create_app
from service.domain.accounts import Actor
from service.operations import invitations, users
from service.wiring import Application
from tests.factories import Walk
from tests.service.web.identity_provider import CLIENT_ID, Provider, running_provider


@pytest.fixture(scope="module")
def only_provider() -> Iterator[Provider]:
    with running_provider() as found:
        yield found


@pytest.fixture
def provider(only_provider: Provider) -> Provider:
    """Return the provider with somebody new before it, and nothing wrong with its tokens."""
    only_provider.subject = secrets.token_hex(8)
    only_provider.claims = {}
    only_provider.signing_key = only_provider.key
    return only_provider


@pytest.fixture(scope="module")
def app(web_application: Application, only_provider: Provider) -> Flask:
    provider = only_provider
    settings = replace(
        web_application.settings, oidc_issuer=provider.issuer, oidc_client_id=CLIENT_ID
    )
    parts = replace(web_application.parts, settings=settings)
    return create_app(replace(web_application, settings=settings, parts=parts))


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


def linked(people: Walk, provider: Provider, who: Actor) -> None:
    with people.application.uow() as uow:
        users.link_identity(
            uow,
            people.operator,
            user_id=who.user_id,
            issuer=provider.issuer,
            subject=provider.subject,
        )


def way_back(browser: FlaskClient, *, target: str = "/datasets", again: bool = False) -> str:
    """Go to the provider and agree; return the path with which the browser is sent back."""
    asked = {"next": target} | ({"again": "1"} if again else {})
    sent = browser.get("/sign-in/oidc", query_string=asked)
    assert sent.status_code == 302, sent.get_data(as_text=True)
    assert "code_challenge_method=S256" in sent.headers["Location"]
    back = httpx.get(sent.headers["Location"]).headers["Location"]
    parts = urlsplit(back)
    return f"{parts.path}?{parts.query}"


def refused(answer: TestResponse, *, status: int = 401) -> str:
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


def test_a_linked_person_signs_in_and_lands_where_they_wanted(
    browser: FlaskClient, people: Walk, provider: Provider
) -> None:
    linked(people, provider, people.owner)
    answer = browser.get(way_back(browser))
    assert 'content="0;url=/datasets"' in refused(answer, status=200)
    assert "SameSite=Lax" not in answer.headers["Set-Cookie"]
    page = browser.get("/account").get_data(as_text=True)
    assert "an account elsewhere" in page


@pytest.mark.parametrize("target", ["https://evil.test/", "//evil.test", "/\\evil.test"])
def test_the_way_back_leads_nowhere_else(
    browser: FlaskClient, people: Walk, provider: Provider, target: str
) -> None:
    linked(people, provider, people.owner)
    page = browser.get(way_back(browser, target=target)).get_data(as_text=True)
    assert 'content="0;url=/releases"' in page


def test_nobody_is_made_by_signing_in(
    browser: FlaskClient, people: Walk, provider: Provider
) -> None:
    provider.claims = {"email": "owner@hospital.test", "email_verified": True}
    page = refused(browser.get(way_back(browser)), status=403)
    assert provider.subject in page
    assert browser.get("/account").status_code == 302


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://other.test"},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another"], "azp": "another"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": int(time.time()) - 3600},
        {"iat": int(time.time()) + 3600},
        {"sub": ""},
    ],
    # Named without their values: some are times, and every process must know a test by one name.
    ids=["issuer", "audience", "azp", "other nonce", "no nonce", "expired", "not yet", "nobody"],
)
def test_an_id_token_that_does_not_hold_is_refused(
    browser: FlaskClient, people: Walk, provider: Provider, wrong: dict[str, object]
) -> None:
    linked(people, provider, people.owner)
    provider.claims = wrong
    assert "Signing in was refused" in refused(browser.get(way_back(browser)))
    assert browser.get("/account").status_code == 302


def test_a_token_of_another_key_is_refused(
    browser: FlaskClient, people: Walk, provider: Provider
) -> None:
    linked(people, provider, people.owner)
    provider.signing_key = RSAKey.generate_key(2048, {"kid": "one"})
    assert "does not hold" in refused(browser.get(way_back(browser)))


def test_an_answer_of_another_sign_in_is_refused(
    browser: FlaskClient, people: Walk, provider: Provider
) -> None:
    linked(people, provider, people.owner)
    first = way_back(browser)
    second = way_back(browser)
    assert "belongs to another sign-in" in refused(browser.get(first))
    again = second.replace("iss=", "iss=x")
    assert "another service answered" in refused(browser.get(again))
    browser.delete_cookie("kaima-oidc", path="/sign-in/oidc")
    assert "not begun in this browser" in refused(browser.get(second))


def test_a_code_works_once(browser: FlaskClient, people: Walk, provider: Provider) -> None:
    linked(people, provider, people.owner)
    back = way_back(browser)
    code = parse_qs(urlsplit(back).query)["code"][0]
    provider.codes.pop(code)  # somebody else was faster
    assert "did not take the code" in refused(browser.get(back))


def test_an_auditor_needs_a_second_factor_here_unless_the_provider_asked_for_one(
    browser: FlaskClient, people: Walk, provider: Provider
) -> None:
    linked(people, provider, people.auditors[0])
    assert "needs a second factor" in refused(browser.get(way_back(browser)), status=403)
    provider.claims = {"amr": ["pwd", "mfa"]}
    assert browser.get(way_back(browser)).status_code == 200
    assert browser.get("/account").status_code == 200


def test_an_account_elsewhere_is_no_second_factor_for_whoever_has_a_password_here(
    browser: FlaskClient, people: Walk, provider: Provider
) -> None:
    with people.application.uow() as uow:
        made = invitations.invite_user(
            uow,
            people.operator,
            tenant_id=people.tenant_id,
            name="Auditor with a password",
            roles=["auditor"],
            sign_in_name=f"{provider.subject}@hospital.test",
        )
    with people.application.uow() as uow:
        who = invitations.use_invitation(
            uow,
            made.invitation.id,
            secret=made.path.rsplit("/", 1)[1],
            password="seven lanterns by the river",
        )
    linked(people, provider, who)
    provider.claims = {"amr": ["pwd", "mfa"]}
    assert "needs a second factor" in refused(browser.get(way_back(browser)), status=403)


def test_what_is_weighty_asks_the_provider_again(
    browser: FlaskClient, people: Walk, provider: Provider
) -> None:
    linked(people, provider, people.auditors[1])
    provider.claims = {"amr": ["mfa"], "auth_time": int(time.time()) - 3600}
    assert browser.get(way_back(browser)).status_code == 200
    page = browser.get("/confirm?next=/account").get_data(as_text=True)
    assert 'href="/sign-in/oidc?again=1&amp;next=/account"' in page
    sent = browser.get("/sign-in/oidc?again=1&next=/account")
    assert "prompt=login&max_age=0" in sent.headers["Location"]


def test_a_stale_factor_elsewhere_is_refused_until_the_provider_has_asked_again(
    browser: FlaskClient, people: Walk, provider: Provider
) -> None:
    linked(people, provider, people.auditors[2])
    long_ago = {"amr": ["mfa"], "auth_time": int(time.time()) - 16 * 60}
    provider.claims = dict(long_ago)
    assert browser.get(way_back(browser)).status_code == 200

    def make_key() -> TestResponse:
        csrf = re.search(r'name="csrf" value="([^"]+)"', browser.get("/account").text)
        assert csrf is not None
        form = {"csrf": csrf[1], "scopes": "read", "days": "7"}
        return browser.post("/account/keys", data=form)

    stale = make_key()
    assert "sign in there again" in refused(stale, status=403)
    assert "kaima_key_" not in stale.text
    assert browser.get(way_back(browser, again=True)).status_code == 200
    assert make_key().status_code == 403, "a provider that did not ask again proves nothing new"
    provider.claims = {"amr": ["pwd"]}
    assert "needs a second factor" in refused(
        browser.get(way_back(browser, again=True)), status=403
    )
    provider.claims = {"amr": ["mfa"], "auth_time": int(time.time())}
    assert browser.get(way_back(browser, again=True)).status_code == 200
    assert "kaima_key_" in make_key().text


def test_without_a_provider_there_is_nothing_here(web_application: Application) -> None:
    plain = create_app(web_application).test_client()
    assert plain.get("/sign-in/oidc", headers={"Accept": "text/html"}).status_code == 404
