"""Render phantom knees as frontal (PA, fixed-flexion) radiographs.

Bones are given by contours: the height of the joint surfaces as a function of x and the sides as a
function of y. Their signed distances (mm, positive inside) give cortex, trabecular bone and
sclerosis; attenuations add up along the beam; a display curve, edge enhancement and noise end it.
Drawn at twice the size and averaged down, so that a tenth of a millimetre of joint space still
changes the brightness. Only numpy and scipy: no torch.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.phantoms.parameters import Floats, Knees

FIELD_OF_VIEW_MM = 90.0
OVERSAMPLING = 2
# Knees drawn at once: a plane of 8 knees at 64 px is 0.5 MB, so that a few planes stay in the cache.
PLANE_VALUES = 8 * 128 * 128
# Middle of a compartment, as a share of the half width.
COMPARTMENT = 0.55


def render_knees(
    knees: Knees,
    rng: np.random.Generator,
    *,
    pixels: int | tuple[int, int] = 64,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Render every knee; `pixels` is the side of a square, or (height, width).

    The shorter side shows 90 mm. Shapes: (knees, height, width), 0 black to 255 white (dense bone).
    """
    shape = (pixels, pixels) if isinstance(pixels, int) else pixels
    images = np.empty((len(knees), *shape), np.uint8)
    batch = max(1, PLANE_VALUES // (shape[0] * shape[1] * OVERSAMPLING**2))
    for start in range(0, len(knees), batch):
        chosen = slice(start, min(start + batch, len(knees)))
        images[chosen] = _render_batch(knees.take(chosen), rng, shape)
        if progress is not None:
            progress(chosen.stop, len(knees))
    return images


def _render_batch(
    knees: Knees, rng: np.random.Generator, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    pixel_mm = FIELD_OF_VIEW_MM / min(shape)
    down, across = (_axis(side, pixel_mm) for side in shape)
    bone = _average_down(_draw_bones(knees, across, down))
    # What has no sharp edge needs no larger picture.
    x = _average_axis(across)[None, :] - knees.shift_x[:, None]
    rows = _average_axis(down)[None, :] - knees.joint_y[:, None]
    bone += _patella(knees, x, rows)
    soft = _soft_tissue(knees, x, rows)
    density = soft + bone * (1 + _draw_trabeculae(knees, rng, shape, pixel_mm))
    blurred = ndimage.gaussian_filter(density, (0, 2.6 / pixel_mm, 2.6 / pixel_mm), truncate=3)
    density += _plane(knees.sharpness) * (density - blurred)
    shown = _plane(knees.exposure) * np.maximum(density, 0) ** _plane(knees.contrast)
    shown += _plane(knees.noise) * rng.standard_normal(shown.shape, np.float32)
    shown[knees.is_right] = shown[knees.is_right, :, ::-1]
    pictures: NDArray[np.uint8] = np.clip(shown * 255, 0, 255).astype(np.uint8)
    return pictures


def _axis(side: int, pixel_mm: float) -> Floats:
    """Return the positions of the large picture's pixels along one side, mm off the middle."""
    fine = np.arange(side * OVERSAMPLING, dtype=np.float32) + np.float32(0.5)
    centred: Floats = (fine / np.float32(OVERSAMPLING) - np.float32(side / 2)) * np.float32(
        pixel_mm
    )
    return centred


def _average_axis(axis: Floats) -> Floats:
    averaged: Floats = axis.reshape(-1, OVERSAMPLING).mean(1)
    return averaged


def _average_down(plane: Floats) -> Floats:
    # Sums of slices: several times faster than the mean over a reshaped array. OVERSAMPLING is 2.
    rows = plane[:, 0::2] + plane[:, 1::2]
    averaged: Floats = (rows[:, :, 0::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return averaged


def _draw_bones(knees: Knees, axis_x: Floats, axis_y: Floats) -> Floats:
    """Return the attenuation of all bones but the patella; (knees, rows, columns)."""
    x = axis_x[None, :] - knees.shift_x[:, None]  # (knees, columns)
    u = x / knees.half_width[:, None]
    plateau, condyles = _joint_surfaces(knees, u)
    level = knees.joint_y[:, None] + knees.tilt[:, None] * x  # (knees, columns)
    y = axis_y[None, :, None] - level[:, None, :]  # mm below the joint line; (knees, rows, columns)
    rows = axis_y[None, :] - knees.joint_y[:, None]  # (knees, rows)
    tibia = _bone_distance(
        _nearest(y - plateau[:, None, :], plateau, axis_x),
        x,
        _tibia_sides(knees, rows),
    )
    femur = _bone_distance(
        _nearest(condyles[:, None, :] - y, condyles, axis_x),
        x,
        _femur_sides(knees, rows),
    )
    density = _bone(femur, body=0.30, cortex=0.12, depth_mm=9.0)
    density += _bone(tibia, body=0.26, cortex=0.13, depth_mm=9.0)
    below, above = y - plateau[:, None, :], condyles[:, None, :] - y
    density += _tibial_plate(knees, u, below=below, tibia=tibia)
    density += _femoral_plate(knees, u, above=above, femur=femur)
    density += _fibula(knees, x, rows)
    return density


def _joint_surfaces(knees: Knees, u: Floats) -> tuple[Floats, Floats]:
    """Return the heights of plateau and condyles, mm below the joint line; (knees, columns)."""
    blend = np.clip((u + COMPARTMENT) / (2 * COMPARTMENT), 0, 1)
    blend = blend * blend * (3 - 2 * blend)
    medial, lateral = knees.medial_joint_space[:, None], knees.lateral_joint_space[:, None]
    gap = medial + (lateral - medial) * blend
    dish = knees.plateau_dish[:, None] * np.exp(-(((u + COMPARTMENT) / 0.30) ** 2))
    dish -= 0.35 * knees.plateau_dish[:, None] * np.exp(-(((u - COMPARTMENT) / 0.34) ** 2))
    half_gap = (0.5 * knees.spine_gap / knees.half_width)[:, None]
    spines = np.exp(-(((u + half_gap) / 0.075) ** 2)) + 0.85 * np.exp(
        -(((u - half_gap) / 0.075) ** 2)
    )
    eminence = knees.spine_height[:, None] * (0.62 * spines + 0.40 * np.exp(-((u / 0.26) ** 2)))
    plateau = dish - eminence
    # Each condyle is an arc that touches its compartment's middle; the notch rises between them.
    arc = 3.4 * knees.condyle_roundness[:, None] * (np.abs(u) - COMPARTMENT) ** 2
    notch = knees.notch_depth[:, None] * np.exp(-((np.abs(u) / 0.25) ** 2.4))
    condyles = -gap - arc - notch + 0.6 * dish
    return plateau, condyles


def _femur_sides(knees: Knees, rows: Floats) -> tuple[Floats, Floats]:
    """Return the medial and lateral contour of the femur, x in mm; (knees, rows)."""
    width = knees.half_width[:, None]
    above = -rows
    flare = 1 / (1 + np.exp((above - 39) / 5.0))  # the epicondyles narrow into the shaft
    shaft = knees.shaft_ratio[:, None]
    half = width * (shaft + (1.03 - shaft) * flare)
    half -= 0.07 * width * np.exp(-((above / 11) ** 2))  # condyles curve in towards the joint
    # The shaft leans to the lateral side in a healthy (valgus) leg; the condyles stay.
    lean = -np.tan(np.deg2rad(knees.alignment))[:, None] * np.maximum(above - 15, 0)
    spur = np.exp(-(((above - 8.0) / 3.2) ** 2))
    return (
        lean - half - 0.75 * knees.osteophyte_medial[:, None] * spur,
        lean + half + 0.75 * knees.osteophyte_lateral[:, None] * spur,
    )


def _tibia_sides(knees: Knees, rows: Floats) -> tuple[Floats, Floats]:
    """Return the medial and lateral contour of the tibia, x in mm; (knees, rows)."""
    width = knees.half_width[:, None]
    below = np.maximum(rows - 6, 0)
    taper = 1 - np.exp(-((below / 26) ** 1.5))
    half = width * (0.985 - (0.985 - knees.tibia_ratio[:, None]) * taper)
    spur = np.exp(-(((rows - 2.6) / 2.4) ** 2))
    return (
        -half - knees.osteophyte_medial[:, None] * spur,
        half + knees.osteophyte_lateral[:, None] * spur,
    )


def _bone_distance(surface: Floats, x: Floats, sides: tuple[Floats, Floats]) -> Floats:
    """Return the distance to the nearest contour, corners rounded; (knees, rows, columns)."""
    medial, lateral = sides
    across = np.minimum(x[:, None, :] - medial[:, :, None], lateral[:, :, None] - x[:, None, :])
    radius = np.float32(5.0)
    overlap = np.maximum(radius - np.abs(surface - across), 0)
    distance: Floats = np.minimum(surface, across) - overlap * overlap / (4 * radius)
    return distance


def _bone(distance: Floats, *, body: float, cortex: float, depth_mm: float) -> Floats:
    """Turn distances into attenuation: a bright cortex around bone that thickens inwards."""
    inside = _inside(distance)
    depth = np.maximum(distance, 0)
    thickness = 1 - np.float32(0.62) * np.exp(-depth / np.float32(depth_mm))
    line = np.exp(-(((depth - np.float32(0.8)) / np.float32(1.1)) ** 2))
    attenuation: Floats = inside * (np.float32(body) * thickness + np.float32(cortex) * line)
    return attenuation


def _tibial_plate(knees: Knees, u: Floats, *, below: Floats, tibia: Floats) -> Floats:
    """Return the subchondral plate of the tibia, its sclerosis and the second rim."""
    loaded, hardened = _loading(knees, u)
    depth = np.maximum(below, 0)
    plate = np.exp(-((depth / np.float32(1.7)) ** 2)) * (np.float32(0.10) + 0.14 * loaded)
    plate += np.float32(0.22) * hardened * np.exp(-depth / np.float32(5.0))
    rim = (depth - _plane(knees.rim_depth)) / np.float32(0.9)
    plate += np.float32(0.07) * loaded * np.exp(-rim * rim)
    seen: Floats = plate * _inside(tibia)
    return seen


def _femoral_plate(knees: Knees, u: Floats, *, above: Floats, femur: Floats) -> Floats:
    """Return the subchondral plate of the condyles and its sclerosis."""
    loaded, hardened = _loading(knees, u)
    depth = np.maximum(above, 0)
    plate = np.exp(-((depth / np.float32(1.5)) ** 2)) * (np.float32(0.05) + 0.05 * loaded)
    plate += np.float32(0.14) * hardened * np.exp(-depth / np.float32(4.0))
    seen: Floats = plate * _inside(femur)
    return seen


def _loading(knees: Knees, u: Floats) -> tuple[Floats, Floats]:
    """Return where bone meets bone and how hardened it is there; (knees, 1, columns), 0-1."""
    medial = np.exp(-(((u + COMPARTMENT) / 0.34) ** 2))
    lateral = np.exp(-(((u - COMPARTMENT) / 0.34) ** 2))
    hardened = knees.sclerosis_medial[:, None] * medial + knees.sclerosis_lateral[:, None] * lateral
    loaded: Floats = np.clip(medial + lateral, 0, 1).astype(np.float32)
    return loaded[:, None, :], hardened[:, None, :]


def _inside(distance: Floats) -> Floats:
    """Return 1 inside, 0 outside, and a soft edge as wide as a pixel of the large picture."""
    inside: Floats = np.clip(distance / np.float32(0.9) + np.float32(0.5), 0, 1)
    return inside


def _fibula(knees: Knees, x: Floats, rows: Floats) -> Floats:
    """Return the fibular head and neck, seen through and beside the lateral tibia."""
    along = np.maximum(rows - knees.fibula_top[:, None], 0)
    half = 8.5 * (1 - np.exp(-along / 3.0)) - 3.0 * (1 - np.exp(-((along / 16) ** 2)))
    centre = 0.90 * knees.half_width[:, None] - 3.0 + knees.fibula_offset[:, None] - 0.16 * along
    across = half[:, :, None] - np.abs(x[:, None, :] - centre[:, :, None])
    downward = (rows - knees.fibula_top[:, None])[:, :, None]
    return _bone(np.minimum(across, downward), body=0.17, cortex=0.06, depth_mm=5.0)


def _patella(knees: Knees, x: Floats, rows: Floats) -> Floats:
    """Return the patella, a faint disc in front of the femur."""
    across = (x - knees.patella_x[:, None]) / (1.08 * knees.patella_radius[:, None])
    along = (rows - knees.patella_y[:, None]) / knees.patella_radius[:, None]
    radius = np.sqrt(across[:, None, :] ** 2 + along[:, :, None] ** 2)
    thickness: Floats = np.maximum(1 - radius * radius, 0) ** np.float32(0.45)
    return np.float32(0.095) * thickness


def _soft_tissue(knees: Knees, x: Floats, rows: Floats) -> Floats:
    """Return muscle and skin: a column that is thick in the middle and ends in air."""
    leg = knees.leg_half_width[:, None] * (1 + 0.00002 * rows**2)  # a little wider away from it
    inside = np.maximum(1 - (x[:, None, :] / leg[:, :, None]) ** 2, 0)
    attenuation: Floats = np.float32(0.36) * np.sqrt(inside)
    return attenuation


def _draw_trabeculae(
    knees: Knees, rng: np.random.Generator, shape: tuple[int, int], pixel_mm: float
) -> Floats:
    """Draw the trabecular pattern: mostly vertical struts, some cross-links, slow mottle."""
    white = rng.standard_normal((len(knees), *shape), np.float32)
    struts = ndimage.gaussian_filter(white, (0, 3.4 / pixel_mm, 0.8 / pixel_mm))
    links = ndimage.gaussian_filter(white, (0, 0.8 / pixel_mm, 1.6 / pixel_mm))
    mottle = ndimage.gaussian_filter(white, (0, 4.5 / pixel_mm, 4.5 / pixel_mm))
    pattern = struts / struts.std() + 0.5 * links / links.std() + 1.2 * mottle / mottle.std()
    drawn: Floats = (_plane(knees.trabeculae) * pattern).astype(np.float32)
    return drawn


def _nearest(vertical: Floats, contour: Floats, axis_x: Floats) -> Floats:
    """Turn vertical distances to a contour into about the nearest ones; (knees, rows, columns).

    Near a slope the nearest point lies aside of the one straight above; far away it does not.
    """
    slope = np.gradient(contour, axis_x, axis=1)
    aside = (1 - 1 / np.sqrt(1 + slope * slope)).astype(np.float32)[:, None, :]
    distance: Floats = vertical * (1 - aside * np.exp(-np.abs(vertical) / np.float32(4.0)))
    return distance


def _plane(values: Floats) -> Floats:
    return values[:, None, None]
