"""Records -> PNG data URIs for the page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from privacy.evidence import Arm, Evidence
from privacy.report import AuditReport

PER_LABEL = 8
MOST_LABELS = 10
_LARGEST_SIDE = 128


@dataclass(frozen=True)
class Row:
    """Pictures of one label."""

    label: str
    synthetic: tuple[str, ...]
    real: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A suspicious sample beside its nearest trained-on and held-out records."""

    synthetic: str
    trained: str
    held_out: str
    ratio: float
    flagged: bool
    train_distance: float
    held_out_distance: float


def data_uri(image: NDArray[np.generic], *, top: float) -> str:
    """Return a PNG of at most 128 pixels a side; `top` is the value that shows as white."""
    values = np.clip(image.astype(np.float64) / max(top, 1e-9) * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(values)
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def white_level(evidence: Evidence) -> float:
    """Return the value that shows as white: the full range at 8 bits, else the brightest seen."""
    if evidence.records.dtype == np.uint8:
        return 255.0
    few = np.linspace(0, len(evidence.records) - 1, 200).astype(np.int64)
    return float(np.max(evidence.records[np.unique(few)]))


def rows_by_label(evidence: Evidence, names: Sequence[str], *, with_real: bool) -> tuple[Row, ...]:
    """Return some synthetic and, if asked for, some trained-on records of each label."""
    top = white_level(evidence)
    trained = np.isin(evidence.arms[evidence.persons], (Arm.TRAIN, Arm.AUDIT_IN))
    labels = np.unique(evidence.sample_labels)[:MOST_LABELS]
    rows: list[Row] = []
    for label in labels:
        made = np.flatnonzero(evidence.sample_labels == label)[:PER_LABEL]
        real = np.flatnonzero((evidence.labels == label) & trained) if with_real else made[:0]
        real = real[np.linspace(0, max(0, len(real) - 1), min(PER_LABEL, len(real))).astype(int)]
        name = names[int(label)] if 0 <= int(label) < len(names) else str(label)
        rows.append(
            Row(
                label=name,
                synthetic=tuple(data_uri(evidence.samples[i], top=top) for i in made),
                real=tuple(data_uri(evidence.records[i], top=top) for i in real),
            )
        )
    return tuple(rows)


def listed_pairs(report: AuditReport, *, part: str = "") -> list[dict[str, Any]]:
    """Return what the near-copy audit (of a part) listed: places, distances, ratio of each pair."""
    audit = f"{part}near_copies"
    listed = next((f.details.get("pairs") for f in report.findings if f.audit == audit), [])
    return listed if isinstance(listed, list) else []


def suspicious_pairs(report: AuditReport, evidence: Evidence) -> tuple[Pair, ...]:
    """Return the pairs that the near-copy audit listed, as pictures."""
    top = white_level(evidence)
    return tuple(
        Pair(
            synthetic=data_uri(evidence.samples[pair["sample"]], top=top),
            trained=data_uri(evidence.records[pair["train_record"]], top=top),
            held_out=data_uri(evidence.records[pair["held_out_record"]], top=top),
            ratio=pair["ratio"],
            flagged=pair["flagged"],
            train_distance=pair["train_distance"],
            held_out_distance=pair["held_out_distance"],
        )
        for pair in listed_pairs(report)
    )
