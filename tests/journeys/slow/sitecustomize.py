"""Make the slow generators beside this file known to the processes of one test stack.

Python imports a module of this name at its start when its folder is on PYTHONPATH. The product has
no such door: its generators are the files inside training/generators, and nothing else.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

GENERATORS = Path(__file__).with_name("generators")


class AddSlowGenerators(MetaPathFinder):
    """Add one folder to the search path of `training.generators`."""

    def find_spec(self, fullname, path=None, target=None) -> ModuleSpec | None:
        del target
        if fullname != "training.generators":
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(str(GENERATORS))
        return spec


sys.meta_path.insert(0, AddSlowGenerators())
