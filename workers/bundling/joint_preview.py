"""Draw the picture that a release's page shows: images of the bundle, and how its rows are spread.

The first images of each cell in the bundle's own order, so nobody has chosen them by looks, and
nothing is in the picture that is not in the bundle.
"""

import io

from PIL import Image

from workers.bundling.joint_rows import SyntheticJoint
from workers.bundling.preview import draw_preview
from workers.bundling.records import SyntheticSet
from workers.bundling.table_preview import draw_preview as draw_columns


def draw_joint_preview(synthetic: SyntheticJoint) -> bytes:
    """Return one PNG: a grid of images, a row for each cell, above the columns' bars."""
    images = SyntheticSet(synthetic.images, synthetic.cells, synthetic.declared)
    with (
        Image.open(io.BytesIO(draw_preview(images))) as grid,
        Image.open(io.BytesIO(draw_columns(synthetic.table))) as columns,
    ):
        width = max(grid.width, columns.width)
        sheet = Image.new("RGB", (width, grid.height + columns.height), "white")
        sheet.paste(grid.convert("RGB"), ((width - grid.width) // 2, 0))
        sheet.paste(columns.convert("RGB"), ((width - columns.width) // 2, grid.height))
    target = io.BytesIO()
    sheet.save(target, format="PNG", optimize=True)
    return target.getvalue()
