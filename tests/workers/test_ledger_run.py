"""What a training shows while it runs: the pace and the grid."""

import io

import numpy as np
import pytest
from PIL import Image

from workers.ledger_run import Pace, grid_png


def test_the_time_left_follows_from_the_speed_in_this_stage():
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    assert pace.eta_seconds("walking", 0, 100) is None
    now[0] = 10
    assert pace.eta_seconds("walking", 20, 100) == 40.0
    assert pace.eta_seconds("drawing", 5, 10) is None
    now[0] = 11
    assert pace.eta_seconds("drawing", 6, 10) == 4.0


def test_a_resumed_stage_counts_only_its_own_steps():
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    pace.eta_seconds("walking", 90, 100)
    now[0] = 5
    assert pace.eta_seconds("walking", 95, 100) == 5.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_grid_has_one_row_per_label_whatever_the_depth(dtype):
    full = np.iinfo(dtype).max
    images = np.stack([np.full((8, 8), full if label else 0, dtype) for label in (0, 1, 1)])
    with Image.open(io.BytesIO(grid_png(images, np.array([0, 1, 1])))) as picture:
        pixels = np.asarray(picture)
    factor = pixels.shape[0] // 16
    assert pixels.dtype == np.uint8
    assert pixels[: 8 * factor].max() == 0
    assert pixels[8 * factor :, : 16 * factor].min() == 255
    assert pixels[8 * factor :, 16 * factor :].max() == 0
