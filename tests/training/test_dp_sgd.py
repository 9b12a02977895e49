"""DP-SGD: one clipped gradient per person, noise that is always there, steps that were charged."""

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from torch import nn

from privacy.errors import InvalidParameter, ReservationExceeded, UnsupportedMechanism
from privacy.mechanisms import (
    DpSgdStage,
    GaussianMechanism,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
)
from privacy.planning import plan_mechanisms
from training import dp_sgd
from training.checkpoints import Progress
from training.networks import ConditionalUnet
from training.person_batches import PersonBatch
from training.randomness import PrivacyRandomness
from training.ranks import Ranks
from training.records import PersonIndex
from training.run import LocalRun

INPUTS = 5


class Regression:
    """Squared error of fixed inputs and targets: an objective without noise of its own."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def examples(self, records):
        return self.inputs[records], self.targets[records]

    def loss(self, network, examples):
        inputs, targets = examples
        return torch.square(network(inputs) - targets).sum(dim=1)


def _network(dtype=torch.float32):
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(INPUTS, 8), nn.GroupNorm(2, 8), nn.SiLU(), nn.Linear(8, 2)).to(
        dtype
    )


def _mechanism(*, steps=3, rate=0.5, noise=1.0):
    return PoissonSubsampledGaussianMechanism(
        stage="dp_sgd", noise_multiplier=noise, sampling_rate=rate, steps=steps
    )


def _trainer(network, objective, persons, **changes):
    settings = dp_sgd.DpSgdSettings(
        **{"expected_batch_size": 4, "images_per_person": 99, "physical_batch": 16} | changes
    )
    return dp_sgd.Trainer(
        network,
        objective,
        people=PersonIndex.of(persons),
        mechanism=_mechanism(),
        settings=settings,
        ranks=Ranks(),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own, at its first import
def test_the_setting_compiles_the_pass_and_leaves_the_sum_as_it_is():
    persons = np.repeat(np.arange(12), 2)
    objective, sums = _regression(len(persons)), []
    torch._dynamo.utils.counters.clear()
    for compiled in (False, True):
        trainer = _trainer(
            _network(), objective, persons, physical_batch=8, clipping="plain", compiled=compiled
        )
        trainer.accumulate(np.arange(12))
        sums.append(trainer.optimizer.clipped_sum)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert torch.allclose(*sums, rtol=1e-4, atol=1e-6)


def _persons_of_1_2_and_50_images():
    return np.repeat(np.arange(4), [1, 2, 50, 2])


def _regression(count, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, INPUTS, generator=generator)
    return Regression(inputs, scale * torch.randn(count, 2, generator=generator))


def _naive_sum(network, objective, persons, *, clip, draws=1):
    """Sum the persons' clipped gradients in float64, one person and one record after another."""
    network = network.double()
    total = 0.0
    for person in np.unique(persons):
        own = np.flatnonzero(persons == person)
        gradient = 0.0
        for record in np.repeat(own, draws):
            network.zero_grad()
            inputs, targets = objective.examples(np.array([record]))
            objective.loss(network, (inputs.double(), targets.double())).sum().backward()
            flat = torch.cat([p.grad.flatten() for p in network.parameters()])
            gradient = gradient + flat / (len(own) * draws)
        total = total + gradient * min(1.0, clip / float(gradient.norm()))
    return total


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("physical_batch", [1, 3, 7, 1000])
def test_sum_equals_a_naive_float64_loop_however_persons_fall_into_micro_batches(
    physical_batch, draws
):
    persons, network = _persons_of_1_2_and_50_images(), _network()
    objective = _regression(len(persons))
    trainer = _trainer(
        network,
        objective,
        persons,
        clipping="plain",
        physical_batch=physical_batch,
        noise_draws=draws,
    )
    trainer.accumulate(np.arange(4))
    expected = _naive_sum(_network(), objective, persons, clip=1.0, draws=draws)
    assert torch.allclose(trainer.optimizer.clipped_sum, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clipping", ["plain", "automatic"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e18, float("inf"), float("nan")])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_adding_a_person_changes_the_sum_by_at_most_the_clip(count, scale, clipping):
    persons = np.concatenate([_persons_of_1_2_and_50_images(), np.full(count, 9)])
    objective = _regression(len(persons))
    objective.targets[-count:] *= scale
    sums = []
    for batch in (np.arange(4), np.arange(5)):
        trainer = _trainer(
            _network(), objective, persons, clipping=clipping, max_grad_norm=0.3, physical_batch=9
        )
        trainer.accumulate(batch)
        sums.append(trainer.optimizer.clipped_sum.clone())
    assert torch.isfinite(sums[1]).all()
    assert float((sums[1] - sums[0]).norm()) <= 0.3 * (1 + 1e-6)


@pytest.mark.parametrize("way", ["captured", "vmap"])
def test_a_sum_carries_no_graph_that_would_keep_earlier_batches_in_memory(way):
    trainer = _trainer(_network(), _regression(4), np.arange(4), gradients=way)
    trainer.accumulate(np.arange(4))
    assert not trainer.optimizer.clipped_sum.requires_grad


def test_no_more_than_the_stated_images_of_a_person_are_used_in_a_step():
    persons = _persons_of_1_2_and_50_images()
    batch = PersonBatch.choose(
        np.arange(4),
        people=PersonIndex.of(persons),
        images_per_person=2,
        draws=3,
        randomness=PrivacyRandomness(),
    )
    assert np.diff(batch.starts).tolist() == [1, 2, 2, 2]
    assert len(np.unique(batch.images)) == 7
    rows = batch.micro_batch(0, 4, padded_to=30, like=torch.zeros(1))
    assert len(rows.records) == 30
    assert float(rows.lines.weights[:3].sum()) == pytest.approx(1)
    assert float(rows.lines.weights.sum()) == pytest.approx(4)


def _steps_from(persons, batch, *, noise, count, expected=4):
    """Return the gradients handed to Adam in `count` steps on one batch, weights held still."""
    network = _network()
    trainer = _trainer(network, _regression(len(persons)), persons, expected_batch_size=expected)
    trainer.optimizer.noise_multiplier = noise
    gradients = []
    for _ in range(count):
        trainer.accumulate(batch)
        trainer.optimizer.pre_step()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    return torch.stack(gradients)


def test_an_empty_batch_still_adds_noise_of_the_stated_size():
    persons = _persons_of_1_2_and_50_images()
    gradients = _steps_from(persons, np.zeros(0, np.int64), noise=3.0, count=300)
    # 300 steps of 82 parameters: the standard error is 0.45 %; noise 3 · clip 1 / batch 4.
    assert float(gradients.std()) == pytest.approx(3.0 / 4, rel=0.025)


def test_a_full_batch_gets_the_same_noise_as_an_empty_one():
    persons = _persons_of_1_2_and_50_images()
    gradients = _steps_from(persons, np.arange(4), noise=3.0, count=300)
    assert float((gradients - gradients.mean(0)).std()) == pytest.approx(3.0 / 4, rel=0.025)


def test_sums_are_divided_by_the_expected_batch_size_not_by_how_many_came():
    persons = np.arange(40)
    one, many = (
        _steps_from(persons, np.arange(n), noise=1e-9, count=1, expected=8)[0] for n in (1, 40)
    )
    trainer = _trainer(_network(), _regression(40), persons)
    trainer.accumulate(np.arange(40))
    assert torch.allclose(many.double() * 8, trainer.optimizer.clipped_sum, atol=1e-5)
    assert float(one.norm()) <= 1 / 8 + 1e-6


def _train(run, network=None, *, kept=None, persons=None):
    persons = np.arange(30) if persons is None else persons
    network = _network() if network is None else network
    mechanism = dp_sgd.train(
        network,
        _regression(len(persons)),
        people=PersonIndex.of(persons),
        index=0,
        settings=dp_sgd.DpSgdSettings(expected_batch_size=15),
        run=run,
        kept=kept or Progress(run),
    )
    return network, mechanism


def test_training_takes_exactly_the_reserved_steps_and_returns_the_mechanism_it_ran():
    run = LocalRun([_mechanism(steps=9)])
    _, mechanism = _train(run)
    assert run.charges == [9]
    assert mechanism == run.mechanisms[0]


def test_two_trainings_of_the_same_records_differ():
    first, second = (_train(LocalRun([_mechanism()]))[0] for _ in range(2))
    assert not torch.equal(first[0].weight, second[0].weight)


class StoppedRun(LocalRun):
    """Stops after a number of progress reports, and refuses to show a step that is not charged."""

    stop_after = 10**9
    seen = 0

    def progress(self, stage, step, total, *, public_metrics=None):
        assert step <= self.charges[0]
        self.seen += 1
        if self.seen > self.stop_after:
            raise KeyboardInterrupt


def test_every_step_was_charged_before_it_ran():
    _train(StoppedRun([_mechanism(steps=12)]))


def test_a_resume_takes_only_the_steps_still_reserved_and_goes_on_from_the_checkpoint():
    run = StoppedRun([_mechanism(steps=40)])
    run.stop_after = 7
    with pytest.raises(KeyboardInterrupt):
        _train(run)
    charged = run.charges[0]
    assert 0 < charged < 40
    kept = run.load_checkpoint()
    assert int(kept["dp_sgd_0/taken"]) <= charged
    run.stop_after, run.seen = 10**9, 0
    _, mechanism = _train(run)
    assert run.charges == [40]
    assert mechanism.steps == 40
    assert (
        int(run.load_checkpoint()["dp_sgd_0/taken"]) == int(kept["dp_sgd_0/taken"]) + 40 - charged
    )
    with pytest.raises(ReservationExceeded):
        run.charge(0, 1)


def test_checkpoints_hold_no_state_of_any_random_stream():
    run = LocalRun([_mechanism()])
    _train(run)
    assert {name.rpartition("/")[2] for name in run.checkpoint} == {
        "weights",
        "average",
        "first_moment",
        "second_moment",
        "taken",
    }


def test_a_network_that_normalises_over_the_batch_is_refused_with_the_reason():
    network = nn.Sequential(nn.Linear(INPUTS, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    run = LocalRun([_mechanism()])
    with pytest.raises(InvalidParameter, match=r"BatchNorm1d.*Use GroupNorm"):
        _train(run, network)
    assert run.charges == [0]


def test_a_mechanism_of_another_kind_is_refused():
    with pytest.raises(UnsupportedMechanism, match="STAGES"):
        _train(LocalRun([GaussianMechanism(stage="s", noise_multiplier=1)]))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 40), (28, 28), (9, 13)])
