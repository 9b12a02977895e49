"""Keep the embedded stack running: start it in order, restart what ends, stop it cleanly.

`kaima serve` runs `main`. One supervisor per folder (a lock that the kernel frees when the process
dies). Children are killed by the kernel if the supervisor dies; what could still be left of a
killed one is found by `processes.json` and ended before the next start.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import click
import psutil

from service.embedded import (
    ComponentNotReady,
    kill_group,
    start_process,
    stop_process,
    wait_for_http,
    wait_for_seaweed,
    wait_for_valkey,
)
from service.private_files import read_object, write_private
from service.stack import DEFAULT_STATE, Stack, StackProcess

READY_SECONDS = 120.0
CHECK_SECONDS = 0.5
FIRST_BACK_OFF_SECONDS = 0.5
LONGEST_BACK_OFF_SECONDS = 30.0
LEFTOVER_SECONDS = 3.0
_SERVERS = ("valkey", "seaweed")
STEADY_SECONDS = 60.0
"""A process that ran this long before it ended is restarted without waiting."""


class AlreadyRunning(RuntimeError):
    """Another supervisor holds the folder."""


@dataclass
class _Child:
    """A process of the stack and when to start it again."""

    plan: StackProcess
    process: subprocess.Popen[bytes]
    started_at: float
    back_off_seconds: float = FIRST_BACK_OFF_SECONDS
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Runs one stack. `start` returns when everything answers; `watch` blocks until stopped."""

    stack: Stack
    _children: list[_Child] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Start every process in order and wait until each is ready.

        Raises: ComponentNotReady naming the process whose log to read.
        """
        _end_leftovers(self._record)
        self.stack = self.stack.with_free_ports()
        prepared = False
        for plan in self.stack.processes():
            if plan.readiness not in _SERVERS and not prepared:
                self._prepare()
                prepared = True
            if self._stopping.is_set():
                return
            self._children.append(self._launch(plan))
            self._write_record()
            self._wait_until_ready(self._children[-1])

    def watch(self) -> None:
        """Restart what ends, with growing back-off, until `request_stop`."""
        while not self._stopping.wait(CHECK_SECONDS):
            for child in self._children:
                self._look_after(child)

    def request_stop(self) -> None:
        """Let `watch` return; safe to call from a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """End every process: SIGTERM, the process's grace, SIGKILL. What others need ends last."""
        servers = [child for child in self._children if child.plan.readiness in _SERVERS]
        _stop_together([child for child in self._children if child not in servers])
        _stop_together(servers)
        self._children.clear()
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.stack.folder / "processes.json"

    def _prepare(self) -> None:
        """Bring the database up to date and make the instance's keys, before two processes try."""
        log = self.stack.log("prepare")
        command = [sys.executable, "-m", "service.prepare"]
        process = start_process(command, log=log, environment=self.stack.environment())
        if process.wait(READY_SECONDS):
            raise ComponentNotReady(
                f"Preparing the database ended with exit code {process.returncode}; see {log}."
            )

    def _launch(self, plan: StackProcess) -> _Child:
        process = start_process(
            plan.command,
            log=self.stack.log(plan.name),
            environment={**self.stack.environment(), **plan.environment},
        )
        return _Child(plan, process, started_at=time.monotonic())

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process.poll() is None:
            return
        if child.restart_at is None:
            kill_group(child.process.pid)  # whatever it left behind would hold its port
            if now - child.started_at > STEADY_SECONDS:
                child.back_off_seconds = FIRST_BACK_OFF_SECONDS
            child.restart_at = now + child.back_off_seconds
            child.back_off_seconds = min(2 * child.back_off_seconds, LONGEST_BACK_OFF_SECONDS)
            _say(f"{child.plan.name} ended (exit code {child.process.returncode}); restarting it.")
        elif now >= child.restart_at:
            child.process = self._launch(child.plan).process
            child.started_at, child.restart_at = now, None
            self._write_record()

    def _wait_until_ready(self, child: _Child) -> None:
        stack, process, readiness = self.stack, child.process, child.plan.readiness
        try:
            if readiness == "valkey":
                wait_for_valkey(stack.broker_url, process=process, timeout_seconds=READY_SECONDS)
            elif readiness == "seaweed":
                wait_for_seaweed(
                    stack.object_store_url,
                    credentials=stack.credentials,
                    process=process,
                    timeout_seconds=READY_SECONDS,
                )
            elif readiness:
                wait_for_http(readiness, process=process, timeout_seconds=READY_SECONDS)
        except ComponentNotReady as error:
            raise ComponentNotReady(f"{error} See {stack.log(child.plan.name)}.") from error

    def _write_record(self) -> None:
        record = {
            child.plan.name: {"pid": child.process.pid, "created": _created(child.process.pid)}
            for child in self._children
        }
        write_private(self._record, json.dumps(record, indent=2))


def _stop_together(children: list[_Child]) -> None:
    """Ask all to end at once, then give each what is left of its grace."""
    asked_at = time.monotonic()
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()
    for child in children:
        left = asked_at + child.plan.grace_seconds - time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(max(left, 0))
        stop_process(child.process, grace_seconds=0)


def main(state: Path = DEFAULT_STATE) -> int:
    """Run the stack in `state` until SIGTERM or Ctrl-C; return the exit code."""
    os.umask(0o077)  # database, logs and objects are for this user only
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with _only_supervisor(state):
            return _serve(Supervisor(Stack.open(state)))
    except AlreadyRunning as error:
        _say(str(error))
        return 1


def _serve(supervisor: Supervisor) -> int:
    def stop(_number: int, _frame: FrameType | None) -> None:
        supervisor.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        supervisor.start()
        stack = supervisor.stack
        write_private(stack.folder / "ready", stack.web_url)
        _say(f"Kaima is ready at {stack.web_url} (everything is kept in {stack.folder}).")
        supervisor.watch()
    except ComponentNotReady as error:
        _say(f"Kaima could not start: {error}")
        return 1
    finally:
        (supervisor.stack.folder / "ready").unlink(missing_ok=True)
        _say("Kaima is stopping ...")
        supervisor.stop()
    return 0


@contextlib.contextmanager
def _only_supervisor(state: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises: AlreadyRunning if another live process holds it."""
    with (state / "supervisor.pid").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyRunning(
                f"Kaima already runs in {state} (process {file.read().strip()}). "
                "Stop it first, or set KAIMA_STATE to another folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def running_supervisor(state: Path) -> int | None:
    """Return the process id of the supervisor that holds the folder, or None."""
    path = state / "supervisor.pid"
    if not path.exists():
        return None
    with path.open(encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read().strip() or 0) or None
    return None


def _end_leftovers(record: Path) -> None:
    """Kill the process groups of a supervisor that was killed; a reused process id is let be.

    While a group has members, its id is given to no new process: if the leader is gone, what is
    left of the group (gunicorn's workers, say) is ours.
    """
    for entry in read_object(record).values():
        if _created(entry["pid"]) in (None, entry["created"]):
            _kill_and_wait(entry["pid"])
    record.unlink(missing_ok=True)


def _kill_and_wait(group: int) -> None:
    """Kill a process group and wait until it has let go of its ports."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, signal.SIGKILL)
            time.sleep(CHECK_SECONDS)


def _created(pid: int) -> float | None:
    """Return when a process began (seconds since the epoch), or None if there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_STATE))
