"""Trains the network that corrects a Gaussian denoiser: on public pictures, then on records.

`warm_up` sees a pool of public pictures and plain gradients; `Denoising` is the objective that
DP-SGD differentiates. Both draw the same kind of example, so that DP-SGD starts where the warm-up
ended.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privacy.manifests import DatasetSchema
from training import diffusion as equations
from training import phantoms
from training.diffusion import GaussianDenoiser
from training.dp_sgd import Examples
from training.randomness import reproducible, reproducible_torch, unrecorded_torch
from training.records import TrainingRecords, encode
from training.spectrum import to_images
from training.warm_start import Pool

_BATCH = 64
_RATE = 2e-3
_PHANTOM_BATCH = 32
_SMALLEST_PHANTOM = 16  # pixels


class Denoising:
    """The objective of DP-SGD: denoise a record at one random noise level."""

    def __init__(
        self, records: TrainingRecords, *, gaussian: GaussianDenoiser, schema: DatasetSchema
    ) -> None:
        self._records, self._gaussian, self._schema = records, gaussian, schema
        self._generator, self._levels = unrecorded_torch(), equations.NoiseLevels()

    def examples(self, records: NDArray[np.int64]) -> Examples:
        """Return inputs, conditions and targets of records, with fresh noise."""
        values = encode(self._records.images[records], self._schema)
        images = torch.from_numpy(values / np.float32(self._gaussian.scale))
        return equations.examples(
            images,
            torch.from_numpy(np.asarray(self._records.labels[records], dtype=np.int64)),
            gaussian=self._gaussian,
            sigma=self._levels.draw(len(images), generator=self._generator),
            noise=torch.randn(images.shape, generator=self._generator),
        )

    def loss(self, network: Callable[..., Tensor], examples: Examples) -> Tensor:
        """Return the denoising loss of each example."""
        return equations.loss(network, examples)


def phantom_examples(
    gaussian: GaussianDenoiser, *, schema: DatasetSchema, seed: int
) -> Examples | None:
    """Return the fixed batch of phantoms whose loss may be shown while records are trained on.

    None for pictures too small for a phantom. Grades stand for labels, whatever those mean: the
    number only tells whether training moves.
    """
    if min(schema.height, schema.width) < _SMALLEST_PHANTOM:
        return None
    size = (schema.height, schema.width)
    images, grades = phantoms.batch(_PHANTOM_BATCH, pixels=size, rng=reproducible(seed))
    values = images.astype(np.float32) / np.float32(255) - np.float32(0.5)
    generator = reproducible_torch(seed)
    return equations.examples(
        torch.from_numpy(values / np.float32(gaussian.scale)),
        torch.from_numpy(np.asarray(grades % len(schema.labels), dtype=np.int64)),
        gaussian=gaussian,
        sigma=equations.NoiseLevels().draw(len(values), generator=generator),
        noise=torch.randn(values.shape, generator=generator),
    )


@torch.no_grad()
def phantom_loss(network: nn.Module, examples: Examples) -> float:
    """Return the mean loss of the network on examples that belong to nobody."""
    device = next(network.parameters()).device
    return float(equations.loss(network, tuple(one.to(device) for one in examples)).mean())


def warm_up(
    network: nn.Module,
    pool: Pool,
    *,
    gaussian: GaussianDenoiser,
    schema: DatasetSchema,
    steps: int,
    rng: np.random.Generator,
    seed: int,
    progress: Callable[[int, float], None],
) -> None:
    """Train the network in place on public pictures; `progress(step, loss)` follows it."""
    generator, levels = reproducible_torch(seed), equations.NoiseLevels()
    adam = torch.optim.Adam(network.parameters(), lr=_RATE)
    for step in range(steps):
        labels = rng.integers(len(schema.labels), size=_BATCH)
        drawn = to_images(pool.draw(labels), schema.height, schema.width) / gaussian.scale
        examples = equations.examples(
            torch.from_numpy(drawn.astype(np.float32)),
            torch.from_numpy(labels),
            gaussian=gaussian,
            sigma=levels.draw(len(labels), generator=generator),
            noise=torch.randn(drawn.shape, generator=generator),
        )
        for group in adam.param_groups:
            group["lr"] = _RATE * (1.0 - step / steps)
        adam.zero_grad()
        loss = equations.loss(network, examples).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        progress(step + 1, loss.item())