def test_the_network_treats_records_one_by_one_at_every_size(height, width):
    torch.manual_seed(0)
    network = ConditionalUnet(height=height, width=width, channels=2, conditions=6, features=16)
    nn.init.normal_(network.leave.weight)
    images, conditions = torch.randn(3, 2, height, width), torch.randn(3, 6)
    together = network(images, conditions)
    assert together.shape == (3, 1, height, width)
    assert torch.allclose(together[1:2], network(images[1:2], conditions[1:2]), atol=1e-3)


class Scarce(Regression):
    """Runs out of memory whenever more rows come at once than `room`."""

    def __init__(self, inputs, targets, *, room, error):
        super().__init__(inputs, targets)
        self.room, self.error, self.sizes = room, error, []

    def loss(self, network, examples):
        rows = len(examples[0])
        self.sizes.append(rows)
        if rows > self.room:
            raise self.error
        return super().loss(network, examples)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_scarce_memory_shrinks_the_physical_batch_and_never_the_logical_one(error):
    persons = _persons_of_1_2_and_50_images()
    plenty = _regression(len(persons))
    scarce = Scarce(plenty.inputs, plenty.targets, room=3, error=error)
    sums = []
    for objective in (plenty, scarce):
        trainer = _trainer(_network(), objective, persons, physical_batch=64, gradients="captured")
        trainer.accumulate(np.arange(4))
        sums.append(trainer.optimizer.clipped_sum)
    assert torch.allclose(*sums, rtol=1e-4, atol=1e-6)
    # Halved from 64 to 2, each size tried once: what did not fit is not tried again.
    assert sum(size > 3 for size in scarce.sizes) <= 5


