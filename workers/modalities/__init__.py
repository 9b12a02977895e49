"""Images, tables and tables with images: what differs between them, a module each."""

import importlib
from typing import cast

from workers.modalities.contract import Declared, Modality

_MODULES = {"image": "images", "table": "tables", "joint": "joint"}


def modality_of(declared: Declared) -> Modality:
    """Return the module for what is declared."""
    name = _MODULES[declared.modality]
    return cast("Modality", importlib.import_module(f"{__name__}.{name}"))
