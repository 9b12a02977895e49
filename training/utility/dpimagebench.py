"""The DPImageBench protocol: three deep networks on 60,000 synthetic images with uniform labels.

Gong et al. 2025, arXiv:2503.14681, as its published code has it: ResNet-110, WRN-28-10 and
ResNeXt-29 (8 x 64d), Adam at 0.01 with a factor 0.2 every 20 epochs, 50 epochs, batch 256, averaged
weights; the score is the mean over the three. One thing is changed on purpose: the epoch is chosen
on synthetic validation images only, never on private ones. The published choice looks at private
validation images 50 times per network without paying for it.

Deviations that stay: our own modules, and averaging that starts quickly (its weight grows to 0.9999).
A run on processors alone would take days; `most` epochs shorten it, and the document says so.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.utility.fitting import Progress, as_tensor, full_scale, predicted
from training.utility.light import seeded
from training.utility.material import Labelled

CLASSIFIERS = ("resnet", "wrn", "resnext")
HEADLINE = "mean"
EPOCHS = 50
_BATCH = 256
_LEARNING_RATE = 0.01
_DECAY_EVERY, _DECAY = 20, 0.2  # epochs, factor
_AVERAGING = 0.9999
_VALIDATION_SHARE = 1 / 12  # 5,000 of 60,000


@dataclass(frozen=True)
class Architecture:
    """Residual blocks per stage (three stages), channels of the first stage, and groups."""

    blocks: int
    channels: int
    groups: int = 1
    is_preactivated: bool = False
    is_bottleneck: bool = False


ARCHITECTURES = {
    "resnet": Architecture(blocks=18, channels=16),
    "wrn": Architecture(blocks=4, channels=160, is_preactivated=True),
    "resnext": Architecture(blocks=3, channels=256, groups=8, is_bottleneck=True),
}


class DeepNetwork(nn.Module):
    """A residual network with three stages, each halving the image after the first."""

    def __init__(self, architecture: Architecture, kinds: int) -> None:
        super().__init__()
        plain = 64 if architecture.is_bottleneck else 16
        layers: list[nn.Module] = [nn.Conv2d(1, plain, 3, padding=1, bias=False)]
        if not architecture.is_preactivated:
            layers += [nn.BatchNorm2d(plain), nn.ReLU(inplace=True)]
        block = _Bottleneck if architecture.is_bottleneck else _Block
        entering = plain
        for stage in range(3):
            leaving = architecture.channels * 2**stage
            for number in range(architecture.blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                layers.append(block(entering, leaving, stride, architecture))
                entering = leaving
        if architecture.is_preactivated:
            layers += [nn.BatchNorm2d(entering), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(entering, kinds)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits. Shapes: (N, 1, H, W) in [0, 1] -> (N, labels)."""
        logits: Tensor = self.head(self.body(images * 2 - 1))
        return logits


