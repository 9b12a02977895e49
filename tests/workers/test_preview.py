"""The picture on a release's page shows images of the bundle, the first of each label."""

import io

import numpy as np
import pytest
from PIL import Image

from privacy.manifests import DatasetSchema
from workers.bundling.preview import draw_preview
from workers.bundling.records import SyntheticSet


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_picture_has_a_row_for_each_label_of_the_bundles_own_images(kind: type) -> None:
    schema = DatasetSchema(
        declared_count=1000,
        height=16,
        width=12,
        bit_depth=8 * np.dtype(kind).itemsize,
        label="grade",
        labels=("low", "high", "none"),
    )
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 1])
    shades = np.arange(8) * 20 + 40
    images = np.broadcast_to(shades[:, None, None], (8, 16, 12)).astype(kind)
    if kind is np.uint16:
        images = (images << 8).astype(kind)
    picture = Image.open(io.BytesIO(draw_preview(SyntheticSet(images, labels, schema))))
    assert (picture.mode, picture.size) == ("L", (5 * 130 - 2, 2 * 130 - 2))
    pixels = np.asarray(picture)
    found = [
        [int(pixels[64 + 130 * row, 64 + 130 * column]) for column in range(5)] for row in (0, 1)
    ]
    low = [int(shades[number]) for number in np.flatnonzero(labels == 0)]
    high = [int(shades[number]) for number in np.flatnonzero(labels == 1)]
    assert found == [[*low, 0, 0], high]
