"""Diffusion around a Gaussian: noise levels, denoiser, loss and sampler; one function per equation.

The denoiser is D(x; σ) = G(x; σ) + c(σ) · F(x, G; σ). G is the exact denoiser of the
class-conditional Gaussian (its posterior mean, a Wiener filter), c(σ) the error that G is expected
to make, and F a network that starts at zero. So an untrained model draws exactly the Gaussian's
images, and all that F learns is what a Gaussian cannot say: edges that move, shapes that vary.

`sigma` here is the diffusion's noise level, in units of `scale`; it has nothing to do with privacy
noise. Karras et al. 2022, arXiv:2206.00364 (preconditioning, equation 7; loss, equation 8).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privacy.manifests import DatasetSchema
from training.class_gaussian import SIDES, ClassGaussian

CHANNELS = 2
_SIGMA_FEATURES = 8


@dataclass(frozen=True)
class NoiseLevels:
    """Noise levels in units of the typical deviation of a pixel: training range and steps."""

    largest: float = 2.0
    smallest: float = 0.1

    def draw(self, count: int, *, generator: torch.Generator) -> Tensor:
        """Draw levels with uniform logarithm. Shapes: (count,)."""
        share = torch.rand(count, generator=generator)
        return self.smallest * (self.largest / self.smallest) ** share

    def schedule(self, steps: int) -> list[float]:
        """Return `steps` falling levels and a final 0; Karras et al. 2022, equation 5, ρ = 3."""
        ramp = np.linspace(self.largest ** (1 / 3), self.smallest ** (1 / 3), steps) ** 3
        return [*ramp.tolist(), 0.0]


class GaussianDenoiser(nn.Module):
    """The exact denoiser of a class-conditional Gaussian, in pixels divided by `scale`."""

    def __init__(self, model: ClassGaussian, *, schema: DatasetSchema) -> None:
        super().__init__()
        height, width = schema.height, schema.width
        variance = model.residual_variance + (model.components**2 * model.variances[:, None]).sum(0)
        self.scale = float(np.sqrt(max(variance.mean(), 1e-8)))
        self.rows = self._kept("rows", _cosines(height))
        self.columns = self._kept("columns", _cosines(width))
        self.means = self._kept("means", model.means / self.scale)  # (L, S, D)
        self.log_weights = self._kept("log_weights", np.log(model.side_weights()))  # (L, S)
        self.components = self._kept("components", model.components)  # (R, D)
        inside = (model.components**2 * model.residual_variance).sum(1)
        variances = (model.variances + inside) / self.scale**2
        self.inside = self._kept("inside", variances)  # (R,)
        self.outside = self._kept("outside", model.residual_variance / self.scale**2)  # (D,)
        self.shape = (height, width)

    def _kept(self, name: str, values: NDArray[np.floating]) -> Tensor:
        """Keep values as a buffer, which follows the module to its device."""
        tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        self.register_buffer(name, tensor, persistent=False)
        return tensor

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Return E[image | noisy image, label]. Shapes: (N, H, W), (N,), (N,) -> (N, H, W)."""
        coefficients = (self.rows @ noisy @ self.columns.T).flatten(1)
        square = sigma[:, None] ** 2
        inside_gain = self.inside / (self.inside + square)
        outside_gain = self.outside / (self.outside + square)
        means, logs = [], []
        for side in range(SIDES):
            mean = self.means[labels, side]
            deviation = coefficients - mean
            inner = deviation @ self.components.T
            outer = deviation - inner @ self.components
            means.append(mean + (inside_gain * inner) @ self.components + outside_gain * outer)
            energy = (inner**2 / (self.inside + square)).sum(1)
            energy = energy + (outer**2 / (self.outside + square)).sum(1)
            logs.append(self.log_weights[labels, side] - 0.5 * energy)
        share = torch.softmax(torch.stack(logs), dim=0)[..., None]
        posterior = (share * torch.stack(means)).sum(0)
        image: Tensor = self.rows.T @ posterior.view(-1, *self.shape) @ self.columns
        return image

    def expected_error(self, sigma: Tensor) -> Tensor:
        """Return the root mean square error of this denoiser on its own Gaussian. Shapes: (N,)."""
        square = sigma[:, None] ** 2
        inside = (self.inside * square / (self.inside + square)).sum(1)
        outside = (self.outside * square / (self.outside + square)).sum(1)
        return torch.sqrt((inside + outside) / len(self.outside))


def condition_count(label_count: int) -> int:
    """Return the length of a condition vector."""
    return label_count + 2 * _SIGMA_FEATURES


