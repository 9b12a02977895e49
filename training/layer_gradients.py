"""Per-line gradients of one layer, from what went into it and the gradient of what came out.

A *line* is what is always averaged before the clip: the K noise draws of one image. Its K rows are
folded into the positions that a layer sums over anyway, so that K·B gradients never exist. R = L·K
rows belong to L lines; T is the number of positions of a line (K × pixels for a convolution).

Each kind of layer answers three questions: the gradient of every line (`gradients`); only its norm,
by the Gram matrices of inputs and output gradients (`ghost_squares`); and the sum of all lines'
gradients under given factors (`weighted`). The ghost trick: Li et al. 2022, arXiv:2110.05679,
section 4; mixed: Bu et al. 2022, arXiv:2205.10683.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

Named = dict[str, Tensor]

# Rounding of a float32 sum, as a share of the sum of its terms' norms. A gradient that is clipped
# without being held in memory is counted larger by it, so that rounding cannot exceed the clip.
ROUNDING = 1e-6


@dataclass(frozen=True)
class LayerUse:
    """One use of a layer: its input, the loss gradient of its output, and lines (R = lines·K)."""

    inputs: Tensor
    output_gradients: Tensor
    lines: int
    saved: tuple[Tensor, ...] = ()

    def only(self, keep: Tensor) -> "LayerUse":
        """Return the use by the lines numbered in `keep` alone."""
        return LayerUse(
            inputs=by_line(self.inputs, self.lines)[keep].flatten(0, 1),
            output_gradients=by_line(self.output_gradients, self.lines)[keep].flatten(0, 1),
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


class LinearKind(LayerKind):
    """Linear layers over any number of leading positions."""

    module: nn.Linear
    can_be_counted = True

    @override
    def gradients(self, use: LayerUse, wanted: AbstractSet[str]) -> Named:
        inputs, outputs = self._positions(use)
        result = {}
        if "weight" in wanted:
            result["weight"] = torch.bmm(outputs.transpose(1, 2), inputs)
        if "bias" in wanted:
            result["bias"] = outputs.sum(dim=1)
        return result

    @override
    def saves_by_ghost(self, use: LayerUse, cost_of_memory: float) -> bool:
        wide, long = self.module.in_features, self.module.out_features
        positions = use.inputs.numel() // (use.lines * wide)
        return 4 * positions**2 * (wide + long) < cost_of_memory * wide * long

    @override
    def ghost_squares(self, use: LayerUse) -> Tensor:
        return _gram_squares(*self._positions(use))

    @override
    def rounding(self, use: LayerUse) -> Tensor:
        return ROUNDING * _norms(use.inputs, use.lines) * _norms(use.output_gradients, use.lines)

    @override
    def weighted(self, use: LayerUse, factors: Tensor) -> Tensor:
        inputs, outputs = self._positions(use)
        return (outputs * factors[:, None, None]).flatten(0, 1).T @ inputs.flatten(0, 1)

    def _positions(self, use: LayerUse) -> tuple[Tensor, Tensor]:
        inputs = use.inputs.reshape(use.lines, -1, self.module.in_features)
        return inputs, use.output_gradients.reshape(use.lines, -1, self.module.out_features)


class ConvolutionKind(LayerKind):
    """Two-dimensional convolutions of any stride, zero padding, dilation and groups.

    On a processor, one grouped convolution with every line as a group is the fastest; on a GPU, and
    for kernels of one tap, a batched matrix product over patches.
    """

    module: nn.Conv2d
    can_be_counted = True

    @override
    def gradients(self, use: LayerUse, wanted: AbstractSet[str]) -> Named:
        result = {}
        if "weight" in wanted:
            result["weight"] = self._weight_gradients(use)
        if "bias" in wanted:
            result["bias"] = by_line(use.output_gradients.sum(dim=(2, 3)), use.lines).sum(dim=1)
        return result

    def _weight_gradients(self, use: LayerUse) -> Tensor:
        if use.inputs.device.type != "cpu" or self._is_one_tap():
            return self._by_patches(use)
        inputs, outputs = (
            _lines_as_channels(t, use.lines) for t in (use.inputs, use.output_gradients)
        )
        rows, columns, *kernel = self.module.weight.shape
        if 2 * rows > columns or not self._is_its_own_mirror():
            gradient = self._backward(inputs, outputs, (rows * use.lines, columns, *kernel))
            return gradient.view(use.lines, rows, columns, *kernel)
        # Few outputs fill a processor's vectors badly: then inputs and outputs change places.
        gradient = self._backward(outputs, inputs, (columns * use.lines, rows, *kernel))
        return gradient.view(use.lines, columns, rows, *kernel).transpose(1, 2).flip(-2, -1)

    def _is_one_tap(self) -> bool:
        is_dense = self.module.stride == (1, 1) and self._padding() == (0, 0)
        return is_dense and self.module.kernel_size == (1, 1)

    def _is_its_own_mirror(self) -> bool:
        kernel, padding = self.module.kernel_size, self._padding()
        is_centred = all(k == 2 * p + 1 for k, p in zip(kernel, padding, strict=True))
        is_dense = self.module.stride == (1, 1) and self.module.dilation == (1, 1)
        return is_centred and is_dense and self.module.groups == 1

    def _by_patches(self, use: LayerUse) -> Tensor:
        patches, outputs = self._patches(use)  # (L·groups, T, C/groups·k²), (L·groups, T, P/groups)
        return torch.bmm(outputs.transpose(1, 2), patches).view(
            use.lines, *self.module.weight.shape
        )

    @override
    def saves_by_ghost(self, use: LayerUse, cost_of_memory: float) -> bool:
        if self.module.groups > 1:
            return False
        long = self.module.out_channels
        wide = self.module.weight[0].numel()
        positions = use.output_gradients.numel() // (use.lines * long)
        return 4 * positions**2 * (wide + long) < cost_of_memory * wide * long

    @override
    def ghost_squares(self, use: LayerUse) -> Tensor:
        return _gram_squares(*self._patches(use))

    @override
    def rounding(self, use: LayerUse) -> Tensor:
        taps = self.module.weight[0, 0].numel()  # a pixel enters that many patches at most
        patches = math.sqrt(taps) * _norms(use.inputs, use.lines)
        return ROUNDING * patches * _norms(use.output_gradients, use.lines)

    @override
    def weighted(self, use: LayerUse, factors: Tensor) -> Tensor:
        rows = factors.repeat_interleave(len(use.inputs) // use.lines)
        outputs = use.output_gradients * rows[:, None, None, None]
        return self._backward(use.inputs, outputs, tuple(self.module.weight.shape))

    def _backward(self, inputs: Tensor, outputs: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the weight gradient of this convolution in as many groups as `shape` implies."""
        gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            outputs,
            inputs,
            inputs.new_empty(shape),  # only its shape is read
            None,
            self.module.stride,
            self._padding(),
            self.module.dilation,
            False,  # noqa: FBT003  (not transposed; the operator takes it by position)
            [0, 0],
            inputs.shape[1] // shape[1],
            [False, True, False],
        )
        return gradients[1]

    def _patches(self, use: LayerUse) -> tuple[Tensor, Tensor]:
        if self._is_one_tap():
            patches, outputs = use.inputs.flatten(2), use.output_gradients.flatten(2)
            return self._by_line_and_group(patches, use), self._by_line_and_group(outputs, use)
        patches = functional.unfold(
            use.inputs,
            kernel_size=self.module.weight.shape[2:],
            dilation=self.module.dilation,
            padding=self._padding(),
            stride=self.module.stride,
        )
        outputs = use.output_gradients.flatten(2)
        return self._by_line_and_group(patches, use), self._by_line_and_group(outputs, use)

    def _by_line_and_group(self, values: Tensor, use: LayerUse) -> Tensor:
        """Shapes: (R, groups·width, pixels) -> (L·groups, K·pixels, width)."""
        groups = self.module.groups
        split = values.view(use.lines, -1, groups, values.shape[1] // groups, values.shape[2])
        moved = split.permute(0, 2, 1, 4, 3)  # (L, groups, K, pixels, width)
        return moved.reshape(use.lines * groups, -1, moved.shape[-1])

    def _padding(self) -> tuple[int, ...]:
        if self.module.padding == "valid":
            return (0, 0)
        if self.module.padding == "same":
            spans = zip(self.module.kernel_size, self.module.dilation, strict=True)
            return tuple((kernel - 1) * step // 2 for kernel, step in spans)
        return tuple(int(size) for size in self.module.padding)


class GroupNormKind(LayerKind):
    """The scale and shift of a group norm."""

    module: nn.GroupNorm

    @override
    def gradients(self, use: LayerUse, wanted: AbstractSet[str]) -> Named:
        shift = _over_positions(use.output_gradients)
        product = _over_positions(use.output_gradients * use.inputs)
        means, inverses = use.saved or self._moments(use.inputs)  # (R, groups)
        repeats = use.inputs.shape[1] // self.module.num_groups
        mean = at_least_float32(means).repeat_interleave(repeats, dim=1)
        inverse = at_least_float32(inverses).repeat_interleave(repeats, dim=1)
        found = {"weight": (product - shift * mean) * inverse, "bias": shift}
        return {k: by_line(v, use.lines).sum(dim=1) for k, v in found.items() if k in wanted}

    @override
    def saved(self, output: Tensor) -> tuple[Tensor, ...]:
        # Autograd holds what the forward pass computed: the second time costs as much as the first.
        node = output.grad_fn
        if node is None or node.name() != "NativeGroupNormBackward0":
            return ()
        return node._saved_result1, node._saved_result2  # type: ignore[attr-defined]  # noqa: SLF001

    def _moments(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        rows, channels, *grid = inputs.shape
        _, mean, inverse = torch.native_group_norm(
            inputs,
            None,
            None,
            rows,
            channels,
            math.prod(grid),
            self.module.num_groups,
            self.module.eps,
        )
        return mean, inverse


class LayerNormKind(LayerKind):
    """The scale and shift of a layer norm."""

    module: nn.LayerNorm

    @override
    def gradients(self, use: LayerUse, wanted: AbstractSet[str]) -> Named:
        shape = self.module.normalized_shape
        normal = functional.layer_norm(use.inputs, shape, eps=self.module.eps)
        found = {"weight": use.output_gradients * normal, "bias": use.output_gradients}
        return {
            k: v.reshape(use.lines, -1, *shape).sum(dim=1) for k, v in found.items() if k in wanted
        }


class EmbeddingKind(LayerKind):
    """Tables of vectors, looked up by number."""

    module: nn.Embedding

    @override
    def gradients(self, use: LayerUse, wanted: AbstractSet[str]) -> Named:
        if "weight" not in wanted:
            return {}
        rows, width = self.module.weight.shape
        numbers = use.inputs.reshape(use.lines, -1)
        looked_up = use.output_gradients.reshape(-1, width)
        if self.module.padding_idx is not None:
            is_padding = (numbers == self.module.padding_idx).flatten()
            looked_up = looked_up.masked_fill(is_padding[:, None], 0.0)
        place = numbers + rows * torch.arange(use.lines, device=numbers.device)[:, None]
        table = looked_up.new_zeros(use.lines * rows, width)
        return {"weight": table.index_add_(0, place.flatten(), looked_up).view(-1, rows, width)}


def at_least_float32(values: Tensor) -> Tensor:
    """Return the values, in float32 if they came with fewer bits; integers as they are."""
    return values.float() if values.dtype in {torch.float16, torch.bfloat16} else values


def kind_of(module: nn.Module) -> LayerKind | None:
    """Return how `module` forms its gradients, or None if nothing here knows it.

    Subclasses are not known: what they compute may differ.
    """
    kind = type(module)
    if kind is nn.Linear:
        return LinearKind(module)
    if isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
        return ConvolutionKind(module) if _pads_evenly_with_zeros(module) else None
    if kind is nn.GroupNorm:
        return GroupNormKind(module)
    if kind is nn.LayerNorm:
        return LayerNormKind(module)
    if isinstance(module, nn.Embedding) and kind is nn.Embedding:
        is_odd = module.max_norm is not None or module.scale_grad_by_freq or module.sparse
        return None if is_odd else EmbeddingKind(module)
    return None


def _pads_evenly_with_zeros(module: nn.Conv2d) -> bool:
    spans = zip(module.kernel_size, module.dilation, strict=True)
    is_even = module.padding != "same" or all((k - 1) * d % 2 == 0 for k, d in spans)
    return is_even and module.padding_mode == "zeros"


def _gram_squares(inputs: Tensor, outputs: Tensor) -> Tensor:
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
    return values.reshape(lines, len(values) // lines, *values.shape[1:])


def row_norms(matrix: Tensor) -> Tensor:
    """Return the L2 norm of every row, as float64. Shapes: (L, P) -> (L,)."""
    norms: Tensor = torch.linalg.vector_norm(matrix, dim=-1)
    return norms.double()


def _norms(values: Tensor, lines: int) -> Tensor:
    """Shapes: (R, ...) -> (L,) float64."""
    return row_norms(by_line(values, lines).flatten(1))


def _lines_as_channels(values: Tensor, lines: int) -> Tensor:
    """Shapes: (R, C, H, W) -> (K, L·C, H, W), dense in that order."""
    moved = by_line(values, lines).transpose(0, 1).contiguous()
    return moved.view(moved.shape[0], -1, *moved.shape[3:])


def _over_positions(values: Tensor) -> Tensor:
    """Sum over everything behind the channels. Shapes: (R, C, ...) -> (R, C)."""
    return values.sum(dim=tuple(range(2, values.dim()))) if values.dim() > 2 else values
