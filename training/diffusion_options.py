"""What a data owner may set of the diffusion generator, and the mechanisms it will run."""

from pydantic import ConfigDict, Field

from privacy.mechanisms import DpSgdStage, Stage
from privacy.presets import SMALL_UNIT_EPSILON, Preset, Settings, ShareOfUnits
from training import moment_options, teacher
from training.warm_start import WarmStart


class Config(moment_options.MomentOptions, teacher.TeacherOptions):
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
    warm_start: WarmStart = Field(
        default="procedural",
        description="Pictures seen before any record, free: procedural (dead leaves), phantoms "
        "(knee radiographs with five ordered grades only), public (a set handed in as public; "
        "library only), or none.",
    )
    warm_up_steps: int = Field(
        default=300,
        ge=0,
        le=100_000,
        description="Training steps on those pictures before any record; free (count).",
    )
    upsampler_steps: int = Field(
        default=300,
        ge=0,
        le=100_000,
        description="Steps of the upsampler, for images above 64 pixels only; free (count).",
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
    fresh_noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the noise that is drawn anew at each denoising step (ratio).",
    )
    physical_batch: int = Field(
        default=64,
        ge=1,
        le=8192,
        description="Images in memory at once (count); no effect on privacy.",
    )
    teacher_noise_ratio: float = Field(
        default=1.8,
        ge=1,
        le=100,
        description="Noise of the teacher, relative to spending the whole target on it (ratio).",
    )


STAGES: tuple[Stage, ...] = (
    *moment_options.STAGES,
    DpSgdStage(stage="dp_sgd", steps="steps", expected_batch_size="expected_batch_size"),
    teacher.STAGE,
)

# Averages and a teacher say most where a network can learn little.
_FEW: Settings = {
    "class_noise_ratio": 2.3,
    "covariance_noise_ratio": 2.5,
    "reference_noise_ratio": 5.0,
    "teacher_noise_ratio": 1.5,
    "expected_batch_size": ShareOfUnits(share=0.1, least=64, most=1024),
    "steps": 60,
}
# Where there are many, the network corrects what averages get wrong, and they may be rough. Free
# steps on procedural pictures teach it edges before it sees a record: with 800 of them, 120 private
# steps draw cleaner images than 200 without (docs/searches.md).
_MANY: Settings = {
    "class_noise_ratio": 4.0,
    "covariance_noise_ratio": 4.0,
    "teacher_noise_ratio": 1.8,
    "learning_rate": 4e-3,
    "ema_decay": 0.97,
    "physical_batch": 128,
    "warm_up_steps": 800,
    "texture": 0.5,
    "fresh_noise": 0.3,
    "sampling_steps": 10,
}
PRESETS = {
    "quick": Preset(
        summary="A first look in minutes: few steps, no teacher.",
        settings={
            "steps": 60,
            "expected_batch_size": ShareOfUnits(share=0.15, least=32, most=1024),
            "warm_up_steps": 150,
            "upsampler_steps": 150,
        },
    ),
    "balanced": Preset(
        summary="More steps on larger batches, and a teacher that relabels.",
        settings=_MANY
        | {
            "steps": 200,
            "expected_batch_size": ShareOfUnits(share=0.15, least=64, most=1024),
            "teacher": "relabel",
        },
        if_small=_FEW,
        on_gpu={
            "steps": 600,
            "expected_batch_size": ShareOfUnits(share=0.1, least=64, most=4096),
            "noise_draws": 4,
            "physical_batch": 1024,
            "warm_up_steps": 2000,
            "sampling_steps": 18,
        },
    ),
    "best": Preset(
        summary="Hours on a processor, or a GPU's work: many steps, several noise draws, a teacher.",
        settings=_MANY
        | {
            "steps": 400,
            "expected_batch_size": ShareOfUnits(share=0.2, least=64, most=2048),
            "noise_draws": 2,
            "warm_up_steps": 2000,
            "upsampler_steps": 1000,
            "sampling_steps": 12,
            "teacher": "relabel",
            "teacher_pool": 3.0,
        },
        if_small=_FEW,
        on_gpu={
            "steps": 2000,
            "expected_batch_size": ShareOfUnits(share=0.1, least=64, most=4096),
            "noise_draws": 16,
            "features": 64,
            "physical_batch": 1024,
            "warm_up_steps": 5000,
            "sampling_steps": 30,
        },
    ),
}
SUITS_FROM = SMALL_UNIT_EPSILON
FREE_STEPS = {"warm_up_steps": "warm-up", "upsampler_steps": "upsampler"}
