"""Memory that is freed during a training stays in the process, and goes back after it."""

import subprocess
import sys

import pytest

from training.held_memory import _glibc, freed_memory_held

_FILLED = 128 << 20
# In a process of its own: what other tests left free would serve these blocks as well.
_MEASURE = """
from pathlib import Path
import numpy as np
from training.held_memory import freed_memory_held

def resident():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

def fill_and_free():
    blocks = [np.ones(1 << 20, dtype=np.float32) for _ in range(32)]
    assert blocks[-1][-1] == 1.0

before = resident()
with freed_memory_held():
    fill_and_free()
    held = resident() - before
print(held, resident() - before)
"""


@pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc")
def test_freed_memory_stays_while_held_and_goes_back_after():
    command = [sys.executable, "-c", _MEASURE]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    held, after = (int(word) for word in ran.stdout.split())
    assert held > _FILLED / 2
    assert after < _FILLED / 2


def test_what_runs_while_memory_is_held_returns_its_result():
    assert freed_memory_held()(lambda: 3)() == 3
