"""The supervisor with every real process: it restarts, comes back, and leaves nothing behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from service.embedded import LOOPBACK
from service.stack import Stack
from service.supervisor import running_supervisor

pytestmark = [pytest.mark.xdist_group("journeys"), pytest.mark.timeout(180)]
READY_SECONDS = 90


@contextlib.contextmanager
def supervisor(folder):
    """Run `kaima serve` on `folder`; kill it, and so its children, at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service.supervisor", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "out.log").open("ab"),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(holds, *, seconds=READY_SECONDS):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, FileNotFoundError, json.JSONDecodeError):
            if result := holds():
                return result
        time.sleep(0.1)
    pytest.fail("it did not come about in time")


def wait_until_ready(folder):
    url = until((folder / "ready").read_text)
    until(lambda: httpx.get(f"{url}/readyz").is_success)
    return url


def pids(folder):
    record = json.loads((folder / "processes.json").read_text())
    return {name: entry["pid"] for name, entry in record.items()}


def others_may(path):
    """Tell whether people other than the owner may do anything with a file or folder."""
    with contextlib.suppress(FileNotFoundError):  # a journal of SQLite, ended since
        return bool(path.stat().st_mode & 0o077)
    return False


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_killed_broker_and_web_come_back_and_sigterm_leaves_nothing(tmp_path):
    with supervisor(tmp_path) as process:
        url = wait_until_ready(tmp_path)
        before = pids(tmp_path)
        assert set(before) == {"broker", "objects", "web", "worker", "reconcile"}
        os.kill(before["broker"], signal.SIGKILL)
        os.kill(before["web"], signal.SIGKILL)
        until(lambda: pids(tmp_path)["broker"] != before["broker"])
        until(lambda: pids(tmp_path)["web"] != before["web"])
        until(lambda: httpx.get(f"{url}/readyz").is_success)
        everyone = psutil.Process(process.pid).children(recursive=True)
        readable = [
            path for path in tmp_path.rglob("*") if path.name != "out.log" and others_may(path)
        ]
        assert readable == []

        process.terminate()

        assert process.wait(60) == 0
        until(lambda: not any(alive(child.pid) for child in everyone))
        assert not (tmp_path / "processes.json").exists()
        assert running_supervisor(tmp_path) is None


def test_a_second_supervisor_in_the_same_folder_is_refused_with_a_sentence(tmp_path):
    with supervisor(tmp_path) as process:
        until(lambda: running_supervisor(tmp_path) == process.pid)
        second = subprocess.run(
            [sys.executable, "-m", "service.supervisor", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert second.returncode == 1
    assert f"already runs in {tmp_path} (process {process.pid})" in second.stderr


def test_a_taken_web_port_and_a_record_cut_short_end_in_one_sentence(tmp_path):
    web = Stack.open(tmp_path, given={}).ports["web"]
    (tmp_path / "processes.json").touch()  # as a full disk leaves it
    with socket.create_server((LOOPBACK, web)):
        refused = subprocess.run(
            [sys.executable, "-m", "service.supervisor", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert refused.returncode == 1
    assert f"Another program listens at http://{LOOPBACK}:{web}" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "command", [["operator", "init"], ["journal", "verify"], ["journal", "replay"]]
)
def test_a_folder_where_nothing_was_served_is_refused_and_left_alone(command, tmp_path):
    unused = {"DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL"}
    typo = tmp_path / "typo"
    refused = subprocess.run(
        [sys.executable, "-m", "service.cli", *command, "--state", str(typo)],
        env={name: value for name, value in os.environ.items() if name not in unused},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert f"No instance was found in {typo}" in refused.stderr
    assert not typo.exists()


@pytest.mark.slow
def test_a_killed_supervisor_takes_its_children_along_and_comes_back_with_the_same_state(tmp_path):
    with supervisor(tmp_path) as process:
        url = wait_until_ready(tmp_path)
        instance = httpx.get(f"{url}/v1/instance").json()
        children = pids(tmp_path)
        process.kill()
        process.wait()
        until(lambda: not any(alive(pid) for pid in children.values()))
    (tmp_path / "ready").unlink()
    with supervisor(tmp_path) as process:
        again = wait_until_ready(tmp_path)
        assert again == url
        assert httpx.get(f"{again}/v1/instance").json() == instance
        process.terminate()
        assert process.wait(60) == 0
