"""Throw-away virtual environments for other people's tools, which never meet our own packages."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CACHE_VARIABLE = "KAIMA_BENCHMARK_CACHE"
"""Names the folder for what takes long to fetch; without it, a folder in the user's cache."""
_INSTALL_SECONDS = 1800


@contextmanager
def environment(*installs: Sequence[str]) -> Iterator[Path]:
    """Yield the interpreter of a fresh environment after `pip install` of each of `installs`.

    Raises: RuntimeError with pip's last lines where an installation failed.
    """
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        python = Path(folder) / "bin" / "python"
        _run([sys.executable, "-m", "venv", folder])
        for arguments in installs:
            _run([str(python), "-m", "pip", "install", "--quiet", *arguments])
        yield python


def cache_folder(name: str) -> Path:
    """Return a folder outside of the source tree that later runs find again."""
    root = os.environ.get(CACHE_VARIABLE)
    folder = (Path(root) if root else Path.home() / ".cache" / "kaima-benchmarks") / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def kept_environment(
    name: str, *installs: Sequence[str], without: Sequence[str] = ()
) -> tuple[Path, bool]:
    """Return the interpreter of an environment that later runs use again, and whether it is new.

    `without` names packages to uninstall at the end. An environment with other arguments is another
    one; half of an installation is never taken for a whole one.
    Raises: RuntimeError with pip's last lines where an installation failed.
    """
    told = json.dumps([[list(one) for one in installs], list(without), sys.version])
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    folder = cache_folder("environments") / f"{name}-{digest}"
    python, whole = folder / "bin" / "python", folder / "installed"
    if whole.exists():
        return python, False
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    for arguments in installs:
        _run([str(python), "-m", "pip", "install", "--quiet", *arguments])
    if without:
        _run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *without])
    whole.touch()
    return python, True


def answer_of(python: Path, script: str, *arguments: str, target: Path, seconds: int) -> Any:
    """Run a script of this folder with a peer's interpreter, and return the JSON it wrote to `target`.

    `target` is the script's last argument. The script sees none of our packages.
    Raises: RuntimeError with the last line of what it complained of; TimeoutExpired.
    """
    command = [str(python), "-P", str(Path(__file__).with_name(script)), *arguments]
    return _answered(command, target=target, seconds=seconds, variables={"PYTHONPATH": ""})


def answer_of_module(module: str, *arguments: str, target: Path, seconds: int) -> Any:
    """Run a module of ours in a process of its own, and return the JSON it wrote to `target`.

    `target` is its last argument.
    Raises: RuntimeError with the last line of what it complained of; TimeoutExpired.
    """
    command = [sys.executable, "-m", module, *arguments]
    root = str(Path(__file__).resolve().parent.parent)
    return _answered(command, target=target, seconds=seconds, variables={"PYTHONPATH": root})


def _answered(
    command: Sequence[str], *, target: Path, seconds: int, variables: dict[str, str]
) -> Any:
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, str(target)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(target.read_text(encoding="utf-8"))


def _run(command: list[str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        command,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        last = " | ".join(done.stderr.strip().splitlines()[-3:])
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}: {last}")
