"""Turns a generator's stages and a privacy target into the mechanisms that a job reserves.

Everything here is computed from declared, public numbers; the realised data is never seen. The
noise is the smallest that meets the target, rounded up. Budgets are `privacy.ledger`'s matter.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from math import exp, floor, log
from typing import Any

from privacy import accounting, ledger
from privacy.errors import InvalidParameter
from privacy.inclusion import Rates
from privacy.mechanisms import (
    DpSgdStage,
    GaussianMechanism,
    GaussianStage,
    Mechanism,
    PoissonSubsampledGaussianMechanism,
    PrivacyTarget,
    Stage,
    ZcdpMechanism,
    ZcdpStage,
)

# Relative width at which the search for the noise stops; the upper end is taken.
_PRECISION = 1e-3
# Noise multipliers are rounded up to this many digits, so that they read and travel well.
_DIGITS = 5
_ROUND_UP = Context(prec=_DIGITS, rounding="ROUND_CEILING")
# More noise than this teaches nothing; a plan that needs it is refused with that sentence.
_MOST_NOISE = 2.0**14
_LEAST_NOISE = 1e-3
# Stand in for "no noise to speak of" and for "too little to measure" in the search.
_UNPAYABLE, _FREE = 1e6, 1e-9


def public_train_count(declared_count: int, *, rates: Rates) -> int:
    """Return the expected size of the training arm, from the declared count and public rates."""
    return floor(declared_count * (1 - rates.reference - rates.pool / 2))


def plan_mechanisms(
    stages: Sequence[Stage],
    *,
    config: Mapping[str, Any],
    target: PrivacyTarget,
    public_train_count: int,
) -> tuple[Mechanism, ...]:
    """Return one mechanism per stage that is switched on, in order, at a joint cost of `target`.

    A stage with a noise ratio gets that many times the noise that would alone spend the target;
    DP-SGD stages without one share one noise multiplier, fitted to what is left. Where every stage
    has a ratio, all are scaled together so that the whole meets the target.
    Raises: InvalidParameter, as a sentence for the data owner, if no noise can meet the target.
    """
    chosen = [stage for stage in stages if _is_on(stage, config)]
    if not chosen:
        raise InvalidParameter("The plan was refused: the generator declares no stages.")
    drafts = [_draft(s, config=config, public_train_count=public_train_count) for s in chosen]
    ratios = [_ratio(stage, config) for stage in chosen]
    alone = [
        None if ratio is None else ratio * _noise_alone(draft, target=target)
        for draft, ratio in zip(drafts, ratios, strict=True)
    ]
    is_scaled_together = None not in alone

    def plan(level: float) -> tuple[Mechanism, ...]:
        return tuple(
            _with_noise(draft, _noise(own, level, is_scaled=is_scaled_together))
            for draft, own in zip(drafts, alone, strict=True)
        )

    if not is_scaled_together:
        fixed = tuple(m for m, own in zip(plan(1.0), alone, strict=True) if own is not None)
        _check_room_is_left(fixed, target=target)
    return _calibrate(plan, target=target)


def _is_on(stage: Stage, config: Mapping[str, Any]) -> bool:
    return stage.only_if is None or config.get(stage.only_if) != "off"


def _noise(own: float | None, level: float, *, is_scaled: bool) -> float:
    """Return a stage's noise: what its ratio says, scaled if everybody is; else the level."""
    if own is None:
        return level
    return own * level if is_scaled else own


def _noise_alone(draft: Mechanism, *, target: PrivacyTarget) -> float:
    """Return the noise with which this mechanism would alone spend the target."""
    if isinstance(draft, GaussianMechanism):
        return accounting.gaussian_noise_multiplier(target)
    (alone,) = _calibrate(lambda noise: (_with_noise(draft, noise),), target=target)
    return alone.noise_multiplier


def _with_noise(draft: Mechanism, noise_multiplier: float) -> Mechanism:
    return draft.model_copy(update={"noise_multiplier": _rounded_up(noise_multiplier)})


def _calibrate(
    plan: Callable[[float], tuple[Mechanism, ...]], *, target: PrivacyTarget
) -> tuple[Mechanism, ...]:
    """Return `plan` at the smallest noise that meets `target`, to a relative 1e-3, rounded up."""
    # Imported late, because the web service imports this module and seldom plans.
    from scipy.optimize import brentq  # noqa: PLC0415

    def excess(log_noise: float) -> float:
        mechanisms = plan(exp(log_noise))
        cost = _UNPAYABLE if _is_too_quiet(mechanisms) else ledger.cost(mechanisms, target.delta)
        # Cost against noise is nearly a straight line in logarithms, so few tries are needed.
        return log(max(float(cost), _FREE) / target.epsilon)

    high = _enough_noise(plan, target=target)
    low = high / 2
    while low > _LEAST_NOISE and excess(log(low)) <= 0:
        low, high = low / 2, low
    if low <= _LEAST_NOISE:
        noise = high
    else:
        noise = exp(brentq(excess, log(low), log(high), xtol=_PRECISION / 4, rtol=1e-9))
    noise = _rounded_up(noise)
    while not _meets(plan(noise), target):
        noise = _rounded_up(noise * (1 + _PRECISION / 4))
    return plan(noise)


