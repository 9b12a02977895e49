"""Diffusion: a small network, trained with DP-SGD, that refines a Gaussian learnt from statistics.

**Idea.** Three one-shot Gaussian releases give a class-conditional Gaussian (as in the *statistics*
generator), and with it the exact denoiser of that Gaussian for free. A small U-Net, starting at
zero, learns with DP-SGD what the Gaussian denoiser gets wrong, so no step is spent on what a few
averages already say. Images are drawn by walking from the Gaussian's images, with noise added, to
clean ones. It takes minutes on two processor cores; the gain over *statistics* is sharper edges and
shapes, and it grows with persons × epsilon.

**Large images.** Above 64 pixels the longer side is shrunk by a whole factor, image by image; all of
the above happens there, and an upsampler that has seen only procedural or phantom pictures enlarges
what is drawn. Its fine detail is plausible, not evidence. There are no pretrained weights here, so
nothing is adapted from a large public model.

**Teacher.** With `teacher`, a DP linear classifier takes a share of the budget, and drawn images are
dealt to the labels that it sees in them; at 64 pixels this says more about a grade than the images'
own class means do. With `teacher_labels` "ordinal" it learns one direction for all grades, and images
are dealt along the order in which it puts them.

**Sensitivity.** The releases: one clipped table per person. DP-SGD: one gradient per person and
step, averaged over the person's images and noise draws before it is clipped; Poisson sampling of
persons; division by the public expected batch size. Warm start and upsampler see no record.

**Sources.** Karras et al. 2022, arXiv:2206.00364 (diffusion); Dockhorn et al. 2023,
arXiv:2210.09929 (several noise draws per record, DP diffusion); Li et al. 2025, DP-FETA (statistics
first); Abadi et al. 2016, arXiv:1607.00133 (DP-SGD).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from privacy.manifests import DatasetSchema
from privacy.mechanisms import Mechanism, PoissonSubsampledGaussianMechanism
from training import diffusion as equations
from training import dp_sgd, warm_start
from training.checkpoints import Arrays, Progress
from training.class_gaussian import ClassGaussian
from training.dealing import DealtSamples
from training.devices import compute_device
from training.diffusion_attacks import Questions
from training.diffusion_options import FREE_STEPS, PRESETS, STAGES, SUITS_FROM, Config
from training.generators import SampleProgress, joined
from training.moments import MomentSettings, fit_moments
from training.networks import ConditionalUnet
from training.randomness import reproducible, reproducible_torch
from training.records import TrainingRecords, decode, encode
from training.refinement import Denoising, phantom_examples, phantom_loss, warm_up
from training.run import Run
from training.spectrum import to_coefficients, to_images
from training.teacher import Teacher, confidence, fit_teacher
from training.upsampling import Scale, Upsampler, train_upsampler

__all__ = [
    "FREE_STEPS",
    "PRESETS",
    "STAGES",
    "SUITS_FROM",
    "Config",
    "Fitted",
    "fit",
    "from_state",
]

_IMAGES_AT_ONCE = 200
_DP_SGD_INDEX = 3
_GRADIENTS_AT_ONCE = 32
_GRID_PER_LABEL = 6


@dataclass(frozen=True, eq=False)
class Fitted(DealtSamples):
    """A Gaussian, the network that refines what is drawn from it, and what enlarges the result."""

    config: Config
    schema: DatasetSchema
    model: ClassGaussian
    network: nn.Module
    upsampler: Upsampler | None = None
    teacher: Teacher | None = None
    mechanisms: tuple[Mechanism, ...] = ()
    scale: Scale = field(init=False)
    start: ClassGaussian = field(init=False)
    gaussian: equations.GaussianDenoiser = field(init=False)

    def __post_init__(self) -> None:
        """Derive the smoother Gaussian that images start from, and its denoiser."""
        scale = Scale.of(self.schema)
        grain = self.model.residual_variance * self.config.texture**2
        start = replace(self.model, residual_variance=grain)
        gaussian = equations.GaussianDenoiser(start, schema=scale.base).to(compute_device())
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "gaussian", gaussian)

    def drawn(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Draw one image per label without the teacher. Shapes: (M,) -> (M, H, W)."""
        rng, generator = reproducible(seed), reproducible_torch(seed)
        schedule = equations.NoiseLevels().schedule(self.config.sampling_steps)
        base = self.scale.base
        parts = [np.zeros((0, base.height, base.width), dtype=np.float32)]
        for first in range(0, len(labels), _IMAGES_AT_ONCE):
            block = np.asarray(labels[first : first + _IMAGES_AT_ONCE], dtype=np.int64)
            drawn = to_images(self.start.draw(block, rng), base.height, base.width)
            images = equations.sample(
                self.network,
                torch.from_numpy((drawn / self.gaussian.scale).astype(np.float32)),
                torch.from_numpy(block),
                gaussian=self.gaussian,
                schedule=schedule,
                generator=generator,
                fresh_noise=self.config.fresh_noise,
            )
            parts.append(images.numpy() * np.float32(self.gaussian.scale))
            if progress is not None:
                progress(first + len(block), len(labels))
        small = decode(np.concatenate(parts), base)
        return small if self.upsampler is None else self.upsampler.enlarge(small)

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return attack scores per record (N,); higher = more likely a member.

        `diffusion_loss`, `pia`, `secmi` and `score_norm` ask the network (`diffusion_attacks.py`);
        `log_density` is the Gaussian's, `teacher_confidence` the teacher's.
        """
        asked = Questions.of(self.network, self.gaussian, seed=seed)
        parts: list[dict[str, NDArray[np.float64]]] = []
        for values, index in self._blocks(images, labels):
            density = self.model.log_density(to_coefficients(values), index)
            parts.append({**asked.scores(*self._scaled(values, index)), "log_density": density})
        return joined(parts) | confidence(self.teacher, images, labels)

    def gradients(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> NDArray[np.float64]:
        """Return log gradient norms of the diffusion loss per record (N, F), the whole one first."""
        asked = Questions.of(self.network, self.gaussian, seed=seed)
        parts = [
            asked.gradients(*self._scaled(values, index))
            for values, index in self._blocks(images, labels, size=_GRADIENTS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 1))

    def _blocks(
        self,
        images: NDArray[np.integer],
        labels: NDArray[np.integer],
        *,
        size: int = _IMAGES_AT_ONCE,
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Yield encoded images at the base's size with their labels."""
        for start in range(0, len(images), size):
            small = self.scale.shrink(images[start : start + size])
            index = np.asarray(labels[start : start + size], dtype=np.int64)
            yield encode(small, self.scale.base), index

    def _scaled(
        self, values: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        scaled = torch.from_numpy(values / np.float32(self.gaussian.scale))
        return scaled, torch.from_numpy(labels)

    def state(self) -> Arrays:
        """Return the Gaussian's arrays and the network's weights."""
        weights = {f"network/{k}": v.cpu().numpy() for k, v in self.network.state_dict().items()}
        if self.upsampler is not None:
            enlarging = self.upsampler.state_dict()
            weights |= {f"upsampler/{k}": v.cpu().numpy() for k, v in enlarging.items()}
        if self.teacher is not None:
            weights |= {f"teacher/{k}": v for k, v in self.teacher.state().items()}
        return {f"moments/{k}": v for k, v in self.model.state().items()} | weights

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)

    @classmethod
    def from_state(cls, state: Arrays, *, config: Config, schema: DatasetSchema) -> Self:
        """Rebuild what `state` returned."""
        scale = Scale.of(schema)
        network, upsampler = _network(config, scale.base, seed=0), _upsampler(scale, seed=0)
        network.load_state_dict(_tensors(_under(state, "network/")))
        if upsampler is not None:
            upsampler.load_state_dict(_tensors(_under(state, "upsampler/")))
        model = ClassGaussian.from_state(_under(state, "moments/"))
        return cls(
            config=config,
            schema=schema,
            model=model,
            network=network,
            upsampler=upsampler,
            teacher=Teacher.from_state(_under(state, "teacher/"), options=config, schema=schema),
        )


