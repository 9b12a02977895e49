"""The subprocess that does the work of one job, as its supervisor sees it.

The supervisor writes one line (token and scratch directory) to the child's stdin and then keeps the
pipe open: when the supervisor dies, however it dies, the child reads end-of-file and exits, so a
job never runs unsupervised. The child answers with JSON lines on stdout: progress, then a result or
a problem. Memory (also on a GPU) goes back to the system when the child ends.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from workers.history import History

GRACE_SECONDS = 5.0
"""How long a child may take to end after SIGTERM, before SIGKILL."""

MAX_LINE_BYTES = 1 << 20
"""A longer message is dropped: no job has that much to say."""


class Child:
    """A running `python -m workers.job`, in its own process group."""

    def __init__(
        self,
        job_id: str,
        *,
        token: str,
        scratch: Path,
        environment: Mapping[str, str],
        history: History | None = None,
    ) -> None:
        """Start the process. The token goes through the pipe, never through argv or environ."""
        self._messages: dict[str, Any] = {}
        self._history = history or History()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
            [sys.executable, "-m", "workers.job", job_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Idle threads sleep: spinning, they would take the cores that web and broker need.
            env={"OMP_WAIT_POLICY": "PASSIVE", **environment},
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, name=f"job-{job_id}", daemon=True)
        self._reader.start()
        self._send({"token": token, "scratch": str(scratch)})

    @property
    def pid(self) -> int:
        """Return the process id, which is also the process group's."""
        return self._process.pid

    def wait(self, seconds: float) -> int | None:
        """Return the exit code (negative: the signal that ended it), or None while it runs."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def last(self, kind: str) -> Any | None:
        """Return the last message of a kind (progress, result, problem), or None."""
        with self._lock:
            return self._messages.get(kind)

    def stop(self) -> None:
        """End the process group: SIGTERM, five seconds, SIGKILL."""
        self._signal(signal.SIGTERM)
        if self.wait(GRACE_SECONDS) is None:
            self.kill()

    def kill(self) -> None:
        """End the process group at once; works on a stopped (SIGSTOP) one too."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill what is left and close the pipes."""
        if self._process.poll() is None:
            self.kill()
        self._reader.join(GRACE_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def join_messages(self) -> None:
        """Wait until everything that the ended child wrote has been read."""
        self._reader.join(GRACE_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        # poll() first: after the process was reaped its id may belong to somebody else.
        if self._process.poll() is None:
            # The whole group: libraries start helpers of their own, which hold records and a GPU.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _send(self, message: Mapping[str, object]) -> None:
        pipe = _present(self._process.stdin)
        try:
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:  # it died at once; wait() will tell how
            return

    def _read(self) -> None:
        pipe = _present(self._process.stdout)
        for line in iter(lambda: pipe.readline(MAX_LINE_BYTES), b""):
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                if isinstance(progress := message.get("progress"), dict):
                    message["progress"] = self._history.extended(progress)
                with self._lock:
                    self._messages.update(message)


def _present(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the child was started without pipes")
    return pipe
