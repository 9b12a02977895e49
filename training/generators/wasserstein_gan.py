"""Wasserstein GAN: a critic under DP-SGD teaches a generator what real images have and its lack.

**Idea.** Three one-shot Gaussian releases give a class-conditional Gaussian (as in the *statistics*
generator). A generator network, starting at zero, corrects what is drawn from it. A small critic
learns under DP-SGD to tell real images from the generator's, and the generator follows the critic.
Only the critic meets records: the generator learns from the critic's noised weights, which is free,
and so is a warm-up of both on procedural images. The critic takes several steps per generator step,
more when its accuracy on synthetic images falls. It is the family of generators with which this
work began, kept for comparison: an adversarial game wastes noisy steps that *diffusion* turns into
detail, so expect images little better than those of *statistics*, and below *diffusion*.

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

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from privacy.manifests import DatasetSchema
from privacy.mechanisms import DpSgdStage, GaussianStage, Mechanism, Stage
from training import dp_sgd, wasserstein
from training.checkpoints import Arrays, Progress
from training.class_gaussian import ClassGaussian
from training.generator_turns import GeneratorTurns, TurnSettings
from training.generators import SampleProgress
from training.moments import MomentSettings, fit_moments
from training.networks import ConditionalUnet
from training.procedural import LeafPool
from training.randomness import reproducible, reproducible_torch, unrecorded_torch
from training.records import TrainingRecords, decode, encode
from training.run import Run
from training.spectrum import to_coefficients, to_images

_IMAGES_AT_ONCE = 200
_DP_SGD_INDEX = 3
_TURNS = "generator"
_GRID_PER_LABEL = 6
_WARM_UP_POOL = 300
_WARM_UP_BATCH = 64
_WARM_UP_RATE = 1e-3


class Config(BaseModel):
    """What a data owner may set; every default was chosen on phantoms and public data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(
        default=200,
        ge=1,
        le=50_000,
        description="DP-SGD steps of the critic (count); each costs budget and time.",
    )
    expected_batch_size: int = Field(
        default=256, ge=8, le=65_536, description="Persons per DP-SGD step on average (count)."
    )
    images_per_person: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Most images of a person used in one step, drawn at random (count).",
    )
    noise_draws: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Synthetic images that each real one is compared with, averaged (count).",
    )
    critic_steps: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Steps of the critic per generator step, at first (count).",
    )
    accuracy_floor: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="Accuracy on synthetic images below which critic steps are doubled (ratio).",
    )
    most_critic_steps: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Most steps of the critic per generator step (count).",
    )
    penalty_weight: float = Field(
        default=1.0, ge=0, le=1e3, description="Weight of the gradient penalty (ratio)."
    )
    critic_features: int = Field(
        default=16, ge=4, le=256, description="Width of the critic (channels)."
    )
    features: int = Field(
        default=32, ge=16, le=256, multiple_of=8, description="Width of the generator (channels)."
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, le=1, description="The critic's first step size; it falls (ratio)."
    )
    generator_rate: float = Field(
        default=1e-3, gt=0, le=1, description="The generator's first step size; it falls (ratio)."
    )
    texture: float = Field(
        default=0.4,
        gt=0,
        le=2,
        description="Share of the Gaussian's random grain that the generator starts from (ratio).",
    )
    warm_up_steps: int = Field(
        default=200,
        ge=0,
        le=100_000,
        description="Training steps on procedural images before any record; free (count).",
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, le=1e3, description="Clipping bound of a person's gradient (L2 norm)."
    )
    ema_decay: float = Field(
        default=0.9, ge=0, lt=1, description="Decay per step of both networks' moving averages."
    )
    physical_batch: int = Field(
        default=64,
        ge=1,
        le=8192,
        description="Images in memory at once (count); no effect on privacy.",
    )
    mean_frequencies: int = Field(
        default=64, ge=4, le=512, description="Cosine frequencies per axis kept in means (count)."
    )
    covariance_coefficients: int = Field(
        default=200, ge=8, le=600, description="Cosine coefficients with a covariance (count)."
    )
    reference_noise_ratio: float = Field(
        default=5.0,
        ge=1,
        le=100,
        description="Noise of the mean image, relative to spending the whole target on it (ratio).",
    )
    class_noise_ratio: float = Field(
        default=1.9,
        ge=1,
        le=100,
        description="Noise of the class means, relative to spending the whole target (ratio).",
    )
    covariance_noise_ratio: float = Field(
        default=2.5,
        ge=1,
        le=100,
        description="Noise of the second moment, relative to spending the whole target (ratio).",
    )


