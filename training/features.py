"""Fixed features of images: wavelet scattering, normalised image by image.

Nothing here is learnt and nothing looks at other images: wavelets, windows and normalisation depend
on the declared height and width alone, so that features cost no budget.

The transform averages the modulus of Morlet wavelet responses, and of wavelet responses of these,
over windows of 2^J pixels (Bruna and Mallat 2013, arXiv:1203.1513; wavelets as in Andreux et al.
2020, arXiv:1812.11214). A linear classifier on it under DP-SGD is hard to beat without public data
(Tramèr and Boneh 2021, arXiv:2011.11660), who also propose the normalisation by groups.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from privacy.manifests import DatasetSchema
from training.records import encode

_LONGEST_SIDE = 64  # pixels; longer images are averaged down
_WINDOWS = 8  # about so many along the shorter side
_IMAGES_AT_ONCE = 128
_STABILITY = 1e-3  # in units of full scale; keeps an empty image from becoming pure rounding
# A wavelet of scale j has standard deviation 0.8·2^j pixels along its wave and 1.6·2^j beside it,
# and turns by 3π/4 / 2^j per pixel; kernels end 3·2^j pixels from their middle.
_WIDTH, _SLANT, _FREQUENCY, _REACH = 0.8, 0.5, 0.75 * np.pi, 3


@dataclass(frozen=True)
class Layout:
    """Sizes of the transform, from the declared size of an image alone."""

    height: int
    width: int
    scales: int
    angles: int = 4

    @classmethod
    def of(cls, schema: DatasetSchema) -> "Layout":
        """Return the layout for images of the declared size."""
        shrink = max(1.0, max(schema.height, schema.width) / _LONGEST_SIDE)
        height, width = max(4, round(schema.height / shrink)), max(4, round(schema.width / shrink))
        scales = max(1, round(np.log2(min(height, width) / _WINDOWS)))
        return cls(height=height, width=width, scales=int(scales))

    @property
    def windows(self) -> tuple[int, int]:
        """Averaging windows down and across."""
        side = 2**self.scales
        return -(-self.height // side), -(-self.width // side)

    @property
    def channels(self) -> int:
        """Scattering paths: the mean, one per scale and angle, one per pair of these."""
        pairs = self.scales * (self.scales - 1) // 2
        return 1 + self.angles * self.scales + self.angles**2 * pairs

    @property
    def size(self) -> int:
        """Features of an image."""
        return self.channels * self.windows[0] * self.windows[1]


def features(
    images: NDArray[np.integer], schema: DatasetSchema, layout: Layout | None = None
) -> NDArray[np.float32]:
    """Return the normalised scattering of images; no row has an L2 norm above 1.

    Shapes: (N, H, W) integers -> (N, `layout.size`).
    """
    layout = layout or Layout.of(schema)
    result = np.empty((len(images), layout.size), dtype=np.float32)
    with torch.no_grad():
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            block = torch.from_numpy(encode(images[start : start + _IMAGES_AT_ONCE], schema))
            paths = scattering(block, layout)
            result[start : start + len(block)] = normalised(paths, layout.angles).numpy()
    return result


def normalised(paths: Tensor, angles: int) -> Tensor:
    """Scale paths to a common size: window means by the declared range, the others in each image.

    Each set of `angles` paths is centred and scaled within its image, which makes contrast and
    exposure matter less; window means keep them, for labels that they tell.
    Shapes: (N, channels, rows, columns) -> (N, channels·rows·columns), of L2 norm at most 1.
    """
    count, channels, rows, columns = paths.shape
    sets = paths[:, 1:].reshape(count, -1, angles * rows * columns)
    centred = sets - sets.mean(dim=2, keepdim=True)
    scaled = centred / (centred.square().mean(dim=2, keepdim=True) + _STABILITY**2).sqrt()
    parts = [paths[:, :1].clamp(-0.5, 0.5) * 2, scaled]
    joined = torch.cat([part.flatten(1) for part in parts], dim=1)
    return joined / float(np.sqrt(channels * rows * columns))


def scattering(images: Tensor, layout: Layout) -> Tensor:
    """Return the scattering paths of images in units of full scale; mid grey is 0.

    Shapes: (N, H, W) -> (N, channels, rows, columns): the mean, then first-order paths by scale,
    then second-order paths by pair of scales. Source: equations 11 to 13 of arXiv:1203.1513.
    """
    plane = images[:, None]
    if plane.shape[2:] != (layout.height, layout.width):
        plane = functional.interpolate(plane, size=(layout.height, layout.width), mode="area")
    first, second = [], []
    for scale in range(layout.scales):
        modulus = _modulus(plane, scale=scale, step=2**scale, angles=layout.angles)
        first.append(_averaged(modulus, layout, step=2**scale))
        inner = modulus.flatten(0, 1)[:, None]  # every path is an image of its own
        for coarser in range(scale + 1, layout.scales):
            # The inner image has only every 2^scale-th pixel, so that its wavelets are that much
            # shorter.
            step = 2 ** (coarser - scale)
            again = _modulus(inner, scale=coarser - scale, step=step, angles=layout.angles)
            again = again.reshape(len(images), -1, *again.shape[2:])
            second.append(_averaged(again, layout, step=2**coarser))
    return torch.cat([_averaged(plane, layout, step=1), *first, *second], dim=1)


def _modulus(images: Tensor, *, scale: int, step: int, angles: int) -> Tensor:
    """Return the modulus of wavelet responses at every `step`-th pixel.

    Shapes: (N, 1, H, W) -> (N, angles, H / step, W / step), rounded up.
    """
    reach = _REACH * 2**scale
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    both = functional.conv2d(padded, _wavelets(scale, angles), stride=step)
    return torch.hypot(both[:, :angles], both[:, angles:])


def _averaged(values: Tensor, layout: Layout, *, step: int) -> Tensor:
    """Average over windows; `values` hold every `step`-th pixel of the plane."""
    rows = _windows(layout.height, layout.windows[0], layout.scales, step)
    columns = _windows(layout.width, layout.windows[1], layout.scales, step)
    return rows @ values @ columns.T


@lru_cache(maxsize=64)
def _windows(length: int, count: int, scales: int, step: int) -> Tensor:
    """Return Gaussian windows over every `step`-th of `length` pixels (count, ceil(length/step))."""
    centres = (np.arange(count) + 0.5) * length / count - 0.5
    away = np.arange(0, length, step) - centres[:, None]
    bells = np.exp(-0.5 * (away / (_WIDTH * 2.0 ** (scales - 1))) ** 2)
    return torch.from_numpy((bells / bells.sum(axis=1, keepdims=True)).astype(np.float32))


@lru_cache(maxsize=16)
def _wavelets(scale: int, angles: int) -> Tensor:
    """Return real, then imaginary parts of Morlet wavelets with zero mean (2·angles, 1, K, K)."""
    reach, sigma = _REACH * 2**scale, _WIDTH * 2.0**scale
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernels = []
    for turn in np.pi * np.arange(angles) / angles:
        along, beside = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        bell = np.exp(-(along**2 + (_SLANT * beside) ** 2) / (2 * sigma**2))
        wave = bell * np.exp(1j * _FREQUENCY / 2.0**scale * along)
        wave -= bell * wave.sum() / bell.sum()
        kernels.append(wave * _SLANT / (2 * np.pi * sigma**2))
    stacked = np.stack(kernels)
    both = np.concatenate([stacked.real, stacked.imag])[:, None]
    return torch.from_numpy(both.astype(np.float32))
