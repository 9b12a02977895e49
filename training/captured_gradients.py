"""Clipped sums of persons' gradients from one forward and one backward pass over a micro-batch.

Weights are held constant in the forward pass; every layer's input and output are kept; one backward
pass asks for the gradients of the outputs alone, so no weight gradient is computed to be thrown
away. Layer by layer (`layer_gradients.py`), lines' gradients are then

- *kept* in memory, where they fit: their norms are exact for the very numbers that are summed; or
- *counted*, for their norm only, by instantiating and dropping them or by Gram matrices, whichever
  costs less; their clipped sum is then one weighted gradient of the whole micro-batch.

Bu et al. 2023, arXiv:2210.00038 (book-keeping): what is computed once is used twice.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.devices import full_float32
from training.layer_gradients import (
    LayerKind,
    LayerUse,
    Named,
    row_norms,
)
from training.layer_kinds import kind_of
from training.person_gradients import (
    Clip,
    Examples,
    Lines,
    Objective,
    Parameters,
    Precision,
    summed_by_person,
)
from training.recorded_pass import NotCapturable, RecordedPass

# Bytes of lines' gradients that are kept at once, by kind of device.
_KEPT_BYTES = {"cpu": 1 << 29, "cuda": 1 << 32}
# What writing and reading one gradient value costs, in multiplications.
_COST_OF_MEMORY = {"cpu": 30.0, "cuda": 200.0}
# Gradients of fewer values are joined before anything is computed of them.
_NARROW = 1024


class CapturedGradients:
    """Forms gradients layer by layer; knows convolutions, linear layers, norms and embeddings."""

    name = "captured"

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        *,
        precision: Precision = "float32",
        compiled: bool = False,
    ) -> None:
        self.precision = precision
        self._kinds = layer_kinds(network)
        self._pass = RecordedPass(
            network, objective, self._kinds, precision=precision, compiled=compiled
        )
        self._earlier: Named = {}
        self._shapes = {k: p.shape for k, p in network.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def clipped_sum(
        self, parameters: Parameters, examples: Examples, lines: Lines, *, clip: Clip
    ) -> Tensor:
        """Return the clipped sum; raises NotCapturable if a layer runs more than once."""
        uses = self._pass.uses(parameters, examples, lines)
        with full_float32(lines.weights.device):
            return self._clipped_sum(uses, lines, clip)

    def _clipped_sum(self, uses: dict[str, LayerUse], lines: Lines, clip: Clip) -> Tensor:
        kept, counted = self._parts(uses, lines)
        squares = kept.finish()
        for part in counted:
            squares += part.squares
        factors = clip.factors(squares.sqrt())
        is_dropped = None if bool(factors.all()) else factors == 0
        sums = kept.weighted(factors, is_dropped)
        for part in counted:
            sums |= part.weighted(factors, is_dropped)
        like = factors.float()
        return torch.cat(
            [
                sums[name].flatten() if name in sums else like.new_zeros(shape.numel())
                for name, shape in self._shapes.items()
            ]
        )

    def _parts(self, uses: dict[str, LayerUse], lines: Lines) -> tuple["_Kept", list["_Counted"]]:
        ghosts, stays = self._plan(uses, lines)
        kept = _Kept(self._earlier, lines)
        counted: list[_Counted] = []
        for name, use in uses.items():
            kind, dotted = self._kinds[name], f"{name}." if name else ""
            wanted = kind.wanted
            kept.make_room(f"{dotted}{parameter}" for parameter in wanted)
            if name in ghosts:
                wanted = wanted - {"weight"}
                squares = kind.ghost_squares(use)
                counted.append(_Counted(f"{dotted}weight", kind, use, lines, squares))
            for parameter, gradient in kind.gradients(use, wanted).items():
                if f"{dotted}{parameter}" in stays:
                    kept.put(f"{dotted}{parameter}", gradient.flatten(1))
                else:
                    squares = _rounded_up(gradient.flatten(1), kind=kind, use=use, lines=lines)
                    counted.append(_Counted(f"{dotted}{parameter}", kind, use, lines, squares))
        return kept, counted

    def _plan(self, uses: dict[str, LayerUse], lines: Lines) -> tuple[set[str], set[str]]:
        """Return the layers whose weights get ghost norms, and the parameters that are kept."""
        device = lines.weights.device.type
        cost = _COST_OF_MEMORY.get(device, _COST_OF_MEMORY["cpu"])
        room = _KEPT_BYTES.get(device, _KEPT_BYTES["cpu"]) // (4 * lines.count)
        ghosts: set[str] = set()
        stays: set[str] = set()
        for name, use in uses.items():
            kind, dotted = self._kinds[name], f"{name}." if name else ""
            for parameter in sorted(kind.wanted):
                width = self._shapes[f"{dotted}{parameter}"].numel()
                if parameter == "weight" and kind.can_be_counted:
                    if lines.person is None and kind.saves_by_ghost(use, cost):
                        ghosts.add(name)
                        continue
                    if width > room:
                        continue
                room -= width
                stays.add(f"{dotted}{parameter}")
        return ghosts, stays


def layer_kinds(network: nn.Module) -> dict[str, LayerKind]:
    """Return how each layer with parameters forms gradients.

    Raises: NotCapturable naming the layer that nothing knows, or that shares its parameters.
    """
    kinds: dict[str, LayerKind] = {}
    owners: dict[int, str] = {}
    for name, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        if not any(parameter.requires_grad for parameter in own.values()):
            continue
        kind = kind_of(module)
        if kind is None:
            raise NotCapturable(f"Layer {name!r} ({type(module).__name__}) is of no known kind.")
        for parameter in own.values():
            if owners.setdefault(id(parameter), name) != name:
                raise NotCapturable(f"Layers {name!r} and {owners[id(parameter)]!r} share weights.")
        kinds[name] = kind
    return kinds


class _Kept:
    """Every person's gradients of some parameters (L, width), with their norms."""

    def __init__(self, earlier: Named, lines: Lines) -> None:
        self._earlier, self._lines = earlier, lines
        self._wide: Named = {}
        self._narrow: Named = {}
        self._beside: Tensor | None = None  # the narrow ones, side by side
        self._squares = lines.weights.new_zeros(lines.count, dtype=torch.float64)

    def make_room(self, parameters: Iterable[str]) -> None:
        """Let go of what an earlier micro-batch left for these parameters, just before the new.

        The new takes its place. Let go all at once, memory would go back to the system, and getting
        it anew costs as much as filling it.
        """
        for parameter in parameters:
            self._earlier.pop(parameter, None)

    def put(self, parameter: str, gradients: Tensor) -> None:
        """Take the gradients of all lines (L, width)."""
        gradients = summed_by_person(gradients, self._lines)
        if gradients.shape[1] < _NARROW:
            self._narrow[parameter] = gradients
            return
        self._wide[parameter] = gradients
        self._squares += row_norms(gradients).square()  # now: it is still in cache

    def finish(self) -> Tensor:
        """Return each person's squared norm over all parameters, float64 (L,)."""
        if self._narrow:
            self._beside = torch.cat(list(self._narrow.values()), dim=1)
            self._squares += row_norms(self._beside).square()
        self._earlier.update(self._wide)
        return self._squares

    def weighted(self, factors: Tensor, is_dropped: Tensor | None) -> Named:
        """Return each parameter's sum of persons' gradients times `factors` (L,)."""
        sums = {k: _weighted(matrix, factors, is_dropped) for k, matrix in self._wide.items()}
        if self._beside is not None:
            widths = [matrix.shape[1] for matrix in self._narrow.values()]
            parts = torch.split(_weighted(self._beside, factors, is_dropped), widths)
            sums |= zip(self._narrow, parts, strict=True)
        return sums