STAGES: tuple[Stage, ...] = (
    GaussianStage(stage="reference", noise_ratio="reference_noise_ratio"),
    GaussianStage(stage="class_means", noise_ratio="class_noise_ratio"),
    GaussianStage(stage="covariance", noise_ratio="covariance_noise_ratio"),
    DpSgdStage(stage="dp_sgd", steps="steps", expected_batch_size="expected_batch_size"),
)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A Gaussian, the network that corrects what is drawn from it, and the critic it followed."""

    config: Config
    schema: DatasetSchema
    model: ClassGaussian
    network: nn.Module
    critic: nn.Module
    mechanisms: tuple[Mechanism, ...] = ()
    start: ClassGaussian = field(init=False)
    centre: Tensor = field(init=False)  # (L, H, W), in pixel values
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        """Derive where images start from, and the public units in which networks see them."""
        model, schema = self.model, self.schema
        grain = model.residual_variance * self.config.texture**2
        variance = model.residual_variance + (model.components**2 * model.variances[:, None]).sum(0)
        means = (model.side_weights()[..., None] * model.means).sum(axis=1)
        images = to_images(means, schema.height, schema.width)
        object.__setattr__(self, "start", replace(model, residual_variance=grain))
        object.__setattr__(self, "centre", torch.from_numpy(images.astype(np.float32)))
        object.__setattr__(self, "scale", float(np.sqrt(max(variance.mean(), 1e-8))))

    @property
    def device(self) -> torch.device:
        """Where both networks compute."""
        return next(self.network.parameters()).device

    def sample(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Draw one image per label, the same for the same seed. Shapes: (M,) -> (M, H, W)."""
        rng, generator = reproducible(seed), reproducible_torch(seed)
        parts: list[NDArray[np.floating]] = [
            np.zeros((0, self.schema.height, self.schema.width), dtype=np.float32)
        ]
        for start in range(0, len(labels), _IMAGES_AT_ONCE):
            block = np.asarray(labels[start : start + _IMAGES_AT_ONCE], dtype=np.int64)
            with torch.no_grad():
                images = self.corrected(self.network, self.drawn(block, rng, generator), block)
            parts.append((images.cpu() * self.scale + self.centre[block]).numpy())
            if progress is not None:
                progress(start + len(block), len(labels))
        return decode(np.concatenate(parts), self.schema)

    def drawn(
        self, labels: NDArray[np.int64], rng: np.random.Generator, generator: torch.Generator
    ) -> Tensor:
        """Draw what the generator network starts from: a Gaussian image and noise (M, 2, H, W)."""
        schema = self.schema
        images = to_images(self.start.draw(labels, rng), schema.height, schema.width)
        scaled = self.scaled(torch.from_numpy(images.astype(np.float32)), labels)
        noise = torch.randn(scaled.shape, generator=generator).to(scaled.device)
        return torch.stack([scaled, noise], dim=1)

    def scaled(self, images: Tensor, labels: NDArray[np.int64]) -> Tensor:
        """Return images as networks see them: away from their label's mean, in units of `scale`."""
        return ((images - self.centre[labels]) / self.scale).to(self.device)

    def corrected(self, network: nn.Module, start: Tensor, labels: NDArray[np.int64]) -> Tensor:
        """Return the generator's images, as networks see them (M, H, W), within the pixel range."""
        images = start[:, 0] + wasserstein.smooth(network(start, self.hot(labels))[:, 0])
        centre = self.centre[labels].to(images.device)
        lowest, highest = (-0.5 - centre) / self.scale, (0.5 - centre) / self.scale
        # Pixels stop at black and white; gradients do not, so that a pixel can come back.
        excess = (images - images.clamp(lowest, highest)).detach()
        return images - excess

    def hot(self, labels: NDArray[np.int64]) -> Tensor:
        """Return labels as one-hot rows (M, L)."""
        identity = torch.eye(len(self.schema.labels))
        return identity.index_select(0, torch.from_numpy(np.array(labels))).to(self.device)

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return attack scores per record (N,); higher = more likely a member.

        `critic` is the critic's score, which training raised on members; `log_density` is the
        Gaussian's.
        """
        del seed  # both are exact, nothing is drawn
        scores, densities = [np.zeros(0)], [np.zeros(0)]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            values = encode(images[start : start + _IMAGES_AT_ONCE], self.schema)
            block = np.asarray(labels[start : start + _IMAGES_AT_ONCE], dtype=np.int64)
            with torch.no_grad():
                scaled = self.scaled(torch.from_numpy(values), block)
                scores.append(self.critic(scaled, self.hot(block)).cpu().double().numpy())
            densities.append(self.model.log_density(to_coefficients(values), block))
        return {"critic": np.concatenate(scores), "log_density": np.concatenate(densities)}

    def state(self) -> Arrays:
        """Return the Gaussian's arrays and both networks' weights."""
        arrays: Arrays = {f"moments/{k}": v for k, v in self.model.state().items()}
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
        model = ClassGaussian.from_state(_under(state, "moments"))
        return cls(config=config, schema=schema, model=model, network=network, critic=critic)


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
    saved = kept.section(_TURNS)
    if not saved:
        _warm_up(fitted, run=run, seed=seed)
    turns = GeneratorTurns(network, fakes=_Fakes(fitted), settings=_turn_settings(config))
    if saved:
        turns.restore(saved)

    def follow(step: int) -> None:
        turns.after_critic_step(critic, share_done=step / config.steps)
        # Saved by the next checkpoint of the critic, so that the two never come from two moments.
        kept.arrays |= {f"{_TURNS}/{name}": value for name, value in turns.state().items()}

    ran = dp_sgd.train(
        critic,
        _Distance(records, fitted),
        people=records.by_person(),
        index=_DP_SGD_INDEX,
        settings=_dp_sgd_settings(config),
        run=run,
        kept=kept,
        after_step=follow,
    )
    turns.use_average()
    shown = np.repeat(np.arange(len(schema.labels)), _GRID_PER_LABEL)[:60]
    run.show_samples(fitted.sample(shown, seed=0), shown)
    return fitted.with_mechanisms((*run.mechanisms[:_DP_SGD_INDEX], ran))


class _Fakes:
    """Draws synthetic images for labels that are uniform over the declared ones."""

    def __init__(self, fitted: Fitted) -> None:
        self._fitted = fitted
        self._generator = unrecorded_torch()
        self._rng = np.random.default_rng()

    def __call__(self, network: nn.Module, count: int) -> tuple[Tensor, Tensor]:
        """Return images (N, H, W), with gradients, and one-hot labels (N, L)."""
        labels = self._rng.integers(len(self._fitted.schema.labels), size=count)
        return self.of(network, labels), self._fitted.hot(labels)

    def of(self, network: nn.Module, labels: NDArray[np.int64]) -> Tensor:
        """Return one image per label, with gradients (N, H, W)."""
        start = self._fitted.drawn(labels, self._rng, self._generator)
        return self._fitted.corrected(network, start, labels)


class _Distance:
    """The objective of DP-SGD: tell a record from a synthetic image of the same label."""

    differentiates_inside = True

    def __init__(self, records: TrainingRecords, fitted: Fitted) -> None:
        self._records, self._fitted = records, fitted
        self._fakes, self._generator = _Fakes(fitted), unrecorded_torch()

    def examples(self, records: NDArray[np.int64]) -> dp_sgd.Examples:
        """Return real images, synthetic ones, points between the two, and one-hot labels."""
        fitted = self._fitted
        labels = np.asarray(self._records.labels[records], dtype=np.int64)
        values = encode(self._records.images[records], fitted.schema)
        real = fitted.scaled(torch.from_numpy(values), labels)
        with torch.no_grad():
            fake = self._fakes.of(fitted.network, labels)
        share = torch.rand(len(real), generator=self._generator).to(real.device)
        return real, fake, wasserstein.between(real, fake, share), fitted.hot(labels)

    def loss(self, network: Callable[..., Tensor], examples: dp_sgd.Examples) -> Tensor:
        """Return the critic's loss, gradient penalty included, of each example."""
        weight = self._fitted.config.penalty_weight
        return wasserstein.critic_loss(network, examples, penalty_weight=weight)


