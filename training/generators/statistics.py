"""Statistics: class means and shared low-frequency variation, released once with Gaussian noise.

**Idea.** Four one-shot Gaussian releases describe the images: the mean image; per label and side,
the mean direction away from it; the shared second moment of what is left at low spatial
frequencies; per label, how often each grey level occurs. Synthetic images are drawn from the
class-conditional Gaussian that they define, and given the released grey levels. A teacher may
relabel them. It takes seconds, and it is the right answer when persons are few or epsilon is small; what it cannot
show is detail that a Gaussian does not have: sharp edges that move from person to person.

**Sensitivity.** Every release sums one table per person: the average over the person's images,
clipped to L2 norm 1 as a whole. Adding or removing a person changes a sum by at most 1, however
many images the person has and whatever labels they carry. Divisors are noised counts.

**Sources.** Dwork et al. 2014, Analyze Gauss (noised second moment); Li et al. 2025, DP-FETA (noised
central images). Shrinkage of eigenvalues: Benaych-Georges and Nadakuditi 2011.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianStage, Mechanism, Stage
from privacy.presets import Preset, Settings
from training.checkpoints import Arrays, Progress
from training.class_gaussian import ClassGaussian
from training.dealing import DealtSamples
from training.generators import SampleProgress
from training.moments import MomentSettings, fit_moments
from training.randomness import reproducible
from training.records import TrainingRecords, decode, encode
from training.run import Run
from training.spectrum import to_coefficients, to_images
from training.teacher import STAGE as TEACHER_STAGE
from training.teacher import Teacher, TeacherOptions, confidence, fit_teacher
from training.tones import Tones, curves, release_histograms

_IMAGES_AT_ONCE = 500
_TEACHER, _TONES = "teacher/", "tones/"
_DRAWS_FOR_TONES = 3000  # in all labels together
_TONES_INDEX = 3


class Config(TeacherOptions):
    """What a data owner may set; every default was chosen on phantoms and public data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean_frequencies: int = Field(
        default=64,
        ge=4,
        le=512,
        description="Cosine frequencies per axis kept in mean images (count); more is sharper.",
    )
    covariance_coefficients: int = Field(
        default=200,
        ge=8,
        le=600,
        description="Smoothest cosine coefficients whose covariance is released (count).",
    )
    texture: float = Field(
        default=0.4,
        ge=0,
        le=2,
        description="Share of the fine random grain that is drawn (ratio; 0 gives smooth images).",
    )
    reference_noise_ratio: float = Field(
        default=4.5,
        ge=1,
        le=100,
        description="Noise of the mean image, relative to spending the whole target on it (ratio).",
    )
    class_noise_ratio: float = Field(
        default=1.3,
        ge=1,
        le=100,
        description="Noise of the class means, relative to spending the whole target (ratio).",
    )
    covariance_noise_ratio: float = Field(
        default=1.7,
        ge=1,
        le=100,
        description="Noise of the second moment, relative to spending the whole target (ratio).",
    )
    tones: Literal["matched", "off"] = Field(
        default="matched",
        description="Whether drawn images get the grey levels that are released (matched, off).",
    )
    tone_noise_ratio: float = Field(
        default=6.0,
        ge=1,
        le=100,
        description="Noise of the grey levels, relative to spending the whole target (ratio).",
    )


STAGES: tuple[Stage, ...] = (
    GaussianStage(stage="reference", noise_ratio="reference_noise_ratio"),
    GaussianStage(stage="class_means", noise_ratio="class_noise_ratio"),
    GaussianStage(stage="covariance", noise_ratio="covariance_noise_ratio"),
    GaussianStage(stage="tones", noise_ratio="tone_noise_ratio", only_if="tones"),
    TEACHER_STAGE,
)

# With many units moments are exact at little cost, and the teacher's labels are what is missing.
_MANY_UNITS: Settings = {
    "teacher_noise_ratio": 1.0,
    "class_noise_ratio": 3.0,
    "covariance_noise_ratio": 2.5,
    "teacher_warp": 1.0,
}
_FEW_UNITS: Settings = {
    "teacher_noise_ratio": 1.4,
    "class_noise_ratio": 1.3,
    "covariance_noise_ratio": 1.7,
    "teacher_warp": 0.0,
}

