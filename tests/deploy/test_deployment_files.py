"""The deployment files, as far as a machine without a container engine can check them."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.config import _VARIABLES

CLIENT_VARIABLES = {"KAIMA_URL", "KAIMA_API_KEY", "KAIMA_CONFIG"}
COMPONENT_VARIABLES = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}
DOCKERFILES = ("service.Dockerfile", "worker.Dockerfile")


@pytest.fixture
def deploy(repository):
    return repository / "deploy"


@pytest.fixture
def compose(deploy):
    return yaml.safe_load((deploy / "compose.yaml").read_text(encoding="utf-8"))


def instructions(dockerfile: Path) -> list[str]:
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_compose_has_every_component(compose):
    assert set(compose["services"]) == {
        "database", "broker", "objects", "migrate", "web", "worker", "worker-gpu", "reconcile",
    }  # fmt: skip


def test_compose_depends_only_on_what_it_defines(compose):
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", []):
            name = volume.split(":")[0]
            assert name.startswith("./") or name in compose["volumes"]


def test_compose_publishes_ports_on_loopback_only(compose):
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_compose_builds_from_files_that_exist(compose, deploy):
    for service in compose["services"].values():
        if "build" in service:
            assert (deploy / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_every_variable_in_compose_is_known(compose):
    known = set(_VARIABLES) | COMPONENT_VARIABLES
    for service in compose["services"].values():
        assert set(service.get("environment", {})) <= known


def test_a_commit_of_filled_in_secrets_is_ignored_by_git(repository):
    ignored = (repository / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"deploy/.env", "deploy/s3.json"} <= set(ignored)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_copy_only_what_exists(name, deploy, repository):
    for line in instructions(deploy / name):
        if line.startswith("COPY "):
            *sources, _ = line.removeprefix("COPY ").split()
            for source in sources:
                assert (repository / source).exists(), source


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_do_not_run_as_root(name, deploy):
    lines = instructions(deploy / name)
    assert "USER kaima" in lines
    assert lines.index("USER kaima") < next(
        number for number, line in enumerate(lines) if line.startswith(("CMD", "ENTRYPOINT"))
    )


def test_the_web_image_holds_neither_training_nor_torch(deploy):
    text = "\n".join(instructions(deploy / "service.Dockerfile"))
    assert "COPY training" not in text
    assert "COPY workers" not in text
    assert "[service]" in text
    assert "[worker]" not in text


def test_the_environment_reference_names_every_setting_and_no_other(deploy):
    text = (deploy / "env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text, flags=re.MULTILINE))
    assert named == set(_VARIABLES) | CLIENT_VARIABLES


def test_the_environment_reference_loads_as_it_stands(deploy):
    from service.config import Settings

    text = (deploy / "env.example").read_text(encoding="utf-8")
    given = dict(
        line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#")
    )
    assert Settings.from_environment(given).database_url.startswith("postgresql://")


def test_the_shown_defaults_are_the_defaults(deploy):
    from service.config import Settings

    text = (deploy / "env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.*)$", text, flags=re.MULTILINE))
    shown = {name: value for name, value in shown.items() if name in _VARIABLES}
    assert Settings.from_environment(shown) == Settings.from_environment({})


def test_the_example_of_s3_keys_is_what_the_environment_example_uses(deploy):
    identity = json.loads((deploy / "s3.example.json").read_text(encoding="utf-8"))["identities"][0]
    text = (deploy / "env.example").read_text(encoding="utf-8")
    assert f"S3_ACCESS_KEY={identity['credentials'][0]['accessKey']}\n" in text
    assert f"S3_SECRET_KEY={identity['credentials'][0]['secretKey']}\n" in text


def test_gunicorn_accepts_its_settings(deploy, repository, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--check-config", "--config",
         str(deploy / "gunicorn.conf.py"), "service.app:create_app()"],
        env={**os.environ, "KAIMA_STATE": str(tmp_path)},
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_installer_refuses_an_old_python_with_a_sentence(repository, tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(old.stat().st_mode | stat.S_IXUSR)
    done = subprocess.run(
        ["sh", "deploy/install.sh"],
        env={**os.environ, "PYTHON": str(old), "VENV": str(tmp_path / "venv")},
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr


def test_the_runbook_names_only_commands_that_exist(deploy):
    from service.cli import kaima

    text = (deploy / "RUNBOOK.md").read_text(encoding="utf-8")
    for words in re.findall(r"`(?:\S+ )*kaima ([a-z][a-z -]+)", text):
        command = kaima
        for word in words.split():
            if not hasattr(command, "commands"):
                break
            assert word in command.commands, f"kaima {words}"
            command = command.commands[word]
