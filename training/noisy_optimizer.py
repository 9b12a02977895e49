"""The step of DP-SGD: sums of clipped gradients in, noise once, one update of the weights out.

Extends Opacus' `DPOptimizer`. Noise comes from `PrivacyRandomness` in float64; sums are divided by
the public expected batch size, never by how many persons came.
"""

from collections.abc import Callable

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor

from training.randomness import PrivacyRandomness
from training.ranks import Ranks


class PersonOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus ships no types
    """Noises sums of clipped gradients from OS entropy; divides by a constant; updates."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: int,
        randomness: PrivacyRandomness,
        ranks: Ranks,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self._randomness, self._ranks = randomness, ranks
        self.clipped_sum = torch.zeros(
            sum(p.numel() for p in self.params), dtype=torch.float64, device=self.params[0].device
        )

    def add(self, clipped_sum: Tensor) -> None:
        """Take the clipped gradients of more persons, already summed (P,)."""
        self.clipped_sum += clipped_sum

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Noise and scale what was added since the last step, be it nothing."""
        del closure
        self.add_noise()
        self.scale_grad()
        self.clipped_sum.zero_()
        return True

    def add_noise(self) -> None:
        """Add noise of standard deviation noise_multiplier · max_grad_norm, once for all ranks."""
        total = self._ranks.sum(self.clipped_sum)
        if self._ranks.is_first:
            total = self._noised(total)
        noisy = self._ranks.from_first(total).float()
        sizes = [p.numel() for p in self.params]
        for parameter, part in zip(self.params, torch.split(noisy, sizes), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def scale_grad(self) -> None:
        """Divide by the public expected batch size."""
        torch._foreach_div_(
            [parameter.grad for parameter in self.params], float(self.expected_batch_size)
        )

    def _noised(self, total: Tensor) -> Tensor:
        return self._randomness.noised(total, self.noise_multiplier * self.max_grad_norm)
