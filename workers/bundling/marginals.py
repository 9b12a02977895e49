"""The noisy marginals of a table: counts that its generator measured, each with its noise.

A mechanism that was charged released them, so handing them on costs nothing more, and with `sigma`
beside them a reader can compute intervals that synthetic rows alone would make too narrow.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from privacy.errors import InvalidParameter
from privacy.table_schema import TableSchema

NAME = "marginals.json"


@dataclass(frozen=True, eq=False)
class Marginal:
    """Noisy counts over some columns' codes, flat in C order; `sigma` is the noise of each."""

    columns: tuple[int, ...]
    sigma: float
    counts: NDArray[np.float64]


class _Measurement(Protocol):
    columns: tuple[int, ...]
    values: NDArray[np.float64]
    deviation: float


def kept_by(fitted: object) -> tuple[Marginal, ...]:
    """Return what a fitted generator keeps of its measurements; nothing if it keeps none."""
    measurements: Sequence[_Measurement] = getattr(fitted, "measurements", ())
    return tuple(Marginal(m.columns, float(m.deviation), m.values) for m in measurements)


def write(root: Path, marginals: Sequence[Marginal], *, schema: TableSchema) -> None:
    """Write marginals.json.  Raises: InvalidParameter if a marginal does not fit the schema."""
    unit = schema.unit.value
    document: dict[str, Any] = {
        "about": (
            "Counts with Gaussian noise of standard deviation sigma, in the order in which the "
            "generator measured them; they may be negative. "
            + (
                "The rows of one person weigh 1 together, so a count is one of persons. "
                if unit == "person"
                else "A count is one of rows. "
            )
            + "Codes of a column are its levels or bins in the order of certificate.json, then "
            "OTHER, then missing, where it has them. Counts are flat, the last column fastest."
        ),
        "unit": unit,
        "marginals": [_document(marginal, schema) for marginal in marginals],
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    (root / NAME).write_text(f"{text}\n", encoding="utf-8")


def _document(marginal: Marginal, schema: TableSchema) -> Mapping[str, Any]:
    shape = [schema.sizes[column] for column in marginal.columns]
    is_whole = marginal.counts.shape == (math.prod(shape),) and np.isfinite(marginal.counts).all()
    if not (is_whole and 0 < marginal.sigma < math.inf):
        raise InvalidParameter(
            f"The noisy marginal over {marginal.columns} was refused: its {marginal.counts.shape} "
            f"counts with sigma {marginal.sigma} do not fit the {math.prod(shape)} declared cells."
        )
    return {
        "columns": [schema.columns[column].name for column in marginal.columns],
        "shape": shape,
        "sigma": marginal.sigma,
        "counts": marginal.counts.tolist(),
    }
