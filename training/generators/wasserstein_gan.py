"""Wasserstein GAN: a critic under DP-SGD tells a generator what its images lack.

**Idea.** Three one-shot Gaussian releases give a class-conditional Gaussian (as in the *statistics*
generator). A generator network, starting at zero, corrects what is drawn from it. A small critic
learns under DP-SGD to tell real images from the generator's, and the generator follows the critic.
Only the critic meets records: the generator learns from the critic's noised weights, which is free,
and so is a warm-up of both on procedural images. The critic takes several steps per generator step,
more when its accuracy on synthetic images falls. It is the family of generators with which this
work began, kept for comparison. Do not expect much: at the sizes that two processor cores train, the
generator follows the noise in the critic as well as its signal, and on phantoms and MNIST its images
taught a classifier no more than the Gaussian's own. Prefer *diffusion* or *statistics*.

**Sensitivity.** The releases: one clipped table per person. DP-SGD: a person's loss is the mean
over their images of critic(fake) - critic(real) + λ (‖∇critic‖ - 1)², the slope taken between that
real image and a synthetic one. The penalty needs the real image, so it is inside the same loss: its
gradient is a derivative of a derivative, and is part of the one gradient per person that is clipped
and noised. Nothing computed from records is left outside. The critic's loss, its estimate of the
Wasserstein distance and its scores of records are *not* private and are never shown; its accuracy on
synthetic images, which decides when the generator moves, is.

**Sources.** Gulrajani et al. 2017, arXiv:1704.00028 (gradient penalty); Bie et al. 2023,
arXiv:2302.02936 (many critic steps per generator step, adaptively); Shrivastava et al. 2017,
arXiv:1612.07828 (refining simulated images); Miyato and Koyama 2018, arXiv:1802.05637 (labels);
Abadi et al. 2016, arXiv:1607.00133 (DP-SGD).
"""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from privacy.manifests import DatasetSchema
from privacy.mechanisms import Mechanism
from training import dp_sgd, wasserstein
from training.checkpoints import Arrays, Progress
from training.class_gaussian import ClassGaussian
from training.correction import Corrector
from training.critic_game import Distance, Fakes, warm_up
from training.dealing import DealtSamples
from training.devices import compute_device
from training.generator_turns import GeneratorTurns, TurnSettings
from training.generators import SampleProgress
from training.gradient_sizes import GradientSizes
from training.moments import MomentSettings, fit_moments
from training.networks import ConditionalUnet
from training.randomness import reproducible, reproducible_torch
from training.records import TrainingRecords, decode, encode
from training.run import Run
from training.spectrum import to_coefficients
from training.teacher import Teacher, confidence, fit_teacher
from training.wasserstein_options import FREE_STEPS, PRESETS, STAGES, Config

__all__ = ["FREE_STEPS", "PRESETS", "STAGES", "Config", "Fitted", "fit", "from_state"]

_IMAGES_AT_ONCE = 200
_GRADIENTS_AT_ONCE = 32
_DP_SGD_INDEX = 3
_TURNS = "generator"
_GRID_PER_LABEL = 6


