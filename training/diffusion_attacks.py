"""What a diffusion network says about a record when asked directly: attack scores and gradients.

All of it is asked at noise that depends on a seed alone and is the same for every record, so that
records differ in the answer only. `sigma` is the diffusion's noise level and eps(x; σ) = (x - D(x; σ)) / σ
what the network takes for noise. Higher scores = more likely a member.

- `diffusion_loss`: minus the training loss (Matsumoto et al. 2023, arXiv:2302.03262);
- `pia`: proximal initialisation, how far eps(x + σ e; σ) is from e, with e what the network itself sees
  at the smallest noise (Kong et al. 2023, arXiv:2305.18355);
- `secmi`: how far a step towards noise and back leads away (Duan et al. 2023, arXiv:2302.01316);
- `score_norm`: minus the size of eps at the record itself (one query; Rubio et al. 2025, SimA).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training import diffusion as equations
from training.gradient_sizes import GradientSizes
from training.randomness import reproducible_torch

LEVELS = (0.1, 0.3, 0.8)
DRAWS = 2
_BACK_FROM = 0.5
_NORM_ORDER = 4
_SMALLEST = 1e-12

Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Questions:
    """A network, the Gaussian that it refines, and the noise that it is asked at (levels, H, W)."""

    network: nn.Module
    gaussian: equations.GaussianDenoiser
    noise: Tensor

    @classmethod
    def of(
        cls, network: nn.Module, gaussian: equations.GaussianDenoiser, *, seed: int
    ) -> "Questions":
        """Draw the noise bank from a seed."""
        shape = (len(LEVELS) * DRAWS, *gaussian.shape)
        return cls(network, gaussian, torch.randn(shape, generator=reproducible_torch(seed)))

    @torch.no_grad()
    def scores(self, images: Tensor, labels: Tensor) -> Scores:
        """Return scores per record; images in units of the Gaussian's scale (N, H, W) -> (N,)."""
        device = self.gaussian.rows.device
        here, own = images.to(device), labels.to(device)
        return {
            "diffusion_loss": -self._loss(images, labels),
            **{name: _plain(-v) for name, v in self._errors(here, own).items()},
        }

    def gradients(self, images: Tensor, labels: Tensor) -> NDArray[np.float64]:
        """Return log gradient norms: their mean over levels, then level by level every layer's.

        Shapes: (N, H, W), (N,) -> (N, 1 + levels · (1 + layers)).
        """
        sizes = GradientSizes(self.network, equations.loss)
        parts = []
        for index, level in enumerate(LEVELS):
            bank = self.noise[index * DRAWS : (index + 1) * DRAWS]
            repeated = images.repeat_interleave(DRAWS, dim=0)
            drawn = equations.examples(
                repeated,
                labels.repeat_interleave(DRAWS),
                gaussian=self.gaussian,
                sigma=torch.full((len(repeated),), level),
                noise=bank.repeat(len(images), 1, 1),
            )
            parts.append(sizes(drawn, draws=DRAWS))
        whole = np.stack([part[:, 0] for part in parts]).mean(axis=0)
        return np.concatenate([whole[:, None], *parts], axis=1)

    def _loss(self, images: Tensor, labels: Tensor) -> NDArray[np.float64]:
        total = np.zeros(len(images))
        for noise, level in zip(self.noise, np.repeat(LEVELS, DRAWS), strict=True):
            drawn = equations.examples(
                images,
                labels,
                gaussian=self.gaussian,
                sigma=torch.full((len(images),), float(level)),
                noise=noise.expand(len(images), -1, -1),
            )
            total += _plain(equations.loss(self.network, drawn))
        return total / len(self.noise)

    def _errors(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        smallest, middle, largest = LEVELS
        clean = self._denoised(images, smallest, labels)
        seen = (images - clean) / smallest
        size = seen.square().mean(dim=(1, 2), keepdim=True).sqrt()
        start = seen / (size + _SMALLEST)
        proximal = torch.zeros(len(images), dtype=torch.float64, device=images.device)
        for level in (middle, largest):
            again = self._noise_seen(images + level * start, level, labels)
            proximal += (again - start).abs().pow(_NORM_ORDER).mean(dim=(1, 2)).double()
        # One step up to the middle level, one further and back again, all without fresh noise.
        up = clean + (middle / smallest) * (images - clean)
        further = self._step(up, middle, _BACK_FROM, labels)
        back = self._step(further, _BACK_FROM, middle, labels)
        itself = self._noise_seen(images, middle, labels)
        return {
            "pia": proximal.pow(1 / _NORM_ORDER),
            "secmi": (back - up).square().mean(dim=(1, 2)),
            "score_norm": itself.square().mean(dim=(1, 2)).sqrt(),
        }

    def _denoised(self, noisy: Tensor, level: float, labels: Tensor) -> Tensor:
        sigma = torch.full((len(noisy),), level, device=noisy.device)
        return equations.denoise(self.network, noisy, sigma, labels, gaussian=self.gaussian)

    def _noise_seen(self, noisy: Tensor, level: float, labels: Tensor) -> Tensor:
        return (noisy - self._denoised(noisy, level, labels)) / level

    def _step(self, noisy: Tensor, level: float, target: float, labels: Tensor) -> Tensor:
        clean = self._denoised(noisy, level, labels)
        return clean + (target / level) * (noisy - clean)


def _plain(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.double().cpu().numpy())
