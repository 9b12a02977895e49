"""Throw-away virtual environments for other people's tools, which never meet our own packages."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_INSTALL_SECONDS = 900


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


def answer_of(python: Path, script: str, *arguments: str, target: Path, seconds: int) -> Any:
    """Run a script of this folder with a peer's interpreter, and return the JSON it wrote to `target`.

    `target` is the script's last argument. The script sees none of our packages.
    Raises: RuntimeError with the last line of what it complained of; TimeoutExpired.
    """
    done = subprocess.run(  # noqa: S603 - our own command
        [str(python), "-P", str(Path(__file__).with_name(script)), *arguments, str(target)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
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
