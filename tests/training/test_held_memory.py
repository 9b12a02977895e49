"""Memory that is freed during a training stays in the process, and goes back after it."""

import gc
from pathlib import Path

import pytest
import torch

from training.held_memory import _glibc, freed_memory_held

_BLOCKS = 32
_VALUES = 1 << 20  # a block is 4 MiB


def _resident() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def _fill_and_free() -> None:
    blocks = [torch.ones(_VALUES) for _ in range(_BLOCKS)]
    assert float(blocks[-1][-1]) == 1.0


@pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc")
def test_freed_memory_stays_while_held_and_goes_back_after():
    gc.collect()
    before = _resident()
    filled = 4 * _VALUES * _BLOCKS
    with freed_memory_held():
        _fill_and_free()
        held = _resident() - before
    after = _resident() - before
    assert held > filled / 2
    assert after < filled / 2


def test_what_runs_while_memory_is_held_returns_its_result():
    assert freed_memory_held()(lambda: 3)() == 3
