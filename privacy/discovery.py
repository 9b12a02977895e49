"""Finds the modules of a plug-in package and checks that each keeps its contract.

A plug-in is one file: its module docstring is its documentation. There is no registry to forget.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from privacy.errors import InvalidParameter


def available(package: ModuleType) -> tuple[str, ...]:
    """Return the names of the plug-ins in `package`, sorted, without importing them."""
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def load(package: ModuleType, name: str, *, required: Sequence[str]) -> ModuleType:
    """Return the plug-in `name`, which has a docstring and every `required` name.

    Raises: InvalidParameter, saying which plug-ins exist or what this one lacks.
    """
    if name not in available(package):
        known = ", ".join(available(package)) or "none"
        raise InvalidParameter(
            f"{package.__name__} {name!r} was refused: there is no such module. Known: {known}."
        )
    module = importlib.import_module(f"{package.__name__}.{name}")
    missing = [wanted for wanted in required if not hasattr(module, wanted)]
    if missing:
        raise InvalidParameter(f"{module.__name__} was refused: it lacks {', '.join(missing)}.")
    if not (module.__doc__ or "").strip():
        raise InvalidParameter(
            f"{module.__name__} was refused: it has no docstring. Say in it what the module does."
        )
    return module


def discover(package: ModuleType, *, required: Sequence[str]) -> dict[str, ModuleType]:
    """Return every plug-in of `package` by name, each loaded and checked."""
    return {name: load(package, name, required=required) for name in available(package)}
