"""The folder of an embedded stack: ports, secrets, environment, and what is started."""

import json
import socket

import pytest

from service.embedded import LOOPBACK, ComponentNotReady, pick_ports
from service.stack import PREFERRED_WEB_PORT, Stack


def test_secrets_are_made_once_and_are_for_this_user_only(tmp_path):
    first = Stack.open(tmp_path, given={})
    second = Stack.open(tmp_path, given={})
    assert first.credentials == second.credentials
    assert first.broker_password == second.broker_password
    assert len(first.broker_password) > 30
    first.processes()  # writes the components' own configuration
    files = list((tmp_path / "secrets").iterdir())
    assert len(files) >= 5
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def test_ports_are_kept_between_starts(tmp_path):
    assert Stack.open(tmp_path, given={}).ports == Stack.open(tmp_path, given={}).ports


def test_the_web_port_that_a_stranger_took_is_refused_and_never_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("service.stack.WEB_PORT_SECONDS", 0.2)
    stack = Stack.open(tmp_path, given={})
    with socket.create_server((LOOPBACK, stack.ports["web"])):
        with pytest.raises(ComponentNotReady, match="Another program listens at"):
            stack.with_free_ports()
        assert Stack.open(tmp_path, given={}).ports == stack.ports


@pytest.mark.parametrize("content", ["", '{"web": 80', "[]", "\x00"])
def test_a_ports_file_that_was_cut_short_counts_as_missing(content, tmp_path):
    Stack.open(tmp_path, given={})
    (tmp_path / "ports.json").write_text(content)
    stack = Stack.open(tmp_path, given={})
    assert stack.ports["web"] == PREFERRED_WEB_PORT  # the address that clients know, taken or not
    assert json.loads((tmp_path / "ports.json").read_text()) == stack.ports


def test_a_port_that_a_stranger_took_is_replaced_and_written_down(tmp_path):
    stack = Stack.open(tmp_path, given={})
    with socket.create_server((LOOPBACK, stack.ports["s3"])):
        moved = stack.with_free_ports()
    assert moved.ports["s3"] != stack.ports["s3"]
    assert json.loads((tmp_path / "ports.json").read_text())["s3"] == moved.ports["s3"]
    assert {name: port for name, port in moved.ports.items() if name != "s3"} == {
        name: port for name, port in stack.ports.items() if name != "s3"
    }


def test_chosen_ports_differ():
    ports = pick_ports(20)
    assert len(set(ports)) == 20


def test_without_given_components_all_five_processes_run(tmp_path):
    names = [process.name for process in Stack.open(tmp_path, given={}).processes()]
    assert names == ["broker", "objects", "web", "worker", "reconcile"]


@pytest.mark.parametrize(
    ("variable", "value", "not_started"),
    [
        ("REDIS_URL", "redis://elsewhere:6379/0", "broker"),
        ("S3_ENDPOINT_URL", "https://s3.example.org", "objects"),
    ],
)
def test_a_component_that_is_given_is_used_and_not_started(variable, value, not_started, tmp_path):
    stack = Stack.open(tmp_path, given={variable: value})
    assert not_started not in [process.name for process in stack.processes()]
    assert stack.environment()[variable] == value


def test_keys_of_the_embedded_store_are_not_sent_to_a_given_one(tmp_path):
    environment = Stack.open(
        tmp_path, given={"S3_ENDPOINT_URL": "https://s3.example.org", "S3_ACCESS_KEY": "mine"}
    ).environment()
    assert environment["S3_ACCESS_KEY"] == "mine"
    assert "S3_SECRET_KEY" not in environment


def test_no_secret_is_on_a_command_line(tmp_path):
    stack = Stack.open(tmp_path, given={})
    processes = stack.processes()
    words = " ".join(word for process in processes for word in process.command)
    guards = {name: value for process in processes for name, value in process.environment.items()}
    keys = [value for name, value in guards.items() if name.startswith("WEED_JWT")]
    assert len(set(keys)) == 4
    assert not any(key in words for key in keys)
    assert not any(name in stack.environment() for name in guards)  # web and workers need none
    assert stack.broker_password not in words
    assert stack.credentials.secret_key not in words


def test_everything_listens_on_loopback_only(tmp_path):
    commands = {
        process.name: process.command for process in Stack.open(tmp_path, given={}).processes()
    }
    assert commands["broker"][commands["broker"].index("--bind") + 1] == LOOPBACK
    assert f"-ip.bind={LOOPBACK}" in commands["objects"]
    assert "-master.telemetry=false" in commands["objects"]
    assert commands["web"][commands["web"].index("--bind") + 1].startswith(LOOPBACK)
