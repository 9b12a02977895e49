"""Whatever is sent to the running service, it never answers 5xx."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.domain.accounts import BOOTSTRAP, Actor, Role
from service.operations import accounts
from tests.factories import Walk


@pytest.fixture(scope="module")
def everything(people: Walk, token_of: Callable[[Actor], str]) -> str:
    """Return an API key that holds every role, so that requests reach the operations."""
    with people.application.uow() as uow:
        user = accounts.create_user(
            uow, BOOTSTRAP, tenant_id=people.tenant_id, name="everything", roles=list(Role)
        )
        uow.session.flush()
        actor = accounts.load_actor(uow, user_id=user.id)
    return token_of(actor)


@pytest.mark.slow
def test_no_request_makes_the_service_fail(live_url: str, everything: str, tmp_path: Path) -> None:
    assert httpx.get(f"{live_url}/openapi.json").json()["openapi"].startswith("3.1")
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{live_url}/openapi.json",
        "--header", f"Authorization: Bearer {everything}",
        "--checks", "not_a_server_error", "--seed", "1", "--max-examples", "12",
        "--phases", "examples,coverage,fuzzing", "--mode", "all", "--suppress-health-check", "all",
        "--request-timeout", "30", "--generation-database", "none", "--no-color",
    ]  # fmt: skip
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
