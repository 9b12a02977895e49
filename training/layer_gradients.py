"""Per-line gradients of one layer, from what went into it and the gradient of what came out.

A *line* is what is always averaged before the clip: the K noise draws of one image. Its K rows are
folded into the positions that a layer sums over anyway, so that K·B gradients never exist. R = K·L
rows belong to L lines, every line's first draw before any line's second: one draw of all lines is
then a block of memory that kernels read in place. T is the number of positions of a line (K × pixels
for a convolution).

Each kind of layer answers three questions: the gradient of every line (`gradients`); only its norm,
by the Gram matrices of inputs and output gradients (`ghost_squares`); and the sum of all lines'
gradients under given factors (`weighted`). The ghost trick: Li et al. 2022, arXiv:2110.05679,
section 4; mixed: Bu et al. 2022, arXiv:2205.10683.
"""

from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Named = dict[str, Tensor]

# Rounding of a float32 sum, as a share of the sum of its terms' norms. A gradient that is clipped
# without being held in memory is counted larger by it, so that rounding cannot exceed the clip.
ROUNDING = 1e-6

# A float32 sum of n squares errs by at most n · 2^-24 of itself, in whatever order it is formed: the
# norm of a block by 1.6e-5. One sum over all values would err by a thousandth at a million of them.
_BLOCK = 512


@dataclass(frozen=True)
class LayerUse:
    """One use of a layer: its input, the loss gradient of its output, and lines (R = K·lines)."""

    inputs: Tensor
    output_gradients: Tensor
    lines: int
    saved: tuple[Tensor, ...] = ()

    def only(self, keep: Tensor) -> "LayerUse":
        """Return the use by the lines numbered in `keep` alone."""
        return LayerUse(
            inputs=_by_draw(self.inputs, self.lines)[:, keep].flatten(0, 1),
            output_gradients=_by_draw(self.output_gradients, self.lines)[:, keep].flatten(0, 1),
            lines=len(keep),
        )


class LayerKind(ABC):
    """How one kind of layer forms gradients. Built for one module; raises nothing at run time."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.wanted = {k for k, p in module.named_parameters(recurse=False) if p.requires_grad}

    can_be_counted = False
    """Whether `ghost_squares`, `rounding` and `weighted` are there for the weight."""

    @abstractmethod
    def gradients(self, use: LayerUse, wanted: AbstractSet[str]) -> Named:
        """Return the gradients per line of the wanted parameters. Shapes: (L, *parameter.shape)."""

    def saved(self, output: Tensor) -> tuple[Tensor, ...]:
        """Return what the forward pass computed and `gradients` can use again, from its output."""
        del output
        return ()

    def saves_by_ghost(self, use: LayerUse, cost_of_memory: float) -> bool:
        """Tell whether Gram matrices cost less than writing and reading L weight gradients."""
        del use, cost_of_memory
        return False

    def ghost_squares(self, use: LayerUse) -> Tensor:
        """Return an upper bound of each line's squared weight-gradient norm, float64 (L,)."""
        raise NotImplementedError

    def rounding(self, use: LayerUse) -> Tensor:
        """Bound what rounding may add to the norm of each line in `weighted`, float64 (L,)."""
        raise NotImplementedError

    def weighted(self, use: LayerUse, factors: Tensor) -> Tensor:
        """Return the sum of the lines' weight gradients times `factors` (L,)."""
        raise NotImplementedError


def at_least_float32(values: Tensor) -> Tensor:
    """Return the values, in float32 if they came with fewer bits; integers as they are."""
    return values.float() if values.dtype in {torch.float16, torch.bfloat16} else values


def gram_squares(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Bound ‖Σ_t outputs_t ⊗ inputs_t‖² from above. Shapes: (L, T, d), (L, T, p) -> (L,) float64.

    The matrix itself will only exist summed over lines, with rounding in proportion to
    Σ_t ‖inputs_t‖·‖outputs_t‖ however much of that cancels; so that much is added to the norm.
    """
    size = (row_norms(inputs) * row_norms(outputs)).sum(dim=1)
    if inputs.shape[1] == 1:
        return (size * (1 + ROUNDING)).square()
    inputs, outputs = inputs.double(), outputs.double()
    grams = (inputs @ inputs.transpose(1, 2)) * (outputs @ outputs.transpose(1, 2))
    norms = grams.sum(dim=(1, 2)).clamp(min=0.0).sqrt()
    return (norms + ROUNDING * size).square()


def by_line(values: Tensor, lines: int) -> Tensor:
    """Give rows of one line an axis of their own. Shapes: (R, ...) -> (L, K, ...)."""
    return _by_draw(values, lines).transpose(0, 1)


def _by_draw(values: Tensor, lines: int) -> Tensor:
    """Shapes: (R, ...) -> (K, L, ...)."""
    return values.reshape(len(values) // lines, lines, *values.shape[1:])


def row_norms(matrix: Tensor) -> Tensor:
    """Return the L2 norm of every row, float64, within 1.6e-5 of it. Shapes: (..., P) -> (...).

    Blocks are summed in the type of `matrix`, and blocks' norms in float64: no order of values, and
    no number of them, can make a norm come out much smaller than it is.
    """
    blocks = matrix.shape[-1] // _BLOCK
    whole = matrix[..., : blocks * _BLOCK].reshape(*matrix.shape[:-1], blocks, _BLOCK)
    rest = matrix[..., blocks * _BLOCK :]
    norms = torch.linalg.vector_norm(whole, dim=-1)
    if rest.shape[-1] or not blocks:
        last = torch.linalg.vector_norm(rest, dim=-1, keepdim=True)
        norms = torch.cat([norms, last], dim=-1)
    result: Tensor = torch.linalg.vector_norm(norms.double(), dim=-1)
    return result


def norms_of_lines(values: Tensor, lines: int) -> Tensor:
    """Shapes: (R, ...) -> (L,) float64."""
    return row_norms(by_line(values, lines).flatten(1))
