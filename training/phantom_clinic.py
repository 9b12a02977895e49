"""Phantom radiographs with the table of their phantom patients: one row for each picture.

`python -m training.phantom_clinic --persons 2500 --out clinic.zip --schema clinic.toml` writes a zip of
table.csv and PNG files, and the schema that declares it. The grade and the joint space of a row are
those that its knee was drawn from; age, weight and pain go with them by a formula that is public. Right
knees are mirrored, so that all look like left ones. The schema is written from the formula, not from the rows.
"""

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from privacy.rounding import rounded_count
from training.phantoms import Cohort, make_cohort

COLUMNS = (
    "file", "patient_id", "age", "sex", "height", "bmi", "crp", "side", "kl_grade",
    "joint_space", "alignment", "pain", "walking_speed", "replaced",
)  # fmt: skip
PIXELS = 64
_DATE = (2024, 1, 1, 0, 0, 0)
_BOTH_KNEES = 0.4  # share of persons of whom both knees were taken
_SCHEMA = """\
# Phantom radiographs with the table of their patients. Everything here is public; nothing in it was
# read from rows or pictures.
unit = "person"
declared_count = {count}
person = "patient_id"

[images]
column = "file"
height = {pixels}
width = {pixels}
condition_on = ["kl_grade"]

[[columns]]
name = "age"
kind = "integer"
unit = "years"
edges = [40, 50, 55, 60, 65, 70, 75, 80, 95]
role = "quasi_identifier"

[[columns]]
name = "sex"
kind = "category"
levels = ["female", "male"]
role = "quasi_identifier"

[[columns]]
name = "height"
kind = "number"
unit = "cm"
decimals = 1
edges = [130, 155, 160, 165, 170, 175, 180, 210]

[[columns]]
name = "bmi"
kind = "number"
unit = "kg/m²"
decimals = 1
edges = [15, 22, 25, 27.5, 30, 35, 50]
missing = true

[[columns]]
name = "crp"
kind = "number"
unit = "mg/l"
edges = [0, 0.5, 1, 2, 3, 5, 10, 50]

[[columns]]
name = "side"
kind = "category"
levels = ["left", "right"]
description = "right knees are mirrored"

[[columns]]
name = "kl_grade"
kind = "ordinal"
levels = ["0", "1", "2", "3", "4"]
description = "Kellgren and Lawrence"

[[columns]]
name = "joint_space"
kind = "number"
unit = "mm"
decimals = 2
edges = [0, 1, 2, 3, 4, 5, 9]
description = "medial"

[[columns]]
name = "alignment"
kind = "number"
unit = "degrees"
decimals = 1
edges = [-16, -6, -4, -2, 0, 2, 16]
description = "femur to tibia, varus positive"

[[columns]]
name = "pain"
kind = "integer"
edges = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
description = "0 none to 10 worst"

[[columns]]
name = "walking_speed"
kind = "number"
unit = "m/s"
edges = [0.2, 0.6, 0.8, 1, 1.1, 1.2, 1.3, 1.5, 2]

[[columns]]
name = "replaced"
kind = "category"
levels = ["no", "yes"]
role = "target"
description = "the knee was replaced within eight years"
"""


def schema_text(persons: int, *, pixels: int = PIXELS) -> str:
    """Return the schema as TOML, with the number of persons rounded to two digits."""
    return _SCHEMA.format(count=max(rounded_count(persons), 50), pixels=pixels)


def make_rows(cohort: Cohort, *, seed: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the place of each radiograph that was taken, and its row as text, person by person.

    The same for the same cohort and seed. Of some persons both knees were taken, of others one.
    """
    rng = np.random.default_rng([seed, len(cohort.images)])
    grades = cohort.grades.reshape(-1, 2)
    for person, pair in enumerate(grades):
        severity = float(pair.mean()) - 2
        is_woman = bool(rng.random() < 0.58)
        age = int(np.clip(round(rng.normal(64 + 3 * severity, 8)), 40, 94))
        bmi = float(np.clip(rng.normal(27.5 + 0.9 * severity, 3.5), 15.5, 49))
        height = float(np.clip(rng.normal(163 if is_woman else 177, 6.5), 131, 209))
        crp = float(np.clip(np.exp(rng.normal(0.5 + 0.05 * (bmi - 28), 0.8)), 0.01, 49))
        chosen = (0, 1) if rng.random() < _BOTH_KNEES else (int(rng.integers(2)),)
        for side in chosen:
            knee = 2 * person + side
            yield (
                knee,
                (
                    f"images/{knee:06d}.png",
                    f"C{person + 1:06d}",
                    str(age),
                    "female" if is_woman else "male",
                    f"{height:.1f}",
                    "" if rng.random() < 0.04 else f"{bmi:.1f}",
                    f"{crp:.2f}",
                    "right" if cohort.knees.is_right[knee] else "left",
                    *_of_the_knee(rng, cohort, knee, age=age),
                ),
            )


def _of_the_knee(
    rng: np.random.Generator, cohort: Cohort, knee: int, *, age: int
) -> tuple[str, ...]:
    """Return grade, joint space, alignment, pain, speed, and whether the knee was replaced."""
    grade = int(cohort.grades[knee])
    pain = int(np.clip(round(1 + 1.6 * grade + rng.normal(0, 1.3)), 0, 10))
    speed = 1.35 - 0.06 * grade - 0.006 * (age - 62) + rng.normal(0, 0.12)
    odds = np.exp(1.3 * (grade - 3) + 0.4 * (pain - 6))
    return (
        str(grade),
        f"{min(float(cohort.knees.medial_joint_space[knee]), 8.99):.2f}",
        f"{float(cohort.knees.alignment[knee]):.1f}",
        str(pain),
        f"{np.clip(speed, 0.21, 1.99):.2f}",
        "yes" if rng.random() < odds / (1 + odds) else "no",
    )


def as_left(cohort: Cohort, knee: int) -> NDArray[np.uint8]:
    """Return the radiograph of a knee, a right one mirrored. Shape: (pixels, pixels)."""
    image = cohort.images[knee]
    return np.ascontiguousarray(image[:, ::-1]) if cohort.knees.is_right[knee] else image


def write_zip(cohort: Cohort, path: Path, *, seed: int) -> int:
    """Write table.csv and the radiographs that it names; return how many rows there are."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = 0
    with zipfile.ZipFile(path, "w") as archive:
        for knee, row in make_rows(cohort, seed=seed):
            writer.writerow(row)
            picture = io.BytesIO()
            Image.fromarray(as_left(cohort, knee)).save(picture, "PNG", compress_level=1)
            archive.writestr(zipfile.ZipInfo(row[0], _DATE), picture.getvalue())
            rows += 1
        archive.writestr(zipfile.ZipInfo("table.csv", _DATE), table.getvalue())
    return rows


@click.command()
@click.option("--persons", type=click.IntRange(50, 1_000_000), default=2500, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--schema", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--pixels", type=click.IntRange(16, 1024), default=PIXELS, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(persons: int, out: Path, schema: Path, pixels: int, seed: int) -> None:
    """Write phantom radiographs with the table of their patients, and the schema of both."""
    for path in (out, schema):
        path.parent.mkdir(parents=True, exist_ok=True)
    cohort = make_cohort(persons, pixels=pixels, seed=seed)
    rows = write_zip(cohort, out, seed=seed)
    schema.write_text(schema_text(persons, pixels=pixels), encoding="utf-8")
    click.echo(f"{out}: {rows} radiographs of {persons} phantom patients, declared by {schema}")


if __name__ == "__main__":
    main()