class _Block(nn.Module):
    """Two convolutions; norms stand before them (WRN) or after them (ResNet)."""

    def __init__(
        self, entering: int, leaving: int, stride: int, architecture: Architecture
    ) -> None:
        super().__init__()
        self.is_preactivated = architecture.is_preactivated
        self.conv_1 = nn.Conv2d(entering, leaving, 3, stride=stride, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(leaving, leaving, 3, padding=1, bias=False)
        self.norm_1 = nn.BatchNorm2d(entering if self.is_preactivated else leaving)
        self.norm_2 = nn.BatchNorm2d(leaving)
        self.shortcut = _shortcut(entering, leaving, stride, is_normed=not self.is_preactivated)

    def forward(self, values: Tensor) -> Tensor:
        """Add the block's change to its input."""
        if self.is_preactivated:
            entered = functional.relu(self.norm_1(values))
            hidden = self.conv_2(functional.relu(self.norm_2(self.conv_1(entered))))
            kept = values if isinstance(self.shortcut, nn.Identity) else self.shortcut(entered)
            return torch.as_tensor(kept + hidden)
        hidden = functional.relu(self.norm_1(self.conv_1(values)))
        return functional.relu(self.shortcut(values) + self.norm_2(self.conv_2(hidden)))


class _Bottleneck(nn.Module):
    """Narrow, grouped convolution, widen (Xie et al. 2017, arXiv:1611.05431)."""

    def __init__(
        self, entering: int, leaving: int, stride: int, architecture: Architecture
    ) -> None:
        super().__init__()
        inner = leaving // 4 * architecture.groups
        self.body = nn.Sequential(
            nn.Conv2d(entering, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(
                inner, inner, 3, stride=stride, padding=1, groups=architecture.groups, bias=False
            ),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, leaving, 1, bias=False),
            nn.BatchNorm2d(leaving),
        )
        self.shortcut = _shortcut(entering, leaving, stride, is_normed=True)

    def forward(self, values: Tensor) -> Tensor:
        """Add the block's change to its input."""
        return functional.relu(self.shortcut(values) + self.body(values))


def _shortcut(entering: int, leaving: int, stride: int, *, is_normed: bool) -> nn.Module:
    if stride == 1 and entering == leaving:
        return nn.Identity()
    convolution = nn.Conv2d(entering, leaving, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(leaving)) if is_normed else convolution


def fresh(name: str, shape: tuple[int, ...], *, kinds: int, seed: int) -> nn.Module:
    """Return the named network with its first weights; it takes images of any `shape`."""
    del shape
    with seeded(seed):
        return DeepNetwork(ARCHITECTURES[name], kinds)


def taught(
    name: str,
    data: Labelled,
    *,
    kinds: int,
    seed: int,
    device: torch.device,
    most: int | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Return the named network, taught for `most` epochs (default 50), its best epoch chosen.

    The last twelfth of a shuffled `data` chooses the epoch and is not learnt from.
    """
    network = fresh(name, data.images.shape[1:], kinds=kinds, seed=seed).to(device)
    with seeded(seed):
        return _taught(network, data, seed=seed, epochs=most or EPOCHS, progress=progress)


def steps_of(_name: str, data: Labelled, most: int | None = None) -> int:
    """Return the steps of a network taught on `data`: as published, epochs and not steps count."""
    rows = np.arange(len(data) - max(1, round(_VALIDATION_SHARE * len(data))))
    return (most or EPOCHS) * len(_batches(rows))


def _taught(
    network: nn.Module, data: Labelled, *, seed: int, epochs: int, progress: Progress | None
) -> nn.Module:
    device = next(network.parameters()).device
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data))
    held = max(1, round(_VALIDATION_SHARE * len(data)))
    validation, rows = data.take(order[-held:]), order[:-held]
    images = as_tensor(data.images, device)
    labels, scale = torch.from_numpy(data.labels).to(device), full_scale(data.images)
    averaged, best, best_accuracy = copy.deepcopy(network), copy.deepcopy(network), -1.0
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, _DECAY_EVERY, _DECAY)
    step = 0
    for epoch in range(epochs):
        network.train()
        for batch in _batches(rng.permutation(rows)):
            chosen = torch.from_numpy(batch).to(device)
            logits = network(images[chosen].float().div_(scale)[:, None])
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(logits, labels[chosen]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            _average(averaged, network, step)
        schedule.step()
        guessed = predicted(averaged, validation.images).argmax(axis=1)
        found = float(np.mean(guessed == validation.labels))
        if found > best_accuracy:
            best, best_accuracy = copy.deepcopy(averaged), found
        if progress is not None:
            progress(epoch + 1, epochs)
    return best.eval()


def _batches(rows: np.ndarray[Any, np.dtype[np.integer[Any]]]) -> Sequence[Any]:
    """Return full batches; a rest of one record, which batch norm cannot take, is left out."""
    parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    return [part for part in parts if len(part) > 1]


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, step: int) -> None:
    weight = min(_AVERAGING, (1 + step) / (10 + step))
    for mean, value in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - weight)
    for kept, fresh_value in zip(averaged.buffers(), network.buffers(), strict=True):
        kept.copy_(fresh_value)


def described() -> dict[str, Any]:
    """Return the protocol in words and numbers, for a document and for telling caches apart."""
    return {
        "classifiers": list(CLASSIFIERS),
        "optimizer": "Adam 0.01, StepLR(20, 0.2), batch 256, averaged weights 0.9999",
        "epochs": EPOCHS,
        "selection": "synthetic validation images (a twelfth), never private ones",
    }
