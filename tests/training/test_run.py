"""What a run may show while it trains."""

import pytest

from privacy.errors import InvalidParameter
from privacy.mechanisms import GaussianMechanism
from training.run import LocalRun


def test_a_value_that_is_not_known_to_be_public_is_not_shown():
    run = LocalRun([GaussianMechanism(stage="sums", noise_multiplier=1.0)])
    run.progress("training", 1, 2, public_metrics={"phantom_loss": 0.5, "warm_up_loss": 0.1})
    with pytest.raises(InvalidParameter, match="loss_on_records"):
        run.progress("training", 1, 2, public_metrics={"loss_on_records": 0.5})
