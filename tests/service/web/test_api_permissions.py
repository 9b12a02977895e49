"""Where a permission depends on more than a role: what was published, and what a key is for.

Who may what by role and tenant is in `permission_table.py`, one row for each route.
"""

from collections.abc import Callable

from flask.testing import FlaskClient

from service.domain.accounts import BOOTSTRAP, Actor, Scope
from service.domain.releases import ReleaseState
from service.operations import accounts
from tests.factories import Walk
from tests.service.web.permission_table import rows
from tests.service.web.test_permission_matrix import ask_api, things

__all__ = ["things"]


HARMLESS = {
    "POST /v1/studies/power",
    "POST /v1/notifications/read",
    "PUT /v1/notifications/email",
}
"""What decides nothing: a calculation, somebody's own notices, and where they go."""


def test_a_release_of_another_tenant_appears_when_it_is_published(
    web: FlaskClient, people: Walk, others: Walk, token_of: Callable[[Actor], str]
) -> None:
    release = people.release(ReleaseState.PUBLISHED)
    headers = {"Authorization": f"Bearer {token_of(others.collaborator)}"}
    shown = web.get(f"/v1/releases/{release.id}", headers=headers).get_json()
    assert shown["state"] == "published"
    for name in ("dataset_id", "audit_job_id", "author_id", "package_job_id"):
        assert shown[name] is None
    assert shown["reviews"] == []


def test_a_key_with_the_scope_read_changes_nothing(
    web: FlaskClient, people: Walk, things: dict[str, str]
) -> None:
    with people.application.uow() as uow:
        _, token = accounts.create_api_key(
            uow, BOOTSTRAP, user_id=people.owner.user_id, scopes=[Scope.READ]
        )
    for route, signs in rows().items():
        method, path = route.split()
        if path.startswith("/v1/") and method != "GET" and signs[1] == "+":
            answer = ask_api(web, route, things, token)
            if answer.status_code != 403:
                assert route in HARMLESS, (route, answer.get_json(silent=True))
            else:
                assert "scope" in answer.get_json()["detail"]
