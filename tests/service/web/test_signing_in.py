"""Signing in with a password and a second factor, invitations, sessions, limits."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta

import pyotp
import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.app import create_app
from service.client import KaimaClient
from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.domain.sign_in import SignIn
from service.operations import factor_resets, invitations, jobs, passwords, users
from service.store.unit_of_work import utc_now
from service.wiring import Application
from tests.factories import Walk

PASSWORD = "river copper lantern seven"
TokenOf = Callable[[Actor], str]


@pytest.fixture(scope="module")
def app(web_application: Application) -> Flask:
    return create_app(web_application)


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return new_browser(app)


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash with little memory; the real parameters are compared in a test of their own."""
    hasher = passwords.argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "HASHER", hasher)


def new_browser(app: Flask) -> FlaskClient:
    """Return a browser that never was here."""
    client = app.test_client()
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


def csrf_of(page: TestResponse) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.get_data(as_text=True))
    assert found is not None, page.get_data(as_text=True)
    return found[1]


def send(browser: FlaskClient, path: str, *, page: str = "", **fields: str) -> TestResponse:
    csrf = csrf_of(browser.get(page or path))
    return browser.post(path, data={"csrf": csrf, **fields})


def invited(people: Walk, *roles: Role) -> invitations.Invited:
    with people.application.uow() as uow:
        name = f"someone-{utc_now().timestamp()}"
        return invitations.invite_user(
            uow,
            people.operator,
            tenant_id=people.tenant_id,
            name=name,
            roles=roles or (Role.DATA_OWNER,),
            sign_in_name=f"{name}@hospital.test",
        )


def name_of(people: Walk, user_id: str) -> str:
    with people.application.uow(read_only=True) as uow:
        found = uow.get(SignIn, user_id)
        assert found is not None
        return found.sign_in_name


def secret_of(page: TestResponse) -> str:
    found = re.search(r'<code class="secret">([A-Z2-7]{32})<', page.get_data(as_text=True))
    assert found is not None
    return found[1]


def with_password(browser: FlaskClient, people: Walk, *roles: Role) -> str:
    """Take an invitation up; return the sign-in name. The browser is signed in then."""
    link = invited(people, *roles)
    answer = send(browser, link.path, password=PASSWORD, again=PASSWORD)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return name_of(people, link.user.id)


def with_app(browser: FlaskClient, people: Walk) -> tuple[str, pyotp.TOTP, list[str]]:
    """Take an auditor's invitation up with an authenticator app."""
    name = with_password(browser, people, Role.AUDITOR)
    page = browser.get("/sign-in/set-up")
    totp = pyotp.TOTP(secret_of(page))
    done = send(browser, "/sign-in/set-up", factor_code=totp.now())
    codes = re.findall(r"<li>([a-z0-9-]{19})</li>", done.get_data(as_text=True))
    assert len(codes) == 10
    return name, totp, codes


def sign_in(browser: FlaskClient, name: str, password: str = PASSWORD) -> TestResponse:
    return send(browser, "/sign-in", page="/sign-in?with=password", name=name, password=password)


def later(seconds: float) -> datetime:
    return utc_now() + timedelta(seconds=seconds)


def test_an_invited_person_chooses_a_password_and_the_link_is_spent(
    browser: FlaskClient, people: Walk
) -> None:
    link = invited(people)
    assert PASSWORD not in link.path
    for _ in range(2):  # looking at it spends nothing: mail scanners follow links
        assert browser.get(link.path).status_code == 200
    weak = send(browser, link.path, password="password1234", again="password1234")
    assert weak.status_code == 422
    assert "often used word" in weak.get_data(as_text=True)
    assert send(browser, link.path, password=PASSWORD, again=PASSWORD).status_code == 303
    assert browser.get("/account").status_code == 200
    assert browser.get(link.path).status_code == 404
    assert browser.get(link.path[:-1] + "x").status_code == 404


def test_an_invitation_expires_and_a_newer_one_voids_it(browser: FlaskClient, people: Walk) -> None:
    first = invited(people)
    with people.application.uow() as uow:
        second = invitations.invite_again(uow, people.operator, user_id=first.user.id)
    assert browser.get(first.path).status_code == 404
    with time_machine.travel(later(73 * 3600)):
        assert browser.get(second.path).status_code == 404


