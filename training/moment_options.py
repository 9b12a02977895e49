"""What a generator that refines the Gaussian lets its owner set about the three releases behind it.

The releases themselves are `moments.py`'s. The *statistics* generator, which has nothing but them,
spends the budget otherwise and names its own fields.
"""

from pydantic import BaseModel, Field

from privacy.mechanisms import GaussianStage


class MomentOptions(BaseModel):
    """The fields that the Config of such a generator inherits."""

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


STAGES = (
    GaussianStage(stage="reference", noise_ratio="reference_noise_ratio"),
    GaussianStage(stage="class_means", noise_ratio="class_noise_ratio"),
    GaussianStage(stage="covariance", noise_ratio="covariance_noise_ratio"),
)
"""The first entries of such a generator's STAGES, in the order in which `fit_moments` runs them."""
