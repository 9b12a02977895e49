"""Draw the anatomy of phantom persons from a `Prior`: sizes, disease, positioning, exposure.

The Kellgren-Lawrence (KL) grade of a knee decides how much of its healthy joint-space width is
left, how far osteophytes and subchondral sclerosis have grown, and how the leg is aligned. Nothing
was fitted to records. Drawing pictures is left to `radiograph.py`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from training.phantoms.parameters import (
    GRADES,
    HIGH,
    LOW,
    NAMES,
    Floats,
    Ints,
    Knees,
)
from training.phantoms.prior import EMPHASISED, Prior, Spread

__all__ = ["GRADES", "Floats", "Ints", "Knees", "draw_knees", "draw_strangers"]

# Four standard deviations, so that no drawn bone is absurd.
_FARTHEST = 4.0
# Joint line of a leg in varus: it follows this share of the deviation from the healthy axis.
_JOINT_LINE_FOLLOWS = 0.35


def draw_knees(persons: int, rng: np.random.Generator, *, prior: Prior = EMPHASISED) -> Knees:
    """Draw two knees for each person: correlated grades, one body, two positionings.

    Returns: 2·persons knees, the left one of a person before the right one.
    """
    person = np.repeat(np.arange(persons, dtype=np.int32), 2)
    is_right = np.tile(np.array([False, True]), persons)
    grade = _draw_grades(person, rng, prior)
    return _draw(person, is_right, grade, rng, prior)


def draw_strangers(
    grade: NDArray[np.integer] | NDArray[np.floating], rng: np.random.Generator, *, prior: Prior
) -> Knees:
    """Draw one knee, left or right, of a person of its own for each grade; grades may be between."""
    person = np.arange(len(grade), dtype=np.int32)
    is_right = rng.random(len(grade)) < 0.5
    return _draw(person, is_right, np.asarray(grade, dtype=np.float32), rng, prior)


def _draw(
    person: Ints,
    is_right: NDArray[np.bool_],
    grade: Ints | Floats,
    rng: np.random.Generator,
    prior: Prior,
) -> Knees:
    persons = int(person[-1]) + 1 if len(person) else 0
    lateral = (rng.random(persons) < prior.lateral_share)[person]
    rho = prior.within_person_correlation

    def body(spread: Spread) -> NDArray[np.float64]:
        own = rng.standard_normal(len(person))
        score = np.sqrt(rho) * rng.standard_normal(persons)[person] + np.sqrt(1 - rho) * own
        return _at(spread, score)

    def film(spread: Spread) -> NDArray[np.float64]:
        return _at(spread, rng.standard_normal(len(person)))

    drawn = {
        name: film(getattr(prior, name)) if name in _FILM else body(getattr(prior, name))
        for name in (*_BODY, *_FILM)
    }
    drawn |= _disease(drawn, lateral=lateral, grade=grade, rng=rng, prior=prior)
    inside = {
        name: np.clip(drawn[name], LOW[column], HIGH[column]).astype(np.float32)
        for column, name in enumerate(NAMES)
    }
    return Knees(person=person, is_right=is_right, grade=grade, **inside)


def _disease(
    drawn: dict[str, NDArray[np.float64]],
    *,
    lateral: NDArray[np.bool_],
    grade: Ints | Floats,
    rng: np.random.Generator,
    prior: Prior,
) -> dict[str, NDArray[np.float64]]:
    """Return the parameters that the grade decides, and those that follow from them."""

    def by_grade(means: tuple[float, ...], sds: tuple[float, ...]) -> NDArray[np.float64]:
        levels = np.arange(len(GRADES))
        score = np.clip(rng.standard_normal(len(grade)), -_FARTHEST, _FARTHEST)
        return np.interp(grade, levels, means) + np.interp(grade, levels, sds) * score

    left = np.clip(by_grade(prior.joint_space_left, prior.joint_space_left_sd), 0.02, 1.1)
    spared = 1 - prior.spared_loss_ratio * (1 - left)
    osteophyte = np.maximum(by_grade(prior.osteophyte, prior.osteophyte_sd), 0)
    sclerosis = np.maximum(by_grade(prior.sclerosis, prior.sclerosis_sd), 0)
    healthy = prior.alignment[0]
    varus = by_grade(prior.alignment, (prior.alignment_sd,) * len(GRADES)) - healthy
    varus = np.where(lateral, -varus, varus)
    return {
        "medial_joint_space": drawn["medial_joint_space"] * np.where(lateral, spared, left),
        "lateral_joint_space": drawn["lateral_joint_space"] * np.where(lateral, left, spared),
        # The other side grows spurs too, smaller ones.
        "osteophyte_medial": osteophyte * np.where(lateral, 0.5, 1.0),
        "osteophyte_lateral": osteophyte * np.where(lateral, 1.0, 0.6),
        "sclerosis_medial": sclerosis * np.where(lateral, 0.2, 1.0),
        "sclerosis_lateral": sclerosis * np.where(lateral, 1.0, 0.2),
        "alignment": healthy + varus,
        "spine_height": drawn["spine_height"] + 0.35 * osteophyte,  # spines sharpen with disease
        "tilt": drawn["tilt"] + _JOINT_LINE_FOLLOWS * np.tan(np.deg2rad(varus)),
    }


def _at(spread: Spread, score: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(spread.mean + spread.sd * np.clip(score, -_FARTHEST, _FARTHEST))


def _draw_grades(person: Ints, rng: np.random.Generator, prior: Prior) -> Ints:
    shared = rng.standard_normal(int(person[-1]) + 1)[person]
    own = rng.standard_normal(len(person))
    rho = prior.severity_correlation
    severity = np.sqrt(rho) * shared + np.sqrt(1 - rho) * own
    thresholds = stats.norm.ppf(np.cumsum(prior.grade_shares)[:-1])
    grades: Ints = np.searchsorted(thresholds, severity).astype(np.int32)
    return grades


# Drawn anew for each picture; everything else is of the body, shared by a person's two knees.
_FILM = (
    "joint_y",
    "shift_x",
    "tilt",
    "rim_depth",
    "exposure",
    "contrast",
    "trabeculae",
    "sharpness",
    "noise",
)
_BODY = tuple(
    name for name in NAMES if name not in _FILM and isinstance(getattr(EMPHASISED, name, 0), Spread)
)
