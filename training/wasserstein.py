"""Wasserstein distance by a critic: the critic, its loss and the generator's; one function each.

A critic f gives an image and its label one number. Among all functions whose slope is at most 1,
the one with the largest mean difference between real and synthetic images measures the Wasserstein
distance between them; the gradient penalty pulls f towards slope 1 between the two (Gulrajani et
al. 2017, arXiv:1704.00028, equation 3).

Images are in units of `scale`, and the distance between two of them is the root mean square over
pixels, so that scores and slopes mean the same at every size.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional

from training.networks import unshuffle_factor

CriticFunction = Callable[..., Tensor]
_SMALLEST_SQUARE = 1e-12
# The difference of two scores says nothing about their level. This pull puts zero halfway between
# real and synthetic, so that the sign of a score alone says which of the two the critic believes.
_LEVEL_WEIGHT = 0.1


class Critic(nn.Module):
    """Three convolutions over blocks of pixels and a linear score per label; no normalisation.

    Shapes: images (N, H, W), labels as one-hot rows (N, L) -> (N,). Score = (w + s e_label) · φ(x),
    the projection critic of Miyato and Koyama 2018, arXiv:1802.05637, with the label's part scaled
    by s = `label_share`: noise there makes patterns that differ between labels for no reason, and
    whoever trains on the images learns them.
    """

    def __init__(
        self, *, height: int, width: int, labels: int, features: int, label_share: float
    ) -> None:
        super().__init__()
        self.label_share = label_share
        self.factor = unshuffle_factor(height, width)
        self.padding = (0, -width % self.factor, 0, -height % self.factor)  # right and bottom
        grid = [_quarter(-(-side // self.factor)) for side in (height, width)]
        self.enter = nn.Conv2d(self.factor**2, features, 3, padding=1)
        self.down_1 = nn.Conv2d(features, 2 * features, 3, stride=2, padding=1)
        self.down_2 = nn.Conv2d(2 * features, 2 * features, 3, stride=2, padding=1)
        self.width = 2 * features * grid[0] * grid[1]
        self.score = nn.Linear(self.width, 1)
        self.per_label = nn.Linear(self.width, labels, bias=False)
        nn.init.zeros_(self.per_label.weight)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return how real each image looks for its label; higher = more real."""
        padded = functional.pad(smooth(images)[:, None], self.padding)
        hidden = functional.silu(self.enter(functional.pixel_unshuffle(padded, self.factor)))
        hidden = functional.silu(self.down_2(functional.silu(self.down_1(hidden)))).flatten(1)
        own = (self.per_label(hidden) * labels).sum(dim=1)
        scores: Tensor = self.score(hidden)[:, 0] + self.label_share * own
        return scores


def smooth(images: Tensor) -> Tensor:
    """Return images weighted with (1, 2, 1) / 4 over rows and columns. Shapes: (N, H, W).

    Noise in weights shows as chequered patterns in what a critic asks for and in what a generator
    adds. A fixed filter in both keeps them from exciting each other.
    """
    weights = images.new_tensor([0.25, 0.5, 0.25])
    padded = functional.pad(images[:, None], (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, (weights[:, None] * weights)[None, None])[:, 0]


def between(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Return points on the lines from synthetic to real images. Shapes: (N, H, W), (N,)."""
    return fake + share[:, None, None] * (real - fake)


def slope(critic: CriticFunction, images: Tensor, labels: Tensor) -> Tensor:
    """Return ‖∇f‖ at each image, per root-mean-square distance over pixels. Shapes: (N,).

    The gradient is itself differentiable, also inside `vmap`.
    """
    gradient: Tensor = grad(lambda x: critic(x, labels).sum())(images)
    pixels = images.shape[-2] * images.shape[-1]
    square = pixels * gradient.square().sum(dim=(1, 2))
    return torch.sqrt(square + _SMALLEST_SQUARE)


def critic_loss(
    critic: CriticFunction, drawn: tuple[Tensor, ...], *, penalty_weight: float
) -> Tensor:
    """Return f(fake) - f(real) + λ (‖∇f(x̂)‖ - 1)² and the pull on the level, per row (N,).

    `drawn`: real (N, H, W), fake (N, H, W), x̂ between them (N, H, W), one-hot labels (N, L). A
    row's loss depends on that row alone, and every real pixel that the loss sees is in it.
    """
    real, fake, middle, labels = drawn
    scores = critic(torch.cat([real, fake]), torch.cat([labels, labels]))
    of_real, of_fake = scores.chunk(2)
    penalty = torch.square(slope(critic, middle, labels) - 1.0)
    level = torch.square(of_real + of_fake)
    return of_fake - of_real + penalty_weight * penalty + _LEVEL_WEIGHT * level


def accuracy_on_fakes(scores: Tensor) -> float:
    """Return the share of synthetic images that the critic takes for synthetic (0 to 1)."""
    return float((scores < 0).float().mean())


def _quarter(side: int) -> int:
    """Return the side of a grid after two convolutions of stride 2."""
    return (side + 3) // 4
