"""What a data owner may set for the Wasserstein GAN, and the mechanisms that it runs."""

from pydantic import ConfigDict, Field

from privacy.mechanisms import DpSgdStage, Stage
from privacy.presets import Preset, ShareOfUnits
from training import moment_options
from training.teacher import STAGE as TEACHER_STAGE
from training.teacher import TeacherOptions


class Config(moment_options.MomentOptions, TeacherOptions):
    """What a data owner may set; every default was chosen on phantoms and public data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(
        default=150,
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
        default=4,
        ge=1,
        le=1000,
        description="Steps of the critic per generator step, at first (count).",
    )
    accuracy_floor: float = Field(
        default=0.7,
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
    generator_moves: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Most generator steps in a row, while the critic knows its images (count).",
    )
    penalty_weight: float = Field(
        default=1.0, ge=0, le=1e3, description="Weight of the gradient penalty (ratio)."
    )
    critic_features: int = Field(
        default=16, ge=4, le=256, description="Width of the critic (channels)."
    )
    label_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Weight of the critic's score per label beside its common score (ratio).",
    )
    features: int = Field(
        default=32, ge=16, le=256, multiple_of=8, description="Width of the generator (channels)."
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, le=1, description="The critic's first step size; it falls (ratio)."
    )
    generator_rate: float = Field(
        default=1e-4, gt=0, le=1, description="The generator's first step size; it falls (ratio)."
    )
    texture: float = Field(
        default=0.4,
        gt=0,
        le=2,
        description="Share of the Gaussian's random grain that the generator starts from (ratio).",
    )
    warm_up_steps: int = Field(
        default=50,
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


STAGES: tuple[Stage, ...] = (
    *moment_options.STAGES,
    DpSgdStage(stage="dp_sgd", steps="steps", expected_batch_size="expected_batch_size"),
    TEACHER_STAGE,
)

PRESETS = {
    "quick": Preset(
        summary="A first look in minutes: few critic steps, no teacher.",
        settings={
            "steps": 80,
            "expected_batch_size": ShareOfUnits(share=0.15, least=32, most=1024),
        },
    ),
    "balanced": Preset(
        summary="Larger batches, and a teacher that relabels.",
        settings={
            "expected_batch_size": ShareOfUnits(share=0.15, least=64, most=1024),
            "teacher": "relabel",
            "teacher_noise_ratio": 2.2,
        },
    ),
    "best": Preset(
        summary="Many critic steps on large batches, and a teacher with a larger pool of images.",
        settings={
            "steps": 600,
            "expected_batch_size": ShareOfUnits(share=0.2, least=64, most=2048),
            "noise_draws": 2,
            "teacher": "relabel",
            "teacher_noise_ratio": 2.2,
            "teacher_pool": 3.0,
        },
    ),
}
FREE_STEPS = {"warm_up_steps": "warm-up"}
