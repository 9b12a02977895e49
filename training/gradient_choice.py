"""Chooses how persons' gradients are computed: the fast way where it is shown to be right.

The network is inspected first: layers of unknown kind and shared weights rule the captured way out.
What a loss does cannot be seen from outside (it may differentiate the network, or run it twice), so
both ways then compute the same sum on made-up examples and made-up weights, and must agree. Nothing
here depends on the values of records.
"""

import torch
from torch import Tensor, nn

from training.captured_gradients import CapturedGradients
from training.person_gradients import (
    Clip,
    Examples,
    Lines,
    Objective,
    PersonGradients,
    Precision,
    VmapGradients,
    Way,
)
from training.recorded_pass import NotCapturable

_CHECKED_LINES = 2
_TOLERANCES: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 5e-2}
_CLIP = Clip(max_grad_norm=1.0, kind="plain")


def choose(
    network: nn.Module,
    objective: Objective,
    *,
    way: Way,
    like: Examples,
    draws: int,
    precision: Precision = "float32",
    compiled: bool = False,
) -> PersonGradients:
    """Return the way to compute persons' gradients; `like` lends shapes and types, not values.

    Raises: NotCapturable if "captured" was asked for and does not know the network.
    """
    vmap = VmapGradients(network, objective, precision=precision)
    if way == "vmap" or getattr(objective, "differentiates_inside", False):
        return vmap
    try:
        captured = CapturedGradients(network, objective, precision=precision, compiled=compiled)
    except NotCapturable:
        if way == "captured":
            raise
        return vmap
    if way == "captured" or _agree(captured, vmap, network=network, like=like, draws=draws):
        return captured
    return vmap


def _agree(
    captured: CapturedGradients,
    vmap: VmapGradients,
    *,
    network: nn.Module,
    like: Examples,
    draws: int,
) -> bool:
    """Compare both ways on a few made-up lines; what cannot be compared does not agree."""
    generator = torch.Generator().manual_seed(0)
    count = _CHECKED_LINES * draws
    examples = tuple(_made_up(part, rows=count, generator=generator) for part in like)
    parameters = {
        name: value.detach() + 0.1 * _made_up(value, rows=len(value), generator=generator)
        if value.dim()
        else value.detach()
        for name, value in network.named_parameters()
    }
    device = next(network.parameters()).device
    lines = Lines(weights=torch.full((count,), 1.0 / draws, device=device), count=_CHECKED_LINES)
    expected = vmap.clipped_sum(parameters, examples, lines, clip=_CLIP)
    try:
        found = captured.clipped_sum(parameters, examples, lines, clip=_CLIP)
    except (RuntimeError, ValueError, TypeError):  # whatever it was, the other way did it
        return False
    size = float(expected.norm())
    error = float((found - expected).norm())
    return size > 0 and error <= _TOLERANCES[captured.precision] * size


def _made_up(part: Tensor, *, rows: int, generator: torch.Generator) -> Tensor:
    shape = (rows, *part.shape[1:])
    if not part.dtype.is_floating_point:
        return torch.zeros(shape, dtype=part.dtype, device=part.device)
    return torch.randn(shape, generator=generator).to(part)
