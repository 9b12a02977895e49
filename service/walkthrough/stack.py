"""Run the embedded stack for the demo, as a process of its own, and make its first operator."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from service.embedded import pick_port
from service.private_files import write_private
from service.stack import Stack
from service.supervisor import running_supervisor

START_SECONDS = 300.0
STOP_SECONDS = 60.0


class StackFailed(RuntimeError):
    """The embedded stack did not start; the text says where its log is."""


@contextlib.contextmanager
def running_stack(folder: Path, *, keep: bool) -> Iterator[Stack]:
    """Run a fresh stack in `folder`; stop it at the end unless `keep`.

    A stack that an earlier demo kept running in the same folder is stopped, its state is removed.
    """
    stop_stack(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    # Not the usual port: another instance on this machine may be starting at this moment.
    write_private(folder / "ports.json", json.dumps({"web": pick_port()}))
    with (folder / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", "service.supervisor", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the stack
        )
    try:
        _wait_until_ready(folder, process)
        yield Stack.open(folder)
    except BaseException:
        stop_stack(folder)
        raise
    if not keep:
        stop_stack(folder)
        process.wait(STOP_SECONDS)


def stop_stack(folder: Path) -> None:
    """Stop the stack that runs in `folder`, if any."""
    pid = running_supervisor(folder)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while running_supervisor(folder) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # its children die with it
        time.sleep(0.1)


def first_operator_key(stack: Stack) -> str:
    """Create the first operator account on the command line; return its API key."""
    answer = subprocess.run(
        [sys.executable, "-m", "service.cli", "--json", "operator", "init"],
        env=stack.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise StackFailed(f"The operator account was not made: {answer.stderr.strip()}")
    key: str = json.loads(answer.stdout)["api_key"]
    return key


def _wait_until_ready(folder: Path, process: subprocess.Popen[bytes]) -> None:
    ready = folder / "ready"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if ready.exists() and httpx.get(f"{ready.read_text()}/readyz").is_success:
            return
        time.sleep(0.1)
    log = folder / "supervisor.log"
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    raise StackFailed(f"{lines[-1] if lines else 'The stack did not start.'} Log: {log}")
