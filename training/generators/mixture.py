"""Mixture: several Gaussians per label, each with a covariance of its own, released once.

**Idea.** Pictures of one label are not one cloud: trousers and shorts, left and right. Records of a
label are grouped into cells around noised centres, and each cell's mean and covariance are released,
in the few directions in which images vary most. A cell's covariance leans on its label's, and that
on everybody's, as far as the noise demands. Images are drawn from the Gaussians; a teacher may deal
them to labels. It takes seconds to fit. It needs many persons per cell: with few, *statistics* says
the same with less noise. What it cannot show is detail finer than its directions.

**Sensitivity.** Every release sums one table per person: the average over the person's images of
vectors no longer than 1, over whichever cells these lie in. Adding or removing a person changes a
sum by at most 1, however many images the person has and whatever labels they carry. Divisors are
noised counts, radii come from noised histograms, and cells from noised centres.

**Sources.** Dwork et al. 2014, Analyze Gauss (noised second moment); Lloyd 1982 (k-means), noised
as by Blum et al. 2005, SuLQ; Ledoit and Wolf 2004 (covariances that lean on a simpler one).
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from privacy.manifests import DatasetSchema
from privacy.mechanisms import GaussianStage, Mechanism, Stage
from privacy.presets import Preset, Settings
from training.cells import CellSettings, fit_cells
from training.checkpoints import Arrays, Progress
from training.dealing import DealtSamples
from training.generators import SampleProgress
from training.mixture import Mixture
from training.outlines import sunk_coefficients, varied_detail
from training.randomness import normals_of, reproducible
from training.records import TrainingRecords, decode
from training.run import Run
from training.spectrum import Array, to_images
from training.teacher import STAGE as TEACHER_STAGE
from training.teacher import Teacher, TeacherOptions, confidence, fit_teacher

_IMAGES_AT_ONCE = 1000
_TEACHER = "teacher/"


class Config(TeacherOptions):
    """What a data owner may set; every default was chosen on phantoms and public data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cells_per_label: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Cells, each with a covariance, in a label (count; 0 for as many as are worth "
        "their noise, from the declared count and the noise alone).",
    )
    basis_coefficients: int = Field(
        default=200,
        ge=8,
        le=600,
        description="Smoothest cosine coefficients in which directions are sought (count).",
    )
    directions: int = Field(
        default=96, ge=4, le=256, description="Most directions that cells are described in (count)."
    )
    texture: float = Field(
        default=0.5,
        ge=0,
        le=2,
        description="Share of the fine random grain that is drawn (ratio; 0 gives smooth images).",
    )
    background_slope: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="How far a black pixel is lowered below black, for each pixel between it and what "
        "is not black, before images are measured (ratio of full scale; 0 leaves it). It keeps outlines "
        "sharp and backgrounds black where objects lie on black.",
    )
    detail_spread: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="How much the strength of fine detail differs from image to image (deviation of "
        "its logarithm; 0 for the same in all). 0.6 suits plain and patterned things such as clothes; "
        "it makes radiographs grainy or flat.",
    )
    teacher_sees_redrawn: bool = Field(
        default=False,
        description="Whether the teacher learns from each record both as it is and as this generator would "
        "draw it, along its directions with its grain. It then knows its way among drawn images, "
        "where noise hides most of a record's detail.",
    )
    reference_noise_ratio: float = Field(
        default=6.0,
        ge=1,
        le=100,
        description="Noise of the mean image, relative to spending the whole target on it (ratio).",
    )
    basis_noise_ratio: float = Field(
        default=2.25,
        ge=1,
        le=100,
        description="Noise of the directions, relative to spending the whole target (ratio).",
    )
    centre_noise_ratio: float = Field(
        default=7.0,
        ge=1,
        le=100,
        description="Noise of each of three steps of cell centres, relative to the whole (ratio).",
    )
    cell_noise_ratio: float = Field(
        default=2.4,
        ge=1,
        le=100,
        description="Noise of the cells' covariances, relative to spending the whole (ratio).",
    )


STAGES: tuple[Stage, ...] = (
    GaussianStage(stage="reference", noise_ratio="reference_noise_ratio"),
    GaussianStage(stage="basis", noise_ratio="basis_noise_ratio"),
    GaussianStage(stage="centres_1", noise_ratio="centre_noise_ratio"),
    GaussianStage(stage="centres_2", noise_ratio="centre_noise_ratio"),
    GaussianStage(stage="centres_3", noise_ratio="centre_noise_ratio"),
    GaussianStage(stage="cells", noise_ratio="cell_noise_ratio"),
    TEACHER_STAGE,
)

_TAUGHT: Settings = {"teacher": "relabel", "teacher_steps": 120}
# Where nothing is black, the slope changes nothing.
_OUTLINED: Settings = {
    "teacher_sees_redrawn": True,
    "background_slope": 0.12,
    "basis_coefficients": 260,
    "directions": 160,
    "basis_noise_ratio": 2.0,
    "cell_noise_ratio": 1.8,
    "teacher_noise_ratio": 1.7,
}
PRESETS = {
    "quick": Preset(summary="Six releases in seconds; no teacher.", settings={}),
    "balanced": Preset(
        summary="A teacher takes part of the budget and relabels; outlines on black stay sharp.",
        settings=_TAUGHT | _OUTLINED,
    ),
    "best": Preset(
        summary="The same with twice the images to deal from, for labels that run short. Where a turned or "
        "bent image keeps its label, as a digit does, set teacher_warp to 1 as well; it costs elsewhere.",
        settings=_TAUGHT | _OUTLINED | {"teacher_pool": 3.0},
    ),
}
SUITS_FROM = 50_000.0


