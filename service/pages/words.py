"""Say numbers and states in plain words; the templates' filters."""

import math
from datetime import datetime
from decimal import Decimal

from service.pages.session import blueprint
from service.plan_words import duration_words

UNIT_WORDS = {"person": "per person", "record": "per image", "row": "per row"}
STATE_WORDS = {
    "proposed": "waiting for votes",
    "in_force": "in force",
    "superseded": "replaced by another",
    "draft": "being prepared",
    "submitted": "waiting for its auditors",
    "under_review": "with its auditors",
    "returned": "returned to its author",
    "approved": "approved, not yet published",
    "rejected": "rejected",
    "withdrawn": "withdrawn by its author",
    "published": "published",
    "suspended": "suspended",
    "revoked": "revoked",
    "expired": "expired",
    "uploading": "waiting for its bytes",
    "ingesting": "being checked",
    "ready": "ready",
    "refused": "refused",
    "erased": "erased",
    "queued": "waiting for a worker",
    "running": "running",
    "cancelling": "stopping",
    "cancelled": "cancelled",
    "succeeded": "done",
    "failed": "failed",
}
_LARGEST_FACTOR = 1e6


@blueprint.app_template_filter("state_words")
def state_words(state: str) -> str:
    """Return a state in words."""
    return STATE_WORDS.get(state, state)


@blueprint.app_template_filter("unit_words")
def unit_words(unit: str | None) -> str:
    """Return whose presence is hidden."""
    return UNIT_WORDS.get(unit or "", "unit not recorded")


@blueprint.app_template_filter("guarantee")
def guarantee(epsilon: float) -> str:
    """Return what an epsilon promises, as odds: e to the epsilon."""
    factor = math.exp(epsilon)
    if factor >= _LARGEST_FACTOR:
        return "more than a million"
    return f"{factor:,.1f}" if factor < 10 else f"{factor:,.0f}"


@blueprint.app_template_filter("number")
def number(value: float | Decimal | None) -> str:
    """Return a number with the digits that matter."""
    return "–" if value is None else f"{float(value):.4g}"


@blueprint.app_template_filter("moment")
def moment(value: datetime | None) -> str:
    """Return a moment in UTC, to the minute."""
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


@blueprint.app_template_filter("size")
def size(value: int | None) -> str:
    """Return bytes in the unit that reads best."""
    amount = float(value or 0)
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


blueprint.add_app_template_filter(duration_words, "duration_words")


@blueprint.app_template_filter("duration")
def duration(seconds: float | None) -> str:
    """Return how long something will take, for people."""
    if seconds is None:
        return "not known yet"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
