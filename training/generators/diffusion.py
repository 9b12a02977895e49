"""Diffusion: a small network, trained with DP-SGD, that refines a Gaussian learnt from statistics.

**Idea.** Three one-shot Gaussian releases give a class-conditional Gaussian (as in the *statistics*
generator), and with it the exact denoiser of that Gaussian for free. A small U-Net, starting at
zero, learns with DP-SGD what the Gaussian denoiser gets wrong, so no step is spent on what a few
averages already say. Images are drawn by walking from the Gaussian's images, with noise added, to
clean ones. It takes minutes on two processor cores; the gain over *statistics* is sharper edges and
shapes, and it grows with persons × epsilon.

**Sensitivity.** The releases: one clipped table per person. DP-SGD: one gradient per person and
step, averaged over the person's images and noise draws before it is clipped; Poisson sampling of
persons; division by the public expected batch size.

**Sources.** Karras et al. 2022, arXiv:2206.00364 (diffusion); Dockhorn et al. 2023,
arXiv:2210.09929 (several noise draws per record, DP diffusion); Li et al. 2025, DP-FETA (statistics
first); Abadi et al. 2016, arXiv:1607.00133 (DP-SGD).
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
from training import diffusion as equations
from training import dp_sgd
from training.checkpoints import Arrays, Progress
from training.class_gaussian import ClassGaussian
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
_SCORE_LEVELS = (0.1, 0.3, 0.8)
_SCORE_DRAWS = 2
_GRID_PER_LABEL = 6
_WARM_UP_POOL = 300
_WARM_UP_BATCH = 64
_WARM_UP_RATE = 2e-3


class Config(BaseModel):
    """What a data owner may set; every default was chosen on phantoms and public data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(
        default=100,
        ge=1,
        le=20_000,
        description="DP-SGD steps (count); each costs budget and time.",
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
        description="Noise draws per image and step, averaged before clipping (count).",
    )
    features: int = Field(
        default=32, ge=16, le=256, multiple_of=8, description="Width of the network (channels)."
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, le=1, description="Adam's first step size; it falls linearly (ratio)."
    )
    texture: float = Field(
        default=0.4,
        gt=0,
        le=2,
        description="Share of the Gaussian's random grain that the network starts from (ratio).",
    )
    warm_up_steps: int = Field(
        default=300,
        ge=0,
        le=100_000,
        description="Training steps on procedural images before any record; free (count).",
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, le=1e3, description="Clipping bound of a person's gradient (L2 norm)."
    )
    ema_decay: float = Field(
        default=0.95, ge=0, lt=1, description="Decay per step of the weights' moving average."
    )
    sampling_steps: int = Field(
        default=6, ge=1, le=200, description="Denoising steps per synthetic image (count)."
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
    """A Gaussian and the network that refines what is drawn from it."""

    config: Config
    schema: DatasetSchema
    model: ClassGaussian
    network: nn.Module
    mechanisms: tuple[Mechanism, ...] = ()
    start: ClassGaussian = field(init=False)
    gaussian: equations.GaussianDenoiser = field(init=False)

    def __post_init__(self) -> None:
        """Derive the smoother Gaussian that images start from, and its denoiser."""
        grain = self.model.residual_variance * self.config.texture**2
        start = replace(self.model, residual_variance=grain)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "gaussian", equations.GaussianDenoiser(start, schema=self.schema))

    def sample(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Draw one image per label, the same for the same seed. Shapes: (M,) -> (M, H, W)."""
        rng, generator = reproducible(seed), reproducible_torch(seed)
        schedule = equations.NoiseLevels().schedule(self.config.sampling_steps)
        parts: list[NDArray[np.floating]] = [
            np.zeros((0, self.schema.height, self.schema.width), dtype=np.float32)
        ]
        for start in range(0, len(labels), _IMAGES_AT_ONCE):
            block = np.asarray(labels[start : start + _IMAGES_AT_ONCE], dtype=np.int64)
            drawn = to_images(self.start.draw(block, rng), self.schema.height, self.schema.width)
            images = equations.sample(
                self.network,
                torch.from_numpy((drawn / self.gaussian.scale).astype(np.float32)),
                torch.from_numpy(block),
                gaussian=self.gaussian,
                schedule=schedule,
                generator=generator,
            )
            parts.append(images.numpy() * self.gaussian.scale)
            if progress is not None:
                progress(start + len(block), len(labels))
        return decode(np.concatenate(parts), self.schema)

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return attack scores per record (N,); higher = more likely a member.

        `diffusion_loss` is minus the loss on a bank of noise that depends on the seed alone and is
        the same for every record; `log_density` is the Gaussian's.
        """
        generator = reproducible_torch(seed)
        shape = (len(_SCORE_LEVELS) * _SCORE_DRAWS, self.schema.height, self.schema.width)
        bank = torch.randn(shape, generator=generator)
        levels = np.repeat(_SCORE_LEVELS, _SCORE_DRAWS)
        losses: list[NDArray[np.float64]] = [np.zeros(0)]
        densities: list[NDArray[np.float64]] = [np.zeros(0)]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            values = encode(images[start : start + _IMAGES_AT_ONCE], self.schema)
            index = np.asarray(labels[start : start + _IMAGES_AT_ONCE], dtype=np.int64)
            densities.append(self.model.log_density(to_coefficients(values), index))
            losses.append(self._bank_loss(values, torch.from_numpy(index), bank, levels))
        return {"diffusion_loss": -np.concatenate(losses), "log_density": np.concatenate(densities)}

    @torch.no_grad()
    def _bank_loss(
        self,
        values: NDArray[np.float32],
        labels: Tensor,
        bank: Tensor,
        levels: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        scaled = torch.from_numpy(values / np.float32(self.gaussian.scale))
        total = np.zeros(len(values))
        for noise, level in zip(bank, levels, strict=True):
            drawn = equations.examples(
                scaled,
                labels,
                gaussian=self.gaussian,
                sigma=torch.full((len(scaled),), float(level)),
                noise=noise.expand(len(scaled), -1, -1),
            )
            total += equations.loss(self.network, drawn).double().numpy()
        return total / len(levels)

    def state(self) -> Arrays:
        """Return the Gaussian's arrays and the network's weights."""
        weights = {f"network/{k}": v.numpy() for k, v in self.network.state_dict().items()}
        return {f"moments/{k}": v for k, v in self.model.state().items()} | weights

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)

    @classmethod
    def from_state(cls, state: Arrays, *, config: Config, schema: DatasetSchema) -> Self:
        """Rebuild what `state` returned."""
        network = _network(config, schema, seed=0)
        network.load_state_dict(
            {k: torch.from_numpy(np.array(v)) for k, v in _under(state, "network/").items()}
        )
        model = ClassGaussian.from_state(_under(state, "moments/"))
        return cls(config=config, schema=schema, model=model, network=network)


def from_state(state: Arrays, *, config: Config, schema: DatasetSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    return Fitted.from_state(state, config=config, schema=schema)


def fit(
    records: TrainingRecords, config: Config, *, schema: DatasetSchema, run: Run, seed: int
) -> Fitted:
    """Make the three releases, then refine with DP-SGD.

    `seed` sets the first weights only; noise and batches take no seed. Raises: InvalidParameter if
    the records contradict the schema; ReleaseLost on a resume whose released result is gone.
    """
    records = records.checked(schema)
    kept = Progress(run)
    settings = MomentSettings(
        mean_frequencies=config.mean_frequencies,
        covariance_coefficients=config.covariance_coefficients,
    )
    model = fit_moments(records, settings, schema=schema, run=run, kept=kept)
    network = _network(config, schema, seed=seed)
    fitted = Fitted(config=config, schema=schema, model=model, network=network)
    # Charged steps alone say little: a run may stop after its first charge, before any weights are kept.
    if not kept.section(f"dp_sgd_{_DP_SGD_INDEX}"):
        _warm_up(fitted, run=run, seed=seed)
    shown = np.repeat(np.arange(len(schema.labels)), _GRID_PER_LABEL)[:60]
    run.show_samples(fitted.sample(shown, seed=0), shown)

    def show(_network: nn.Module, step: int) -> None:
        if step * 3 // config.steps != shows[-1]:
            shows.append(step * 3 // config.steps)
            run.show_samples(fitted.sample(shown, seed=0), shown)

    shows = [0]
    ran = dp_sgd.train(
        network,
        _Denoising(records, fitted),
        people=records.by_person(),
        index=_DP_SGD_INDEX,
        settings=_dp_sgd_settings(config),
        run=run,
        kept=kept,
        after_block=show,
    )
    return fitted.with_mechanisms((*run.mechanisms[:_DP_SGD_INDEX], ran))


class _Denoising:
    """The objective of DP-SGD: denoise a record at one random noise level."""

    def __init__(self, records: TrainingRecords, fitted: Fitted) -> None:
        self._records, self._fitted = records, fitted
        self._generator, self._levels = unrecorded_torch(), equations.NoiseLevels()

    def examples(self, records: NDArray[np.int64]) -> dp_sgd.Examples:
        """Return inputs, conditions and targets of records, with fresh noise."""
        gaussian = self._fitted.gaussian
        values = encode(self._records.images[records], self._fitted.schema)
        images = torch.from_numpy(values / np.float32(gaussian.scale))
        return equations.examples(
            images,
            torch.from_numpy(np.asarray(self._records.labels[records], dtype=np.int64)),
            gaussian=gaussian,
            sigma=self._levels.draw(len(images), generator=self._generator),
            noise=torch.randn(images.shape, generator=self._generator),
        )

    def loss(self, network: Callable[..., Tensor], examples: dp_sgd.Examples) -> Tensor:
        """Return the denoising loss of each example."""
        return equations.loss(network, examples)


def _warm_up(fitted: Fitted, *, run: Run, seed: int) -> None:
    """Train the network on procedural images that look like the Gaussian up to second order."""
    rng, generator = reproducible(seed), reproducible_torch(seed)
    config, schema, gaussian = fitted.config, fitted.schema, fitted.gaussian
    if config.warm_up_steps == 0:
        return
    pool = LeafPool(_WARM_UP_POOL, model=fitted.model, schema=schema, rng=rng)
    adam = torch.optim.Adam(fitted.network.parameters(), lr=_WARM_UP_RATE)
    levels = equations.NoiseLevels()
    for step in range(config.warm_up_steps):
        labels = rng.integers(len(schema.labels), size=_WARM_UP_BATCH)
        drawn = to_images(pool.draw(labels), schema.height, schema.width) / gaussian.scale
        images = torch.from_numpy(drawn.astype(np.float32))
        examples = equations.examples(
            images,
            torch.from_numpy(labels),
            gaussian=gaussian,
            sigma=levels.draw(len(images), generator=generator),
            noise=torch.randn(images.shape, generator=generator),
        )
        for group in adam.param_groups:
            group["lr"] = _WARM_UP_RATE * (1.0 - step / config.warm_up_steps)
        adam.zero_grad()
        loss = equations.loss(fitted.network, examples).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        run.progress(
            "warm-up", step + 1, config.warm_up_steps, public_metrics={"warm_up_loss": loss.item()}
        )


def _network(config: Config, schema: DatasetSchema, *, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConditionalUnet(
            height=schema.height,
            width=schema.width,
            channels=equations.CHANNELS,
            conditions=equations.condition_count(len(schema.labels)),
            features=config.features,
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


def _under(state: Arrays, prefix: str) -> Arrays:
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
