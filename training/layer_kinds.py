"""The kinds of layers whose gradients are formed layer by layer: one class each.

What a line is, and what each kind has to answer, is said in `layer_gradients.py`.
"""

import math
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from training.layer_gradients import (
    ROUNDING,
    LayerKind,
    LayerUse,
    Named,
    at_least_float32,
    by_line,
    gram_squares,
    norms_of_lines,
)

# Of fewer input channels, a processor reads lines as channels fastest where channels lie last.
_FEW_CHANNELS = 16


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
        return gram_squares(*self._positions(use))

    @override
    def rounding(self, use: LayerUse) -> Tensor:
        return (
            ROUNDING
            * norms_of_lines(use.inputs, use.lines)
            * norms_of_lines(use.output_gradients, use.lines)
        )

    @override
    def weighted(self, use: LayerUse, factors: Tensor) -> Tensor:
        inputs, outputs = self._positions(use)
        return (outputs * factors[:, None, None]).flatten(0, 1).T @ inputs.flatten(0, 1)

    def _positions(self, use: LayerUse) -> tuple[Tensor, Tensor]:
        inputs, outputs = (by_line(t, use.lines) for t in (use.inputs, use.output_gradients))
        wide, long = self.module.in_features, self.module.out_features
        return inputs.reshape(use.lines, -1, wide), outputs.reshape(use.lines, -1, long)


