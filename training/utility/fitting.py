"""Teach a torch network labels: plain, not private; its training images are synthetic or stay inside."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Progress = Callable[[int, int], None]  # steps done, steps in all
_PREDICTED_AT_ONCE = 1000


@dataclass(frozen=True)
class Recipe:
    """How a network is taught: in the same number of steps, whatever the set and its size.

    Were steps to grow with the set, a large synthetic set would be taught longer than a small real
    one, and a ratio of their scores would compare training times as well.
    """

    steps: int = 1250
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    shift: float = 1 / 14  # of a side, the largest random move of an image

    def at_most(self, steps: int) -> "Recipe":
        """Return a shorter recipe."""
        return replace(self, steps=min(self.steps, steps))


def as_tensor(images: NDArray[np.integer], device: torch.device) -> Tensor:
    """Return images as integers on the device; 16 bits keep their depth. Shapes: (N, H, W)."""
    kind = np.uint8 if images.dtype == np.uint8 else np.int32
    # "W" copies what must not be written to, such as images mapped from a file.
    return torch.from_numpy(np.require(images, dtype=kind, requirements=("C", "W"))).to(device)


def full_scale(images: NDArray[np.integer]) -> float:
    """Return the value of white, by the type alone."""
    return 255.0 if images.dtype == np.uint8 else 65535.0


def teach(
    network: nn.Module,
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    *,
    recipe: Recipe,
    seed: int,
    pools: Sequence[NDArray[np.integer]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Minimise cross-entropy by Adam with a cosine schedule; the network is changed in place.

    `pools` are sets of record indices that each fill an equal part of every batch (by default one
    pool of all records). Shapes: images (N, H, W), labels (N,).
    """
    device = next(network.parameters()).device
    records, scale = as_tensor(images, device), full_scale(images)
    truth = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)
    chosen = [np.arange(len(images))] if pools is None else list(pools)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.steps)
    parts = [_shuffled(pool, max(1, recipe.batch // len(chosen)), rng) for pool in chosen]
    network.train()
    for step in range(recipe.steps):
        rows = torch.from_numpy(np.concatenate([next(part) for part in parts])).to(device)
        batch = records[rows].float().div_(scale)
        moved = shifted(batch, round(recipe.shift * min(batch.shape[1:])), rng)
        loss = functional.cross_entropy(network(moved[:, None]), truth[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch types it so
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, recipe.steps)
    network.eval()


def shifted(images: Tensor, most: int, rng: np.random.Generator) -> Tensor:
    """Move each image by up to `most` pixels; edges are repeated. Shapes: (N, H, W)."""
    if most < 1:
        return images
    height, width = images.shape[1:]
    padded = functional.pad(images[:, None], (most, most, most, most), mode="replicate")[:, 0]
    moves = torch.from_numpy(rng.integers(0, 2 * most + 1, (2, len(images)))).to(images.device)
    rows = moves[0][:, None] + torch.arange(height, device=images.device)
    columns = moves[1][:, None] + torch.arange(width, device=images.device)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]]


@torch.no_grad()
def predicted(network: nn.Module, images: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the probabilities of each label. Shapes: (N, H, W) -> (N, labels)."""
    device = next(network.parameters()).device
    scale, parts = full_scale(images), []
    network.eval()
    for start in range(0, len(images), _PREDICTED_AT_ONCE):
        block = as_tensor(images[start : start + _PREDICTED_AT_ONCE], device).float().div_(scale)
        parts.append(functional.softmax(network(block[:, None]), dim=1).cpu().double().numpy())
    return np.concatenate(parts)


def _shuffled(
    pool: NDArray[np.integer], size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.integer]]:
    """Yield batches for ever, each record once per pass; a small pool fills a batch repeatedly."""
    waiting = np.empty(0, dtype=np.int64)
    while True:
        while len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(pool)])
        yield waiting[:size]
        waiting = waiting[size:]
