"""The trust kernel depends on its arguments alone: no clock, no environment, few libraries."""

import ast
import sys
from pathlib import Path

import pytest

import privacy

FOLDER = Path(privacy.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
LIBRARIES = {"numpy", "scipy", "pydantic", "dp_accounting", "rfc8785", "cryptography", "privacy"}
IMPURE = {
    "time",
    "datetime",
    "random",
    "socket",
    "subprocess",
    "urllib",
    "http",
    "pickle",
    "ctypes",
}


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_module_imports_what_the_kernel_may_and_reads_no_environment(path):
    tree = ast.parse(path.read_text())
    names = imported(tree)
    assert names <= LIBRARIES | sys.stdlib_module_names
    assert not names & IMPURE
    if path != FOLDER / "accounting.py":
        assert "dp_accounting" not in names
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not attributes & {"environ", "getenv"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_a_module_is_short_enough_to_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 400


def test_every_module_is_on_the_map():
    text = (FOLDER / "README.md").read_text()
    missing = [path.stem for path in FOLDER.glob("[a-z]*.py") if path.stem not in text]
    assert not missing
