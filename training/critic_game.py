"""What a critic is shown: records beside synthetic images under DP-SGD, procedural ones before.

`Distance` is the only thing here that reads records, and only `dp_sgd.train` calls it.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training import wasserstein
from training.correction import Corrector
from training.dp_sgd import Examples
from training.generator_turns import GeneratorTurns
from training.procedural import LeafPool
from training.randomness import reproducible, reproducible_torch, unrecorded_torch
from training.records import TrainingRecords, encode
from training.run import Run
from training.spectrum import to_images

_WARM_UP_POOL = 300
_WARM_UP_BATCH = 64
_WARM_UP_RATE = 1e-3


class Fakes:
    """Draws synthetic images while networks train, from a stream that is not recorded."""

    def __init__(self, corrector: Corrector) -> None:
        self._corrector = corrector
        self._generator, self._rng = unrecorded_torch(), np.random.default_rng()

    def __call__(self, network: nn.Module, count: int) -> tuple[Tensor, Tensor]:
        """Return images (N, H, W), with gradients, and one-hot labels (N, L), uniform."""
        labels = self._rng.integers(len(self._corrector.schema.labels), size=count)
        images = self._corrector.draw(
            labels, rng=self._rng, generator=self._generator, network=network
        )
        return images, self._corrector.hot(labels)

    @torch.no_grad()
    def like(self, labels: NDArray[np.integer]) -> Tensor:
        """Return one image per label, without gradients (N, H, W)."""
        return self._corrector.draw(labels, rng=self._rng, generator=self._generator)


class Distance:
    """The objective of DP-SGD: tell a record from a synthetic image of the same label."""

    def __init__(
        self, records: TrainingRecords, corrector: Corrector, *, penalty_weight: float
    ) -> None:
        self._records, self._corrector, self._weight = records, corrector, penalty_weight
        self._fakes, self._generator = Fakes(corrector), unrecorded_torch()

    def examples(self, records: NDArray[np.int64]) -> Examples:
        """Return real images, synthetic ones, points between the two, and one-hot labels."""
        corrector = self._corrector
        labels = np.asarray(self._records.labels[records], dtype=np.int64)
        real = corrector.scaled(encode(self._records.images[records], corrector.schema), labels)
        share = torch.rand(len(real), generator=self._generator).to(real.device)
        fake = self._fakes.like(labels)
        return real, fake, wasserstein.between(real, fake, share), corrector.hot(labels)

    def loss(self, network: Callable[..., Tensor], examples: Examples) -> Tensor:
        """Return the critic's loss, gradient penalty included, of each example."""
        return wasserstein.critic_loss(network, examples, penalty_weight=self._weight)


def warm_up(
    corrector: Corrector,
    critic: nn.Module,
    turns: GeneratorTurns,
    *,
    steps: int,
    penalty_weight: float,
    run: Run,
    seed: int,
) -> None:
    """Let both networks play with procedural images in the place of records; free."""
    if steps == 0:
        return
    rng, generator = reproducible(seed), reproducible_torch(seed)
    schema = corrector.schema
    pool = LeafPool(_WARM_UP_POOL, model=corrector.model, schema=schema, rng=rng)
    fakes = Fakes(corrector)
    adam = torch.optim.Adam(critic.parameters(), lr=_WARM_UP_RATE)
    for step in range(steps):
        labels = rng.integers(len(schema.labels), size=_WARM_UP_BATCH)
        leaves = to_images(pool.draw(labels), schema.height, schema.width).astype(np.float32)
        real, fake = corrector.scaled(leaves, labels), fakes.like(labels)
        share = torch.rand(len(real), generator=generator).to(real.device)
        drawn = (real, fake, wasserstein.between(real, fake, share), corrector.hot(labels))
        loss = wasserstein.critic_loss(critic, drawn, penalty_weight=penalty_weight).mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        turns.after_critic_step(critic, share_done=0.0)
        run.progress("warm-up", step + 1, steps, public_metrics={"warm_up_loss": loss.item()})
    turns.use_average()