def from_state(state: Arrays, *, config: Config, schema: DatasetSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    return Fitted.from_state(state, config=config, schema=schema)


def fit(
    records: TrainingRecords,
    config: Config,
    *,
    schema: DatasetSchema,
    run: Run,
    seed: int,
    public: TrainingRecords | None = None,
) -> Fitted:
    """Make the three releases, refine with DP-SGD, and fit the teacher if there is one.

    `seed` sets the first weights only; noise and batches take no seed. `public` is the set of the
    warm start "public": its owner declares that nobody's privacy hangs on it.
    Raises: InvalidParameter if the records contradict the schema, or the warm start does not fit;
    ReleaseLost on a resume whose released result is gone.
    """
    records = records.checked(schema)
    warm_start.check(config.warm_start, schema=schema, public=public)
    scale, kept = Scale.of(schema), Progress(run)
    base = scale.records(records)
    settings = MomentSettings(
        mean_frequencies=config.mean_frequencies,
        covariance_coefficients=config.covariance_coefficients,
    )
    model = fit_moments(base, settings, schema=scale.base, run=run, kept=kept)
    fitted = Fitted(
        config=config,
        schema=schema,
        model=model,
        network=_network(config, scale.base, seed=seed),
        upsampler=_upsampler(scale, seed=seed),
    )
    _train_upsampler(fitted, scale=scale, run=run, seed=seed)
    # Charged steps alone say little: a run may stop after its first charge, before any weights are kept.
    if not kept.section(f"dp_sgd_{_DP_SGD_INDEX}"):
        small = None if public is None else scale.records(public.checked(schema))
        _warm_up(fitted, public=small, scale=scale, run=run, seed=seed)
    ran = _refine(fitted, base, scale=scale, run=run, kept=kept)
    teacher = fit_teacher(records, config, schema=schema, run=run, kept=kept)
    return replace(fitted, teacher=teacher).with_mechanisms(
        (*run.mechanisms[:_DP_SGD_INDEX], ran, *run.mechanisms[_DP_SGD_INDEX + 1 :])
    )


def _refine(
    fitted: Fitted, base: TrainingRecords, *, scale: Scale, run: Run, kept: Progress
) -> PoissonSubsampledGaussianMechanism:
    """Train the network on records with DP-SGD; show a grid three times."""
    config = fitted.config
    shown = np.repeat(np.arange(len(fitted.schema.labels)), _GRID_PER_LABEL)[:60]
    run.show_samples(fitted.drawn(shown, seed=0), shown)
    nobodys = phantom_examples(fitted.gaussian, schema=scale.base, seed=0)

    def show(network: nn.Module, step: int) -> None:
        if nobodys is not None:
            metrics = {"phantom_loss": phantom_loss(network, nobodys)}
            run.progress("training", step, config.steps, public_metrics=metrics)
        if step * 3 // config.steps != shows[-1]:
            shows.append(step * 3 // config.steps)
            run.show_samples(fitted.drawn(shown, seed=0), shown)

    shows = [0]
    return dp_sgd.train(
        fitted.network,
        Denoising(base, gaussian=fitted.gaussian, schema=scale.base),
        people=base.by_person(),
        index=_DP_SGD_INDEX,
        settings=_dp_sgd_settings(config),
        run=run,
        kept=kept,
        after_block=show,
    )


def _warm_up(
    fitted: Fitted, *, public: TrainingRecords | None, scale: Scale, run: Run, seed: int
) -> None:
    """Train network and upsampler on pictures that belong to nobody."""
    rng, config = reproducible(seed), fitted.config
    pool = warm_start.pool(
        config.warm_start, model=fitted.model, schema=scale.base, public=public, rng=rng
    )
    steps = config.warm_up_steps

    def tell(step: int, loss: float) -> None:
        run.progress("warm-up", step, steps, public_metrics={"warm_up_loss": loss})

    if pool is not None:
        warm_up(
            fitted.network,
            pool,
            gaussian=fitted.gaussian,
            schema=scale.base,
            steps=steps,
            rng=rng,
            seed=seed,
            progress=tell,
        )


def _train_upsampler(fitted: Fitted, *, scale: Scale, run: Run, seed: int) -> None:
    """Train what enlarges the base's images, if the declared size asks for it; free."""
    if fitted.upsampler is None:
        return
    rng, config = reproducible(seed), fitted.config
    pictures = warm_start.pictures(config.warm_start, schema=scale.full, rng=rng)
    train_upsampler(
        fitted.upsampler,
        pictures,
        scale=scale,
        steps=config.upsampler_steps,
        rng=rng,
        progress=lambda step: run.progress("upsampler", step, config.upsampler_steps),
    )


def _network(config: Config, schema: DatasetSchema, *, seed: int) -> nn.Module:
    """Return the untrained network of the base's size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ConditionalUnet(
            height=schema.height,
            width=schema.width,
            channels=equations.CHANNELS,
            conditions=equations.condition_count(len(schema.labels)),
            features=config.features,
        )
    return network.to(compute_device())


def _upsampler(scale: Scale, *, seed: int) -> Upsampler | None:
    """Return the untrained upsampler, if one is needed."""
    if scale.factor == 1:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Upsampler(scale).to(compute_device())


def _dp_sgd_settings(config: Config) -> dp_sgd.DpSgdSettings:
    return dp_sgd.DpSgdSettings(
        expected_batch_size=config.expected_batch_size,
        max_grad_norm=config.max_grad_norm,
        learning_rate=config.learning_rate,
        ema_decay=config.ema_decay,
        images_per_person=config.images_per_person,
        noise_draws=config.noise_draws,
        physical_batch=config.physical_batch,
        precision="bfloat16" if compute_device().type == "cuda" else "float32",
    )


def _under(state: Arrays, prefix: str) -> Arrays:
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
