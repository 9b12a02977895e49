"""A small table of made-up patients, and what its owner declares about it."""

import csv
from pathlib import Path

import numpy as np

from privacy.table_schema import TableSchema

SECRET = "JaneRoe1956"  # in every patient id: must never show up anywhere


def clinic_schema(**changes) -> TableSchema:
    declared = {
        "declared_count": 200,
        "person": "patient_id",
        "columns": [
            {"name": "age", "kind": "integer", "edges": [40, 50, 60, 70, 100], "unit": "years"},
            {"name": "bmi", "kind": "number", "edges": [15, 25, 30, 60], "missing": True},
            {"name": "sex", "kind": "category", "levels": ["f", "m"], "role": "quasi_identifier"},
            {"name": "grade", "kind": "ordinal", "levels": ["0", "1", "2"], "role": "target"},
            {"name": "cause", "kind": "category", "levels": ["heart", "other"], "missing": True},
        ],
        "constraints": [
            {
                "name": "no cause without a grade",
                "when": {"grade": ["0"]},
                "then": {"cause": ["missing"]},
            }
        ],
    }
    return TableSchema.model_validate(declared | changes)


def clinic_rows(persons: int = 200, *, seed: int = 0) -> list[dict[str, object]]:
    """Return one or two rows for each person; a column that nobody declared is among them."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(persons):
        for _ in range(1 + person % 2):
            age = int(rng.integers(40, 100))
            grade = int(rng.integers(0, 3)) if age > 60 else 0
            rows.append(
                {
                    "patient_id": f"{SECRET}-{seed}-{person}",
                    "age": age,
                    "note": f"seen by Dr {SECRET}",
                    "bmi": "" if rng.random() < 0.2 else round(float(rng.normal(27, 4)), 2),
                    "sex": "fm"[int(rng.integers(2))],
                    "grade": grade,
                    "cause": ["heart", "other"][int(rng.integers(2))] if grade else "",
                }
            )
    return rows


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
