"""The process of a job, and whatever it has started."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.workers.service_stack import wait_until
from workers.child import Child

STARTS_A_HELPER = """
import pathlib, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path({path!r}).write_text(str(helper.pid))
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_whatever_a_job_has_started_ends_with_it(tmp_path, monkeypatch, how):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    told = tmp_path / "pid"
    (tmp_path / "workers" / "job.py").write_text(STARTS_A_HELPER.format(path=str(told)))
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONSAFEPATH": "0", "PYTHONPATH": str(tmp_path)}
    child = Child("job", token="t", scratch=tmp_path, environment=environment)
    try:
        wait_until(lambda: told.exists() and told.read_text() != "", seconds=120, what="it starts")
        helper = psutil.Process(int(told.read_text()))
        getattr(child, how)()
        wait_until(lambda: not is_alive(helper), seconds=60, what="the helper ends")
    finally:
        child.close()
        subprocess.run([sys.executable, "-c", end_quietly(told)], check=True)


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs; one that nobody has reaped yet does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def end_quietly(told) -> str:
    """Return code that ends the helper if a failing test left it."""
    return (
        f"import contextlib, os\nwith contextlib.suppress(ProcessLookupError):\n"
        f"    os.kill({int(told.read_text())}, {int(signal.SIGKILL)})"
    )
