"""Learn to recognise a picture after it was cut, turned, recontrasted and noised: a copy embedding.

SimCLR (Chen et al. 2020, arXiv:2002.05709) with the entropy term of SSCD (Pizzi et al. 2022,
arXiv:2202.10261), on pictures of reference half a only. One of the two views is left almost as it is,
because that is how records are looked at; mirror images are left to the search. The network crosses to
`privacy.embedding` as plain arrays, batch norms folded into its convolutions.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from privacy.copy_network import SIDE, CopyNetwork
from privacy.embedding import FEWEST_PICTURES, averaged
from privacy.errors import InvalidParameter
from training.randomness import reproducible_torch

Progress = Callable[[int, int], None]

STEPS = 500
_CHANNELS = (16, 32, 64, 96)
_FEATURES = 64
_BATCH = 128
_RATE = 3e-3
_TEMPERATURE = 0.1
_ENTROPY = 2.0  # weight of the entropy term
_MOST_PICTURES = 10_000
_TURN = 25.0  # degrees
_CUT = 0.7  # smallest share of the side that a cut leaves
_GAMMA = 0.4  # largest logarithm
_NOISE = 0.07  # of the range


def learn_copy_network(
    images: NDArray[np.generic],
    *,
    seed: int,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> CopyNetwork:
    """Return a network learnt on `images` (pictures, height, width) alone.

    Raises: InvalidParameter where there are fewer than 200.
    """
    if len(images) < FEWEST_PICTURES:
        raise InvalidParameter(
            f"A copy embedding was refused: {len(images)} pictures of reference half a; "
            f"{FEWEST_PICTURES} are needed."
        )
    network = trained(images, seed=seed, steps=steps, progress=progress)
    return as_arrays(network, pictures=len(images))


def trained(
    images: NDArray[np.generic], *, seed: int, steps: int, progress: Progress | None = None
) -> nn.Sequential:
    """Return the torch network, for pictures (N, 1, 32, 32) of mean 0 and mean square 1."""
    stream = reproducible_torch(seed)
    pictures = _in_range(torch.from_numpy(averaged(_evenly(images, _MOST_PICTURES))))
    network = _build(stream)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_RATE, total_steps=steps)
    size = min(_BATCH, len(pictures))
    for step in range(steps):
        batch = pictures[torch.randperm(len(pictures), generator=stream)[:size]]
        views = torch.cat([_lightly(batch, stream), _strongly(batch, stream)])
        loss = _loss(functional.normalize(network(standardised(views)), dim=1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    return network.eval()


def _build(stream: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    inside = 1
    for outside in _CHANNELS:
        layers += [
            nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
        ]
        inside = outside
    cells = (SIDE >> len(_CHANNELS)) ** 2
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(cells * inside, _FEATURES))
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=stream)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def as_arrays(network: nn.Sequential, *, pictures: int) -> CopyNetwork:
    """Return the network as plain arrays, batch norms folded into the convolutions before them."""
    kernels, biases = [], []
    modules = list(network)
    for convolution, norm in pairwise(modules):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            spread = torch.sqrt(_given(norm.running_var) + norm.eps)
            gain = (norm.weight / spread).detach()
            kernels.append(
                _numbers((convolution.weight * gain[:, None, None, None]).permute(2, 3, 1, 0))
            )
            biases.append(_numbers(norm.bias - _given(norm.running_mean) * gain))
    last = modules[-1]
    if not isinstance(last, nn.Linear):
        raise TypeError(f"The last layer is {type(last).__name__}, not linear.")
    channels = kernels[-1].shape[3]
    side = round((last.in_features / channels) ** 0.5)
    readout = last.weight.reshape(-1, channels, side, side).permute(2, 3, 1, 0)
    return CopyNetwork(
        tuple(kernels),
        tuple(biases),
        _numbers(readout.reshape(last.in_features, -1)),
        _numbers(last.bias),
        pictures,
    )


def _given(values: Tensor | None) -> Tensor:
    if values is None:
        raise TypeError("A batch norm without running statistics was refused.")
    return values


def _numbers(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)


def _evenly(images: NDArray[np.generic], limit: int) -> NDArray[np.generic]:
    if len(images) <= limit:
        return images
    return images[np.linspace(0, len(images) - 1, limit).astype(np.int64)]


def _loss(features: Tensor) -> Tensor:
    """Contrast each picture with all others of the batch, and keep neighbours apart."""
    half = len(features) // 2
    likeness = features @ features.T
    itself = torch.eye(len(features), dtype=torch.bool)
    partner = torch.arange(len(features)).roll(half)
    contrast = functional.cross_entropy(
        likeness.masked_fill(itself, -torch.inf) / _TEMPERATURE, partner
    )
    known = itself | itself.roll(half, dims=1)
    nearest = likeness.masked_fill(known, -1.0).amax(dim=1)
    gap = torch.sqrt((2 - 2 * nearest).clamp(min=1e-6))
    return contrast - _ENTROPY * torch.log(gap).mean()


def standardised(views: Tensor) -> Tensor:
    """Return pictures (N, 1, H, W) with mean 0 and mean square 1."""
    centred = views - views.mean(dim=(2, 3), keepdim=True)
    spread = centred.square().mean(dim=(2, 3), keepdim=True).sqrt()
    return centred / spread.clamp(min=1e-3)


def _in_range(cells: Tensor) -> Tensor:
    """Return pictures (N, H, W) -> (N, 1, H, W), each spread over 0 to 1."""
    low, high = cells.amin(dim=(1, 2), keepdim=True), cells.amax(dim=(1, 2), keepdim=True)
    return ((cells - low) / (high - low).clamp(min=1e-6))[:, None]


def _lightly(batch: Tensor, stream: torch.Generator) -> Tensor:
    noise = torch.randn(batch.shape, generator=stream)
    return batch + 0.01 * noise


def _strongly(batch: Tensor, stream: torch.Generator) -> Tensor:
    """Cut, turn, recontrast, blur and noise each picture (N, 1, H, W) of range 0 to 1."""
    count = len(batch)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=stream)

    share = uniform(_CUT, 1.05)
    room = (1 - share).clamp(min=0.04)
    angle = torch.deg2rad(uniform(-_TURN, _TURN))
    cosine, sine = share * torch.cos(angle), share * torch.sin(angle)
    down, right = room * uniform(-1, 1), room * uniform(-1, 1)
    matrix = torch.stack([cosine, -sine, right, sine, cosine, down], dim=1).reshape(count, 2, 3)
    grid = functional.affine_grid(matrix, list(batch.shape), align_corners=False)
    moved = functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    each = (count, 1, 1, 1)
    moved = moved.clamp(1e-4, 1.0) ** torch.exp(uniform(-_GAMMA, _GAMMA)).reshape(each)
    soft = functional.avg_pool2d(functional.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blur = uniform(-0.5, 1.0).clamp(min=0.0).reshape(each)
    noise = torch.randn(moved.shape, generator=stream) * uniform(0.0, _NOISE).reshape(each)
    return (1 - blur) * moved + blur * soft + noise
