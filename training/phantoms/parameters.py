"""Name what a phantom knee is made of: every parameter with its unit, its meaning and its bounds.

`Knees` holds many knees, one array per parameter. `as_table` and `from_table` turn them into the
columns of `PARAMETERS` and back, for searches over parameters and for ground truth in a CSV.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

GRADES = ("0", "1", "2", "3", "4")


class Parameter(NamedTuple):
    """One number of a knee; nothing is drawn or searched outside `low` to `high`."""

    name: str
    unit: str
    low: float
    high: float
    meaning: str


PARAMETERS = (
    Parameter(
        "medial_joint_space", "mm", 0.05, 9, "cortex to cortex, middle of the medial compartment"
    ),
    Parameter("lateral_joint_space", "mm", 0.05, 11, "the same of the lateral compartment"),
    Parameter("osteophyte_medial", "mm", 0, 9, "length beyond the healthy margin, tibia"),
    Parameter("osteophyte_lateral", "mm", 0, 9, "the same on the lateral side"),
    Parameter("sclerosis_medial", "share", 0, 1.5, "0 none, 1 eburnated; a scale of this program"),
    Parameter("sclerosis_lateral", "share", 0, 1.5, "the same of the lateral compartment"),
    Parameter("alignment", "degrees", -15, 15, "femoral shaft to tibial shaft, varus positive"),
    Parameter("half_width", "mm", 30, 47, "middle of the knee to the edge of a condyle"),
    Parameter("shaft_ratio", "share", 0.45, 0.9, "femur at the top edge over half_width"),
    Parameter("tibia_ratio", "share", 0.45, 0.9, "tibia at the bottom edge over half_width"),
    Parameter("notch_depth", "mm", 3, 15, "depth of the intercondylar notch"),
    Parameter("condyle_roundness", "mm", 0.3, 5, "rise of a condyle at its edge"),
    Parameter("spine_height", "mm", 1, 11, "height of the tibial spines"),
    Parameter("spine_gap", "mm", 4, 13, "distance of the two spines"),
    Parameter("plateau_dish", "mm", 0, 4, "depth of the medial plateau"),
    Parameter("fibula_offset", "mm", -6, 9, "fibular head beyond the tibial margin"),
    Parameter("fibula_top", "mm", 6, 22, "fibular head below the joint line"),
    Parameter("patella_x", "mm", -9, 11, "middle of the patella, lateral positive"),
    Parameter("patella_y", "mm", -45, -18, "middle of the patella, towards the foot positive"),
    Parameter("patella_radius", "mm", 12, 25, "half the height of the patella"),
    Parameter("joint_y", "mm", -8, 12, "joint line below the middle of the picture"),
    Parameter("shift_x", "mm", -9, 9, "knee off the middle of the picture"),
    Parameter("tilt", "mm/mm", -0.15, 0.15, "slope of the joint line in the picture"),
    Parameter("rim_depth", "mm", 0.2, 8, "distance of the two rims of the plateau: beam angle"),
    Parameter("leg_half_width", "mm", 40, 75, "soft tissue to each side of the middle"),
    Parameter("exposure", "factor", 0.3, 2.5, "factor on brightness"),
    Parameter("contrast", "exponent", 0.5, 2, "exponent of the display curve"),
    Parameter("trabeculae", "share", 0.005, 0.15, "strength of the trabecular pattern, of bone"),
    Parameter("sharpness", "factor", 0, 1.5, "edge enhancement of the detector's processing"),
    Parameter("noise", "share", 0.002, 0.05, "standard deviation of quantum noise, of full scale"),
)
NAMES = tuple(parameter.name for parameter in PARAMETERS)
GRADED = NAMES[: NAMES.index("alignment") + 1]
"""The parameters that the grade decides."""


@dataclass(frozen=True)
class Knees:
    """Parameters of many knees, one entry per knee in every array; units are in `PARAMETERS`.

    Anatomy is described for a left knee seen from the front: x grows to the lateral side, y grows
    towards the foot, the origin is the middle of the picture.
    """

    person: Ints  # index of the person
    is_right: NDArray[np.bool_]  # right knees are mirrored
    grade: NDArray[np.int32] | Floats  # KL grade 0-4; may lie between two grades
    medial_joint_space: Floats
    lateral_joint_space: Floats
    osteophyte_medial: Floats
    osteophyte_lateral: Floats
    sclerosis_medial: Floats
    sclerosis_lateral: Floats
    alignment: Floats
    half_width: Floats
    shaft_ratio: Floats
    tibia_ratio: Floats
    notch_depth: Floats
    condyle_roundness: Floats
    spine_height: Floats
    spine_gap: Floats
    plateau_dish: Floats
    fibula_offset: Floats
    fibula_top: Floats
    patella_x: Floats
    patella_y: Floats
    patella_radius: Floats
    joint_y: Floats
    shift_x: Floats
    tilt: Floats
    rim_depth: Floats
    leg_half_width: Floats
    exposure: Floats
    contrast: Floats
    trabeculae: Floats
    sharpness: Floats
    noise: Floats

    def __len__(self) -> int:
        """Return the number of knees."""
        return len(self.grade)

    def take(self, index: slice | NDArray[np.integer]) -> "Knees":
        """Return the knees of a slice or of indices."""
        return Knees(**{name: value[index] for name, value in vars(self).items()})


def as_table(knees: Knees) -> Floats:
    """Return the parameters as columns in the order of `PARAMETERS`. Shapes: (knees, 30)."""
    return np.stack([getattr(knees, name) for name in NAMES], axis=1).astype(np.float32)


def from_table(
    table: NDArray[np.floating],
    *,
    is_right: NDArray[np.bool_],
    grade: NDArray[np.int32] | Floats,
) -> Knees:
    """Return knees of different persons from a table as `as_table` makes it, kept in bounds."""
    inside = np.clip(table, LOW, HIGH).astype(np.float32)
    columns = {name: inside[:, column] for column, name in enumerate(NAMES)}
    person = np.arange(len(table), dtype=np.int32)
    return Knees(person=person, is_right=is_right, grade=grade, **columns)


LOW: Floats = np.array([parameter.low for parameter in PARAMETERS], dtype=np.float32)
HIGH: Floats = np.array([parameter.high for parameter in PARAMETERS], dtype=np.float32)
