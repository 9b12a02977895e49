"""How large the gradient of a loss is at each record, layer by layer: what a gradient attack looks at.

Used by audits alone, on persons of the audit pool; nothing here is private-by-noise and nothing leaves.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.captured_gradients import layer_kinds
from training.layer_gradients import row_norms
from training.person_gradients import Examples, Lines
from training.recorded_pass import RecordedPass

Loss = Callable[[Callable[..., Tensor], Examples], Tensor]
_SMALLEST = 1e-12


class GradientSizes:
    """Measures per-record gradients of one network and loss; Pang et al. 2023, arXiv:2308.06405.

    The network's layers must be of known kinds. Raises: NotCapturable otherwise.
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        self._network, self._kinds = network, layer_kinds(network)
        self._pass = RecordedPass(
            network, _Given(loss), self._kinds, precision="float32", compiled=False
        )

    @torch.no_grad()
    def __call__(self, examples: Examples, *, draws: int) -> NDArray[np.float64]:
        """Return natural logarithms of gradient norms: of everything, then of each layer.

        Rows of a record follow one another, `draws` each; its gradient is their mean.
        Shapes: examples (records · draws, ...) -> (records, 1 + layers).
        """
        rows = len(examples[0])
        count = rows // draws
        weights = torch.full((rows,), 1.0 / draws, device=examples[0].device)
        parameters = {name: p.detach() for name, p in self._network.named_parameters()}
        uses = self._pass.uses(parameters, examples, Lines(weights=weights, count=count))
        squares = torch.zeros(count, len(self._kinds), dtype=torch.float64)
        for column, (name, kind) in enumerate(self._kinds.items()):
            if name not in uses:
                continue  # the loss does not depend on this layer
            for gradient in kind.gradients(uses[name], kind.wanted).values():
                squares[:, column] += row_norms(gradient.flatten(1)).square().cpu()
        everything = torch.cat([squares.sum(dim=1, keepdim=True), squares], dim=1)
        return np.asarray((everything + _SMALLEST).log().numpy() / 2)


class _Given:
    """An objective whose examples are already there."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def examples(self, records: NDArray[np.int64]) -> Examples:
        """Refuse: what is measured here was handed over."""
        raise NotImplementedError(
            f"{len(records)} records were asked for; examples are handed over."
        )
