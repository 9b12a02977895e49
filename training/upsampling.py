"""Larger pictures from a base of at most 64 pixels: fixed shrinking, and a learnt way back up.

DP-SGD on pictures above 64 pixels spends its budget on grain. So records are shrunk by a fixed
factor, image by image, before anything else sees them, and an upsampler, trained on procedural or
phantom pictures alone, adds plausible detail to what was drawn. It knows nothing of the records, so
it costs no budget, and its fine detail is no evidence about them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from privacy.manifests import DatasetSchema
from training.records import TrainingRecords, decode, encode

LARGEST_BASE = 64  # pixels along the longer side
_IMAGES_AT_ONCE = 100
_BATCH = 16
_RATE = 2e-3


@dataclass(frozen=True)
class Scale:
    """How many pixels of the declared size become one of the base, and both schemas."""

    factor: int
    full: DatasetSchema
    base: DatasetSchema

    @classmethod
    def of(cls, schema: DatasetSchema) -> "Scale":
        """Return the smallest whole factor that brings the longer side to `LARGEST_BASE` pixels."""
        factor = -(-max(schema.height, schema.width) // LARGEST_BASE)
        base = schema.model_copy(
            update={"height": -(-schema.height // factor), "width": -(-schema.width // factor)}
        )
        return cls(factor=factor, full=schema, base=base if factor > 1 else schema)

    def shrink(self, images: NDArray[np.integer]) -> NDArray[np.integer]:
        """Average blocks of pixels, edges repeated. Shapes: (N, H, W) -> (N, H/f, W/f)."""
        if self.factor == 1:
            return images
        parts = [np.zeros((0, self.base.height, self.base.width), dtype=images.dtype)]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            values = torch.from_numpy(encode(images[start : start + _IMAGES_AT_ONCE], self.full))
            parts.append(decode(self.shrunk(values).numpy(), self.base))
        return np.concatenate(parts)

    def shrunk(self, values: Tensor) -> Tensor:
        """Average blocks of pixels of values (N, H, W)."""
        margins = (
            0,
            self.base.width * self.factor - self.full.width,
            0,
            self.base.height * self.factor - self.full.height,
        )
        padded = functional.pad(values[:, None], margins, mode="replicate")
        averaged: Tensor = functional.avg_pool2d(padded, self.factor)[:, 0]
        return averaged

    def records(self, records: TrainingRecords) -> TrainingRecords:
        """Return the records in the base's size."""
        return TrainingRecords(self.shrink(records.images), records.labels, records.persons)


class Upsampler(nn.Module):
    """Bilinear enlargement plus a small residual network that works on the base's grid.

    Shapes: (N, h, w) -> (N, H, W), values in [-0.5, 0.5]. Starts as the plain enlargement.
    """

    def __init__(self, scale: Scale, *, features: int = 32) -> None:
        super().__init__()
        self._scale = scale
        self.enter = nn.Conv2d(1, features, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(features, features, 3, padding=1) for _ in range(3))
        self.leave = nn.Conv2d(features, scale.factor**2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]  # this layer has a bias

    def forward(self, images: Tensor) -> Tensor:
        """Return enlarged images."""
        factor, full = self._scale.factor, self._scale.full
        values = images[:, None]
        smooth = functional.interpolate(
            values, scale_factor=float(factor), mode="bilinear", align_corners=False
        )
        hidden = functional.silu(self.enter(values))
        for layer in self.middle:
            hidden = hidden + layer(functional.silu(hidden))
        detail = functional.pixel_shuffle(self.leave(functional.silu(hidden)), factor)
        enlarged: Tensor = (smooth + detail)[:, 0, : full.height, : full.width]
        return enlarged

    @torch.no_grad()
    def enlarge(self, images: NDArray[np.integer]) -> NDArray[np.integer]:
        """Enlarge integer images of the base's size."""
        full = self._scale.full
        parts = [np.zeros((0, full.height, full.width), dtype=images.dtype)]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            values = encode(images[start : start + _IMAGES_AT_ONCE], self._scale.base)
            enlarged = self(torch.from_numpy(values).to(self.enter.weight.device))
            parts.append(decode(enlarged.cpu().numpy(), full))
        return np.concatenate(parts)


def train_upsampler(
    upsampler: Upsampler,
    pictures: NDArray[np.float32],
    *,
    scale: Scale,
    steps: int,
    rng: np.random.Generator,
    progress: Callable[[int], None],
) -> None:
    """Learn to undo shrinking on public pictures (N, H, W) of the full size, in [-0.5, 0.5].

    The absolute error keeps edges sharper than the squared one.
    """
    full = torch.from_numpy(pictures).to(upsampler.enter.weight.device)
    adam = torch.optim.Adam(upsampler.parameters(), lr=_RATE)
    for step in range(steps):
        chosen = full[torch.from_numpy(rng.integers(len(full), size=min(_BATCH, len(full))))]
        for group in adam.param_groups:
            group["lr"] = _RATE * (1.0 - step / steps)
        adam.zero_grad()
        loss = (upsampler(scale.shrunk(chosen)) - chosen).abs().mean()
        loss.backward()
        adam.step()
        progress(step + 1)
