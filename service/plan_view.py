"""What of a training plan an actor is shown, as JSON by the API and as words by the pages."""

from privacy.mechanisms import mechanisms_to_json
from service import resources as r
from service.operations.jobs import Estimate, TrainingPlan

_ESTIMATED = (
    "seconds",
    "fit_seconds",
    "sample_seconds",
    "peak_bytes",
    "device_bytes",
    "device",
)


def training_plan(found: TrainingPlan, estimate: Estimate | None = None) -> r.TrainingPlan:
    """Show what a training would reserve, and what its owner should know before."""
    planned = found.planned
    return r.TrainingPlan(
        preset=planned.asked.preset if planned else None,
        mechanisms=mechanisms_to_json(found.mechanisms),
        config=found.config,
        epsilon=None if found.epsilon is None else float(found.epsilon),
        delta=float(found.delta),
        epsilon_remaining=None
        if found.epsilon_remaining is None
        else float(found.epsilon_remaining),
        delta_remaining=None if found.delta_remaining is None else float(found.delta_remaining),
        accepted=found.refusal is None,
        refusal=found.refusal,
        units=planned.units if planned else None,
        warnings=list(found.warnings),
        recommended=found.recommended,
        recommendation=found.recommendation,
        estimate=None if estimate is None else _estimate(estimate),
    )


def _estimate(found: Estimate) -> r.Estimate:
    shown = {name: found.result[name] for name in _ESTIMATED if name in found.result}
    return r.Estimate(state=found.state, job_id=found.job_id, reason=found.reason, **shown)
