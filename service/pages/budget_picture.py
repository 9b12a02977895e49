"""A cohort's budget as a picture: one segment per job, what is planned, and what is left."""

from dataclasses import dataclass
from decimal import Decimal

from flask import url_for

from service.operations.budgets import BudgetEntry, BudgetView
from service.pages.words import number, state_words


@dataclass(frozen=True)
class Segment:
    """One stretch of the bar. `kind` names its colour."""

    name: str
    value: float
    kind: str
    title: str
    href: str | None = None


@dataclass(frozen=True)
class BudgetPicture:
    """The bar, the sentence that says the same, and what the bar is drawn to."""

    segments: list[Segment]
    total: float
    label: str
    is_over: bool = False


def budget_picture(
    view: BudgetView, *, planned: Decimal | None = None, links: bool = True
) -> BudgetPicture:
    """Return a budget's bar; `planned` adds what a job that is not requested yet would reserve.

    Costs of single jobs need not add up to what is spent under a Rényi filter; they are scaled to it.
    """
    entries = [entry for entry in view.entries if entry.is_open or entry.epsilon > 0]
    entries.sort(key=lambda entry: entry.is_open)
    held = view.epsilon.spent + view.epsilon.reserved
    summed = sum((entry.epsilon for entry in entries), Decimal(0))
    scale = float(held / summed) if summed else 1.0
    segments = [_segment(entry, scale=scale, link=links) for entry in entries]
    label = (
        f"Budget of epsilon {number(view.epsilon.budget)}: {number(view.epsilon.spent)} spent, "
        f"{number(view.epsilon.reserved)} reserved, {number(view.epsilon.remaining)} left"
    )
    is_over = False
    if planned is not None:
        is_over = planned > view.epsilon.remaining
        kind = "over" if is_over else "planned"
        words = f"This run: ε {number(planned)}{', more than is left' if is_over else ''}"
        segments.append(Segment("This run", float(planned), kind, words))
        label += f"; this run would reserve {number(planned)}"
    drawn = sum(segment.value for segment in segments)
    return BudgetPicture(segments, max(float(view.epsilon.budget), drawn), label, is_over)


def _segment(entry: BudgetEntry, *, scale: float, link: bool) -> Segment:
    """Return one job's stretch: what it cost, or all that it holds while it may still spend it."""
    name, kind = entry.generator or "A job", "reserved" if entry.is_open else "spent"
    amount = f"ε {number(entry.epsilon)} {kind}"
    return Segment(
        name=name,
        value=scale * float(entry.epsilon),
        kind=kind,
        title=f"{name}, {state_words(entry.state)}: {amount}",
        href=url_for("pages.show_job", job_id=entry.job_id) if link else None,
    )
