"""Utility that can be believed: classifiers taught on synthetic images, judged on real held-out ones.

`score` is the door. Every value that comes out of this package is measured on real records without
noise: it is not differentially private and stays with the data owner and the auditors.
"""

import importlib
from typing import TYPE_CHECKING, Any

from training.utility.material import Labelled, Task

if TYPE_CHECKING:
    from training.utility.scoring import Scored, score

__all__ = ["Labelled", "Scored", "Task", "score"]


def __getattr__(name: str) -> Any:
    """Return what judges images when it is asked for: judging tables needs no torch."""
    if name in {"Scored", "score"}:
        return getattr(importlib.import_module("training.utility.scoring"), name)
    raise AttributeError(name)
