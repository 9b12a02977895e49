"""Names the kinds of records that there are, once for everybody who tells them apart."""

from typing import Literal

Modality = Literal["image", "table", "joint"]
"""Images with a label each; rows of a table; rows with an image each."""