@dataclass(frozen=True, eq=False)
class Fitted(DealtSamples):
    """A mixture of Gaussians per label that images can be drawn from."""

    config: Config
    schema: DatasetSchema
    model: Mixture
    mechanisms: tuple[Mechanism, ...] = ()
    teacher: Teacher | None = None

    def drawn(
        self, labels: NDArray[np.integer], *, seed: int, progress: SampleProgress | None = None
    ) -> NDArray[np.integer]:
        """Draw from the mixture alone."""
        rng = reproducible(seed)
        parts = [decode(np.zeros((0, self.schema.height, self.schema.width)), self.schema)]
        for start in range(0, len(labels), _IMAGES_AT_ONCE):
            block = np.asarray(labels[start : start + _IMAGES_AT_ONCE], dtype=np.int64)
            drawn = self.model.draw(block, rng, texture=self.config.texture)
            parts.append(self._pictures(drawn, rng.standard_normal(len(block))))
            if progress is not None:
                progress(start + len(block), len(labels))
        return np.concatenate(parts)

    def redrawn(self, images: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return each image as it would look had it been drawn. Shapes: (N, H, W) -> the same.

        An image's grain follows from its own pixels. Were it drawn from one stream, a record that is
        left out would change the grain of all that follow, and a sum over persons by more than the clip.
        """
        parts = [images[:0]]
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            block = images[start : start + _IMAGES_AT_ONCE]
            own = normals_of(block, self.schema.height * self.schema.width + 1)
            coefficients = sunk_coefficients(block, self.schema, self.config.background_slope)
            again = self.model.redraw(coefficients, own[:, 1:], texture=self.config.texture)
            parts.append(self._pictures(again, own[:, 0]))
        return np.concatenate(parts)

    def _pictures(self, coefficients: Array, normal: Array) -> NDArray[np.integer]:
        values = to_images(coefficients, self.schema.height, self.schema.width)
        return decode(varied_detail(values, self.config.detail_spread, normal), self.schema)

    def score(
        self, images: NDArray[np.integer], labels: NDArray[np.integer], *, seed: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return log-densities and the teacher's confidence; higher = more likely a member (N,).

        A teacher that has seen redrawn records is asked about these too.
        """
        del seed  # the density is exact, nothing is drawn
        coefficients = sunk_coefficients(images, self.schema, self.config.background_slope)
        density = self.model.log_density(coefficients, np.asarray(labels, dtype=np.int64))
        asked = confidence(self.teacher, images, labels)
        if asked and self.config.teacher_sees_redrawn:
            again = confidence(self.teacher, self.redrawn(images), labels)
            asked |= {f"{name}_redrawn": values for name, values in again.items()}
        return {"log_density": density} | asked

    def state(self) -> Arrays:
        """Return the arrays of the mixture and the teacher."""
        taught = {} if self.teacher is None else self.teacher.state()
        return self.model.state() | {f"{_TEACHER}{k}": v for k, v in taught.items()}

    def with_mechanisms(self, mechanisms: tuple[Mechanism, ...]) -> Self:
        """Return the same generator with the mechanisms that its manifest records."""
        return replace(self, mechanisms=mechanisms)

    @classmethod
    def from_state(cls, state: Arrays, *, config: Config, schema: DatasetSchema) -> Self:
        """Rebuild what `state` returned."""
        taught = {k.removeprefix(_TEACHER): v for k, v in state.items() if k.startswith(_TEACHER)}
        return cls(
            config=config,
            schema=schema,
            model=Mixture.from_state(state),
            teacher=Teacher.from_state(taught, options=config, schema=schema),
        )


def from_state(state: Arrays, *, config: Config, schema: DatasetSchema) -> Fitted:
    """Rebuild a fitted generator from its arrays."""
    return Fitted.from_state(state, config=config, schema=schema)


def fit(
    records: TrainingRecords, config: Config, *, schema: DatasetSchema, run: Run, seed: int
) -> Fitted:
    """Make the six releases, fit the teacher if there is one, and return the mixture.

    Raises: InvalidParameter if the records contradict the schema; ReleaseLost on a resume whose
    released result is gone.
    """
    del seed  # fitting draws privacy noise, which takes no seed; first centres are the same for all
    settings = CellSettings(
        cells_per_label=config.cells_per_label,
        basis_coefficients=config.basis_coefficients,
        directions=config.directions,
        background_slope=config.background_slope,
    )
    kept = Progress(run)
    records = records.checked(schema)
    model = fit_cells(records, settings, schema=schema, run=run, kept=kept)
    fitted = Fitted(config=config, schema=schema, model=model, mechanisms=run.mechanisms)
    redraw = fitted.redrawn if config.teacher_sees_redrawn else None
    teacher = fit_teacher(records, config, schema=schema, run=run, kept=kept, redraw=redraw)
    fitted = replace(fitted, teacher=teacher)
    shown = np.repeat(np.arange(len(schema.labels)), 8)[:64]
    run.show_samples(fitted.sample(shown, seed=0), shown)
    return fitted