def test_an_auditor_signs_in_with_password_and_code_and_no_code_works_twice(
    browser: FlaskClient, people: Walk
) -> None:
    name, totp, codes = with_app(browser, people)
    send(browser, "/sign-out", page="/account")
    assert sign_in(browser, name).headers["Location"] == "/sign-in/factor"
    assert browser.get("/releases").status_code == 302, "half-way is not signed in"
    sign_in(browser, name)
    used = send(browser, "/sign-in/factor", factor_code=totp.now())
    assert used.status_code == 422, "the code that set the app up was taken then"
    with time_machine.travel(later(60)):
        code = totp.now()
        assert send(browser, "/sign-in/factor", factor_code=code).status_code == 303
        assert browser.get("/account").status_code == 200
        send(browser, "/sign-out", page="/account")
        sign_in(browser, name)
        assert send(browser, "/sign-in/factor", factor_code=code).status_code == 422
        assert send(browser, "/sign-in/factor", factor_code=codes[0]).status_code == 303
        send(browser, "/sign-out", page="/account")
        sign_in(browser, name)
        assert send(browser, "/sign-in/factor", factor_code=codes[0]).status_code == 422


def test_the_authenticator_secret_is_sealed_at_rest(browser: FlaskClient, people: Walk) -> None:
    name, totp, codes = with_app(browser, people)
    with people.application.engine.connect() as connection:
        for table in passwords.tables.metadata.tables.values():
            for row in connection.execute(table.select()):
                text = repr(row)
                assert totp.secret not in text
                assert codes[0].replace("-", "") not in text
                assert PASSWORD not in text
    assert name


def test_an_auditor_without_a_factor_gets_no_further_than_the_password(
    browser: FlaskClient, people: Walk
) -> None:
    name = with_password(browser, people, Role.AUDITOR)
    assert browser.get("/releases").status_code == 302
    answer = sign_in(browser, name)
    assert answer.status_code == 403
    assert "needs a second factor" in answer.get_data(as_text=True)


def test_the_same_words_whether_the_account_exists_or_not(
    browser: FlaskClient, people: Walk
) -> None:
    name = with_password(browser, people)
    pages = [
        sign_in(browser, who, "no such password").get_data(as_text=True).replace(who, "NAME")
        for who in (name, "nobody@hospital.test")
    ]
    assert pages[0].split("<form")[0] == pages[1].split("<form")[0]
    assert "the name or the password is wrong" in pages[0]


