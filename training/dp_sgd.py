"""DP-SGD over persons: couples Poisson sampling, clipping, noise and the charge in one loop.

Opacus is the frame: its validator looks at the network, and `PersonOptimizer` extends its
`DPOptimizer`. Gradients are computed by one of two ways of our own (`person_gradients.py`). What
Opacus leaves to its callers is settled here:

- One gradient per *person*: all images and noise draws of a person are averaged before clipping.
- Batches are Poisson samples of persons; sums are divided by the public expected batch size, never
  by how many came; an empty batch adds noise and steps like any other.
- A person whose gradient is not finite adds nothing.
- Noise and batches come from `PrivacyRandomness`; a resumed run draws fresh ones.
- Steps are charged in blocks before they run.
- Where memory does not suffice, fewer rows run at once; the batch stays what it was.

Abadi et al. 2016, arXiv:1607.00133; automatic clipping: Bu et al. 2022, arXiv:2206.07136.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from privacy.errors import InvalidParameter, UnsupportedMechanism
from privacy.mechanisms import PoissonSubsampledGaussianMechanism
from training.checkpoints import Arrays, Progress
from training.gradient_choice import choose
from training.held_memory import freed_memory_held
from training.noisy_optimizer import PersonOptimizer
from training.person_batches import PersonBatch, without_memory_errors
from training.person_gradients import (
    Clip,
    Examples,
    Objective,
    PersonGradients,
    Precision,
    Way,
    whole_gradient,
)
from training.randomness import PrivacyRandomness
from training.ranks import Ranks
from training.records import PersonIndex
from training.run import Run
from training.weights import Averaged, assign, flat, unflat

__all__ = ["DpSgdSettings", "Examples", "Objective", "check_network", "train"]

AfterBlock = Callable[[nn.Module, int], None]
AfterStep = Callable[[int], None]

_FIRST_BLOCK_STEPS = 4
_BLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class DpSgdSettings:
    """How to train. Only `expected_batch_size` and `max_grad_norm` matter to privacy.

    `physical_batch` counts rows (images × noise draws) in memory at once. `gradients`, `precision`
    (of forward and backward passes only) and `compiled` change speed and rounding, nothing else.
    """

    expected_batch_size: int
    max_grad_norm: float = 1.0
    clipping: Literal["plain", "automatic"] = "automatic"
    learning_rate: float = 1e-3
    ema_decay: float = 0.97
    images_per_person: int = 2
    noise_draws: int = 1
    physical_batch: int = 128
    gradients: Way = "auto"
    precision: Precision = "float32"
    compiled: bool = False


@freed_memory_held()
def train(  # noqa: PLR0913  (every argument is a different thing)
    network: nn.Module,
    objective: Objective,
    *,
    people: PersonIndex,
    index: int,
    settings: DpSgdSettings,
    run: Run,
    kept: Progress,
    after_step: AfterStep | None = None,
    after_block: AfterBlock | None = None,
) -> PoissonSubsampledGaussianMechanism:
    """Train `network` in place within mechanism `index` of the run; return the mechanism that ran.

    `after_step` is told how many steps were taken, and may use the network as it is: what it does
    with it is post-processing. `after_block` sees the moving average. On return the network holds
    the moving average of its weights. A resume goes on from the checkpoint and takes only the steps
    that are still reserved. In a process group, the caller answers for the same `objective`, `people`
    and `settings` at every rank; what `run`, `kept` and `after_block` see is the first rank's alone.
    Raises: InvalidParameter if the network mixes records, or for `after_step` at several ranks, since
    what it changes may be a part of the objective.
    """
    mechanism = _dp_sgd_mechanism(run, index)
    check_network(network)
    ranks = _ranks(after_step)
    trainer = Trainer(
        network, objective, people=people, mechanism=mechanism, settings=settings, ranks=ranks
    )
    section = f"dp_sgd_{index}"
    if saved := kept.section(section):
        trainer.restore(saved)
    trainer.take_state_of_first()
    charged = ranks.number_from_first(run.charged_steps(index), device=trainer.device)
    block = _FIRST_BLOCK_STEPS
    if ranks.is_first:
        run.progress("training", charged, mechanism.steps)
    while charged < mechanism.steps:
        block = min(block, mechanism.steps - charged)
        if ranks.is_first:
            run.charge(index, block)
        # The others wait here for the first, so no rank runs a step that is not charged.
        block = ranks.number_from_first(block, device=trainer.device)
        started = time.monotonic()
        for _ in range(block):
            trainer.step(share_done=charged / mechanism.steps)
            charged += 1
            if after_step is not None:
                after_step(charged)
            if ranks.is_first:
                run.progress("training", charged, mechanism.steps)
        seconds = max(time.monotonic() - started, 1e-3)
        if ranks.is_first:
            kept.keep(section, trainer.state())
            if after_block is not None:
                with trainer.averaged():
                    after_block(network, charged)
        block = max(1, min(2 * block, int(block * _BLOCK_SECONDS / seconds)))
    trainer.use_average()
    return mechanism.model_copy(update={"steps": charged})


def _ranks(after_step: AfterStep | None) -> Ranks:
    ranks = Ranks.here()
    if after_step is not None:
        ranks.refuse_several("A training in turns with something else (after_step)")
    return ranks


def check_network(network: nn.Module) -> None:
    """Refuse a network in which one record's output depends on the other records.

    Raises: InvalidParameter naming the layer.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  (torch's only name)
            raise InvalidParameter(
                f"The network was refused: layer {name!r} ({type(module).__name__}) normalises "
                "over the batch, so one person changes everybody's gradient and clipping one "
                "person's gradient no longer bounds their influence. Use GroupNorm instead."
            )
    problems = ModuleValidator.validate(network, strict=False)
    if problems:
        raise InvalidParameter(
            f"The network was refused: {problems[0]} Every layer must treat records one by one."
        )


class Trainer:
    """Network, optimizer, moving average and privacy randomness of one DP-SGD run."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        *,
        people: PersonIndex,
        mechanism: PoissonSubsampledGaussianMechanism,
        settings: DpSgdSettings,
        ranks: Ranks,
    ) -> None:
        self._objective, self._people, self._mechanism = objective, people, mechanism
        self._settings, self._network, self._ranks = settings, network, ranks
        self._learnt = [p for p in network.parameters() if p.requires_grad]
        self.device = self._learnt[0].device
        self._clip = Clip(settings.max_grad_norm, settings.clipping)
        self._size = settings.physical_batch
        self._randomness = PrivacyRandomness()
        self._own = ranks.own(len(people))
        is_fused = self.device.type == "cpu"  # elsewhere torch's own choice is a good one
        self._adam = torch.optim.Adam(
            self._learnt, lr=settings.learning_rate, fused=is_fused or None
        )
        self.optimizer = PersonOptimizer(
            self._adam,
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=settings.max_grad_norm,
            expected_batch_size=settings.expected_batch_size,
            randomness=self._randomness,
            ranks=ranks,
        )
        self._average = [p.detach().clone() for p in self._learnt]
        self._taken = 0
        self._gradients: PersonGradients | None = None

    def step(self, *, share_done: float) -> None:
        """Take one noisy step on a fresh Poisson batch of persons."""
        rate = self._mechanism.sampling_rate
        self.accumulate(self._own[self._randomness.poisson_batch(len(self._own), rate)])
        for group in self._adam.param_groups:
            group["lr"] = self._settings.learning_rate * max(1.0 - share_done, 0.1)
        self.optimizer.step()
        self._taken += 1
        decay = min(self._settings.ema_decay, self._taken / (self._taken + 9.0))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, list[Tensor](self._learnt), 1.0 - decay)

    def accumulate(self, units: NDArray[np.int64]) -> None:
        """Add the clipped gradients of a batch of persons, micro-batch by micro-batch."""
        batch = PersonBatch.choose(
            units,
            people=self._people,
            images_per_person=self._settings.images_per_person,
            draws=self._settings.noise_draws,
            randomness=self._randomness,
        )
        start = 0
        while start < len(batch):
            stop = batch.stop_that_fits(start, self._size)
            part = without_memory_errors(partial(self._clipped_sum, batch, start, stop))
            if part is None:
                self._take_less_memory()
                continue
            self.optimizer.add(part)
            start = stop

    def _clipped_sum(self, batch: PersonBatch, start: int, stop: int) -> Tensor:
        if batch.rows(start, stop) > self._size:
            return self._clipped_gradient_of_one(batch, start)
        is_static = self._settings.compiled or self.device.type != "cpu"
        micro_batch = batch.micro_batch(
            start, stop, padded_to=self._size if is_static else 0, like=self._learnt[0]
        )
        examples = self._examples(micro_batch.records)
        if self._gradients is None:
            self._gradients = choose(
                self._network,
                self._objective,
                way=self._settings.gradients,
                like=examples,
                draws=batch.draws,
                precision=self._settings.precision,
                compiled=self._settings.compiled,
            )
        # Detached: a graph behind the sum would keep every micro-batch of the run in memory.
        parameters = {name: p.detach() for name, p in self._network.named_parameters()}
        return self._gradients.clipped_sum(parameters, examples, micro_batch.lines, clip=self._clip)

    def _clipped_gradient_of_one(self, batch: PersonBatch, person: int) -> Tensor:
        """Clip the gradient of a person whose rows do not fit at once, summed piece by piece."""
        total = torch.zeros_like(self.optimizer.clipped_sum)
        for records in batch.pieces(person, self._size):
            weights = torch.full_like(
                self._learnt[0].detach().flatten()[:1], 1.0 / batch.rows(person, person + 1)
            ).expand(len(records))
            total += whole_gradient(
                self._network,
                self._objective,
                self._examples(records),
                weights,
                precision=self._settings.precision,
            )
        return self._clip.sum(total[None])

    def _examples(self, records: NDArray[np.int64]) -> Examples:
        return tuple(part.to(self.device) for part in self._objective.examples(records))

    def _take_less_memory(self) -> None:
        if self._size == 1:
            raise MemoryError(
                "A DP-SGD step was stopped: not even one image at a time fits into memory. "
                "Choose fewer features or smaller images."
            )
        self._size = max(1, self._size // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def averaged(self) -> Averaged:
        """Return a context in which the network holds its moving average."""
        return Averaged(self._learnt, self._average)

    def use_average(self) -> None:
        """Put the moving average into the network for good."""
        assign(self._learnt, self._average)

    def state(self) -> Arrays:
        """Return weights, average and Adam's moments: all made of noised gradients."""
        nothing = [torch.zeros_like(p) for p in self._learnt]
        moments = [self._adam.state.get(p, {}) for p in self._learnt]
        first = [m.get("exp_avg", zero) for m, zero in zip(moments, nothing, strict=True)]
        second = [m.get("exp_avg_sq", zero) for m, zero in zip(moments, nothing, strict=True)]
        return {
            "weights": flat([p.detach() for p in self._learnt]),
            "average": flat(self._average),
            "first_moment": flat(first),
            "second_moment": flat(second),
            "taken": np.array(self._taken, dtype=np.int64),
        }

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned."""
        assign(self._learnt, unflat(state["weights"], self._learnt))
        self._average = unflat(state["average"], self._learnt)
        self._taken = int(state["taken"])
        first = unflat(state["first_moment"], self._learnt)
        second = unflat(state["second_moment"], self._learnt)
        for parameter, exp_avg, exp_avg_sq in zip(self._learnt, first, second, strict=True):
            step = torch.tensor(float(self._taken))
            self._adam.state[parameter] = {
                "step": step,
                "exp_avg": exp_avg,
                "exp_avg_sq": exp_avg_sq,
            }

    def take_state_of_first(self) -> None:
        """Start where the first rank starts."""
        if self._ranks.count == 1:
            return
        shared: Arrays = {}
        for name, values in self.state().items():
            here = torch.from_numpy(np.asarray(values, dtype=np.float64)).to(self.device)
            shared[name] = self._ranks.from_first(here).cpu().numpy()
        self.restore(shared)


def _dp_sgd_mechanism(run: Run, index: int) -> PoissonSubsampledGaussianMechanism:
    mechanism = run.mechanisms[index]
    if not isinstance(mechanism, PoissonSubsampledGaussianMechanism):
        raise UnsupportedMechanism(
            f"DP-SGD was refused for mechanism {index} of kind {mechanism.kind!r}: it needs a "
            "Poisson-subsampled Gaussian one. Check the order of the generator's STAGES."
        )
    return mechanism
