"""Draw the anatomy of phantom persons: sizes, joint space, osteophytes, sclerosis, positioning.

Everything here is a stated public prior, nothing was fitted to records. The Kellgren-Lawrence (KL)
grade of a knee decides how much of its healthy joint-space width is left and how far osteophytes
and subchondral sclerosis have grown (Kellgren and Lawrence 1957, Ann. Rheum. Dis. 16:494: grade 1
doubtful, 2 definite osteophytes, 3 definite narrowing, 4 large osteophytes and marked narrowing).
Healthy widths are those of fixed-flexion radiographs of adults, 5 to 6 mm. Drawing pictures is
left to `radiograph.py`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

GRADES = ("0", "1", "2", "3", "4")
# A referral clinic: more severe knees than a population cohort, so that no grade is rare.
GRADE_PRIOR = (0.28, 0.19, 0.23, 0.17, 0.13)
# Correlation of severity between the two knees of a person (Gaussian copula).
SEVERITY_CORRELATION = 0.75
# Share of persons whose disease is in the lateral compartment rather than the medial one.
LATERAL_SHARE = 0.12
# Share of the healthy joint-space width that is left in the worse compartment, by grade.
JOINT_SPACE_LEFT = (1.00, 0.88, 0.70, 0.40, 0.08)
JOINT_SPACE_LEFT_SD = (0.03, 0.04, 0.05, 0.06, 0.05)
# The better compartment loses this share of what the worse one loses: more than is usual in life, so
# that a grade shows in both halves of a small picture.
SPARED_LOSS_RATIO = 0.75
# Length of the osteophytes at the margins of the worse compartment, mm, by grade.
OSTEOPHYTE_MM = (0.0, 0.6, 2.1, 3.4, 5.2)
# Subchondral sclerosis of the worse compartment, 0 none to 1 eburnated, by grade.
SCLEROSIS = (0.0, 0.08, 0.30, 0.65, 1.00)
# How alike the two knees of a person are in size and shape.
WITHIN_PERSON_CORRELATION = 0.92


@dataclass(frozen=True)
class Knees:
    """Parameters of many knees, one entry per knee in every array. Lengths are in mm.

    Anatomy is described for a left knee seen from the front: x grows to the lateral side, y grows
    towards the foot, the origin is the middle of the picture.
    """

    person: Ints  # index of the person, two knees each
    is_right: NDArray[np.bool_]  # right knees are mirrored
    grade: Ints  # KL grade 0-4
    medial_joint_space: Floats  # mm between the cortices at the middle of the compartment
    lateral_joint_space: Floats
    osteophyte_medial: Floats  # mm beyond the healthy margin
    osteophyte_lateral: Floats
    sclerosis_medial: Floats  # 0-1
    sclerosis_lateral: Floats
    half_width: Floats  # mm from the middle of the knee to the edge of a condyle
    shaft_ratio: Floats  # width of the femoral shaft at the top edge, share of half_width
    tibia_ratio: Floats  # width of the tibia at the bottom edge, share of half_width
    notch_depth: Floats  # mm of the intercondylar notch
    condyle_roundness: Floats  # mm that a condyle rises at its edge
    spine_height: Floats  # mm of the tibial spines
    spine_gap: Floats  # mm between the two spines
    plateau_dish: Floats  # mm depth of the medial plateau
    fibula_offset: Floats  # mm by which the fibular head lies beyond the tibial margin
    fibula_top: Floats  # mm below the joint line
    patella_x: Floats
    patella_y: Floats
    patella_radius: Floats
    joint_y: Floats  # height of the joint line in the picture
    shift_x: Floats
    tilt: Floats  # slope of the joint line, mm per mm
    rim_depth: Floats  # mm between the two rims of the plateau: beam not parallel to it
    leg_half_width: Floats  # mm of soft tissue around the middle
    exposure: Floats  # factor on brightness
    contrast: Floats  # exponent of the display curve
    trabeculae: Floats  # strength of the trabecular pattern, share of bone
    sharpness: Floats  # strength of the edge enhancement of the detector's processing
    noise: Floats  # standard deviation of quantum noise, share of full scale

    def __len__(self) -> int:
        """Return the number of knees."""
        return len(self.grade)

    def take(self, index: slice) -> "Knees":
        """Return the knees of a slice."""
        return Knees(**{name: value[index] for name, value in vars(self).items()})


def draw_knees(persons: int, rng: np.random.Generator) -> Knees:
    """Draw two knees for each person: correlated grades, one body, two positionings.

    Returns: 2·persons knees, the left one of a person before the right one.
    """
    person = np.repeat(np.arange(persons, dtype=np.int32), 2)
    is_right = np.tile(np.array([False, True]), persons)
    grade = _draw_grades(persons, rng)
    lateral = np.repeat(rng.random(persons) < LATERAL_SHARE, 2)
    left = np.clip(_by_grade(JOINT_SPACE_LEFT, grade, rng, JOINT_SPACE_LEFT_SD), 0.02, 1.1)
    spared = 1 - SPARED_LOSS_RATIO * (1 - left)

    def body(mean: float, sd: float) -> Floats:
        return _draw_anatomy(persons, rng, mean, sd)

    def exposed(mean: float, sd: float, low: float, high: float) -> Floats:
        values = mean + sd * rng.standard_normal(2 * persons)
        return np.clip(values, low, high).astype(np.float32)

    size = body(1.0, 0.055)
    osteophytes = _by_grade(OSTEOPHYTE_MM, grade, rng, tuple(0.18 * mm for mm in OSTEOPHYTE_MM))
    sclerosis = _by_grade(SCLEROSIS, grade, rng, tuple(0.2 * level for level in SCLEROSIS))
    # Varus (medial) or valgus (lateral) alignment grows with the narrowing: half a degree to three.
    alignment = np.where(lateral, -1, 1) * (1 - left) * 0.05
    return Knees(
        person=person,
        is_right=is_right,
        grade=grade,
        medial_joint_space=body(5.4, 0.35) * np.where(lateral, spared, left),
        lateral_joint_space=body(6.0, 0.40) * np.where(lateral, left, spared),
        osteophyte_medial=osteophytes * np.where(lateral, 0.5, 1.0).astype(np.float32),
        osteophyte_lateral=osteophytes * np.where(lateral, 1.0, 0.6).astype(np.float32),
        sclerosis_medial=sclerosis * np.where(lateral, 0.2, 1.0).astype(np.float32),
        sclerosis_lateral=sclerosis * np.where(lateral, 1.0, 0.2).astype(np.float32),
        half_width=38.5 * size,
        shaft_ratio=body(0.66, 0.05),
        tibia_ratio=body(0.66, 0.04),
        notch_depth=body(9.0, 1.2),
        condyle_roundness=body(2.2, 0.5),
        spine_height=body(5.2, 0.7) + 0.35 * osteophytes,
        spine_gap=body(8.5, 1.0),
        plateau_dish=np.abs(body(1.3, 0.35)),
        fibula_offset=body(1.5, 1.6),
        fibula_top=body(14.0, 1.8),
        patella_x=body(1.0, 2.0),
        patella_y=body(-31.0, 2.5),
        patella_radius=body(18.5, 1.5),
        joint_y=exposed(3.0, 1.0, -1, 7),
        shift_x=exposed(0.0, 0.9, -3, 3),
        tilt=(exposed(0.0, 0.018, -0.06, 0.06) + alignment).astype(np.float32),
        rim_depth=exposed(2.6, 1.0, 0.4, 6),
        leg_half_width=body(57.0, 4.0),
        exposure=exposed(1.0, 0.09, 0.75, 1.3),
        contrast=exposed(1.0, 0.12, 0.7, 1.4),
        trabeculae=exposed(0.060, 0.025, 0.015, 0.13),
        sharpness=exposed(0.6, 0.2, 0.1, 1.2),
        noise=exposed(0.012, 0.004, 0.003, 0.03),
    )


def _draw_grades(persons: int, rng: np.random.Generator) -> Ints:
    shared = np.repeat(rng.standard_normal(persons), 2)
    own = rng.standard_normal(2 * persons)
    severity = np.sqrt(SEVERITY_CORRELATION) * shared + np.sqrt(1 - SEVERITY_CORRELATION) * own
    thresholds = stats.norm.ppf(np.cumsum(GRADE_PRIOR)[:-1])
    grades: Ints = np.searchsorted(thresholds, severity).astype(np.int32)
    return grades


def _by_grade(
    means: tuple[float, ...], grade: Ints, rng: np.random.Generator, sds: tuple[float, ...]
) -> Floats:
    drawn = np.asarray(means)[grade] + np.asarray(sds)[grade] * rng.standard_normal(len(grade))
    lengths: Floats = np.maximum(drawn, 0.0).astype(np.float32)
    return lengths


def _draw_anatomy(persons: int, rng: np.random.Generator, mean: float, sd: float) -> Floats:
    shared = np.repeat(rng.standard_normal(persons), 2)
    own = rng.standard_normal(2 * persons)
    rho = WITHIN_PERSON_CORRELATION
    # Three standard deviations, so that no drawn bone is absurd.
    drawn = np.clip(np.sqrt(rho) * shared + np.sqrt(1 - rho) * own, -3, 3)
    lengths: Floats = (mean + sd * drawn).astype(np.float32)
    return lengths