def conditions(sigma: Tensor, labels: Tensor, *, label_count: int) -> Tensor:
    """Return label and noise level as numbers for a network. Shapes: (N,), (N,) -> (N, C)."""
    frequencies = torch.arange(1, _SIGMA_FEATURES + 1, device=sigma.device) * 0.5
    angles = torch.log(sigma)[:, None] * frequencies
    hot = torch.nn.functional.one_hot(labels, label_count).to(sigma.dtype)
    return torch.cat([hot, torch.sin(angles), torch.cos(angles)], dim=1)


def network_inputs(
    noisy: Tensor, sigma: Tensor, labels: Tensor, *, gaussian: GaussianDenoiser
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Gaussian's estimate (N, H, W), the input (N, 2, H, W), and c(σ) (N, 1, 1)."""
    estimate = gaussian(noisy, sigma, labels)
    innovation = (noisy - estimate) / sigma[:, None, None]
    error = gaussian.expected_error(sigma)[:, None, None]
    return estimate, torch.stack([estimate, innovation], dim=1), error


def denoise(
    network: nn.Module,
    noisy: Tensor,
    sigma: Tensor,
    labels: Tensor,
    *,
    gaussian: GaussianDenoiser,
) -> Tensor:
    """Return D(x; σ), the module docstring's equation. Shapes: (N, H, W) -> (N, H, W)."""
    estimate, inputs, error = network_inputs(noisy, sigma, labels, gaussian=gaussian)
    condition = conditions(sigma, labels, label_count=len(gaussian.means))
    clean: Tensor = estimate + error * network(_last(inputs), condition)[:, 0]
    return clean


@torch.no_grad()
def examples(
    images: Tensor, labels: Tensor, *, gaussian: GaussianDenoiser, sigma: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a network's input (N, 2, H, W), conditions (N, C), and what it should say (N, H, W).

    `images` are in units of the Gaussian's scale. The result is on the Gaussian's device.
    """
    device = gaussian.rows.device
    images, labels = images.to(device), labels.to(device)
    sigma, noise = sigma.to(device), noise.to(device)
    noisy = images + sigma[:, None, None] * noise
    estimate, inputs, error = network_inputs(noisy, sigma, labels, gaussian=gaussian)
    condition = conditions(sigma, labels, label_count=len(gaussian.means))
    return inputs, condition, (images - estimate) / error


def loss(network: Callable[..., Tensor], drawn: tuple[Tensor, ...]) -> Tensor:
    """Return each example's squared error over c(σ)²; an untrained network has about 1 (N,)."""
    inputs, condition, target = drawn
    return torch.square(network(inputs, condition)[:, 0] - target).mean(dim=(1, 2))


@torch.no_grad()
def sample(
    network: nn.Module,
    start: Tensor,
    labels: Tensor,
    *,
    gaussian: GaussianDenoiser,
    schedule: list[float],
    generator: torch.Generator,
    fresh_noise: float = 0.0,
) -> Tensor:
    """Walk from the Gaussian's images `start` plus noise to images, by Euler steps (N, H, W).

    Song et al. 2021, arXiv:2010.02502, equation 12: x' = D + (σ'/σ)(√(1 - η²)(x - D) + η·σ·z), with
    η = `fresh_noise` and z drawn anew. Adding the largest noise to draws of the Gaussian is the
    right start wherever the Gaussian is a good description at that noise.
    """
    device, held = gaussian.rows.device, (1.0 - fresh_noise**2) ** 0.5
    labels = labels.to(device)
    # Drawn on the processor, so that a seed means the same images on every machine.
    values = (start + schedule[0] * torch.randn(start.shape, generator=generator)).to(device)
    for here, there in pairwise(schedule):
        sigma = torch.full((len(values),), here, device=device)
        clean = denoise(network, values, sigma, labels, gaussian=gaussian)
        step = held * (values - clean)
        if fresh_noise > 0 and there > 0:
            fresh = torch.randn(values.shape, generator=generator).to(device)
            step = step + fresh_noise * here * fresh
        values = clean + (there / here) * step
    return values.cpu()


def _last(images: Tensor) -> Tensor:
    # Convolutions on a CPU are two to six times faster with the channels last in memory.
    return images.contiguous(memory_format=torch.channels_last)


def _cosines(size: int) -> NDArray[np.float64]:
    """Return the matrix of the orthonormal cosine transform (DCT-II). Shapes: (size, size)."""
    place = np.arange(size)
    matrix = np.cos(np.pi * (place[None] + 0.5) * place[:, None] / size) * np.sqrt(2.0 / size)
    matrix[0] /= np.sqrt(2.0)
    return np.asarray(matrix)