@dataclass(frozen=True, eq=False)
class Fitted(DealtSamples):
    """A Gaussian, the network that corrects what is drawn from it, and the critic it followed."""

    config: Config
    schema: DatasetSchema
    model: ClassGaussian
    network: nn.Module
    critic: nn.Module
    mechanisms: tuple[Mechanism, ...] = ()
    teacher: Teacher | None = None
    corrector: Corrector = field(init=False)

    def __post_init__(self) -> None:
        """Derive what draws images."""
        corrector = Corrector(
            self.model, self.network, schema=self.schema, texture=self.config.texture
        )
        object.__setattr__(self, "corrector", corrector)

    @torch.no_grad()
    def drawn(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Draw without the teacher."""
        rng, generator = reproducible(seed), reproducible_torch(seed)
        parts = [np.zeros((0, self.schema.height, self.schema.width), dtype=np.float32)]
        for start in range(0, len(labels), _IMAGES_AT_ONCE):
            block = np.asarray(labels[start : start + _IMAGES_AT_ONCE], dtype=np.int64)
            images = self.corrector.draw(block, rng=rng, generator=generator)
            parts.append(self.corrector.unscaled(images, block))
            if progress is not None:
                progress(start + len(block), len(labels))
        return decode(np.concatenate(parts), self.schema)

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return attack scores per record (N,); higher = more likely a member.

        `critic` is the critic's score, which training raised on members; `log_density` is the
        Gaussian's, `teacher_confidence` the teacher's.
        """
        del seed  # both are exact, nothing is drawn
        scores, densities = [np.zeros(0)], [np.zeros(0)]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            values = encode(images[start : start + _IMAGES_AT_ONCE], self.schema)
            block = np.asarray(labels[start : start + _IMAGES_AT_ONCE], dtype=np.int64)
            with torch.no_grad():
                seen, hot = self.corrector.scaled(values, block), self.corrector.hot(block)
                scores.append(self.critic(seen, hot).cpu().double().numpy())
            densities.append(self.model.log_density(to_coefficients(values), block))
        own = {"critic": np.concatenate(scores), "log_density": np.concatenate(densities)}
        return own | confidence(self.teacher, images, labels)

    def gradients(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> NDArray[np.float64]:
        """Return log norms of the critic's gradient at each record (N, F), the whole one first."""
        del seed  # exact, nothing is drawn
        sizes = GradientSizes(self.critic, lambda critic, examples: -critic(*examples))
        parts = []
        for start in range(0, len(images), _GRADIENTS_AT_ONCE):
            values = encode(images[start : start + _GRADIENTS_AT_ONCE], self.schema)
            block = np.asarray(labels[start : start + _GRADIENTS_AT_ONCE], dtype=np.int64)
            examples = (self.corrector.scaled(values, block), self.corrector.hot(block))
            parts.append(sizes(examples, draws=1))
        return np.concatenate(parts) if parts else np.zeros((0, 1))

    def state(self) -> Arrays:
        """Return the Gaussian's arrays, both networks' weights and the teacher's."""
        arrays: Arrays = {f"moments/{k}": v for k, v in self.model.state().items()}
        if self.teacher is not None:
            arrays |= {f"teacher/{k}": v for k, v in self.teacher.state().items()}
        for name, network in (("network", self.network), ("critic", self.critic)):
            arrays |= {f"{name}/{k}": v.cpu().numpy() for k, v in network.state_dict().items()}
        return arrays

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)

    @classmethod
    def from_state(cls, state: Arrays, *, config: Config, schema: DatasetSchema) -> Self:
        """Rebuild what `state` returned."""
        network, critic = _networks(config, schema, seed=0)
        for name, module in (("network", network), ("critic", critic)):
            weights = {k: torch.from_numpy(np.array(v)) for k, v in _under(state, name).items()}
            module.load_state_dict(weights)
        return cls(
            config=config,
            schema=schema,
            model=ClassGaussian.from_state(_under(state, "moments")),
            network=network,
            critic=critic,
            teacher=Teacher.from_state(_under(state, "teacher"), options=config, schema=schema),
        )


def from_state(state: Arrays, *, config: Config, schema: DatasetSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    return Fitted.from_state(state, config=config, schema=schema)


def fit(
    records: TrainingRecords, config: Config, *, schema: DatasetSchema, run: Run, seed: int
) -> Fitted:
    """Make the three releases, warm up on procedural images, then train critic and generator.

    `seed` sets the first weights and the warm-up only; noise and batches take no seed. Raises:
    InvalidParameter if the records contradict the schema; ReleaseLost on a resume whose released
    result is gone.
    """
    records = records.checked(schema)
    kept = Progress(run)
    moments = MomentSettings(
        mean_frequencies=config.mean_frequencies,
        covariance_coefficients=config.covariance_coefficients,
    )
    model = fit_moments(records, moments, schema=schema, run=run, kept=kept)
    network, critic = _networks(config, schema, seed=seed)
    fitted = Fitted(config=config, schema=schema, model=model, network=network, critic=critic)
    turns = _train(fitted, records, run=run, kept=kept, seed=seed)
    turns.use_average()
    fitted = replace(
        fitted,
        teacher=fit_teacher(records, config, schema=schema, run=run, kept=kept),
        mechanisms=run.mechanisms,
    )
    shown = np.repeat(np.arange(len(schema.labels)), _GRID_PER_LABEL)[:60]
    run.show_samples(fitted.sample(shown, seed=0), shown)
    return fitted


def _train(
    fitted: Fitted, records: TrainingRecords, *, run: Run, kept: Progress, seed: int
) -> GeneratorTurns:
    """Warm up, then train critic and generator in turns, or go on from a checkpoint."""
    config, corrector, critic = fitted.config, fitted.corrector, fitted.critic

    def new_turns() -> GeneratorTurns:
        return GeneratorTurns(
            fitted.network, fakes=Fakes(corrector), settings=_turn_settings(config)
        )

    # Charged steps alone say little: a run may stop before its first checkpoint of any weights.
    saved = kept.section(_TURNS)
    if not saved:
        warm_up(
            corrector,
            critic,
            new_turns(),
            steps=config.warm_up_steps,
            penalty_weight=config.penalty_weight,
            run=run,
            seed=seed,
        )
    turns = new_turns()
    if saved:
        turns.restore(saved)

    def follow(step: int) -> None:
        turns.after_critic_step(critic, share_done=step / config.steps)
        # Saved by the next checkpoint of the critic, so that the two never come from two moments.
        kept.arrays |= {f"{_TURNS}/{name}": value for name, value in turns.state().items()}

    dp_sgd.train(
        critic,
        Distance(records, corrector, penalty_weight=config.penalty_weight),
        people=records.by_person(),
        index=_DP_SGD_INDEX,
        settings=_dp_sgd_settings(config),
        run=run,
        kept=kept,
        after_step=follow,
    )
    return turns


def _networks(config: Config, schema: DatasetSchema, *, seed: int) -> tuple[nn.Module, nn.Module]:
    """Return generator network and critic at their first weights."""
    labels = len(schema.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ConditionalUnet(
            height=schema.height,
            width=schema.width,
            channels=2,
            conditions=labels,
            features=config.features,
        )
        critic = wasserstein.Critic(
            height=schema.height,
            width=schema.width,
            labels=labels,
            features=config.critic_features,
            label_share=config.label_share,
        )
    device = compute_device()
    return network.to(device), critic.to(device)


def _turn_settings(config: Config) -> TurnSettings:
    return TurnSettings(
        critic_steps=config.critic_steps,
        most_critic_steps=max(config.most_critic_steps, config.critic_steps),
        accuracy_floor=config.accuracy_floor,
        most_moves=config.generator_moves,
        learning_rate=config.generator_rate,
        ema_decay=config.ema_decay,
    )


def _dp_sgd_settings(config: Config) -> dp_sgd.DpSgdSettings:
    return dp_sgd.DpSgdSettings(
        expected_batch_size=config.expected_batch_size,
        max_grad_norm=config.max_grad_norm,
        learning_rate=config.learning_rate,
        ema_decay=config.ema_decay,
        images_per_person=config.images_per_person,
        noise_draws=config.noise_draws,
        physical_batch=config.physical_batch,
        gradients="vmap",  # the loss differentiates the critic itself
    )


def _under(state: Arrays, name: str) -> Arrays:
    return {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(f"{name}/")}
