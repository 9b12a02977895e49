"""Throw-away virtual environments for other people's tools, which never meet our own packages."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
