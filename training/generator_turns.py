"""The generator's turns against a critic: when it may move, its steps, its moving average.

Nothing here sees a record. A turn uses the critic's weights, which are noised, and images that the
generator drew, so all of it is post-processing and free, also the choice of when to move.

A private critic improves slowly, and a generator that moves before the critic knows it again runs
away from it. So the critic takes several steps per turn, and the more the worse it does: where its
moving accuracy on synthetic images falls below a floor, the number of its steps per turn is doubled
(Bie et al. 2023, *Private GANs, revisited*, arXiv:2302.02936). A critic that knows every synthetic
image, on the other hand, has more to teach than one step learns: a turn is several moves, until the
accuracy has fallen to the floor.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training import wasserstein
from training.checkpoints import Arrays

Fakes = Callable[[nn.Module, int], tuple[Tensor, Tensor]]
"""Draws images (N, H, W) with the generator, with gradients, and their one-hot labels (N, L)."""

_ACCURACY_MEMORY = 0.8


@dataclass(frozen=True)
class TurnSettings:
    """How the generator moves. Nothing here matters to privacy."""

    critic_steps: int
    most_critic_steps: int
    accuracy_floor: float
    most_moves: int
    learning_rate: float
    ema_decay: float
    batch: int = 128


class GeneratorTurns:
    """A generator in training: its weights, their average, Adam's moments, steps until its turn."""

    def __init__(self, network: nn.Module, *, fakes: Fakes, settings: TurnSettings) -> None:
        self._network, self._fakes, self._settings = network, fakes, settings
        self._adam = torch.optim.Adam(
            network.parameters(), lr=settings.learning_rate, betas=(0.5, 0.99)
        )
        self._average = [p.detach().clone() for p in network.parameters()]
        self.taken = 0
        self.critic_steps = settings.critic_steps
        self._waited, self._accuracy = 0, 1.0

    def after_critic_step(self, critic: nn.Module, *, share_done: float) -> None:
        """Count a step of the critic, and move if that makes it the generator's turn."""
        self._waited += 1
        if self._waited < self.critic_steps:
            return
        self._waited = 0
        rate = max(1.0 - share_done, 0.1)
        before = self.move(critic, rate=rate)
        self._watch(before)
        for _ in range(self._settings.most_moves - 1):
            if before < self._settings.accuracy_floor:
                break
            before = self.move(critic, rate=rate)

    def move(self, critic: nn.Module, *, rate: float = 1.0) -> float:
        """Take one step towards higher scores; return the critic's accuracy on fakes before it."""
        parameters = list(self._network.parameters())
        fake, labels = self._fakes(self._network, self._settings.batch)
        scores = critic(fake, labels)
        # Gradients of the generator alone: the critic's are made by DP-SGD and nothing else.
        gradients = torch.autograd.grad(-scores.mean(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self._adam.param_groups:
            group["lr"] = self._settings.learning_rate * rate
        self._adam.step()
        self.taken += 1
        decay = min(self._settings.ema_decay, self.taken / (self.taken + 9.0))
        for average, parameter in zip(self._average, parameters, strict=True):
            average.lerp_(parameter.detach(), 1.0 - decay)
        return wasserstein.accuracy_on_fakes(scores.detach())

    def _watch(self, accuracy: float) -> None:
        self._accuracy += (1.0 - _ACCURACY_MEMORY) * (accuracy - self._accuracy)
        if self._accuracy < self._settings.accuracy_floor:
            self.critic_steps = min(2 * self.critic_steps, self._settings.most_critic_steps)
            self._accuracy = 1.0

    def use_average(self) -> None:
        """Put the moving average into the network for good."""
        with torch.no_grad():
            for parameter, value in zip(self._network.parameters(), self._average, strict=True):
                parameter.copy_(value)

    def state(self) -> Arrays:
        """Return what a resume needs: made of noised gradients; no random stream is in it."""
        arrays: Arrays = {
            "taken": np.array(self.taken),
            "critic_steps": np.array(self.critic_steps),
            "waited": np.array(self._waited),
            "accuracy": np.array(self._accuracy),
        }
        for number, parameter in enumerate(self._network.parameters()):
            moments = self._adam.state.get(parameter, {})
            zero = torch.zeros_like(parameter)
            arrays |= {
                f"weight/{number}": _array(parameter),
                f"average/{number}": _array(self._average[number]),
                f"first_moment/{number}": _array(moments.get("exp_avg", zero)),
                f"second_moment/{number}": _array(moments.get("exp_avg_sq", zero)),
            }
        return arrays

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned."""
        self.taken, self.critic_steps = int(state["taken"]), int(state["critic_steps"])
        self._waited, self._accuracy = int(state["waited"]), float(state["accuracy"])
        for number, parameter in enumerate(self._network.parameters()):
            with torch.no_grad():
                parameter.copy_(_tensor(state[f"weight/{number}"]))
            self._average[number] = _tensor(state[f"average/{number}"]).to(parameter.device)
            self._adam.state[parameter] = {
                "step": torch.tensor(float(self.taken)),
                "exp_avg": _tensor(state[f"first_moment/{number}"]).to(parameter.device),
                "exp_avg_sq": _tensor(state[f"second_moment/{number}"]).to(parameter.device),
            }


def _array(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values.detach().cpu().numpy(), dtype=np.float32)


def _tensor(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
