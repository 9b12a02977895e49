"""The dependency rule of the four packages, checked on the import graph and in real processes."""

import graphlib
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

PACKAGES = ("privacy", "training", "workers", "service", "benchmarks")
HEAVY = ("torch", "opacus", "training", "workers")
WEB_AND_STORE = ("flask", "celery", "sqlalchemy", "boto3", "redis", "httpx")


def modules_after(statement: str, repository: Path) -> set[str]:
    """Run `statement` in a fresh interpreter; return the top-level names it made it import."""
    code = f"import sys\n{statement}\nprint(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=repository, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def import_all(package: str) -> str:
    return (
        "import importlib, pkgutil\n"
        f"import {package}\n"
        f"for found in pkgutil.walk_packages({package}.__path__, '{package}.'):\n"
        "    if 'migrations' not in found.name and not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)\n"
    )


def test_every_import_contract_holds(repository):
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(lint), "--no-cache"], capture_output=True, text=True, cwd=repository, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_two_modules_import_each_other_in_a_circle():
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    tree = {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }
    try:
        graphlib.TopologicalSorter(tree).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("package", ["service"])
def test_no_module_of_the_service_ever_imports_torch(package, repository):
    assert not modules_after(import_all(package), repository) & set(HEAVY)


def test_the_running_web_application_has_not_imported_torch(repository):
    assert not modules_after("import service.app", repository) & set(HEAVY)


def test_the_trust_kernel_imports_no_torch_no_web_and_no_database(repository):
    found = modules_after(import_all("privacy"), repository)
    assert not found & {*HEAVY, *WEB_AND_STORE}


def test_verification_on_the_base_install_needs_no_server_and_no_torch(repository):
    found = modules_after("import service.cli, privacy.bundle", repository)
    assert not found & {*HEAVY, "flask", "celery", "sqlalchemy", "boto3", "redis"}
