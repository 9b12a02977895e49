"""A generator that corrects what is drawn from a Gaussian; at its first weights it adds nothing.

Networks see an image as its difference from its label's released mean, in units of the typical
deviation of a pixel. Both come from noised moments, so the units are public.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privacy.manifests import DatasetSchema
from training import wasserstein
from training.class_gaussian import ClassGaussian
from training.spectrum import to_images

Labels = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Corrector:
    """A class-conditional Gaussian, and the network that corrects its images.

    `texture` is the share of the Gaussian's fine grain that images start from (ratio).
    """

    model: ClassGaussian
    network: nn.Module
    schema: DatasetSchema
    texture: float
    start: ClassGaussian = field(init=False)
    centre: Tensor = field(init=False)  # (L, H, W), in pixel values
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        """Derive where images start from, and the units in which networks see them."""
        model, schema = self.model, self.schema
        grain = model.residual_variance * self.texture**2
        variance = model.residual_variance + (model.components**2 * model.variances[:, None]).sum(0)
        means = (model.side_weights()[..., None] * model.means).sum(axis=1)
        images = to_images(means, schema.height, schema.width)
        object.__setattr__(self, "start", replace(model, residual_variance=grain))
        object.__setattr__(self, "centre", torch.from_numpy(images.astype(np.float32)))
        object.__setattr__(self, "scale", float(np.sqrt(max(variance.mean(), 1e-8))))

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    def draw(
        self,
        labels: Labels,
        *,
        rng: np.random.Generator,
        generator: torch.Generator,
        network: nn.Module | None = None,
    ) -> Tensor:
        """Draw images as networks see them, with gradients. Shapes: (M,) -> (M, H, W)."""
        schema = self.schema
        drawn = to_images(self.start.draw(labels, rng), schema.height, schema.width)
        begin = self.scaled(drawn.astype(np.float32), labels)
        noise = torch.randn(begin.shape, generator=generator).to(begin.device)
        change = (network or self.network)(torch.stack([begin, noise], dim=1), self.hot(labels))
        images = begin + wasserstein.smooth(change[:, 0])
        centre = self.centre[labels].to(images.device)
        lowest, highest = (-0.5 - centre) / self.scale, (0.5 - centre) / self.scale
        # Pixels stop at black and white; gradients do not, so that a pixel can come back.
        return images - (images - images.clamp(lowest, highest)).detach()

    def scaled(self, values: NDArray[np.float32], labels: Labels) -> Tensor:
        """Return images (M, H, W) in pixel values as networks see them."""
        return ((torch.from_numpy(values) - self.centre[labels]) / self.scale).to(self.device)

    def unscaled(self, images: Tensor, labels: Labels) -> NDArray[np.float32]:
        """Undo `scaled`."""
        return np.asarray((images.detach().cpu() * self.scale + self.centre[labels]).numpy())

    def hot(self, labels: Labels) -> Tensor:
        """Return labels as one-hot rows (M, L)."""
        identity = torch.eye(len(self.schema.labels))
        index = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        return identity.index_select(0, index).to(self.device)
