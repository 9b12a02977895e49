"""One forward and one backward pass that keep what went into layers and the gradient of what came out.

Weights are constants in the forward pass, and the backward pass asks for the gradients of outputs
alone. Uncompiled, outputs are asked directly. Compiled by `torch.compile`, a zero is added to every
output and asked in its place: inputs and results are then all a compiler needs to know.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from training.layer_gradients import LayerKind, LayerUse, Named, at_least_float32
from training.person_gradients import (
    Examples,
    Lines,
    Objective,
    Parameters,
    Precision,
    lower_precision,
    with_parameters,
)


class NotCapturable(RuntimeError):
    """The network or its loss does something that captured gradients cannot follow."""


class RecordedPass:
    """Runs a network of known layers forward and backward. Not for several threads at once."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        kinds: dict[str, LayerKind],
        *,
        precision: Precision,
        compiled: bool,
    ) -> None:
        self._network, self._objective, self._kinds = network, objective, kinds
        self._precision = precision
        self._compiled = torch.compile(self._with_zeros, fullgraph=True) if compiled else None
        # The same functions every time: a compiler that meets new ones starts again.
        self._hooks = {name: self._hook(name) for name in kinds}
        self._inputs: Named = {}
        self._outputs: Named = {}
        self._saved: dict[str, tuple[Tensor, ...]] = {}
        self._zeros: Named = {}
        self._active: Named = {}
        self._rows = 0
        self._reached: list[str] = []

    def uses(self, parameters: Parameters, examples: Examples, lines: Lines) -> dict[str, LayerUse]:
        """Return the use of every layer that the loss depends on.

        Rows of a line follow one another in `examples`; here they run draw by draw.
        Raises: NotCapturable if a layer runs more than once.
        """
        examples = tuple(_draw_by_draw(part, lines.count) for part in examples)
        lines = replace(lines, weights=_draw_by_draw(lines.weights, lines.count))
        fixed = {name: value.detach() for name, value in parameters.items()}
        handles = [
            kind.module.register_forward_hook(self._hooks[name])
            for name, kind in self._kinds.items()
        ]
        try:
            with torch.enable_grad():
                if self._compiled is not None and self._fits(lines):
                    return self._by_zeros(self._compiled, fixed, examples, lines)
                return self._directly(fixed, examples, lines)
        finally:
            for handle in handles:
                handle.remove()
            self._inputs, self._outputs, self._saved = {}, {}, {}

    def _directly(self, fixed: Parameters, examples: Examples, lines: Lines) -> dict[str, LayerUse]:
        total = self._loss(fixed, examples, lines.weights)
        gradients = torch.autograd.grad(total, list(self._outputs.values()), allow_unused=True)
        found = {k: g for k, g in zip(self._outputs, gradients, strict=True) if g is not None}
        if self._compiled is not None:
            self._reached, self._rows = list(found), len(lines.weights)
            self._zeros = {
                k: torch.zeros_like(v, requires_grad=True) for k, v in self._outputs.items()
            }
        return {
            name: _use(self._inputs[name], gradient, lines, self._saved[name])
            for name, gradient in found.items()
        }

    def _by_zeros(
        self, compiled: Callable[..., Any], fixed: Parameters, examples: Examples, lines: Lines
    ) -> dict[str, LayerUse]:
        total, inputs = compiled(fixed, self._zeros, examples, lines.weights)
        asked = [self._zeros[name] for name in self._reached]
        gradients = torch.autograd.grad(total, asked)
        return {
            name: _use(inputs[name], gradient, lines, ())
            for name, gradient in zip(self._reached, gradients, strict=True)
        }

    def _with_zeros(
        self, fixed: Parameters, zeros: Named, examples: Examples, weights: Tensor
    ) -> tuple[Tensor, Named]:
        self._inputs, self._active = {}, zeros
        total = self._loss(fixed, examples, weights)
        inputs, self._inputs, self._active = self._inputs, {}, {}
        return total, inputs

    def _loss(self, fixed: Parameters, examples: Examples, weights: Tensor) -> Tensor:
        with lower_precision(weights.device, self._precision):
            losses = self._objective.loss(with_parameters(self._network, fixed), examples)
        return (losses * weights).sum()

    def _fits(self, lines: Lines) -> bool:
        """Tell whether the zeros are of this many rows; the first pass of a size is uncompiled."""
        return bool(self._zeros) and self._rows == len(lines.weights)

    def _hook(self, name: str) -> Callable[..., Tensor | None]:
        saved = self._kinds[name].saved

        def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if name in self._inputs:
                raise NotCapturable(f"Layer {name!r} runs more than once in a forward pass.")
            self._inputs[name] = inputs[0].detach()
            if name in self._active:
                return output + self._active[name]
            if not output.requires_grad:
                output.requires_grad_()
            self._outputs[name] = output
            self._saved[name] = saved(output)
            return None

        return keep


def _draw_by_draw(values: Tensor, lines: int) -> Tensor:
    """Shapes: (L·K, ...) -> (K·L, ...)."""
    split = values.reshape(lines, len(values) // lines, *values.shape[1:])
    return split.transpose(0, 1).reshape(values.shape)


def _use(inputs: Tensor, gradient: Tensor, lines: Lines, saved: tuple[Tensor, ...]) -> LayerUse:
    return LayerUse(
        inputs=at_least_float32(inputs.detach()),
        output_gradients=at_least_float32(gradient),
        lines=lines.count,
        saved=saved,
    )
