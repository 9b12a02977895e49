"""Controlled series: the same images, all the same but for one thing that changes step by step."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from training.editing.editor import Editor, Specification, as_bytes, as_grey

LABEL = "label"
MOST_STEPS = 25


@dataclass(frozen=True)
class Axis:
    """What varies: `label`, or an attribute, from one value to another in so many steps."""

    name: str
    low: float | None = None
    high: float | None = None
    steps: int = 7


@dataclass(frozen=True, eq=False)
class Series:
    """Shapes: images (cases, steps, H, W) bytes; sources, start_labels (cases,); values (steps,).

    measured (cases, steps, attributes); is_met (cases, steps) tells where the specification was met.
    """

    axis: str
    values: NDArray[np.float64]
    images: NDArray[np.uint8]
    sources: NDArray[np.integer]
    start_labels: NDArray[np.integer]
    labels: NDArray[np.integer]
    attributes: tuple[str, ...]
    measured: NDArray[np.float64]
    is_met: NDArray[np.bool_]


def make_series(
    editor: Editor,
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    *,
    sources: NDArray[np.integer],
    axis: Axis,
    rest: Specification,
) -> Series:
    """Edit each of `sources` along an axis; `rest` says what else is set, or held as it is.

    Raises: InvalidParameter for an axis that is also set, an unknown name, or a value out of reach.
    """
    values = axis_values(editor, axis)
    fixed = set(rest.wanted or {}) | ({LABEL} if rest.label is not None else set())
    if axis.name in fixed or axis.name in rest.held:
        raise InvalidParameter(f"{axis.name} was refused: it cannot both vary and be set or held.")
    shape = (len(sources), len(values))
    out = np.zeros((*shape, *images.shape[1:]), dtype=np.uint8)
    measured = np.zeros((*shape, len(editor.attributes)))
    is_met, made = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.int64)
    for case, source in enumerate(sources):
        image, label = as_grey(images[[source]])[0], int(labels[source])
        for step, value in enumerate(values):
            edited = editor.edit(image, label, _at(rest, axis.name, float(value)))
            out[case, step] = as_bytes(edited.image)
            measured[case, step] = list(edited.measured.values())
            is_met[case, step], made[case, step] = edited.is_met, edited.label
    return Series(
        axis=axis.name,
        values=values,
        images=out,
        sources=np.asarray(sources),
        start_labels=np.asarray(labels)[sources],
        labels=made,
        attributes=tuple(a.name for a in editor.attributes),
        measured=measured,
        is_met=is_met,
    )


def axis_values(editor: Editor, axis: Axis) -> NDArray[np.float64]:
    """Return the values along an axis; its whole reach where no ends are given.

    Raises: InvalidParameter.
    """
    if axis.name == LABEL:
        return np.arange(len(editor.labels), dtype=np.float64)
    if not 2 <= axis.steps <= MOST_STEPS:
        raise InvalidParameter(f"{axis.steps} steps were refused: give 2 to {MOST_STEPS}.")
    low, high = editor.limits(axis.name)
    ends = (low if axis.low is None else axis.low, high if axis.high is None else axis.high)
    if not low <= min(ends) < max(ends) <= high:
        raise InvalidParameter(
            f"{axis.name} from {ends[0]:g} to {ends[1]:g} was refused: images of this set have "
            f"{low:.3g} to {high:.3g}. Give two different values between these."
        )
    return np.linspace(*ends, axis.steps)


def _at(rest: Specification, name: str, value: float) -> Specification:
    if name == LABEL:
        return replace(rest, label=int(value))
    return replace(rest, wanted={**(rest.wanted or {}), name: value})
