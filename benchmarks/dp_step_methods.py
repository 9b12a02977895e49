"""The steps that `dp_step` compares, each as a function of no arguments on the same data."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleModuleFastGradientClipping,
)
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn

from privacy.mechanisms import PoissonSubsampledGaussianMechanism
from training.dp_sgd import DpSgdSettings, Trainer
from training.held_memory import freed_memory_held
from training.networks import ConditionalUnet
from training.person_gradients import Examples, lower_precision
from training.ranks import Ranks
from training.records import PersonIndex

METHODS = ("ours", "opacus_hooks", "opacus_ghost", "vmap", "plain")
Step = Callable[[], None]

_CONDITIONS = 26
_CLIP = 1.0
_NOISE = 1.0
_REASON_OF_KIND = {
    "opacus_hooks": "rows are taken as records",
    "opacus_ghost": "rows are taken as records; convolutions and norms are instantiated",
}


@dataclass(frozen=True)
class Case:
    """What a step works on. Every person has one image."""

    pixels: int
    noise_draws: int
    persons: int
    physical_batch: int
    features: int
    device: str
    precision: str
    compiled: bool
    seed: int

    def row(self, method: str) -> dict[str, Any]:
        """Return the fields of a result that do not depend on time."""
        fields = asdict(self)
        fields.pop("seed")
        persons = fields.pop("persons")
        parameters = sum(p.numel() for p in network(self).parameters())
        return fields | {
            "method": method,
            "dtype": fields.pop("precision"),
            "images_per_person": 1,
            "batch_persons": persons,
            "parameters": parameters,
            "clipped_unit": _REASON_OF_KIND.get(method, "person" if method != "plain" else "none"),
        }


class SquaredError:
    """An objective on rows drawn beforehand: K of them for every record."""

    def __init__(self, rows: Examples, draws: int) -> None:
        self.rows, self._draws = rows, draws

    def examples(self, records: NDArray[np.int64]) -> Examples:
        """Return the rows of records, each repeated K times in a row."""
        draw = np.arange(len(records)) % self._draws
        at = torch.from_numpy(records * self._draws + draw).to(self.rows[0].device)
        return tuple(part[at] for part in self.rows)

    def loss(self, network: Callable[..., Tensor], examples: Examples) -> Tensor:
        """Return the mean squared error of each row."""
        inputs, conditions, target = examples
        return torch.square(network(inputs, conditions)[:, 0] - target).mean(dim=(1, 2))


def network(case: Case) -> nn.Module:
    """Return the U-Net, with a last layer that is not zero, as it is once training has begun."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        net = ConditionalUnet(
            height=case.pixels,
            width=case.pixels,
            channels=2,
            conditions=_CONDITIONS,
            features=case.features,
        )
        nn.init.normal_(net.leave.weight, std=0.05)
    return net.to(case.device)


def objective(case: Case) -> SquaredError:
    """Return random rows for all persons."""
    generator = torch.Generator().manual_seed(case.seed)
    rows = case.persons * case.noise_draws
    inputs = torch.randn(rows, 2, case.pixels, case.pixels, generator=generator)
    conditions = torch.randn(rows, _CONDITIONS, generator=generator)
    target = torch.randn(rows, case.pixels, case.pixels, generator=generator)
    parts = (inputs, conditions, target)
    return SquaredError(tuple(part.to(case.device) for part in parts), case.noise_draws)


def stepper(method: str, case: Case) -> Step:
    """Return a function that takes one step."""
    if method in {"ours", "vmap"}:
        return _ours(case, way="auto" if method == "ours" else "vmap")
    return {"plain": _plain, "opacus_hooks": _hooks, "opacus_ghost": _ghost}[method](case)


def trainer(case: Case, *, way: Any, clipping: Any = "automatic", net: Any = None) -> Trainer:
    """Return our trainer on this case."""
    settings = DpSgdSettings(
        expected_batch_size=case.persons,
        max_grad_norm=_CLIP,
        clipping=clipping,
        noise_draws=case.noise_draws,
        physical_batch=case.physical_batch,
        gradients=way,
        precision=case.precision,  # type: ignore[arg-type]  # click checked the word
        compiled=case.compiled and way != "vmap",
    )
    mechanism = PoissonSubsampledGaussianMechanism(
        stage="dp_sgd", noise_multiplier=_NOISE, sampling_rate=0.5, steps=1
    )
    return Trainer(
        net or network(case),
        objective(case),
        people=PersonIndex.of(np.arange(case.persons)),
        mechanism=mechanism,
        settings=settings,
        ranks=Ranks(),
    )


