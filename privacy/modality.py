"""Names the kinds of records that there are, once for everybody who tells them apart."""

from collections.abc import Mapping
from typing import Any, Literal

Modality = Literal["image", "table", "joint"]
"""Images with a label each; rows of a table; rows with an image each."""


def modality_in(declared: Mapping[str, Any]) -> Modality:
    """Return the kind of records that a stored declaration is about; images where it says nothing."""
    if "columns" not in declared:
        return "image"
    return "joint" if declared.get("images") else "table"
