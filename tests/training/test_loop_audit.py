"""The audit of the DP-SGD loop spares the loop that we ship and accuses every broken one."""

import numpy as np
import pytest
import torch

from training import dp_sgd, person_gradients
from training.loop_audit import audit_loop
from training.noisy_optimizer import PersonOptimizer
from training.person_batches import PersonBatch
from training.randomness import PrivacyRandomness


def audited(seed=0):
    return audit_loop(rng=np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(3))
def test_the_loop_that_we_ship_is_sound(seed):
    """False alarm: 8 checks at 1e-5 for each seed."""
    found = audited(seed)
    assert found.failed == (), found.checks
    assert found.bound.max_certifiable > 2 * found.epsilon_claimed  # a broken loop could show


def noise_off(monkeypatch):
    monkeypatch.setattr(PersonOptimizer, "_noised", lambda _, total: total)


def noise_divided_twice(monkeypatch):
    def noised(self, total):
        honest = self._randomness.noised(total, self.noise_multiplier * self.max_grad_norm)
        return total + (honest - total) / self.expected_batch_size

    monkeypatch.setattr(PersonOptimizer, "_noised", noised)


def a_tenth_less_noise(monkeypatch):
    def noised(self, total):
        return self._randomness.noised(total, 0.9 * self.noise_multiplier * self.max_grad_norm)

    monkeypatch.setattr(PersonOptimizer, "_noised", noised)


def the_same_noise_in_every_step(monkeypatch):
    kept = {}

    def noised(self, total):
        if self not in kept:
            kept[self] = self._randomness.noised(total, self.noise_multiplier) - total
        return total + kept[self]

    monkeypatch.setattr(PersonOptimizer, "_noised", noised)


def noise_bounded_at_one_and_a_half_deviations(monkeypatch):
    def noised(self, total):
        scale = self.noise_multiplier * self.max_grad_norm
        drawn = torch.from_numpy(self._randomness.normal(total.numel()))
        return total + scale * drawn.clamp(-1.5, 1.5) * 1.15  # about the declared variance

    monkeypatch.setattr(PersonOptimizer, "_noised", noised)


def clipping_off(monkeypatch):
    monkeypatch.setattr(person_gradients.Clip, "factors", lambda _, norms: torch.ones_like(norms))


def shuffled_batches(monkeypatch):
    """Everybody once per epoch, in batches of one size, as a data loader deals them."""
    left = {}

    def batch(self, population, sampling_rate):
        size = max(1, round(population * sampling_rate))
        cards = left.get(self, np.zeros(0, np.int64))
        if len(cards) < size:
            cards = np.random.default_rng().permutation(population)
        left[self] = cards[size:]
        return np.sort(cards[:size]).astype(np.int64)

    monkeypatch.setattr(PrivacyRandomness, "poisson_batch", batch)


def batches_of_one_size(monkeypatch):
    def batch(self, population, sampling_rate):
        size = max(1, round(population * sampling_rate))
        return np.sort(np.argsort(self.uniform(population))[:size]).astype(np.int64)

    monkeypatch.setattr(PrivacyRandomness, "poisson_batch", batch)


def some_persons_more_often(monkeypatch):
    """Weighted sampling, as for balanced classes, at the declared rate on average."""

    def batch(self, population, sampling_rate):
        odds = np.where(np.arange(population) % 2, 0.5, 1.5) * sampling_rate
        return np.flatnonzero(self.uniform(population) < odds).astype(np.int64)

    monkeypatch.setattr(PrivacyRandomness, "poisson_batch", batch)


def noise_on_the_first_micro_batch_only(monkeypatch):
    """The optimizer moves after every micro-batch; only the first of a step is noised."""
    honest = PersonOptimizer._noised

    def step(self, *, share_done):
        del share_done
        units = self._randomness.poisson_batch(len(self._own), self._mechanism.sampling_rate)
        batch = PersonBatch.choose(
            units, people=self._people, images_per_person=2, draws=1, randomness=self._randomness
        )
        monkeypatch.setattr(PersonOptimizer, "_noised", honest)
        start = 0
        while start < max(len(batch), 1):
            stop = batch.stop_that_fits(start, self._size) if len(batch) else 1
            if len(batch):
                self.optimizer.add(self._clipped_sum(batch, start, stop))
            self.optimizer.step()
            monkeypatch.setattr(PersonOptimizer, "_noised", lambda _, total: total)
            start = stop

    monkeypatch.setattr(dp_sgd.Trainer, "step", step)


def noise_on_the_sum_of_the_first_micro_batch_only(monkeypatch):
    """One update a step, but what later micro-batches add replaces what was noised."""
    honest = PersonOptimizer._noised
    calls = {}

    def noised(self, total):
        calls[self] = calls.get(self, 0) + 1
        return honest(self, total) if calls[self] == 1 else total

    monkeypatch.setattr(PersonOptimizer, "_noised", noised)


def data_derived_normalisation(monkeypatch):
    """Records are centred and scaled by everybody's mean and deviation."""
    begin, examples = dp_sgd.Trainer.__init__, dp_sgd.Trainer._examples

    def started(self, network, objective, *, people, **others):
        begin(self, network, objective, people=people, **others)
        (values,) = objective.examples(people.order)
        self._centre, self._spread = values.mean(0), values.std()

    def normalised(self, records):
        (values,) = examples(self, records)
        return ((values - self._centre) / self._spread,)

    monkeypatch.setattr(dp_sgd.Trainer, "__init__", started)
    monkeypatch.setattr(dp_sgd.Trainer, "_examples", normalised)


BROKEN = {
    noise_off: {"noise_size", "epsilon"},
    noise_divided_twice: {"noise_size", "epsilon"},
    a_tenth_less_noise: {"noise_size"},
    the_same_noise_in_every_step: {"noise_is_fresh"},
    noise_bounded_at_one_and_a_half_deviations: {"noise_shape"},
    clipping_off: {"sensitivity", "epsilon"},
    shuffled_batches: {"batch_sizes", "entries_per_person"},
    batches_of_one_size: {"batch_sizes"},
    some_persons_more_often: {"entries_per_person"},
    noise_on_the_first_micro_batch_only: {"one_update_per_charged_step", "noise_size", "epsilon"},
    noise_on_the_sum_of_the_first_micro_batch_only: {"noise_size", "epsilon"},
    data_derived_normalisation: {"sensitivity"},
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_loop_is_accused_of_what_is_broken(broken, monkeypatch):
    broken(monkeypatch)
    assert set(audited().failed) >= BROKEN[broken]


def test_updates_outside_a_step_are_seen():
    """A loop that trains once more without noise after the charged steps is caught."""

    def train(network, objective, **others):
        mechanism = dp_sgd.train(network, objective, **others)
        adam = torch.optim.Adam(network.parameters())
        adam.zero_grad()
        objective.loss(network, objective.examples(others["people"].order)).sum().backward()
        adam.step()
        return mechanism

    found = audit_loop(rng=np.random.default_rng(0), train=train)
    assert "one_update_per_charged_step" in found.failed
