"""Clipped sums of persons' gradients: what every way of computing them has in common, and two ways.

The *captured* way (`captured_gradients.py`) runs one forward and one backward pass for a whole
micro-batch and forms gradients layer by layer. The *vmap* way here lets `torch.func` differentiate
every line on its own: slower, but right for any network and any loss, also one that differentiates
inside, as a gradient penalty does. `choose` takes the first where it can show that both agree.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from training.devices import full_float32
from training.layer_gradients import at_least_float32, row_norms

Examples = tuple[Tensor, ...]
Parameters = Mapping[str, Tensor]
Way = Literal["auto", "captured", "vmap"]
Precision = Literal["float32", "bfloat16"]

# What all rounding together may add to a clipped gradient, as a share of its norm: 1.6e-5 from its
# norm (`row_norms`), some 2^-24 per person of a micro-batch from the sum.
_ROUNDING_SLACK = 1e-4
_AUTOMATIC_STABILITY = 0.01


class Objective(Protocol):
    """What is learnt: how records become examples, and an example's loss.

    A loss that differentiates the network itself says `differentiates_inside = True`.
    """

    def examples(self, records: NDArray[np.int64]) -> Examples:
        """Return tensors with one row per record; may draw noise. Repeated records follow in a row."""

    def loss(self, network: Callable[..., Tensor], examples: Examples) -> Tensor:
        """Return one loss per example (R,), each from its own row alone."""


@dataclass(frozen=True)
class Lines:
    """How the R rows of a micro-batch belong together: R / L draws make a line, lines make persons.

    `weights` (R,) is 1 / (rows of the row's person), and 0 for padding. `person` (L,) numbers the
    persons, each below L; None means that every line is a person of its own.
    """

    weights: Tensor
    count: int
    person: Tensor | None = None


@dataclass(frozen=True)
class Clip:
    """Bounds the L2 norm of a person's gradient; Bu et al. 2022, arXiv:2206.07136, if automatic."""

    max_grad_norm: float
    kind: Literal["plain", "automatic"]

    def factors(self, norms: Tensor) -> Tensor:
        """Return what to multiply gradients of these norms with; 0 where a norm is not finite."""
        limit = self.max_grad_norm * (1 - _ROUNDING_SLACK)
        if self.kind == "automatic":
            factors = limit / (norms + _AUTOMATIC_STABILITY)
        else:
            factors = limit / norms.clamp(min=limit)
        return torch.where(torch.isfinite(norms), factors, 0.0)

    def sum(self, gradients: Tensor) -> Tensor:
        """Clip every row, drop rows that are not finite, and sum. Shapes: (S, P) -> (P,)."""
        factors = self.factors(row_norms(gradients))
        if not bool(factors.all()):
            gradients, factors = gradients[factors > 0], factors[factors > 0]
        with full_float32(gradients.device):
            return factors.to(gradients.dtype) @ gradients


class PersonGradients(Protocol):
    """One way to compute the clipped sum of a micro-batch of whole persons."""

    name: str

    def clipped_sum(
        self, parameters: Parameters, examples: Examples, lines: Lines, *, clip: Clip
    ) -> Tensor:
        """Return the sum over persons of clipped gradients (P,), trainable parameters in order."""


class VmapGradients:
    """Differentiates every line on its own with `torch.func`; knows any layer and any loss."""

    name = "vmap"

    def __init__(
        self, network: nn.Module, objective: Objective, *, precision: Precision = "float32"
    ) -> None:
        self._network, self._objective, self.precision = network, objective, precision
        self._trainable = trainable(network)
        self._per_line = vmap(grad(self._loss), in_dims=(None, None, 0, 0), randomness="error")

    def clipped_sum(
        self, parameters: Parameters, examples: Examples, lines: Lines, *, clip: Clip
    ) -> Tensor:
        """Return the clipped sum; holds L gradients at once."""
        learnt = {k: parameters[k] for k in self._trainable}
        fixed = {k: v for k, v in parameters.items() if k not in learnt}
        *lined, weights = (
            part.reshape(lines.count, -1, *part.shape[1:]) for part in (*examples, lines.weights)
        )
        gradients = self._per_line(learnt, fixed, tuple(lined), weights)
        flat = torch.cat([at_least_float32(g).flatten(1) for g in gradients.values()], dim=1)
        return clip.sum(summed_by_person(flat, lines))

    def _loss(
        self, learnt: Parameters, fixed: Parameters, examples: Examples, weights: Tensor
    ) -> Tensor:
        network = with_parameters(self._network, {**fixed, **learnt})
        with lower_precision(weights.device, self.precision):
            losses = self._objective.loss(network, examples)
        return (losses * weights).sum()


def whole_gradient(
    network: nn.Module,
    objective: Objective,
    examples: Examples,
    weights: Tensor,
    *,
    precision: Precision = "float32",
) -> Tensor:
    """Return the gradient (P,) of the weighted sum of losses: of rows that are all one person's."""
    learnt = [p for p in network.parameters() if p.requires_grad]
    with lower_precision(weights.device, precision):
        losses = objective.loss(network, examples)
    gradients = torch.autograd.grad((losses * weights).sum(), learnt, allow_unused=True)
    return torch.cat(
        [
            at_least_float32(torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(gradients, learnt, strict=True)
        ]
    )


def summed_by_person(gradients: Tensor, lines: Lines) -> Tensor:
    """Sum lines of the same person; persons stand where their number is. Shapes: (L, P) -> (L, P)."""
    if lines.person is None:
        return gradients
    return torch.zeros_like(gradients).index_add_(0, lines.person, gradients)


def trainable(network: nn.Module) -> list[str]:
    """Return the names of the parameters that are learnt, in the order of every flat gradient."""
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


def with_parameters(network: nn.Module, parameters: Parameters) -> Callable[..., Tensor]:
    """Return the network as a function of its inputs, with these parameters in place of its own."""

    def run(*inputs: Tensor) -> Tensor:
        result: Tensor = functional_call(network, dict(parameters), inputs)
        return result

    return run


def lower_precision(
    device: torch.device, precision: Precision
) -> contextlib.AbstractContextManager[object]:
    """Return a context in which forward passes compute in `precision`."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