def _enough_noise(
    plan: Callable[[float], tuple[Mechanism, ...]], *, target: PrivacyTarget
) -> float:
    """Return a power of two of noise that certainly meets the target, by the quick accountant."""
    noise = 2.0**-4
    while True:
        mechanisms = plan(noise)
        if not _is_too_quiet(mechanisms) and _meets_surely(mechanisms, target):
            return noise
        noise *= 2
        if noise > _MOST_NOISE:
            raise InvalidParameter(
                f"Epsilon {target.epsilon} at delta {target.delta} was refused: even with a noise "
                f"multiplier of {_MOST_NOISE:g} the stages cost more. Take fewer steps, a smaller "
                "batch, or a larger epsilon."
            )


def _meets_surely(mechanisms: tuple[Mechanism, ...], target: PrivacyTarget) -> bool:
    share = 1 - float(ledger.REFUND_SHARE)
    return accounting.second_opinion(mechanisms, target.delta * share) < target.epsilon


def _meets(mechanisms: tuple[Mechanism, ...], target: PrivacyTarget) -> bool:
    if _is_too_quiet(mechanisms):
        return False
    return ledger.cost(mechanisms, target.delta) <= Decimal(repr(target.epsilon))


def _is_too_quiet(mechanisms: tuple[Mechanism, ...]) -> bool:
    least = accounting.NOISE_MULTIPLIER_RANGE[0]
    return min(mechanism.noise_multiplier for mechanism in mechanisms) < least


def _check_room_is_left(mechanisms: tuple[Mechanism, ...], *, target: PrivacyTarget) -> None:
    if mechanisms and not _meets(mechanisms, target):
        cost = ledger.cost(mechanisms, target.delta)
        raise InvalidParameter(
            f"The plan was refused: its stages with a noise ratio alone cost epsilon {cost} of the "
            f"target {target.epsilon} at delta {target.delta}. Raise their noise_ratio above 1."
        )


def _draft(stage: Stage, *, config: Mapping[str, Any], public_train_count: int) -> Mechanism:
    """Return the stage's mechanism with a noise multiplier of 1, still to be fitted."""
    if isinstance(stage, GaussianStage):
        return GaussianMechanism(stage=stage.stage, noise_multiplier=1.0)
    if isinstance(stage, ZcdpStage):
        steps = _whole(stage, "steps", config)
        return ZcdpMechanism(stage=stage.stage, noise_multiplier=1.0, steps=steps)
    return _dp_sgd(stage, config=config, public_train_count=public_train_count)


def _dp_sgd(
    stage: DpSgdStage, *, config: Mapping[str, Any], public_train_count: int
) -> PoissonSubsampledGaussianMechanism:
    return PoissonSubsampledGaussianMechanism(
        stage=stage.stage,
        noise_multiplier=1.0,
        sampling_rate=_sampling_rate(stage, config, public_train_count=public_train_count),
        steps=_whole(stage, "steps", config),
    )


def _sampling_rate(
    stage: DpSgdStage, config: Mapping[str, Any], *, public_train_count: int
) -> float:
    """Return the probability with which a unit enters a step."""
    if stage.expected_batch_size is None:
        rate = _resolve(stage, "sampling_rate", config)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise InvalidParameter(
                f"A sampling rate of {rate!r} for {stage.stage} was refused: give a number above 0 "
                "and at most 1."
            )
        return float(rate)
    batch = _whole(stage, "expected_batch_size", config)
    if batch > public_train_count:
        raise InvalidParameter(
            f"An expected batch size of {batch} for {stage.stage} was refused: the declared count "
            f"leaves {public_train_count} units to train on. Use a batch of at most that."
        )
    return batch / public_train_count


def _rounded_up(noise_multiplier: float) -> float:
    rounded = float(_ROUND_UP.create_decimal(Decimal(repr(noise_multiplier))))
    return max(rounded, noise_multiplier)


def _ratio(stage: Stage, config: Mapping[str, Any]) -> float | None:
    if stage.noise_ratio is None:
        return None
    value = _resolve(stage, "noise_ratio", config)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1000:
        raise InvalidParameter(
            f"A noise ratio of {value!r} for {stage.stage} was refused: give a number above 0 and "
            "at most 1000."
        )
    return float(value)


def _whole(stage: DpSgdStage | ZcdpStage, field: str, config: Mapping[str, Any]) -> int:
    value = _resolve(stage, field, config)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidParameter(
            f"{field} {value!r} for {stage.stage} was refused: give a whole number of at least 1."
        )
    return value


def _resolve(stage: Stage, field: str, config: Mapping[str, Any]) -> object:
    """Return the number in `field`, or the one in the Config field that it names."""
    value = getattr(stage, field)
    if not isinstance(value, str):
        return value
    if value not in config:
        raise InvalidParameter(
            f"The plan was refused: {stage.stage} takes its {field} from the configuration field "
            f"{value!r}, and the configuration has none."
        )
    return config[value]
