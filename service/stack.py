"""What the embedded stack is made of: its folder, ports, secrets, environment and command lines.

The folder holds everything (default `.kaima`): ports.json, secrets/ (mode 0600), logs/, broker/,
objects/, the SQLite file and the instance's keys. A component whose URL is already in the
environment is used as it is and never started here. `service.supervisor` runs the processes.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from service.embedded import (
    LOOPBACK,
    ComponentNotReady,
    S3Credentials,
    SeaweedPorts,
    is_listening,
    pick_port,
    seaweed_command,
    valkey_command,
    write_seaweed_config,
)
from service.private_files import keep_secret, read_object, write_private
from service.seaweed_guard import guard_environment

DEFAULT_STATE = Path(".kaima")
PREFERRED_WEB_PORT = 8000
WEB_PORT_SECONDS = 5.0
"""How long processes of a killed supervisor may still hold the web port."""

_PORT_NAMES = ("web", "broker", "master", "volume", "filer", "s3", "admin")


@dataclass(frozen=True)
class StackProcess:
    """One long-running process of the stack.

    `grace_seconds` is how long it may take to end after SIGTERM; `readiness` names what
    `service.supervisor` waits for: valkey, seaweed, an http URL, or nothing. `environment` is
    what this process alone is told, beside what the whole stack is.
    """

    name: str
    command: tuple[str, ...]
    grace_seconds: float
    readiness: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stack:
    """An embedded stack in one folder. Make one with `open`."""

    folder: Path
    ports: Mapping[str, int]
    credentials: S3Credentials
    broker_password: str
    given: Mapping[str, str]

    @classmethod
    def open(cls, folder: Path, *, given: Mapping[str, str] | None = None) -> Self:
        """Read the stack in `folder`; make what is missing. Ports are kept between starts."""
        is_new = not (folder / "secrets").exists()
        for name in ("secrets", "logs", "broker", "objects"):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(
            folder=folder.resolve(),
            ports=_read_or_pick_ports(folder / "ports.json", is_new=is_new),
            credentials=S3Credentials(
                keep_secret(folder / "secrets" / "s3_access_key", lambda: secrets.token_hex(10)),
                keep_secret(folder / "secrets" / "s3_secret_key", secrets.token_urlsafe),
            ),
            broker_password=keep_secret(
                folder / "secrets" / "broker_password", secrets.token_urlsafe
            ),
            given=dict(os.environ if given is None else given),
        )

    def with_free_ports(self) -> Self:
        """Return this stack with another port wherever a stranger now listens; write it down.

        The web port never moves: clients would send their API keys to the stranger.
        Raises: ComponentNotReady if the web port is taken.
        """
        self._wait_for_web_port()
        ports = dict(self.ports)
        for name, port in ports.items():
            if is_listening(port):
                ports[name] = pick_port(taken=frozenset(ports.values()))
        write_private(self.folder / "ports.json", json.dumps(ports, indent=2))
        return type(self)(self.folder, ports, self.credentials, self.broker_password, self.given)

    def _wait_for_web_port(self) -> None:
        deadline = time.monotonic() + WEB_PORT_SECONDS
        while is_listening(self.ports["web"]):
            if time.monotonic() > deadline:
                raise ComponentNotReady(
                    f"Another program listens at {self.web_url}, the address of this instance, to "
                    "which clients send their API keys. Stop that program; or give the instance "
                    f'another address: change "web" in {self.folder / "ports.json"}, and tell '
                    "everybody who uses it."
                )
            time.sleep(0.1)

    @property
    def web_url(self) -> str:
        """Return where the web application listens."""
        return f"http://{LOOPBACK}:{self.ports['web']}"

    @property
    def broker_url(self) -> str:
        """Return the URL of the embedded broker, with its password."""
        return f"redis://:{self.broker_password}@{LOOPBACK}:{self.ports['broker']}/0"

    @property
    def object_store_url(self) -> str:
        """Return the S3 endpoint of the embedded object store."""
        return f"http://{LOOPBACK}:{self.ports['s3']}"

    def environment(self) -> dict[str, str]:
        """Return the environment of every process of the stack; what was given wins."""
        made = {"KAIMA_STATE": str(self.folder), "KAIMA_PUBLIC_URL": self.web_url}
        if not self.given.get("REDIS_URL"):
            made["REDIS_URL"] = self.broker_url
        if not self.given.get("S3_ENDPOINT_URL"):
            made |= {
                "S3_ENDPOINT_URL": self.object_store_url,
                "S3_ACCESS_KEY": self.credentials.access_key,
                "S3_SECRET_KEY": self.credentials.secret_key,
            }
        kept = {name: value for name, value in self.given.items() if value}
        return made | kept | {"KAIMA_STATE": str(self.folder)}

    def processes(self) -> list[StackProcess]:
        """Return what must run, in the order of starting."""
        processes = []
        if not self.given.get("REDIS_URL"):
            processes.append(self._broker())
        if not self.given.get("S3_ENDPOINT_URL"):
            processes.append(self._object_store())
        return [*processes, self._web(), self._worker(), self._reconcile()]

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.folder / "logs" / f"{name}.log"

    def _broker(self) -> StackProcess:
        config = self.folder / "secrets" / "broker.conf"
        write_private(config, f"requirepass {self.broker_password}\n")
        command = valkey_command(
            self.folder / "broker", port=self.ports["broker"], password_file=config
        )
        return StackProcess("broker", tuple(command), grace_seconds=5, readiness="valkey")

    def _object_store(self) -> StackProcess:
        config = self.folder / "secrets" / "s3.json"
        write_seaweed_config(config, self.credentials)
        ports = SeaweedPorts(
            **{name: self.ports[name] for name in ("master", "volume", "filer", "s3", "admin")}
        )
        command = seaweed_command(self.folder / "objects", ports=ports, config=config)
        return StackProcess(
            "objects",
            tuple(command),
            grace_seconds=5,
            readiness="seaweed",
            environment=guard_environment(self.folder / "secrets"),
        )

    def _web(self) -> StackProcess:
        command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread"]
        command += [
            "--workers",
            "2",
            "--threads",
            "16",
            "--bind",
            f"{LOOPBACK}:{self.ports['web']}",
        ]
        command += ["--graceful-timeout", "10", "--no-control-socket", "service.app:create_app()"]
        ready = f"{self.web_url}/readyz"
        return StackProcess("web", tuple(command), grace_seconds=12, readiness=ready)

    def _worker(self) -> StackProcess:
        command = [sys.executable, "-m", "celery", "--app", "workers.app", "worker"]
        # Threads only watch: each job is a subprocess of its own. Two, so that an upload is taken
        # in while another dataset trains.
        command += ["--pool", "threads", "--concurrency", "2", "--queues", "cpu,gpu"]
        command += ["--without-gossip", "--without-mingle", "--hostname", "embedded@%h"]
        return StackProcess("worker", tuple(command), grace_seconds=15)

    def _reconcile(self) -> StackProcess:
        command = (sys.executable, "-m", "workers.reconcile")
        return StackProcess("reconcile", command, grace_seconds=5)


def _read_or_pick_ports(path: Path, *, is_new: bool) -> dict[str, int]:
    """Read the ports; choose those that are missing.

    Only a new instance, which no client knows yet, may have another web port than the usual one.
    """
    ports = {name: port for name, port in read_object(path).items() if isinstance(port, int)}
    for name in _PORT_NAMES:
        if name not in ports:
            taken = frozenset(ports.values())
            usual = name == "web" and not (is_new and is_listening(PREFERRED_WEB_PORT))
            ports[name] = PREFERRED_WEB_PORT if usual else pick_port(taken=taken)
    write_private(path, json.dumps(ports, indent=2))
    return ports