PRESETS = {
    "quick": Preset(summary="Four releases in seconds; no teacher.", settings={}),
    "balanced": Preset(
        summary="A teacher takes part of the budget and relabels what is drawn.",
        settings={"teacher": "relabel", **_MANY_UNITS},
        if_small=_FEW_UNITS,
    ),
    "best": Preset(
        summary="The same with twice the steps for the teacher.",
        settings={"teacher": "relabel", "teacher_steps": 120} | _MANY_UNITS,
        if_small=_FEW_UNITS,
    ),
}
SUITS_FROM = 0.0


@dataclass(frozen=True, eq=False)
class Fitted(DealtSamples):
    """A class-conditional Gaussian that images can be drawn from."""

    config: Config
    schema: DatasetSchema
    model: ClassGaussian
    mechanisms: tuple[Mechanism, ...] = ()
    teacher: Teacher | None = None
    tones: Tones | None = None

    def drawn(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Draw from the Gaussian alone."""
        rng = reproducible(seed)
        model = self.start()
        parts = [np.zeros((0, self.schema.height, self.schema.width))]
        for start in range(0, len(labels), _IMAGES_AT_ONCE):
            block = np.asarray(labels[start : start + _IMAGES_AT_ONCE], dtype=np.int64)
            drawn = to_images(model.draw(block, rng), self.schema.height, self.schema.width)
            parts.append(drawn if self.tones is None else self.tones.apply(drawn, block))
            if progress is not None:
                progress(start + len(block), len(labels))
        return decode(np.concatenate(parts), self.schema)

    def start(self) -> ClassGaussian:
        """Return the Gaussian that images are drawn from: with less of the fine grain."""
        grain = self.model.residual_variance * self.config.texture**2
        return replace(self.model, residual_variance=grain)

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return log-densities and the teacher's confidence; higher = more likely a member (N,)."""
        del seed  # the density is exact, nothing is drawn
        coefficients = to_coefficients(encode(images, self.schema))
        label_index = np.asarray(labels, dtype=np.int64)
        density = self.model.log_density(coefficients, label_index)
        return {"log_density": density} | confidence(self.teacher, images, labels)

    def state(self) -> Arrays:
        """Return the arrays of the model, the teacher and the tones."""
        taught = {} if self.teacher is None else self.teacher.state()
        toned = {} if self.tones is None else self.tones.state()
        return (
            self.model.state()
            | {f"{_TEACHER}{k}": v for k, v in taught.items()}
            | {f"{_TONES}{k}": v for k, v in toned.items()}
        )

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)

    @classmethod
    def from_state(cls, state: Arrays, *, config: Config, schema: DatasetSchema) -> Self:
        """Rebuild what `state` returned."""
        taught, toned = (
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            for prefix in (_TEACHER, _TONES)
        )
        return cls(
            config=config,
            schema=schema,
            model=ClassGaussian.from_state(state),
            teacher=Teacher.from_state(taught, options=config, schema=schema),
            tones=Tones.from_state(toned) if toned else None,
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
    factors: tuple[int, ...] = (),
) -> Fitted:
    """Make the three releases and return the Gaussian that they define.

    `factors` are the levels of each column that the labels are combinations of, if they are: means
    are then pulled towards the sum of the columns' effects.
    Raises: InvalidParameter if the records contradict the schema; ReleaseLost on a resume whose
    released result is gone.
    """
    del seed  # fitting draws privacy noise only, which takes no seed
    settings = MomentSettings(
        mean_frequencies=config.mean_frequencies,
        covariance_coefficients=config.covariance_coefficients,
        factors=factors,
    )
    kept = Progress(run)
    records = records.checked(schema)
    model = fit_moments(records, settings, schema=schema, run=run, kept=kept)
    fitted = Fitted(config=config, schema=schema, model=model, mechanisms=run.mechanisms)
    if config.tones != "off":
        histograms = release_histograms(
            records, schema=schema, run=run, index=_TONES_INDEX, kept=kept
        )
        fitted = replace(fitted, tones=_tones(fitted, histograms))
    teacher = fit_teacher(records, config, schema=schema, run=run, kept=kept)
    fitted = replace(fitted, teacher=teacher)
    shown = np.repeat(np.arange(len(schema.labels)), 8)[:64]
    run.show_samples(fitted.sample(shown, seed=0), shown)
    return fitted


def _tones(fitted: Fitted, histograms: NDArray[np.float64]) -> Tones:
    """Return curves from the grey levels of the Gaussian's draws to the released ones."""
    labels = np.arange(max(_DRAWS_FOR_TONES, 50 * len(histograms))) % len(histograms)
    drawn = to_images(
        fitted.start().draw(labels, reproducible(0)), fitted.schema.height, fitted.schema.width
    )
    return curves(drawn, labels, histograms)
