"""Lint, format, types and generated files, so that `make test` alone says whether a change is fit."""

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent

CHECKS = {
    "ruff finds nothing": ["ruff", "check", "."],
    "ruff would format nothing": ["ruff", "format", "--check", "."],
    "mypy --strict finds nothing": ["mypy"],
}


@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS)
@pytest.mark.timeout(600)
def test_the_source_is_clean(command, repository):
    program, *arguments = command
    done = subprocess.run(
        [str(BIN / program), *arguments],
        capture_output=True,
        text=True,
        cwd=repository,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]


def test_the_catalogue_is_what_the_plug_ins_say(repository):
    done = subprocess.run(
        [sys.executable, "-m", "workers.catalogue", "--check"],
        capture_output=True,
        text=True,
        cwd=repository,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "manager", "base", "misc"], ids=str)
def test_no_module_has_a_name_that_says_nothing(word, repository):
    packages = ("privacy", "training", "workers", "service", "benchmarks")
    found = [path for name in packages for path in (repository / name).rglob(f"{word}*.py")]
    assert not found
