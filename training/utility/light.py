"""The light protocol: three classifiers of different kinds that two processor cores can teach.

A small convolutional network on pixels, a perceptron on pixels, and a linear classifier on
histograms of oriented gradients. What all three agree on does not hang on one architecture.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from training.utility.fitting import Progress, Recipe, teach
from training.utility.hog import histograms, shrunk
from training.utility.material import Labelled

# The convolutional network sees some 60,000 small images ten times, as published students do; of large
# images there are seldom as many, and a step takes longer.
RECIPES = {
    "cnn": Recipe(steps=5000),
    "mlp": Recipe(steps=3000, shift=1 / 28),
    "hog_linear": Recipe(learning_rate=1e-2, weight_decay=1e-5, shift=1 / 28),
}
CLASSIFIERS = tuple(RECIPES)
HEADLINE = "cnn"
_LARGE_CNN = Recipe(steps=1250)
_SMALL_SIDE = 40  # pixels; above it, the convolutional network has a third convolution
_LONGEST_SIDE = 64  # pixels that the convolutional network looks at
_COARSE_SIDE = 32  # pixels that the perceptron looks at
_GROUPS = 8


class SmallCnn(nn.Module):
    """Two convolutions (three above 40 pixels, where the first one halves the image) and a head.

    Pooling comes before the norm, which saves most of its time and changes little.
    """

    def __init__(self, side: int, kinds: int) -> None:
        super().__init__()
        is_large = side > _SMALL_SIDE
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 5, stride=2 if is_large else 1, padding=2),
            nn.MaxPool2d(2),
            nn.GroupNorm(_GROUPS, 32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.MaxPool2d(2),
            nn.GroupNorm(_GROUPS, 64),
            nn.ReLU(),
            _third_convolution() if is_large else nn.Identity(),
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 49, 128),
            nn.ReLU(),
            nn.Linear(128, kinds),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub

    def forward(self, images: Tensor) -> Tensor:
        """Return logits. Shapes: (N, 1, H, W) in [0, 1] -> (N, labels)."""
        logits: Tensor = self.body(shrunk(images, _LONGEST_SIDE) - 0.5)
        return logits


def _third_convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.GroupNorm(_GROUPS, 64), nn.ReLU())


class Perceptron(nn.Module):
    """Two hidden layers on coarse pixels."""

    def __init__(self, height: int, width: int, kinds: int) -> None:
        super().__init__()
        inputs = shrunk(torch.zeros(1, 1, height, width), _COARSE_SIDE).numel()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs, 256),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, kinds),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits. Shapes: (N, 1, H, W) in [0, 1] -> (N, labels)."""
        logits: Tensor = self.body(shrunk(images, _COARSE_SIDE) - 0.5)
        return logits


class HogLinear(nn.Module):
    """Logistic regression on histograms of oriented gradients."""

    def __init__(self, height: int, width: int, kinds: int) -> None:
        super().__init__()
        self.linear = nn.Linear(histograms(torch.zeros(1, height, width)).shape[1], kinds)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits. Shapes: (N, 1, H, W) in [0, 1] -> (N, labels)."""
        logits: Tensor = self.linear(histograms(images[:, 0]))
        return logits


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
    """Return the named classifier, taught on `data` in at most `most` steps."""
    network = fresh(name, data.images.shape[1:], kinds=kinds, seed=seed).to(device)
    recipe = recipe_of(name, data.images.shape[1:], most)
    with seeded(seed):
        teach(network, data.images, data.labels, recipe=recipe, seed=seed, progress=progress)
    return network


def recipe_of(name: str, shape: tuple[int, ...], most: int | None = None) -> Recipe:
    """Return the named classifier's recipe for images of `shape` (height, width) in pixels.

    It is shortened to at most `most` steps.
    """
    is_large = name == HEADLINE and min(shape) > _SMALL_SIDE
    recipe = _LARGE_CNN if is_large else RECIPES[name]
    return recipe if most is None else recipe.at_most(most)


def steps_of(name: str, data: Labelled, most: int | None = None) -> int:
    """Return the steps that the named classifier is taught, which no size of a set changes."""
    return recipe_of(name, data.images.shape[1:], most).steps


def described() -> dict[str, Any]:
    """Return the protocol in words and numbers, for a document and for telling caches apart."""
    recipes = RECIPES | {f"cnn_above_{_SMALL_SIDE}_pixels": _LARGE_CNN}
    return {name: asdict(recipe) for name, recipe in recipes.items()}


def fresh(name: str, shape: tuple[int, ...], *, kinds: int, seed: int) -> nn.Module:
    """Return the named classifier with its first weights; `shape` is (height, width) in pixels."""
    height, width = shape
    with seeded(seed):
        if name == "cnn":
            return SmallCnn(min(height, width), kinds)
        kind = Perceptron if name == "mlp" else HogLinear
        return kind(height, width, kinds)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make torch's own draws (first weights, dropout) repeatable inside the block."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
