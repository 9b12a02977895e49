"""Frozen descriptions of the differentially private mechanisms that a job runs.

A mechanism says what ran, sufficiently for accounting and nothing else. Epsilon is always derived
from mechanisms (`privacy.accounting`), never stored as the truth.

The vocabulary is append-only, so that old records stay true for ever: never remove a kind, never
change the meaning of a field, give every new field a default, and refuse what is unknown.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from privacy.errors import UnsupportedMechanism

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NeighbouringRelation(StrEnum):
    """Which two data sets the guarantee cannot tell apart."""

    ADD_OR_REMOVE_ONE = "add_or_remove_one"


class UnitOfPrivacy(StrEnum):
    """Whose presence is hidden: everything a person contributed, or a single image."""

    PERSON = "person"
    RECORD = "record"


class PrivacyTarget(BaseModel):
    """Epsilon and delta requested before a run; both under add-or-remove-one unit."""

    model_config = _FROZEN
    epsilon: float = Field(gt=0, le=100, strict=True)
    delta: float = Field(gt=0, lt=1, strict=True)


class GaussianMechanism(BaseModel):
    """One release of a sum of one vector per unit, each clipped to L2 norm 1, plus Gaussian noise.

    `noise_multiplier` is the noise standard deviation divided by the L2 sensitivity.
    """

    model_config = _FROZEN
    kind: Literal["gaussian"] = "gaussian"
    stage: str
    noise_multiplier: float = Field(gt=0)
    steps: int = Field(default=1, ge=0)


class PoissonSubsampledGaussianMechanism(BaseModel):
    """DP-SGD: `steps` noisy sums over batches that each unit enters with probability q.

    Each unit adds one gradient clipped to L2 norm C; the noise has standard deviation
    `noise_multiplier` * C. Abadi et al. 2016, arXiv:1607.00133.
    """

    model_config = _FROZEN
    kind: Literal["poisson_subsampled_gaussian"] = "poisson_subsampled_gaussian"
    stage: str
    noise_multiplier: float = Field(gt=0)
    sampling_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=0)


class ZcdpMechanism(BaseModel):
    """Adaptively chosen rounds, paid for in `steps` quanta of zero-concentrated DP.

    One step is ρ-zCDP with ρ = 1 / (2 · `noise_multiplier`²), what one Gaussian release with that
    noise costs. What a round does (an exponential mechanism, a noised marginal) may be chosen by
    the outcome of earlier ones; what it costs is charged in whole steps before it runs.
    Bun & Steinke 2016, arXiv:1605.02065; adaptive composition of it is their Lemma 2.3.
    """

    model_config = _FROZEN
    kind: Literal["zcdp"] = "zcdp"
    stage: str
    noise_multiplier: float = Field(gt=0)
    steps: int = Field(ge=0)

    @property
    def rho_of_step(self) -> float:
        """Return the ρ that one step may cost."""
        return 0.5 / self.noise_multiplier**2


Mechanism = Annotated[
    GaussianMechanism | PoissonSubsampledGaussianMechanism | ZcdpMechanism,
    Field(discriminator="kind"),
]
_MECHANISMS: TypeAdapter[list[Mechanism]] = TypeAdapter(list[Mechanism])


def mechanisms_from_json(value: object) -> tuple[Mechanism, ...]:
    """Read an ordered list of mechanisms.

    Raises: UnsupportedMechanism naming the first entry that is not in the vocabulary.
    """
    try:
        return tuple(_MECHANISMS.validate_python(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UnsupportedMechanism(
            f"The mechanism list was refused at {list(first['loc'])}: {first['msg']}. "
            "Only mechanisms in privacy/mechanisms.py can be accounted for."
        ) from error


def mechanisms_to_json(mechanisms: tuple[Mechanism, ...]) -> list[dict[str, object]]:
    """Write an ordered list of mechanisms as JSON-ready dictionaries."""
    return [mechanism.model_dump(mode="json") for mechanism in mechanisms]


class GaussianStage(BaseModel):
    """A generator's promise to run one Gaussian release, before its noise is known.

    `noise_ratio` is how many times the noise is larger than the noise that would alone spend the
    whole target; a string names the Config field that holds the ratio. `only_if` names a Config
    field: where that is "off", the stage is left out.
    """

    model_config = _FROZEN
    kind: Literal["gaussian"] = "gaussian"
    stage: str
    noise_ratio: float | str
    only_if: str | None = None


class DpSgdStage(BaseModel):
    """A generator's promise to run DP-SGD.

    How many units enter a step is said by one of `expected_batch_size` (count) and `sampling_rate`
    (each unit's probability, which fits fifty units as well as sixty thousand).

    Its noise is `noise_ratio` times the noise with which it would alone spend the whole target (so
    it takes about 1 / noise_ratio² of the budget); without a ratio, it is what the rest of the
    target allows. Strings name the Config fields that hold the numbers; `only_if` as in
    `GaussianStage`.
    """

    model_config = _FROZEN
    kind: Literal["poisson_subsampled_gaussian"] = "poisson_subsampled_gaussian"
    stage: str
    steps: int | str
    expected_batch_size: int | str | None = None
    sampling_rate: float | str | None = None
    noise_ratio: float | str | None = None
    only_if: str | None = None

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if (self.expected_batch_size is None) == (self.sampling_rate is None):
            raise ValueError(
                f"The stage {self.stage!r} was refused: give either expected_batch_size or "
                "sampling_rate, and not both."
            )
        return self


class ZcdpStage(BaseModel):
    """A generator's promise to spend zCDP in `steps` quanta, on rounds that it chooses as it goes.

    `noise_ratio` and `only_if` as in `DpSgdStage`: without a ratio, it gets what the target allows.
    """

    model_config = _FROZEN
    kind: Literal["zcdp"] = "zcdp"
    stage: str
    steps: int | str
    noise_ratio: float | str | None = None
    only_if: str | None = None


Stage = Annotated[GaussianStage | DpSgdStage | ZcdpStage, Field(discriminator="kind")]
