"""State what is believed about knees before any record is seen: means and spreads by grade.

A `Prior` is public: it comes from published anatomy or from an owner's textbook knowledge, never
from records. `PUBLISHED` is as honest as its sources; `EMPHASISED` exaggerates what a grade does,
so that it can be seen in a picture of 64 pixels; `emphasised` lies anywhere between the two.

Sources. Grades: Kellgren and Lawrence 1957, Ann Rheum Dis 16:494. Healthy medial minimum joint
space in fixed flexion, 4.8 (SD 0.7) mm in women and 5.7 (0.8) mm in men: Beattie et al. 2008, BMC
Musculoskelet Disord 9:119. Lateral over medial (1.29), the cut-offs at grades 2 and 3 (about 0.80
and 0.60 of the healthy medial width), and the femorotibial angle (176.1 and 174.9 degrees in
healthy men and women, 179.6 and 178.1 as the cut-off of grade 3): the KOACAD measurements of the
ROAD study, J Orthop Sci 2010. Loss between grades within a year, 0.2 to 0.3 mm from 0 to 1 or 2 and
1.6 mm from 0 to 3: Ratzlaff et al. 2018, Osteoarthritis Cartilage 26:1215. Where no source states a
number by grade (osteophyte length, sclerosis, and every spread that is not named here), it is a
judgement that agrees with the wording of the grades.
"""

# ruff: noqa: RUF009 - a Spread is an immutable tuple, safe to share as a default

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

ByGrade = tuple[float, float, float, float, float]


class Spread(NamedTuple):
    """Mean and standard deviation of one parameter, in the parameter's unit."""

    mean: float
    sd: float


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What a cohort of knees is drawn from; make your own with `dataclasses.replace(PUBLISHED, ...)`.

    Tuples of five hold grades 0 to 4; grades between two are interpolated. Names that are also
    parameters have the parameter's unit (`parameters.PARAMETERS`).
    """

    # A referral clinic: more severe knees than a population cohort, so that no grade is rare.
    grade_shares: ByGrade = (0.28, 0.19, 0.23, 0.17, 0.13)
    # Share of the healthy joint-space width that is left in the worse compartment.
    joint_space_left: ByGrade = (1.00, 0.96, 0.86, 0.58, 0.18)
    joint_space_left_sd: ByGrade = (0.05, 0.06, 0.09, 0.12, 0.12)
    # The other compartment loses this share of what the worse one loses; below 0 it opens.
    spared_loss_ratio: float = -0.05
    # Tibial osteophytes of the worse compartment, mm.
    osteophyte: ByGrade = (0.0, 0.5, 1.7, 2.7, 4.2)
    osteophyte_sd: ByGrade = (0.0, 0.3, 0.6, 0.9, 1.3)
    # Subchondral sclerosis of the worse compartment, 0 none to 1 eburnated.
    sclerosis: ByGrade = (0.0, 0.04, 0.15, 0.45, 0.85)
    sclerosis_sd: ByGrade = (0.0, 0.03, 0.10, 0.18, 0.22)
    # Femorotibial alignment in medial disease, degrees, varus positive; lateral disease mirrors it
    # about the healthy value.
    alignment: ByGrade = (-4.5, -4.1, -3.2, -0.8, 1.8)
    alignment_sd: float = 2.2
    # Share of persons whose disease is in the lateral compartment rather than the medial one.
    lateral_share: float = 0.12
    # Correlation of severity between the two knees of a person (Gaussian copula).
    severity_correlation: float = 0.75
    # How alike the two knees of a person are in size and shape.
    within_person_correlation: float = 0.92
    # Healthy widths: the middle of a compartment is a little wider than its minimum.
    medial_joint_space: Spread = Spread(5.4, 0.80)
    lateral_joint_space: Spread = Spread(6.6, 0.95)
    half_width: Spread = Spread(38.5, 2.1)
    shaft_ratio: Spread = Spread(0.66, 0.05)
    tibia_ratio: Spread = Spread(0.66, 0.04)
    notch_depth: Spread = Spread(9.0, 1.2)
    condyle_roundness: Spread = Spread(2.2, 0.5)
    spine_height: Spread = Spread(5.2, 0.7)
    spine_gap: Spread = Spread(8.5, 1.0)
    plateau_dish: Spread = Spread(1.3, 0.35)
    fibula_offset: Spread = Spread(1.5, 1.6)
    fibula_top: Spread = Spread(14.0, 1.8)
    patella_x: Spread = Spread(1.0, 2.0)
    patella_y: Spread = Spread(-31.0, 2.5)
    patella_radius: Spread = Spread(18.5, 1.5)
    leg_half_width: Spread = Spread(57.0, 4.0)
    joint_y: Spread = Spread(3.0, 1.5)
    shift_x: Spread = Spread(0.0, 1.5)
    tilt: Spread = Spread(0.0, 0.018)
    rim_depth: Spread = Spread(2.6, 1.0)
    exposure: Spread = Spread(1.0, 0.09)
    contrast: Spread = Spread(1.0, 0.12)
    trabeculae: Spread = Spread(0.035, 0.012)
    sharpness: Spread = Spread(0.6, 0.2)
    noise: Spread = Spread(0.012, 0.004)

    def __post_init__(self) -> None:
        shares = self.grade_shares
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(
                f"Grade shares {shares} were refused: give five shares from 0 that sum to 1."
            )
        for field in fields(self):
            value = getattr(self, field.name)
            spread = value.sd if isinstance(value, Spread) else None
            if field.name.endswith("_sd"):
                spread = min(value) if isinstance(value, tuple) else value
            if spread is not None and spread < 0:
                raise ValueError(
                    f"The spread {spread} of {field.name} was refused: give 0 or more."
                )


PUBLISHED = Prior()

# Exaggerated on purpose: differences that the eye and a small classifier see at 64 pixels.
EMPHASISED = Prior(
    joint_space_left=(1.00, 0.88, 0.70, 0.40, 0.08),
    joint_space_left_sd=(0.03, 0.04, 0.05, 0.06, 0.05),
    spared_loss_ratio=0.75,
    osteophyte=(0.0, 0.6, 2.1, 3.4, 5.2),
    osteophyte_sd=(0.0, 0.11, 0.38, 0.61, 0.94),
    sclerosis=(0.0, 0.08, 0.30, 0.65, 1.00),
    sclerosis_sd=(0.0, 0.02, 0.06, 0.13, 0.20),
    alignment_sd=1.2,
    medial_joint_space=Spread(5.4, 0.35),
    lateral_joint_space=Spread(6.0, 0.40),
    joint_y=Spread(3.0, 1.0),
    shift_x=Spread(0.0, 0.9),
    trabeculae=Spread(0.060, 0.025),
)


def emphasised(emphasis: float) -> Prior:
    """Return the prior between `PUBLISHED` (0) and `EMPHASISED` (1), number by number.

    Raises: ValueError outside 0 to 1.
    """
    if not 0 <= emphasis <= 1:
        raise ValueError(
            f"An emphasis of {emphasis} was refused: give 0 (published anatomy) to 1 (exaggerated)."
        )
    blended: dict[str, Any] = {}
    for field in fields(Prior):
        honest, loud = getattr(PUBLISHED, field.name), getattr(EMPHASISED, field.name)
        if isinstance(honest, tuple):
            pairs = zip(honest, loud, strict=True)
            values = [(1 - emphasis) * low + emphasis * high for low, high in pairs]
            blended[field.name] = Spread(*values) if isinstance(honest, Spread) else tuple(values)
        else:
            blended[field.name] = (1 - emphasis) * honest + emphasis * loud
    return Prior(**blended)