def test_memory_for_not_even_one_image_ends_with_advice():
    objective = Scarce(*vars(_regression(4)).values(), room=0, error=MemoryError())
    with pytest.raises(MemoryError, match="Choose fewer features"):
        _trainer(_network(), objective, np.arange(4), gradients="captured").accumulate(np.arange(4))


def test_other_errors_of_an_objective_are_not_taken_for_scarce_memory():
    objective = Scarce(*vars(_regression(4)).values(), room=0, error=RuntimeError("wrong shape"))
    trainer = _trainer(_network(), objective, np.arange(4), gradients="captured")
    with pytest.raises(RuntimeError, match="wrong shape"):
        trainer.accumulate(np.arange(4))


def test_what_may_come_out_of_a_step_is_one_lattice_whatever_the_records():
    """All persons or none: sum plus noise is a multiple of the same power of two."""
    trainer = _trainer(_network(), _regression(4, scale=1e3), np.arange(4))
    grid = 2.0**-34  # noise 1 · clip 1
    for batch in (np.arange(4), np.arange(0)):
        trainer.accumulate(batch)
        noisy = trainer.optimizer._noised(trainer.optimizer.clipped_sum)
        assert torch.equal(noisy, torch.round(noisy / grid) * grid)
        assert not torch.equal(noisy, torch.round(noisy / grid / 2) * grid * 2)


@pytest.mark.parametrize("noise_draws", [1, 3])
def test_vmap_and_captured_gradients_train_alike(noise_draws):
    persons = _persons_of_1_2_and_50_images()
    sums = []
    for way in ("captured", "vmap"):
        trainer = _trainer(
            _network(), _regression(len(persons)), persons, gradients=way, noise_draws=noise_draws
        )
        trainer.accumulate(np.arange(4))
        sums.append(trainer.optimizer.clipped_sum)
    assert torch.allclose(*sums, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", [0.5, 1.0, 3.0, 10.0])
def test_noise_planned_for_a_target_meets_it_by_a_second_accountant(target):
    """Planned by PLD; RDP, computed independently, may only see a little more, never less than half."""
    accounted = []
    (mechanism,) = plan_mechanisms(
        (DpSgdStage(stage="dp_sgd", steps=100, expected_batch_size=200),),
        config={},
        target=PrivacyTarget(epsilon=target, delta=1e-5),
        public_train_count=2000,
    )
    for accountant in (PLDAccountant(), RdpAccountant()):
        event = PoissonSampledDpEvent(
            mechanism.sampling_rate, GaussianDpEvent(mechanism.noise_multiplier)
        )
        accountant.compose(SelfComposedDpEvent(event, mechanism.steps))
        accounted.append(accountant.get_epsilon(1e-5))
    by_pld, by_rdp = accounted
    assert 0.97 * target <= by_pld <= target
    assert by_pld <= by_rdp <= 1.25 * target


def test_noise_of_the_optimizer_comes_from_the_privacy_stream():
    assert isinstance(
        _trainer(_network(), _regression(4), np.arange(4))._randomness, PrivacyRandomness
    )
