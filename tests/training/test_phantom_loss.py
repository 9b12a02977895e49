"""What may be seen of a training while it runs: a loss on phantoms, and nothing of the records."""

import numpy as np

from privacy.manifests import DatasetSchema
from privacy.mechanisms import PrivacyTarget
from privacy.planning import plan_mechanisms
from training.generators import diffusion
from training.records import TrainingRecords
from training.run import LocalRun


class WatchedRun(LocalRun):
    """Remembers the public numbers."""

    def __init__(self, mechanisms):
        super().__init__(mechanisms)
        self.seen = []

    def progress(self, stage, step, total, *, public_metrics=None):
        super().progress(stage, step, total, public_metrics=public_metrics)
        if stage == "training" and public_metrics:
            self.seen.append((step, public_metrics))


def test_a_training_shows_its_loss_on_phantoms_after_every_block():
    schema = DatasetSchema(declared_count=50, height=16, width=16, label="x", labels=("0", "1"))
    config = diffusion.Config(
        steps=2, expected_batch_size=8, features=16, warm_up_steps=1, covariance_coefficients=20
    )
    records = TrainingRecords(
        images=np.random.default_rng(0).integers(0, 256, (20, 16, 16)).astype(np.uint8),
        labels=np.tile([0, 1], 10).astype(np.int16),
        persons=np.arange(20, dtype=np.int32),
    )
    mechanisms = plan_mechanisms(
        diffusion.STAGES,
        config=config.model_dump(),
        target=PrivacyTarget(epsilon=8.0, delta=1e-5),
        public_train_count=30,
    )
    run = WatchedRun(mechanisms)
    diffusion.fit(records, config, schema=schema, run=run, seed=1)
    assert run.seen[-1][0] == 2
    assert all(set(metrics) == {"phantom_loss"} for _, metrics in run.seen)
    # Two steps under this much noise may make a network much worse than none.
    assert all(0 < metrics["phantom_loss"] < np.inf for _, metrics in run.seen)