def test_a_missing_account_costs_a_hash_as_well(
    people: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Counting:
        def verify(self, expected: str, password: str) -> bool:
            seen.append(expected)
            raise passwords.argon2.exceptions.VerifyMismatchError

    monkeypatch.setattr(passwords, "HASHER", Counting())
    assert not passwords.is_password_of(None, "x" * 12)
    assert seen == [passwords._NOBODY]
    assert passwords._NOBODY.startswith("$argon2id$v=19$m=65536,t=3,")


def test_a_hash_of_older_parameters_is_renewed_at_the_next_sign_in(
    browser: FlaskClient, people: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = with_password(browser, people)
    stronger = passwords.argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    monkeypatch.setattr(passwords, "HASHER", stronger)
    assert sign_in(browser, name).status_code == 303
    with people.application.uow(read_only=True) as uow:
        found = passwords.find_sign_in(uow, name)
    assert found is not None
    assert "m=16,t=2" in str(found.password_hash)


def test_a_session_that_was_planted_before_the_sign_in_is_worth_nothing_after(
    app: Flask, people: Walk
) -> None:
    attacker, victim = new_browser(app), new_browser(app)
    name = with_password(attacker, people)  # the attacker's own, valid session
    planted = attacker.get_cookie("kaima")
    assert planted is not None
    victim.set_cookie("kaima", planted.value)
    sign_in(victim, name)
    fresh = victim.get_cookie("kaima")
    assert fresh is not None
    assert fresh.value != planted.value
    send(attacker, "/sign-out", page="/account")
    assert victim.get("/account").status_code == 200
    attacker.set_cookie("kaima", planted.value)
    assert attacker.get("/account").status_code == 302, "signing out ends it on the server"


def test_a_disabled_user_loses_the_session_at_once(browser: FlaskClient, people: Walk) -> None:
    name = with_password(browser, people)
    with people.application.uow() as uow:
        found = passwords.find_sign_in(uow, name)
        assert found is not None
        users.disable_user(uow, people.operator, user_id=found.user_id)
    assert browser.get("/account").status_code == 302
    refused = sign_in(browser, name)
    assert refused.status_code == 401
    assert "the name or the password is wrong" in refused.get_data(as_text=True)


def test_changing_the_password_ends_every_other_session(app: Flask, people: Walk) -> None:
    here, there = new_browser(app), new_browser(app)
    name = with_password(here, people)
    sign_in(there, name)
    assert there.get("/account").status_code == 200
    new = "seven lanterns of copper"
    wrong = send(here, "/account/password", page="/account", current="x", password=new, again=new)
    assert "current password is wrong" in wrong.get_data(as_text=True)
    changed = send(
        here, "/account/password", page="/account", current=PASSWORD, password=new, again=new
    )
    assert changed.status_code == 200
    assert here.get("/account").status_code == 200
    assert there.get("/account").status_code == 302
    assert sign_in(there, name).status_code == 401
    assert sign_in(there, name, new).status_code == 303


def test_a_session_idles_out_and_ends_after_a_working_day(
    browser: FlaskClient, people: Walk
) -> None:
    with_password(browser, people)
    with time_machine.travel(later(59 * 60)):
        assert browser.get("/account").status_code == 200
    with time_machine.travel(later(118 * 60)):
        assert browser.get("/account").status_code == 200
        background = browser.get("/account", headers={"Sec-Fetch-Dest": "empty"})
        assert background.status_code == 200
    with time_machine.travel(later((118 + 61) * 60)):
        assert browser.get("/account").status_code == 302


def test_guessing_is_slowed_down_but_the_owner_of_the_account_gets_in(
    app: Flask, people: Walk
) -> None:
    owner, stranger = new_browser(app), new_browser(app)
    name = with_password(owner, people)
    assert sign_in(owner, name).status_code == 303  # the browser is known from here on
    statuses = [sign_in(stranger, name, f"guess {n}").status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert sign_in(stranger, name).status_code == 429, "the right one is not even looked at"
    assert sign_in(owner, name).status_code == 303


def test_codes_cannot_be_guessed(browser: FlaskClient, people: Walk) -> None:
    name, _, _ = with_app(browser, people)
    sign_in(browser, name)
    statuses = [
        send(browser, "/sign-in/factor", factor_code=f"{n:06}").status_code for n in range(11)
    ]
    assert statuses[-1] == 429


def test_a_reset_factor_still_needs_the_password(browser: FlaskClient, people: Walk) -> None:
    name, _, _ = with_app(browser, people)
    with people.application.uow() as uow:
        found = passwords.find_sign_in(uow, name)
        assert found is not None
        factor_resets.request_reset(uow, people.operator, user_id=found.user_id)
    assert "Keep my factors" in browser.get("/account").get_data(as_text=True)
    with time_machine.travel(later(25 * 3600)), people.application.uow() as uow:
        link = invitations.finish_reset(uow, people.operator, user_id=found.user_id)
    assert browser.get("/account").status_code == 302, "a reset ends the sessions"
    assert send(browser, link.path, password="not this one at all").status_code == 422
    assert send(browser, link.path, password=PASSWORD).headers["Location"] == "/sign-in/set-up"


def test_a_new_password_still_needs_the_second_factor(browser: FlaskClient, people: Walk) -> None:
    name, _, codes = with_app(browser, people)
    with people.application.uow() as uow:
        found = passwords.find_sign_in(uow, name)
        assert found is not None
        link = invitations.invite_again(uow, people.operator, user_id=found.user_id)
    new = "another river of lanterns"
    answer = send(browser, link.path, password=new, again=new)
    assert answer.headers["Location"] == "/sign-in/factor"
    assert browser.get("/account").status_code == 302
    assert browser.get("/sign-in/set-up").headers["Location"] == "/sign-in/factor"
    done = send(browser, "/sign-in/factor", factor_code=codes[0])
    assert done.headers["Location"] == "/account"


def test_weighty_things_ask_for_the_factor_again_after_a_quarter_of_an_hour(
    browser: FlaskClient, people: Walk
) -> None:
    _, totp, _ = with_app(browser, people)
    fields = {"page": "/account", "scopes": "read", "days": "7"}
    assert "shown this once" in send(browser, "/account/keys", **fields).get_data(as_text=True)
    with time_machine.travel(later(16 * 60)):
        refused = send(browser, "/account/keys", **fields)
        assert refused.status_code == 403
        assert 'href="/confirm?next=/account"' in refused.get_data(as_text=True)
        taken = send(browser, "/account/keys", factor_code=totp.now(), **fields)
        assert taken.status_code == 200
        assert "kaima_key_" in taken.get_data(as_text=True)
        assert send(browser, "/account/keys", **fields).status_code == 200


def test_a_program_invites_and_disables(
    browser: FlaskClient, people: Walk, client_of: Callable[[Actor], KaimaClient]
) -> None:
    with client_of(people.operator) as client:
        made = client.invite(
            "Cleo",
            roles=["collaborator"],
            tenant_id=people.tenant_id,
            sign_in_name="cleo@hospital.test",
        )
        path = made.url.removeprefix(people.application.settings.public_url)
        assert send(browser, path, password=PASSWORD, again=PASSWORD).status_code == 303
        facts = client.user(made.user_id)
        assert (facts.has_password, facts.has_second_factor) == (True, False)
        assert PASSWORD not in facts.model_dump_json()
        assert next(user.name for user in client.users()) == "Cleo"
        client.disable_user(made.user_id)
        assert browser.get("/account").status_code == 302
        client.enable_user(made.user_id)
        assert sign_in(browser, "cleo@hospital.test").status_code == 303
        assert client.change_roles(made.user_id, ["auditor"]).roles == ["auditor"]
        assert sign_in(browser, "cleo@hospital.test").status_code == 403


def test_an_own_key_is_no_stronger_than_the_session(
    browser: FlaskClient, people: Walk, token_of: TokenOf
) -> None:
    from service.operations import accounts

    with people.application.uow() as uow:
        _, token = accounts.create_api_key(
            uow, BOOTSTRAP, user_id=people.auditors[0].user_id, scopes=["read"]
        )
    send(browser, "/sign-in", page="/sign-in?with=key", api_key=token)
    answer = send(browser, "/account/keys", page="/account", scopes="reviews", days="7")
    assert answer.status_code == 403
    assert "signed in without reviews" in answer.get_data(as_text=True)


def test_where_somebody_is_signed_in_is_nobody_elses_to_end(app: Flask, people: Walk) -> None:
    one, other = new_browser(app), new_browser(app)
    name = with_password(one, people)
    with_password(other, people)
    sign_in(other, name)
    page = one.get("/account").get_data(as_text=True)
    found = re.findall(r"/account/sessions/(ses_[0-9a-f]+)/end", page)
    assert len(found) == 1
    with_password(other, people)
    assert send(other, f"/account/sessions/{found[0]}/end", page="/account").status_code == 404
    assert send(one, f"/account/sessions/{found[0]}/end", page="/account").status_code == 303


def test_operators_read_no_file_name_of_an_upload_that_was_refused(
    page_of: Callable[[Actor], FlaskClient], people: Walk
) -> None:
    job = people.uploaded(people.dataset())
    token = people.claim(job)
    detail = "images/MEIER_ANNA_1961.png was refused: pixels: 3; allowed: 1."
    with people.application.uow() as uow:
        jobs.fail_job(
            uow, job.id, token=token, problem={"type": "invalid-parameter", "detail": detail}
        )
    page = page_of(people.operator).get("/operator/jobs").get_data(as_text=True)
    assert job.id in page
    assert "invalid-parameter" in page
    assert "MEIER" not in page
