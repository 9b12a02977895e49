"""Regimes: is there enough data for what a run asks of it? Sentences for a data owner, beforehand.

Everything is computed from declared, public numbers; no record is seen, so asking costs nothing.

The measure of a DP-SGD run is the noise that it injects per unit of gradient over all its steps,

    sigma * sqrt(T) / (B * T) = sigma / (B * sqrt(T))

(sigma the noise multiplier, B the expected batch, T the steps). By the PLD accountant at delta 1e-5
it is about 4 / (units × epsilon), whatever batch and steps are, as long as the batch is large
enough: 55,000 units at epsilon 1 give 7e-5, at epsilon 10 1e-5; 5,800 units at epsilon 10 give
1e-4, so six thousand persons at epsilon 10 are about as hard as fifty-five thousand at epsilon 0.7;
5,800 units at epsilon 1 give 7e-4, and there only averages can be learnt. A stage that shares the
budget with averages and a teacher has up to twice as much.

The measure of a one-shot release of class means is its noise per coordinate, (4 / epsilon) /
(units / labels), over the coordinates that make a class recognisable (an 8 × 8 thumbnail), against
a class mean's distance from the mean image, about 0.3 of the clipping bound.
"""

from collections.abc import Mapping, Sequence
from math import sqrt

from privacy.image_parts import cells_of
from privacy.manifests import DatasetSchema
from privacy.mechanisms import (
    DpSgdStage,
    GaussianMechanism,
    Mechanism,
    PoissonSubsampledGaussianMechanism,
    Stage,
    UnitOfPrivacy,
    ZcdpMechanism,
)
from privacy.presets import SMALL_UNIT_EPSILON
from privacy.table_regimes import about_columns
from privacy.table_schema import TableSchema

TOO_LOUD = 4e-4
"""Injected noise per unit of gradient above which a network learns next to nothing."""
LOUD = 2e-4
"""Above this it learns little: about what 55,000 units at epsilon 0.4 allow."""
LEAST_PER_LABEL = 100.0
"""Units per label times epsilon below which the noised mean of a class is mostly noise."""
LARGE_SIDE_PIXELS = 128
"""From this height or width on, DP-SGD from scratch needs LARGE_UNIT_EPSILON."""
LARGE_UNIT_EPSILON = 200_000.0

_NOISE_TIMES_UNIT_EPSILON = 4.0
_WASTEFUL = 3.0  # times the noise that a larger batch would give: the batch is to blame


def injected_noise(mechanism: PoissonSubsampledGaussianMechanism, *, units: int) -> float:
    """Return the noise that a DP-SGD run injects per unit of gradient over all its steps."""
    batch = mechanism.sampling_rate * units
    return mechanism.noise_multiplier / (batch * sqrt(max(mechanism.steps, 1)))


def warnings(
    mechanisms: Sequence[Mechanism],
    *,
    stages: Sequence[Stage],
    schema: DatasetSchema | TableSchema,
    units: int,
    epsilon: float,
) -> tuple[str, ...]:
    """Return what a data owner should know before paying for these mechanisms; may be empty.

    `units` is the expected size of the training arm. A DP-SGD stage with a noise ratio is a small
    model beside the generator's own (a linear teacher), which learns from less; only stages
    without one are judged.
    """
    if isinstance(schema, TableSchema):
        for_rows = epsilon * sqrt(_share_of_rows(mechanisms))
        about_rows = about_columns(schema, units=units, epsilon=for_rows)
        if schema.images is None:
            return tuple(about_rows)
        about_cells = _about_cells(schema, units=units, epsilon=epsilon)
        return (*about_rows, *([about_cells] if about_cells else []))
    found = [_about_labels(schema, units=units, epsilon=epsilon)]
    learning = _own_training(mechanisms, stages)
    if learning:
        found.append(_about_learning(learning, schema=schema, units=units, epsilon=epsilon))
        found.append(_about_size(schema, units=units, epsilon=epsilon))
    return tuple(sentence for sentence in found if sentence)


def recommended(suits_from: Mapping[str, float | None], *, units: int, epsilon: float) -> str:
    """Return the generator that suits this many units at this epsilon.

    `suits_from` is, for each generator, the units × epsilon from which it is the one to take, or
    None for one that is never recommended unasked; among those that suit, the most demanding wins.
    """
    suiting = {
        name: start
        for name, start in suits_from.items()
        if start is not None and start <= units * epsilon
    }
    return max(sorted(suiting), key=suiting.__getitem__) if suiting else ""


def recommendation(
    name: str, *, schema: DatasetSchema | TableSchema, units: int, epsilon: float
) -> str:
    """Return the recommendation of a generator as a sentence."""
    amount = _amount(schema, units=units, epsilon=epsilon)
    if isinstance(schema, TableSchema):
        return f"Recommended: {name}. {amount}, over {len(schema.columns)} columns."
    if units * epsilon < SMALL_UNIT_EPSILON:
        return (
            f"Recommended: {name}. {amount}, and below about {SMALL_UNIT_EPSILON:,.0f} averages are "
            "all that can be learnt."
        )
    return f"Recommended: {name}. {amount}, which is enough for a network to learn from."


