"""Visits of a made-up clinic: a public process of many steps, to measure tables with visits on.

`python -m benchmarks.visit_process --persons 4000 --out clinic.csv --schema clinic.toml` writes rows and
schema for `python -m benchmarks.tables --data clinic.csv --schema clinic.toml --epsilon 1`. No real table with
visits may be shared, so the process is written down here. A person comes two to twelve times, one to
nine months apart. A marker follows an autoregression around a level of their own; a hidden state may worsen,
and treatment starts where it has, which brings the marker down; a hospital stay makes the next visit come
sooner, and severe cases leave early. What follows what is thus known, by more than the row before.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from privacy.rounding import rounded_count

COLUMNS = (
    "person", "month", "age", "sex", "marker", "pressure", "state", "treated", "hospital", "pain",
)  # fmt: skip
MOST_VISITS = 12
MOST_STATE = 3
_SCHEMA = """\
# Visits of a made-up clinic. Written from the process, not from rows.
declared_count = {count}
person = "person"
visits = {{ order = "month", most = 12 }}
columns = [
  {{ name = "month", kind = "integer", edges = [0, 1, 4, 7, 10, 13, 19, 25, 37, 49, 61, 110] }},
  {{ name = "age", kind = "integer", edges = [30, 40, 50, 60, 70, 80, 91], role = "quasi_identifier" }},
  {{ name = "sex", kind = "category", levels = ["f", "m"], role = "quasi_identifier" }},
  {{ name = "marker", kind = "number", edges = [0, 1, 2, 3, 4, 5, 6, 8, 12] }},
  {{ name = "pressure", kind = "number", edges = [80, 105, 115, 125, 135, 145, 160, 200] }},
  {{ name = "state", kind = "ordinal", levels = ["0", "1", "2", "3"] }},
  {{ name = "treated", kind = "category", levels = ["no", "yes"] }},
  {{ name = "hospital", kind = "category", levels = ["no", "yes"], role = "target" }},
  {{ name = "pain", kind = "integer", edges = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], missing = true }},
]

[[constraints]]
name = "nobody of state 0 is treated"
when = {{ state = ["0"] }}
then = {{ treated = ["no"] }}
"""


def schema_text(persons: int) -> str:
    """Return the schema as TOML, for a number of persons rounded to two digits."""
    return _SCHEMA.format(count=max(rounded_count(persons), 50))


def make_rows(persons: int, *, seed: int) -> Iterator[tuple[str, ...]]:
    """Yield the rows of made-up persons, the same for the same seed, as text."""
    rng = np.random.default_rng([seed, persons])
    for number in range(persons):
        yield from _visits(rng, f"P{number + 1:06d}")


def _visits(rng: np.random.Generator, name: str) -> Iterator[tuple[str, ...]]:
    age, sex = int(np.clip(rng.normal(58, 12), 30, 80)), int(rng.random() < 0.45)
    level, pressure = rng.normal(3.0, 0.8), rng.normal(128 + 4 * sex, 12)
    marker, state, month = level + rng.normal(0, 0.5), int(rng.random() < 0.3), 0
    treated = stays = False
    most = int(rng.integers(2, MOST_VISITS + 1))
    for _ in range(most):
        state = min(MOST_STATE, state + int(rng.random() < 0.08 + 0.04 * (age > 65) + 0.06 * stays))
        treated = treated or (state > 0 and rng.random() < 0.25 + 0.2 * state)
        pull = level + 0.9 * state - 1.2 * treated
        marker = float(np.clip(pull + 0.75 * (marker - pull) + rng.normal(0, 0.4), 0, 11.9))
        measured = float(np.clip(pressure + 3 * state + rng.normal(0, 5), 81, 199))
        stays = bool(rng.random() < 0.03 + 0.09 * state + 0.05 * (marker > 5))
        pain = int(np.clip(round(1 + 2 * state + rng.normal(0, 1.3) - treated), 0, 10))
        yield (
            name,
            str(month),
            str(age + month // 12),
            "fm"[sex],
            f"{marker:.2f}",
            f"{measured:.1f}",
            str(state),
            "yes" if treated else "no",
            "yes" if stays else "no",
            "" if rng.random() < 0.05 else str(pain),
        )
        if rng.random() < 0.02 + 0.07 * (state == MOST_STATE):
            return
        month += int(rng.integers(1, 4) if stays else rng.integers(2, 10))


@click.command()
@click.option("--persons", type=click.IntRange(50, 1_000_000), default=4000, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--schema", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(persons: int, out: Path, schema: Path, seed: int) -> None:
    """Write the visits of a made-up clinic as CSV, and the schema that declares them."""
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(make_rows(persons, seed=seed))
    schema.write_text(schema_text(persons), encoding="utf-8")
    click.echo(f"{out}: visits of {persons} made-up persons, declared by {schema}")


if __name__ == "__main__":
    main()
