"""A training plan in the words that the command line and the pages share."""

from collections.abc import Iterator

from service.resources import Estimate, TrainingPlan

_KIBI = 1024.0


def plan_lines(plan: TrainingPlan) -> Iterator[str]:
    """Yield a plan as lines for a terminal: what it costs and takes, then what to know."""
    if plan.refusal is not None:
        yield plan.refusal
    if plan.epsilon is not None:
        left = (
            f" of {plan.epsilon_remaining:.4g} left" if plan.epsilon_remaining is not None else ""
        )
        yield f"epsilon         {plan.epsilon:.4g}{left}, at delta {plan.delta:g}"
        yield f"trained on      about {plan.units:,} units, from the declared count"
    for mechanism in plan.mechanisms:
        yield f"mechanism       {mechanism_words(mechanism)}"
    if plan.config:
        settings = ", ".join(f"{name} {value}" for name, value in plan.config.items())
        yield f"settings        {f'{plan.preset}: ' if plan.preset else ''}{settings}"
    if plan.estimate is not None:
        yield f"expected time   {time_words(plan.estimate)}"
        if plan.estimate.state == "ready":
            yield f"expected memory {memory_words(plan.estimate)}"
    for warning in plan.warnings:
        yield f"warning         {warning}"
    if plan.recommendation:
        yield plan.recommendation


def mechanism_words(mechanism: dict[str, object]) -> str:
    """Return one mechanism as a phrase."""
    noise = f"noise multiplier {mechanism['noise_multiplier']}"
    if mechanism["kind"] == "gaussian":
        return f"{mechanism['stage']}: one Gaussian release, {noise}"
    if mechanism["kind"] == "zcdp":
        return f"{mechanism['stage']}: {mechanism['steps']} steps of zCDP, {noise}"
    if mechanism["kind"] == "zcdp":
        return f"{mechanism['stage']}: at most {mechanism['steps']} measured marginals, {noise}"
    rate = float(str(mechanism["sampling_rate"]))
    return f"{mechanism['stage']}: {mechanism['steps']} steps at rate {rate:.3g}, {noise}"


def time_words(estimate: Estimate) -> str:
    """Return the expected time as a phrase, or why it is not known."""
    if estimate.state == "pending":
        return "not known yet: a dry run on random records is under way"
    if estimate.state != "ready" or estimate.seconds is None:
        return f"not known: {estimate.reason or 'the dry run gave no answer'}"
    parts = []
    if estimate.fit_seconds is not None and estimate.sample_seconds is not None:
        parts = [
            f"training {duration_words(estimate.fit_seconds)}",
            f"sampling {duration_words(estimate.sample_seconds)}",
        ]
    more = f" ({', '.join(parts)}; {estimate.device}; the audit comes after)" if parts else ""
    return f"about {duration_words(estimate.seconds)}{more}"


def memory_words(estimate: Estimate) -> str:
    """Return the expected memory as a phrase."""
    if estimate.peak_bytes is None:
        return "not known"
    said = f"about {gibibytes(estimate.peak_bytes)}"
    if estimate.device_bytes:
        said += f", and {gibibytes(estimate.device_bytes)} on the GPU"
    return said


def duration_words(seconds: float) -> str:
    """Return a duration with the precision that an estimate has."""
    if seconds < 1:
        return "a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def gibibytes(count: int) -> str:
    """Return bytes as MiB or GiB."""
    mebibytes = count / _KIBI**2
    return f"{mebibytes:.0f} MiB" if mebibytes < _KIBI else f"{mebibytes / _KIBI:.1f} GiB"