def _own_training(
    mechanisms: Sequence[Mechanism], stages: Sequence[Stage]
) -> list[PoissonSubsampledGaussianMechanism]:
    own = {s.stage for s in stages if isinstance(s, DpSgdStage) and s.noise_ratio is None}
    return [
        mechanism
        for mechanism in mechanisms
        if isinstance(mechanism, PoissonSubsampledGaussianMechanism) and mechanism.stage in own
    ]


def _about_labels(schema: DatasetSchema, *, units: int, epsilon: float) -> str | None:
    labels = len(schema.labels)
    per_label = units * epsilon / labels
    if per_label >= LEAST_PER_LABEL:
        return None
    return (
        f"Too little for the labels: about {units // labels:,} {_words(schema)} for each of "
        f"{labels} labels times epsilon {epsilon:g} is {per_label:,.0f}, and below about "
        f"{LEAST_PER_LABEL:,.0f} what a label looks like is mostly noise, more so for a rare one. "
        f"Merge labels, add {_words(schema)}, or ask for a larger epsilon."
    )


def _about_cells(schema: TableSchema, *, units: int, epsilon: float) -> str | None:
    cells = cells_of(schema)
    per_cell = units * epsilon / cells
    if per_cell >= LEAST_PER_LABEL:
        return None
    return (
        f"Too little for the images: about {units // cells:,} persons for each of {cells} cells of "
        f"images.condition_on times epsilon {epsilon:g} is {per_cell:,.0f}, and below about "
        f"{LEAST_PER_LABEL:,.0f} what the images of a cell look like is mostly noise, more so for a "
        "rare one. Name fewer columns there, or columns with fewer levels or bins."
    )


def _share_of_rows(mechanisms: Sequence[Mechanism]) -> float:
    """Return the part of the budget that zCDP rounds have beside one-shot releases; about."""
    rho = [
        (isinstance(m, ZcdpMechanism), m.steps / m.noise_multiplier**2)
        for m in mechanisms
        if isinstance(m, ZcdpMechanism | GaussianMechanism)
    ]
    of_rows = sum(own for is_zcdp, own in rho if is_zcdp)
    return of_rows / sum(own for _, own in rho) if of_rows else 1.0


def _about_learning(
    learning: Sequence[PoissonSubsampledGaussianMechanism],
    *,
    schema: DatasetSchema,
    units: int,
    epsilon: float,
) -> str | None:
    quietest = min(learning, key=lambda mechanism: injected_noise(mechanism, units=units))
    noise = injected_noise(quietest, units=units)
    if noise <= LOUD:
        return None
    possible = _NOISE_TIMES_UNIT_EPSILON / (units * epsilon)
    if noise > _WASTEFUL * possible:
        batch = round(quietest.sampling_rate * units)
        return (
            f"The batch is too small: with {batch:,} {_words(schema)} a step over "
            f"{quietest.steps:,} steps the injected noise is {noise:.2g} per unit of gradient, "
            f"where about {possible:.2g} would be possible. Take a larger expected batch or more "
            "steps; both cost time, not epsilon."
        )
    amount = _amount(schema, units=units, epsilon=epsilon)
    if noise > TOO_LOUD:
        return (
            f"Too little to learn from: {amount}. The injected noise, {noise:.2g} per unit of "
            f"gradient, is above {TOO_LOUD:g}, where a network learns next to nothing that "
            f"averages do not say. Use statistics, add {_words(schema)}, or ask for a larger "
            "epsilon."
        )
    return (
        f"Little to learn from: {amount}. The injected noise is {noise:.2g} per unit of gradient "
        "(55,000 units at epsilon 1 have 7e-05). Expect coarse images, and compare them with those "
        "of statistics, which are cheap to make."
    )


def _about_size(schema: DatasetSchema, *, units: int, epsilon: float) -> str | None:
    side = max(schema.height, schema.width)
    if side < LARGE_SIDE_PIXELS or units * epsilon >= LARGE_UNIT_EPSILON:
        return None
    return (
        f"Images of {schema.height} × {schema.width} pixels ask for more than "
        f"{_amount(schema, units=units, epsilon=epsilon)}: from {LARGE_SIDE_PIXELS} pixels on, "
        f"training from scratch needs about {LARGE_UNIT_EPSILON:,.0f}. Declare the data set at "
        "64 pixels or less."
    )


def _amount(schema: DatasetSchema | TableSchema, *, units: int, epsilon: float) -> str:
    return f"{units:,} {_words(schema)} × epsilon {epsilon:g} is {units * epsilon:,.0f}"


def _words(schema: DatasetSchema | TableSchema) -> str:
    if schema.unit is UnitOfPrivacy.PERSON:
        return "persons"
    return "rows" if isinstance(schema, TableSchema) else "images"
