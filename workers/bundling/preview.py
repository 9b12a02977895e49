"""Draw the picture that a release's page shows: images of the bundle, one row for each label.

The first images of each label in the bundle's own order, so nobody has chosen them by looks, and
nothing is in the picture that is not in the bundle.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.bundling.records import SyntheticSet

_COLUMNS = 8
_MOST_ROWS = 8
_TILE = 128
_GAP = 2


def draw_preview(synthetic: SyntheticSet) -> bytes:
    """Return the grid as a PNG of 8 bits, of 8 rows and columns at most."""
    rows = []
    for label in range(len(synthetic.schema.labels)):
        found = np.flatnonzero(np.asarray(synthetic.labels) == label)[:_COLUMNS]
        if len(found):
            rows.append([_tile(synthetic.images[number]) for number in found])
    rows = rows[:_MOST_ROWS]
    columns = max((len(row) for row in rows), default=1)
    step = _TILE + _GAP
    size = (columns * step - _GAP, max(len(rows), 1) * step - _GAP)
    sheet = Image.new("L", size)
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            sheet.paste(tile, (x * step, y * step))
    target = io.BytesIO()
    sheet.save(target, format="PNG", optimize=True)
    return target.getvalue()


def _tile(pixels: NDArray[np.integer]) -> Image.Image:
    """Return an image as a square tile of 8 bits; nothing is stretched, small ones stay sharp."""
    whole = np.asarray(pixels)
    grey = (whole >> 8 if whole.dtype == np.uint16 else whole).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(grey))
    scale = _TILE / max(image.size)
    shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile = Image.new("L", (_TILE, _TILE))
    how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
    tile.paste(image.resize(shape, how), ((_TILE - shape[0]) // 2, (_TILE - shape[1]) // 2))
    return tile
