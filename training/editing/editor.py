"""Edit an image to a specification: this image, grade 3, joint space narrower, same exposure.

An edit exchanges the mean image of one label for that of another, with all that typically comes
with the label, and then moves along what each attribute adds to an image (least squares over a set of
synthetic images, labels alike) until the *measured* attributes are what was asked for, or what
they were before where they are held (damped Newton steps). It says what was reached. Only a released set is ever looked at, so edits are
post-processing and cost no privacy (Dwork and Roth 2014, Proposition 2.1); nothing new about a
condition is learnt from them: an edited image shows what the released set holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from training.editing.attributes import Attribute

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]

FEWEST_IMAGES = 50
_MOST_IMAGES = 5000
_REACH = (0.01, 0.99)  # quantiles of the set between which an attribute may be asked for
_STEPS = 12
_LARGEST_STEP = 0.5  # of an attribute's reach, per Newton step
_CLOSE = 0.02  # of its reach: near enough to what was asked for


@dataclass(frozen=True)
class Specification:
    """What an image shall be like. `wanted`: attribute -> value; `held` keep the value they have."""

    label: int | None = None
    wanted: Mapping[str, float] | None = None
    held: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Edited:
    """An image (H, W), grey values 0-1; its measured attributes; and whether it meets what was asked."""

    image: Floats
    label: int
    measured: Mapping[str, float]
    is_met: bool


@dataclass(frozen=True, eq=False)
class Editor:
    """Shapes: of_labels (labels, H, W) means; of_attributes (attributes, H, W) for one reach each."""

    labels: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    of_labels: Floats
    of_attributes: Floats
    lowest: Floats
    highest: Floats

    def limits(self, name: str) -> tuple[float, float]:
        """Return between which values an attribute may be asked for.  Raises: InvalidParameter."""
        place = self._place(name)
        return float(self.lowest[place]), float(self.highest[place])

    def measure(self, image: Floats) -> dict[str, float]:
        """Return every attribute of an image (H, W)."""
        return {a.name: float(a.measure(image[None])[0]) for a in self.attributes}

    def edit(self, image: Floats, label: int, specification: Specification) -> Edited:
        """Return the image as specified. Shapes: (H, W) grey values 0-1.

        Raises: InvalidParameter for an unknown label or attribute, or a value that the set does not
        reach.
        """
        target = label if specification.label is None else specification.label
        for index in (label, target):
            if not 0 <= index < len(self.labels):
                raise InvalidParameter(
                    f"The label {index} was refused: the set has {len(self.labels)}, counted from 0 "
                    f"({', '.join(self.labels)})."
                )
        wanted = self._wanted(image, specification)
        edited = image + self.of_labels[target] - self.of_labels[label]
        places = [self._place(name) for name in wanted]
        values = np.array(list(wanted.values()))
        edited = self._moved(np.clip(edited, 0.0, 1.0), places, values)
        measured = self.measure(edited)
        found = np.array([measured[self.attributes[place].name] for place in places])
        close = _CLOSE * self._reach()[places]
        return Edited(edited, target, measured, bool((np.abs(found - values) <= close).all()))

    def _wanted(self, image: Floats, specification: Specification) -> dict[str, float]:
        measured = self.measure(image)
        for name in specification.held:
            self._place(name)
        wanted = {name: measured[name] for name in specification.held}
        for name, value in (specification.wanted or {}).items():
            low, high = self.limits(name)
            if not low <= value <= high:
                raise InvalidParameter(
                    f"{name} = {value:g} was refused: images of this set have {low:.3g} to "
                    f"{high:.3g}. Ask for a value between these."
                )
            wanted[name] = value
        return wanted

    def _moved(self, image: Floats, places: Sequence[int], values: Floats) -> Floats:
        """Return the image moved along the attributes' parts until it measures as wanted."""
        if not places:
            return image
        reach = self._reach()[list(places)]
        best, smallest = image, np.inf
        for _ in range(_STEPS):
            measured = self._at(image, places)
            lacking = (values - measured) / reach
            if np.abs(lacking).max() < smallest:
                best, smallest = image, float(np.abs(lacking).max())
            if smallest <= _CLOSE / 4:
                break
            slopes = np.stack(
                [
                    (
                        self._at(np.clip(image + 0.1 * self.of_attributes[p], 0, 1), places)
                        - measured
                    )
                    / (0.1 * reach)
                    for p in places
                ],
                axis=1,
            )
            step = np.linalg.lstsq(slopes, lacking, rcond=1e-3)[0]
            step = np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
            image = np.clip(image + np.tensordot(step, self.of_attributes[list(places)], 1), 0, 1)
        return best

    def _at(self, image: Floats, places: Sequence[int]) -> Floats:
        return np.array([self.attributes[place].measure(image[None])[0] for place in places])

    def _reach(self) -> Floats:
        return np.maximum(self.highest - self.lowest, 1e-9)

    def _place(self, name: str) -> int:
        for place, attribute in enumerate(self.attributes):
            if attribute.name == name:
                return place
        known = ", ".join(attribute.name for attribute in self.attributes)
        raise InvalidParameter(
            f"The attribute {name!r} was refused: {known} can be measured on this set."
        )