class ConvolutionKind(LayerKind):
    """Two-dimensional convolutions of any stride, zero padding, dilation and groups.

    On a processor, one grouped convolution with every line as a group is the fastest; on a GPU, and
    for one draw of kernels of one tap, a batched matrix product over patches.
    """

    module: nn.Conv2d
    can_be_counted = True

    @override
    def gradients(self, use: LayerUse, wanted: AbstractSet[str]) -> Named:
        found: Named = {}
        is_product = self._is_one_tap() and len(use.inputs) == use.lines
        if "weight" in wanted and use.inputs.device.type == "cpu" and not is_product:
            found = self._by_groups(use)
        elif "weight" in wanted:
            found["weight"] = self._by_patches(use)
        if "bias" in wanted and "bias" not in found:
            found["bias"] = by_line(use.output_gradients.sum(dim=(2, 3)), use.lines).sum(dim=1)
        return {name: gradient for name, gradient in found.items() if name in wanted}

    def _by_groups(self, use: LayerUse) -> Named:
        """Return the weight's gradients, and the bias's where the kernel has them for nothing."""
        rows, columns, *kernel = self.module.weight.shape
        is_last = columns < _FEW_CHANNELS and use.inputs.is_contiguous(
            memory_format=torch.channels_last
        )
        inputs, outputs = (
            _lines_as_channels(t, use.lines, is_last=is_last)
            for t in (use.inputs, use.output_gradients)
        )
        if is_last or 2 * rows > columns or not self._is_its_own_mirror():
            weight, bias = self._backward(inputs, outputs, (rows * use.lines, columns, *kernel))
            return {
                "weight": weight.view(use.lines, rows, columns, *kernel),
                "bias": bias.view(use.lines, rows),
            }
        # Few outputs fill a processor's vectors badly: then inputs and outputs change places.
        weight, _ = self._backward(outputs, inputs, (columns * use.lines, rows, *kernel))
        mirrored = weight.view(use.lines, columns, rows, *kernel).transpose(1, 2)
        return {"weight": mirrored.flip(-2, -1)}

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
        return gram_squares(*self._patches(use))

    @override
    def rounding(self, use: LayerUse) -> Tensor:
        taps = self.module.weight[0, 0].numel()  # a pixel enters that many patches at most
        patches = math.sqrt(taps) * norms_of_lines(use.inputs, use.lines)
        return ROUNDING * patches * norms_of_lines(use.output_gradients, use.lines)

    @override
    def weighted(self, use: LayerUse, factors: Tensor) -> Tensor:
        rows = factors.repeat(len(use.inputs) // use.lines)
        outputs = use.output_gradients * rows[:, None, None, None]
        return self._backward(use.inputs, outputs, tuple(self.module.weight.shape))[0]

    def _backward(
        self, inputs: Tensor, outputs: Tensor, shape: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of weight and bias in as many groups as `shape` implies."""
        gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            outputs,
            inputs,
            inputs.new_empty(shape),  # only its shape is read
            [shape[0]],
            self.module.stride,
            self._padding(),
            self.module.dilation,
            False,  # noqa: FBT003  (not transposed; the operator takes it by position)
            [0, 0],
            inputs.shape[1] // shape[1],
            [False, True, True],
        )
        return gradients[1], gradients[2]

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
        split = values.view(-1, use.lines, groups, values.shape[1] // groups, values.shape[2])
        moved = split.permute(1, 2, 0, 4, 3)  # (L, groups, K, pixels, width)
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
        means, inverses = use.saved or self._moments(use.inputs)  # (R, groups)
        mean, inverse = at_least_float32(means), at_least_float32(inverses)
        if use.inputs.device.type == "cpu" and use.inputs.is_contiguous():
            scale, shift = self._of_rows(use, mean, inverse)
        else:
            repeats = use.inputs.shape[1] // self.module.num_groups
            mean, inverse = (t.repeat_interleave(repeats, dim=1) for t in (mean, inverse))
            shift = _over_positions(use.output_gradients)
            product = _over_positions(use.output_gradients * use.inputs)
            scale = (product - shift * mean) * inverse
        found = {"weight": scale, "bias": shift}
        return {k: by_line(v, use.lines).sum(dim=1) for k, v in found.items() if k in wanted}

    def _of_rows(self, use: LayerUse, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """Return every row's gradients (R, C) by torch's kernel, which reads its operands once.

        Rows are taken as channels of a single row, so that the kernel sums over positions alone.
        """
        rows, channels = use.inputs.shape[:2]
        joined = (1, rows * channels, -1)
        outputs, inputs = use.output_gradients.reshape(joined), use.inputs.reshape(joined)
        gradients: tuple[Tensor, ...] = torch.ops.aten.native_group_norm_backward(
            outputs,
            inputs,
            mean.reshape(1, -1),
            inverse.reshape(1, -1),
            inputs.new_empty(rows * channels),  # only its shape is read
            1,
            rows * channels,
            inputs.shape[2],
            rows * self.module.num_groups,
            [False, True, True],
        )
        return gradients[1].view(rows, channels), gradients[2].view(rows, channels)

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
            k: by_line(v, use.lines).reshape(use.lines, -1, *shape).sum(dim=1)
            for k, v in found.items()
            if k in wanted
        }


class EmbeddingKind(LayerKind):
    """Tables of vectors, looked up by number."""

    module: nn.Embedding

    @override
    def gradients(self, use: LayerUse, wanted: AbstractSet[str]) -> Named:
        if "weight" not in wanted:
            return {}
        rows, width = self.module.weight.shape
        numbers = by_line(use.inputs, use.lines).reshape(use.lines, -1)
        looked_up = by_line(use.output_gradients, use.lines).reshape(-1, width)
        if self.module.padding_idx is not None:
            is_padding = (numbers == self.module.padding_idx).flatten()
            looked_up = looked_up.masked_fill(is_padding[:, None], 0.0)
        place = numbers + rows * torch.arange(use.lines, device=numbers.device)[:, None]
        table = looked_up.new_zeros(use.lines * rows, width)
        return {"weight": table.index_add_(0, place.flatten(), looked_up).view(-1, rows, width)}


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


def _lines_as_channels(values: Tensor, lines: int, *, is_last: bool) -> Tensor:
    """Shapes: (R, C, H, W) -> (K, L·C, H, W), dense in that order or with channels last."""
    if is_last:
        split = by_line(values, lines).permute(1, 3, 4, 0, 2)  # (K, H, W, L, C)
        return split.flatten(3).permute(0, 3, 1, 2)
    return values.contiguous().view(len(values) // lines, -1, *values.shape[2:])


def _over_positions(values: Tensor) -> Tensor:
    """Sum over everything behind the channels. Shapes: (R, C, ...) -> (R, C)."""
    return values.sum(dim=tuple(range(2, values.dim()))) if values.dim() > 2 else values