def _ours(case: Case, *, way: str) -> Step:
    run = trainer(case, way=way)
    everybody = np.arange(case.persons)

    def step() -> None:
        run.accumulate(everybody)
        run.optimizer.step()

    return step


def _micro_batches(case: Case, work: SquaredError) -> list[Examples]:
    size = case.physical_batch
    rows = case.persons * case.noise_draws
    return [tuple(p[at : at + size] for p in work.rows) for at in range(0, rows, size)]


def _plain(case: Case) -> Step:
    net, work = network(case), objective(case)
    run: Any = torch.compile(net) if case.compiled else net
    is_fused = case.device == "cpu"  # as ours is
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=is_fused or None)
    batches = _micro_batches(case, work)

    def step() -> None:
        adam.zero_grad()
        for rows in batches:
            with lower_precision(torch.device(case.device), case.precision):  # type: ignore[arg-type]
                losses = work.loss(run, rows)
            (losses.sum() / (case.persons * case.noise_draws)).backward()  # type: ignore[no-untyped-call]
        adam.step()

    return step


def _hooks(case: Case) -> Step:
    net: Any = GradSampleModule(network(case))
    work = objective(case)
    optimizer = DPOptimizer(
        torch.optim.Adam(net.parameters(), lr=1e-3),
        noise_multiplier=_NOISE,
        max_grad_norm=_CLIP,
        expected_batch_size=case.persons * case.noise_draws,
    )
    batches = _micro_batches(case, work)

    def step() -> None:
        for number, rows in enumerate(batches, start=1):
            optimizer.signal_skip_step(do_skip=number < len(batches))
            with lower_precision(torch.device(case.device), case.precision):  # type: ignore[arg-type]
                losses = work.loss(net, rows)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

    return step


def _ghost(case: Case) -> Step:
    net: Any = GradSampleModuleFastGradientClipping(
        network(case), max_grad_norm=_CLIP, use_ghost_clipping=True
    )
    work = objective(case)
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.Adam(net.parameters(), lr=1e-3),
        noise_multiplier=_NOISE,
        max_grad_norm=_CLIP,
        expected_batch_size=case.persons * case.noise_draws,
    )
    batches = _micro_batches(case, work)

    def step() -> None:
        for number, rows in enumerate(batches, start=1):
            optimizer.signal_skip_step(do_skip=number < len(batches))
            with lower_precision(torch.device(case.device), case.precision):  # type: ignore[arg-type]
                losses = work.loss(net, rows)
            DPTensorFastGradientClipping(net, optimizer, losses, "mean").backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


@freed_memory_held()
def peak_bytes(method: str, case: Case) -> int:
    """Return how many bytes a second step adds at its peak; the first one warms up."""
    step = stepper(method, case)
    if case.device != "cpu":
        step()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    """Return a figure of this process from the kernel, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"The kernel does not state {field}.")


def gradient_max_error(seed: int) -> float:
    """Return the largest deviation of our clipped sum from a float64 loop, relative (ratio)."""
    case = Case(
        pixels=28,
        noise_draws=3,
        persons=6,
        physical_batch=9,
        features=16,
        device="cpu",
        precision="float32",
        compiled=False,
        seed=seed,
    )
    run = trainer(case, way="captured", clipping="plain")
    run.accumulate(np.arange(case.persons))
    net, work = network(case).double(), objective(case)
    expected = torch.zeros_like(run.optimizer.clipped_sum)
    for person in range(case.persons):
        total = torch.zeros_like(expected)
        for row in range(person * case.noise_draws, (person + 1) * case.noise_draws):
            net.zero_grad()
            alone = tuple(part[row : row + 1].double() for part in work.rows)
            work.loss(net, alone).sum().backward()  # type: ignore[no-untyped-call]
            flat = torch.cat([g.flatten() for p in net.parameters() if (g := p.grad) is not None])
            total += flat / case.noise_draws
        expected += total * min(1.0, _CLIP / float(total.norm()))
    return float((run.optimizer.clipped_sum - expected).abs().max() / expected.abs().max())