def fit_editor(
    images: NDArray[np.integer],
    labels: Ints,
    names: Sequence[str],
    *,
    attributes: Sequence[Attribute],
) -> Editor:
    """Fit an editor to a released set.

    Shapes: images (N, H, W) integers; labels (N,) indices into `names`. Attributes that hardly vary in
    the set are left out. Raises: InvalidParameter for fewer than FEWEST_IMAGES images.
    """
    if len(images) < FEWEST_IMAGES:
        raise InvalidParameter(
            f"A set of {len(images)} images was refused: {FEWEST_IMAGES} are needed to tell what a "
            "label or an attribute adds to an image."
        )
    grey = as_grey(images[:_MOST_IMAGES])
    index = np.asarray(labels[:_MOST_IMAGES], dtype=np.int64)
    empty = [name for k, name in enumerate(names) if not (index == k).any()]
    if empty:
        raise InvalidParameter(
            f"The set was refused: no image has the label {', '.join(empty)}. Every declared label "
            "needs one, or the change from one to another is unknown."
        )
    measured = np.stack([a.measure(grey) for a in attributes], axis=1)
    lowest, highest = np.quantile(measured, _REACH, axis=0)
    varies = highest - lowest > 1e-4
    kept = tuple(a for a, is_kept in zip(attributes, varies, strict=True) if is_kept)
    lowest, highest, measured = lowest[varies], highest[varies], measured[:, varies]
    # Attributes in reaches, around the mean: the labels' parts are whole images, and comparable.
    columns = (measured - measured.mean(axis=0)) / (highest - lowest)
    design = np.hstack([np.eye(len(names))[index], columns])
    # A little ridge: an attribute that a label determines must not blow both parts up.
    square = design.T @ design + 1e-3 * len(grey) * np.diag([0.0] * len(names) + [1.0] * len(kept))
    parts = np.linalg.solve(square, design.T @ grey.reshape(len(grey), -1))
    means = [grey[index == k].mean(axis=0) for k in range(len(names))]
    return Editor(
        labels=tuple(names),
        attributes=kept,
        of_labels=np.stack(means),
        of_attributes=parts[len(names) :].reshape(-1, *grey.shape[1:]),
        lowest=lowest,
        highest=highest,
    )


def as_grey(images: NDArray[np.integer]) -> Floats:
    """Return grey values 0-1 of 8- or 16-bit images, by the type alone."""
    return images.astype(np.float64) / np.iinfo(images.dtype).max


def as_bytes(images: Floats) -> NDArray[np.uint8]:
    """Return grey values 0-1 as 8-bit images."""
    return np.rint(255.0 * np.clip(images, 0.0, 1.0)).astype(np.uint8)
