"""DP-SGD over persons: couples Poisson sampling, clipping, noise and the charge in one loop.

The only place that uses Opacus: its validator looks at the network, and `PersonOptimizer` extends
its `DPOptimizer`. Per-record gradients come from `torch.func`, which for these networks is faster
than Opacus' hooks and needs none. What Opacus leaves to its callers is settled here:

- One gradient per *person*: all images and noise draws of a person are averaged before clipping,
  also when they are spread over several micro-batches.
- Batches are Poisson samples of persons; sums are divided by the public expected batch size, never
  by how many came; an empty batch adds noise and steps like any other.
- A person whose gradient is not finite adds nothing.
- Noise and batches come from `PrivacyRandomness`; a resumed run draws fresh ones.
- Steps are charged in blocks before they run.

Abadi et al. 2016, arXiv:1607.00133; automatic clipping: Bu et al. 2022, arXiv:2206.07136.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from privacy.errors import InvalidParameter, UnsupportedMechanism
from privacy.mechanisms import PoissonSubsampledGaussianMechanism
from training.checkpoints import Arrays, Progress
from training.randomness import PrivacyRandomness
from training.records import PersonIndex
from training.run import Run

Examples = tuple[Tensor, ...]
AfterBlock = Callable[[nn.Module, int], None]
AfterStep = Callable[[int], None]

# Float32 norms are exact to far better than this, so that rounding cannot exceed the clip.
_ROUNDING_SLACK = 1e-5
_AUTOMATIC_STABILITY = 0.01
_FIRST_BLOCK_STEPS = 4
_BLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class DpSgdSettings:
    """How to train. Only `expected_batch_size` and `max_grad_norm` matter to privacy."""

    expected_batch_size: int
    max_grad_norm: float = 1.0
    clipping: Literal["plain", "automatic"] = "automatic"
    learning_rate: float = 1e-3
    ema_decay: float = 0.97
    images_per_person: int = 2
    noise_draws: int = 1
    physical_batch: int = 128


class PersonOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus ships no types
    """Clips one averaged gradient per person; noises from OS entropy; divides by a constant."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        settings: DpSgdSettings,
        randomness: PrivacyRandomness,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=settings.max_grad_norm,
            expected_batch_size=settings.expected_batch_size,
        )
        self._settings, self._randomness = settings, randomness
        self._total = torch.zeros(sum(p.numel() for p in self.params), dtype=torch.float64)
        self._open: Tensor | None = None

    def accumulate(self, person: Tensor, *, last_is_open: bool) -> None:
        """Take the micro-batch just run backward.

        `person` (R,) numbers the records' persons from 0, without gaps and in order; person 0 goes
        on from the micro-batch before if that one was left open. Each record's loss must carry the
        weight 1 / (number of the person's records in this step).
        """
        records = torch.cat([g.flatten(1) for g in self.grad_samples], dim=1).float()  # (R, P)
        persons = records
        if int(person[-1]) + 1 < len(person):
            persons = torch.zeros(int(person[-1]) + 1, records.shape[1])
            persons.index_add_(0, person, records)
        if self._open is not None:
            persons[0] += self._open
            self._open = None
        if last_is_open:
            self._open = persons[-1].clone()
            persons = persons[:-1]
        self._total += self.clipped_sum(persons).double()
        for parameter in self.params:
            parameter.grad_sample = None

    def clipped_sum(self, gradients: Tensor) -> Tensor:
        """Scale each row to an L2 norm of at most `max_grad_norm`, drop rows not finite, and sum.

        Shapes: (persons, parameters) -> (parameters,).
        """
        norms = torch.linalg.vector_norm(gradients, dim=1)
        is_finite = torch.isfinite(norms)
        if not bool(is_finite.all()):
            gradients, norms = gradients[is_finite], norms[is_finite]
        limit = self.max_grad_norm * (1 - _ROUNDING_SLACK)
        if self._settings.clipping == "automatic":
            factors = limit / (norms + _AUTOMATIC_STABILITY)
        else:
            factors = limit / norms.clamp(min=limit)
        return torch.mv(gradients.T, factors)

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Noise and scale what was accumulated since the last step, be it nothing."""
        del closure
        if self._open is not None:
            raise RuntimeError("A DP-SGD step was refused: a person's gradient is incomplete.")
        self.add_noise()
        self.scale_grad()
        self._total.zero_()
        return True

    def add_noise(self) -> None:
        """Add noise of standard deviation noise_multiplier · max_grad_norm to the sum."""
        noise = torch.from_numpy(self._randomness.normal(self._total.numel()))
        noisy = (self._total + self.noise_multiplier * self.max_grad_norm * noise).float()
        for parameter, part in zip(
            self.params, noisy.split([p.numel() for p in self.params]), strict=True
        ):
            parameter.grad = part.view_as(parameter).clone()

    def scale_grad(self) -> None:
        """Divide by the public expected batch size."""
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size


class Objective(Protocol):
    """What is learnt: how records become examples, and an example's loss."""

    def examples(self, records: NDArray[np.int64]) -> Examples:
        """Return tensors with one row per record; may draw noise."""

    def loss(self, network: Callable[..., Tensor], examples: Examples) -> Tensor:
        """Return one loss per example (R,), each from its own row alone."""


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
    with it is post-processing. `after_block` sees the moving average. On return the network holds the moving average of its weights. A resume goes on from the checkpoint and takes only the steps
    that are still reserved. Raises: InvalidParameter if the network mixes records.
    """
    mechanism = _dp_sgd_mechanism(run, index)
    check_network(network)
    trainer = _Trainer(network, objective, people=people, mechanism=mechanism, settings=settings)
    section = f"dp_sgd_{index}"
    if saved := kept.section(section):
        trainer.restore(saved)
    charged, block = run.charged_steps(index), _FIRST_BLOCK_STEPS
    run.progress("training", charged, mechanism.steps)
    while charged < mechanism.steps:
        block = min(block, mechanism.steps - charged)
        run.charge(index, block)
        started = time.monotonic()
        for _ in range(block):
            trainer.step(share_done=charged / mechanism.steps)
            charged += 1
            if after_step is not None:
                after_step(charged)
            run.progress("training", charged, mechanism.steps)
        seconds = max(time.monotonic() - started, 1e-3)
        kept.keep(section, trainer.state())
        if after_block is not None:
            with trainer.averaged():
                after_block(network, charged)
        block = max(1, min(2 * block, int(block * _BLOCK_SECONDS / seconds)))
    trainer.use_average()
    return mechanism.model_copy(update={"steps": charged})


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


class _Trainer:
    """Network, optimizer, moving average and privacy randomness of one DP-SGD run."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        *,
        people: PersonIndex,
        mechanism: PoissonSubsampledGaussianMechanism,
        settings: DpSgdSettings,
    ) -> None:
        self._objective, self._people, self._mechanism = objective, people, mechanism
        self._settings, self._network = settings, network
        self._randomness = PrivacyRandomness()
        self._gradients = vmap(grad(self._weighted_loss), in_dims=(None, 0, 0), randomness="error")
        self._adam = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        self.optimizer = PersonOptimizer(
            self._adam,
            noise_multiplier=mechanism.noise_multiplier,
            settings=settings,
            randomness=self._randomness,
        )
        self._average = [p.detach().clone() for p in network.parameters()]
        self._taken = 0

    def step(self, *, share_done: float) -> None:
        """Take one noisy step on a fresh Poisson batch of persons."""
        batch = self._randomness.poisson_batch(len(self._people), self._mechanism.sampling_rate)
        self.accumulate(batch)
        for group in self._adam.param_groups:
            group["lr"] = self._settings.learning_rate * max(1.0 - share_done, 0.1)
        self.optimizer.step()
        self._taken += 1
        decay = min(self._settings.ema_decay, self._taken / (self._taken + 9.0))
        for average, parameter in zip(self._average, self._network.parameters(), strict=True):
            average.lerp_(parameter.detach(), 1.0 - decay)

    def accumulate(self, batch: NDArray[np.int64]) -> None:
        """Add the clipped gradients of a batch of persons, micro-batch by micro-batch."""
        records, person, weights = self._records_of(batch)
        for start, stop in _spans(len(records), self._settings.physical_batch):
            self._fill_gradients(records[start:stop], torch.from_numpy(weights[start:stop]))
            here = person[start:stop] - person[start]
            is_open = stop < len(records) and person[stop] == person[stop - 1]
            self.optimizer.accumulate(torch.from_numpy(here), last_is_open=bool(is_open))

    def _fill_gradients(self, records: NDArray[np.int64], weights: Tensor) -> None:
        parameters = {k: p.detach() for k, p in self._network.named_parameters()}
        gradients = self._gradients(parameters, self._objective.examples(records), weights)
        for name, parameter in self._network.named_parameters():
            parameter.grad_sample = gradients[name]  # type: ignore[attr-defined]  # opacus' place

    def _weighted_loss(
        self, parameters: dict[str, Tensor], example: Examples, weight: Tensor
    ) -> Tensor:
        def network(*inputs: Tensor) -> Tensor:
            result: Tensor = functional_call(self._network, parameters, inputs)
            return result

        alone = tuple(part[None] for part in example)
        return (self._objective.loss(network, alone) * weight).sum()

    def _records_of(
        self, batch: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return record, position of its person in the batch, and weight, for each forward pass."""
        chosen = []
        for unit in batch:
            own = self._people.records_of(int(unit))
            if len(own) > self._settings.images_per_person:
                ranks = np.argsort(self._randomness.uniform(len(own)))
                own = own[ranks[: self._settings.images_per_person]]
            chosen.append(np.repeat(own, self._settings.noise_draws))
        counts = np.array([len(own) for own in chosen], dtype=np.int64)
        records = np.concatenate([*chosen, np.zeros(0, dtype=np.int64)])
        person = np.repeat(np.arange(len(batch)), counts)
        weights = np.repeat(1.0 / np.maximum(counts, 1), counts).astype(np.float32)
        return records, person, weights

    def averaged(self) -> "_Averaged":
        """Return a context in which the network holds its moving average."""
        return _Averaged(self._network, self._average)

    def use_average(self) -> None:
        """Put the moving average into the network for good."""
        _assign(self._network, self._average)

    def state(self) -> Arrays:
        """Return weights, average and Adam's moments: all made of noised gradients."""
        parameters = list(self._network.parameters())
        moments = [self._adam.state[p] for p in parameters]
        return {
            "weights": _flat([p.detach() for p in parameters]),
            "average": _flat(self._average),
            "first_moment": _flat([m["exp_avg"] for m in moments]),
            "second_moment": _flat([m["exp_avg_sq"] for m in moments]),
            "taken": np.array(self._taken, dtype=np.int64),
        }

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned."""
        parameters = list(self._network.parameters())
        _assign(self._network, _unflat(state["weights"], parameters))
        self._average = _unflat(state["average"], parameters)
        self._taken = int(state["taken"])
        first = _unflat(state["first_moment"], parameters)
        second = _unflat(state["second_moment"], parameters)
        for parameter, exp_avg, exp_avg_sq in zip(parameters, first, second, strict=True):
            step = torch.tensor(float(self._taken))
            self._adam.state[parameter] = {
                "step": step,
                "exp_avg": exp_avg,
                "exp_avg_sq": exp_avg_sq,
            }


class _Averaged:
    """Swaps the moving average into a network, and back."""

    def __init__(self, network: nn.Module, average: list[Tensor]) -> None:
        self._network, self._average = network, average
        self._own: list[Tensor] = []

    def __enter__(self) -> None:
        self._own = [p.detach().clone() for p in self._network.parameters()]
        _assign(self._network, self._average)

    def __exit__(self, *_: object) -> None:
        _assign(self._network, self._own)


def _spans(total: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, total, size):
        yield start, min(start + size, total)


def _assign(network: nn.Module, values: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), values, strict=True):
            parameter.copy_(value)


def _flat(tensors: list[Tensor]) -> NDArray[np.float32]:
    return np.asarray(torch.cat([t.flatten() for t in tensors]).numpy(), dtype=np.float32)


def _unflat(values: NDArray[Any], like: list[nn.Parameter]) -> list[Tensor]:
    flat = torch.from_numpy(np.array(values, dtype=np.float32))
    parts = torch.split(flat, [p.numel() for p in like])
    return [part.view(p.shape).clone() for part, p in zip(parts, like, strict=True)]


def _dp_sgd_mechanism(run: Run, index: int) -> PoissonSubsampledGaussianMechanism:
    mechanism = run.mechanisms[index]
    if not isinstance(mechanism, PoissonSubsampledGaussianMechanism):
        raise UnsupportedMechanism(
            f"DP-SGD was refused for mechanism {index} of kind {mechanism.kind!r}: it needs a "
            "Poisson-subsampled Gaussian one. Check the order of the generator's STAGES."
        )
    return mechanism