def _weighted(matrix: Tensor, factors: Tensor, is_dropped: Tensor | None) -> Tensor:
    """Return the sum of rows times their factors. Shapes: (L, W), (L,) -> (W,)."""
    if is_dropped is not None:  # what is not finite stays so when multiplied with 0
        matrix, factors = matrix[~is_dropped], factors[~is_dropped]
    return factors.to(matrix.dtype) @ matrix


class _Counted:
    """A weight whose gradients' norms alone are known; summed by a weighted gradient."""

    def __init__(
        self, parameter: str, kind: LayerKind, use: LayerUse, lines: Lines, squares: Tensor
    ) -> None:
        self._parameter, self._kind, self._use = parameter, kind, use
        self._lines, self.squares = lines, squares

    def weighted(self, factors: Tensor, is_dropped: Tensor | None) -> Named:
        """Return the weight's sum of persons' gradients times `factors` (L,)."""
        use = self._use
        if self._lines.person is not None:
            factors = factors[self._lines.person]
            is_dropped = None if is_dropped is None else is_dropped[self._lines.person]
        if is_dropped is not None:
            use, factors = use.only(torch.nonzero(~is_dropped).flatten()), factors[~is_dropped]
        dtype = use.output_gradients.dtype
        return {self._parameter: self._kind.weighted(use, factors.to(dtype))}


def _rounded_up(gradients: Tensor, *, kind: LayerKind, use: LayerUse, lines: Lines) -> Tensor:
    """Return persons' squared norms for lines' gradients that will be summed anew, rounded up (L,)."""
    size = summed_by_person(kind.rounding(use)[:, None], lines)[:, 0]
    return (row_norms(summed_by_person(gradients, lines)) + size).square()