def _warm_up(fitted: Fitted, *, run: Run, seed: int) -> None:
    """Let both networks play the game with procedural images in the place of records."""
    rng, generator = reproducible(seed), reproducible_torch(seed)
    config, schema = fitted.config, fitted.schema
    if config.warm_up_steps == 0:
        return
    pool = LeafPool(_WARM_UP_POOL, model=fitted.model, schema=schema, rng=rng)
    fakes = _Fakes(fitted)
    turns = GeneratorTurns(fitted.network, fakes=fakes, settings=_turn_settings(config))
    adam = torch.optim.Adam(fitted.critic.parameters(), lr=_WARM_UP_RATE)
    for step in range(config.warm_up_steps):
        labels = rng.integers(len(schema.labels), size=_WARM_UP_BATCH)
        leaves = to_images(pool.draw(labels), schema.height, schema.width)
        real = fitted.scaled(torch.from_numpy(leaves.astype(np.float32)), labels)
        with torch.no_grad():
            fake = fakes.of(fitted.network, labels)
        share = torch.rand(len(real), generator=generator).to(real.device)
        adam.zero_grad()
        loss = wasserstein.critic_loss(
            fitted.critic,
            (real, fake, wasserstein.between(real, fake, share), fitted.hot(labels)),
            penalty_weight=config.penalty_weight,
        ).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        turns.after_critic_step(fitted.critic, share_done=0.0)
        run.progress(
            "warm-up", step + 1, config.warm_up_steps, public_metrics={"warm_up_loss": loss.item()}
        )
    turns.use_average()


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
        )
    return network, critic


def _turn_settings(config: Config) -> TurnSettings:
    return TurnSettings(
        critic_steps=config.critic_steps,
        most_critic_steps=max(config.most_critic_steps, config.critic_steps),
        accuracy_floor=config.accuracy_floor,
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
    )


def _under(state: Arrays, name: str) -> Arrays:
    return {k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(f"{name}/")}
