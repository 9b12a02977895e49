"""Phantom patients as a table: visits of persons who never lived, by a formula that is public.

`python -m training.phantom_patients --persons 2500 --out patients.csv --schema patients.toml` writes
the rows and the schema that declares them. Age, sex and weight move a hidden severity of knee
osteoarthritis; grade and pain follow it, visit by visit, and so does a replacement of the joint. The
schema is written from the formula, not from the rows, as an owner writes one from a study protocol.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from privacy.rounding import rounded_count

COLUMNS = (
    "patient_id", "visit_year", "age", "sex", "height", "bmi", "kl_grade", "joint_space",
    "pain", "walking_speed", "crp", "replaced", "years_to_replacement",
)  # fmt: skip
_MOST_VISITS = 3
_YEARS_BETWEEN = 2
_GRADE_STEPS = (-0.4, 0.5, 1.3, 2.3)
_SCHEMA = """\
# A table of phantom patients. Everything here is public; nothing in it was read from rows.
unit = "person"
declared_count = {count}
person = "patient_id"
{visits}
[[columns]]
name = "visit_year"
kind = "ordinal"
levels = ["0", "2", "4"]
description = "years since the first visit"

[[columns]]
name = "age"
kind = "integer"
unit = "years"
edges = [40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 95]
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
edges = [130, 150, 155, 160, 165, 170, 175, 180, 185, 210]

[[columns]]
name = "bmi"
kind = "number"
unit = "kg/m²"
decimals = 1
edges = [15, 18.5, 22, 25, 27.5, 30, 35, 40, 50]
missing = true

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
edges = [0, 0.5, 1, 2, 3, 4, 5, 6, 8]

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
name = "crp"
kind = "number"
unit = "mg/l"
edges = [0, 0.5, 1, 2, 3, 5, 10, 50]

[[columns]]
name = "replaced"
kind = "category"
levels = ["no", "yes"]
role = "target"
description = "the knee was replaced within eight years"

[[columns]]
name = "years_to_replacement"
kind = "number"
unit = "years"
decimals = 1
edges = [0, 1, 2, 3, 4, 6, 8]
missing = true

[[constraints]]
name = "no time to a replacement that was not"
when = {{ replaced = ["no"] }}
then = {{ years_to_replacement = ["missing"] }}

[[constraints]]
name = "a replacement has its time"
when = {{ replaced = ["yes"] }}
then = {{ years_to_replacement = ["present"] }}
"""


@dataclass(frozen=True)
class _Person:
    """One phantom patient at the first visit. `severity` is hidden."""

    name: str
    age: int
    sex: str
    height: float
    bmi: float
    severity: float
    years_to_replacement: float | None
    visits: int


def schema_text(persons: int, *, visits: bool = False) -> str:
    """Return the schema as TOML, with the number of persons rounded to two digits.

    With `visits` it declares that a patient's rows follow one another by year.
    """
    following = f'visits = {{ order = "visit_year", most = {_MOST_VISITS} }}\n' if visits else ""
    return _SCHEMA.format(count=max(rounded_count(persons), 50), visits=following)


def make_rows(persons: int, *, seed: int) -> Iterator[tuple[str, ...]]:
    """Yield the rows of `persons` phantom patients, the same for the same seed, as text."""
    rng = np.random.default_rng([seed, persons])
    for number in range(persons):
        person = _make_person(rng, f"T{number + 1:06d}")
        for visit in range(person.visits):
            yield _row(rng, person, years=visit * _YEARS_BETWEEN)


def _make_person(rng: np.random.Generator, name: str) -> _Person:
    age = int(np.clip(rng.normal(62, 10), 40, 90))
    is_woman = bool(rng.random() < 0.58)
    bmi = float(np.clip(rng.gamma(42, 0.67) + 0.03 * (age - 62), 15.0, 50.0))
    severity = 0.045 * (age - 62) + 0.11 * (bmi - 28) + 0.25 * is_woman + rng.normal(0, 0.9)
    time = rng.exponential(9.0 * np.exp(-0.9 * (severity - 1)))
    return _Person(
        name=name,
        age=age,
        sex="female" if is_woman else "male",
        height=float(np.clip(rng.normal(163 if is_woman else 177, 6.5), 131, 209)),
        bmi=bmi,
        severity=float(severity),
        years_to_replacement=float(time) if time <= 8 else None,
        visits=int(rng.choice(_MOST_VISITS, p=[0.6, 0.25, 0.15])) + 1,
    )


def _row(rng: np.random.Generator, person: _Person, *, years: int) -> tuple[str, ...]:
    severity = person.severity + 0.12 * years
    grade = int(np.searchsorted(_GRADE_STEPS, severity + rng.normal(0, 0.3)))
    pain = int(np.clip(round(1.6 + 1.5 * severity + rng.normal(0, 1.4)), 0, 10))
    bmi = float(np.clip(person.bmi + rng.normal(0, 0.5), 15, 50))
    space = float(np.clip(4.6 - 0.9 * severity + rng.normal(0, 0.5), 0, 7.99))
    speed = float(np.clip(1.25 - 0.09 * severity - 0.006 * (person.age - 62), 0.25, 1.9))
    crp = float(np.clip(np.exp(rng.normal(0.5 + 0.05 * (bmi - 28), 0.8)), 0.01, 49))
    left = person.years_to_replacement
    return (
        person.name,
        str(years),
        str(person.age + years),
        person.sex,
        f"{person.height:.1f}",
        "" if rng.random() < 0.04 else f"{bmi:.1f}",
        str(grade),
        f"{space:.2f}",
        str(pain),
        f"{np.clip(speed + rng.normal(0, 0.12), 0.21, 1.99):.2f}",
        f"{crp:.2f}",
        "no" if left is None else "yes",
        "" if left is None else f"{left:.1f}",
    )


@click.command()
@click.option("--persons", type=click.IntRange(50, 1_000_000), default=2500, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--schema", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--visits", is_flag=True, help="Declare that a patient's rows follow one another.")
def main(persons: int, out: Path, schema: Path, seed: int, *, visits: bool) -> None:
    """Write a table of phantom patients as CSV, and the schema that declares it."""
    for path in (out, schema):
        path.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(make_rows(persons, seed=seed))
    schema.write_text(schema_text(persons, visits=visits), encoding="utf-8")
    click.echo(f"{out}: visits of {persons} phantom patients, declared by {schema}")


if __name__ == "__main__":
    main()
