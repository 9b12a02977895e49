"""Networks whose output for one record depends on that record alone (no batch norm anywhere)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_GROUPS = 8
_SMALLEST_GRID = 16


def unshuffle_factor(height: int, width: int) -> int:
    """Return the side of the pixel blocks that become channels, so that about 16 blocks remain."""
    return max(1, int(2 ** round(math.log2(max(min(height, width), 1) / _SMALLEST_GRID))))


class ConditionalUnet(nn.Module):
    """A two-level U-Net over blocks of pixels; noise level and label scale and shift its features.

    Shapes: images (N, channels, H, W), conditions (N, conditions) -> (N, 1, H, W). The last layer
    starts at zero, so that an untrained network adds nothing.
    """

    def __init__(
        self, *, height: int, width: int, channels: int, conditions: int, features: int
    ) -> None:
        super().__init__()
        self.factor = unshuffle_factor(height, width)
        self.height, self.width = height, width
        multiple = 2 * self.factor
        self.padding = (0, -width % multiple, 0, -height % multiple)  # right and bottom
        block = self.factor**2
        self.embed = nn.Linear(conditions, 2 * features)
        self.enter = nn.Conv2d(channels * block, features, 3, padding=1)
        self.outer = _Block(features, 2 * features)
        self.down = nn.Conv2d(features, features, 3, stride=2, padding=1)
        self.inner = _Block(features, 2 * features)
        self.innermost = _Block(features, 2 * features)
        self.merge = nn.Conv2d(2 * features, features, 1)
        self.final = _Block(features, 2 * features)
        self.norm = nn.GroupNorm(_GROUPS, features)
        self.leave = nn.Conv2d(features, block, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]  # this layer has a bias

    def forward(self, images: Tensor, conditions: Tensor) -> Tensor:
        """Return what is added to the Gaussian denoiser, in units of its expected error."""
        padded = functional.pad(images, self.padding, mode="replicate")
        blocks = functional.pixel_unshuffle(padded, self.factor)  # (N, C·f², H/f, W/f)
        embedded = functional.silu(self.embed(conditions))
        wide = self.outer(self.enter(blocks), embedded)
        deep = self.innermost(self.inner(self.down(wide), embedded), embedded)
        up = functional.interpolate(deep, scale_factor=2.0, mode="nearest")
        features = self.final(self.merge(torch.cat([wide, up], dim=1)), embedded)
        result = self.leave(functional.silu(self.norm(features)))
        pixels: Tensor = functional.pixel_shuffle(result, self.factor)
        return pixels[:, :, : self.height, : self.width]


class _Block(nn.Module):
    """A residual block: norm, scale and shift, convolution, twice."""

    def __init__(self, features: int, conditions: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.GroupNorm(_GROUPS, features), nn.GroupNorm(_GROUPS, features)
        self.conv_1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv_2 = nn.Conv2d(features, features, 3, padding=1)
        self.modulate = nn.Linear(conditions, 2 * features)

    def forward(self, values: Tensor, conditions: Tensor) -> Tensor:
        """Add the block's change to its input."""
        hidden = self.conv_1(functional.silu(self.norm_1(values)))
        scale, shift = self.modulate(conditions)[:, :, None, None].chunk(2, dim=1)
        hidden = self.norm_2(hidden) * (1 + scale) + shift
        change: Tensor = self.conv_2(functional.silu(hidden))
        return values + change
