"""What a training shows while it runs: the pace and the grid."""

import io
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image

from privacy.errors import InvalidParameter
from workers.context import JobContext
from workers.ledger_run import LedgerRun, Pace, grid_png


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


def test_a_training_shows_only_values_that_are_known_to_be_public():
    shown = []
    context = SimpleNamespace(report=lambda *_, **named: shown.append(named["public_metrics"]))
    run = LedgerRun(cast("JobContext", context), (), ())
    run.progress("training", 1, 2, public_metrics={"phantom_loss": 0.5})
    with pytest.raises(InvalidParameter, match="gradient_norm"):
        run.progress("training", 1, 2, public_metrics={"gradient_norm": 0.5})
    assert shown == [{"phantom_loss": 0.5}]
