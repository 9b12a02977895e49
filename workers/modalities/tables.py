"""Tables in a worker: rows as stored numbers, drawn whole, with whatever target they come with."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.evidence import Evidence, Visits
from privacy.inclusion import rates_for
from privacy.manifests import DatasetManifest, SamplesManifest
from privacy.planning import public_train_count
from privacy.report import AuditReport
from privacy.table_schema import Codes, TableSchema, Values
from privacy.table_values import comparable, values_of, words_of
from training.audit_twin import RowCanaries, make_row_canaries
from training.generators import FittedTable, WithVisits
from training.table_records import TableRecords
from workers.bundling.table_preview import draw_preview
from workers.bundling.table_rows import SyntheticTable
from workers.intake import IntakeResult
from workers.intake.tables import read_table_upload as read_upload
from workers.modalities.contract import (
    Arrays,
    Drawn,
    Progress,
    StoredDataset,
    StoredSamples,
)
from workers.report import rows

__all__ = ["canaries", "dataset", "draw", "facts", "pairs", "read_upload", "samples", "utility"]

TABLE = "table.npy"
SYNTHETIC_PERSONS = "synthetic_persons.npy"
_ROWS_AT_ONCE = 65_536
_ROWS_SHOWN = 20


@dataclass(frozen=True, eq=False)
class StoredTable(StoredDataset):
    """A version of a table: (rows, columns) float64, as `privacy.manifests` says."""

    table: Values

    @property
    def schema(self) -> TableSchema:
        """Return what the data owner declared public."""
        declared = self.manifest.declared
        if not isinstance(declared, TableSchema):
            raise TypeError("a version of images was opened as a table")
        return declared

    @cached_property
    def labels(self) -> NDArray[np.integer]:
        """Return the code of every row in the first declared target."""
        return labels_of(self.table, self.schema)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the levels of the first declared target."""
        targets = self.schema.targets
        return self.schema.columns[targets[0]].names if targets else ("all",)

    def codes(self, rows: NDArray[np.integer]) -> Codes:
        """Return the codes of some rows, (n, columns); read a few thousand at a time."""
        codes = np.empty((len(rows), len(self.schema.columns)), dtype=np.int16)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            chosen = rows[start : start + _ROWS_AT_ONCE]
            codes[start : start + len(chosen)] = self.schema.codes_of(self.table[chosen])
        return codes

    def evidence_records(self, scratch: Path) -> NDArray[np.generic]:
        """Return the rows without gaps; a copy on disk if there may be any."""
        if not any(c.is_numeric and c.missing for c in self.schema.columns) or not len(self.table):
            return self.table
        path = scratch / "comparable.npy"
        copy = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=self.table.shape)
        for start in range(0, len(copy), _ROWS_AT_ONCE):
            block = self.table[start : start + _ROWS_AT_ONCE]
            copy[start : start + len(block)] = comparable(block, self.schema)
        copy.flush()
        mapped: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped

    def training_records(
        self, rows: NDArray[np.integer], *, persons: NDArray[np.int32], to: Path
    ) -> TableRecords:
        """Return the codes of the chosen rows."""
        del to  # two bytes a cell fit into memory
        return TableRecords(codes=self.codes(rows), persons=persons)

    def asked(self, rows: NDArray[np.integer], *, to: Path) -> tuple[NDArray[Any], ...]:
        """Return the codes of the chosen rows."""
        del to
        return (self.codes(rows),)

    def gradients(
        self, fitted: FittedTable, rows: NDArray[np.integer], *, seed: int
    ) -> NDArray[np.float64]:
        """Return no features: generators of tables hand over no gradients."""
        del fitted, seed
        return np.zeros((len(rows), 0))

    def write_records(self, rows: NDArray[np.integer], *, out: Path) -> None:
        """Write the rows."""
        shape = (len(rows), self.table.shape[1])
        if not len(rows):  # an empty array cannot be mapped
            np.save(out / TABLE, np.empty(shape), allow_pickle=False)
            return
        copy = np.lib.format.open_memmap(out / TABLE, mode="w+", dtype=np.float64, shape=shape)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            chosen = rows[start : start + _ROWS_AT_ONCE]
            copy[start : start + len(chosen)] = self.table[chosen]
        copy.flush()


@dataclass(frozen=True, eq=False)
class TableSamples(StoredSamples):
    """Synthetic rows (samples, columns) float64, as a table is stored."""

    values: Values
    schema: TableSchema
    persons: NDArray[np.int32] | None = None

    @cached_property
    def records(self) -> NDArray[np.generic]:
        """Return the rows without gaps."""
        return comparable(self.values, self.schema)

    @cached_property
    def labels(self) -> NDArray[np.integer]:
        """Return the code of every row in the first declared target."""
        return labels_of(self.values, self.schema)

    @property
    def visits(self) -> Visits | None:
        """Return how rows follow one another and whose each is, where visits are declared."""
        if self.schema.visits is None or self.persons is None:
            return None
        return Visits(self.schema.index(self.schema.visits.order), self.persons)

    def label_counts(self) -> dict[str, int]:
        """Return how many synthetic rows have each level of the first declared target."""
        if not self.schema.targets:
            return {}
        column = self.schema.columns[self.schema.targets[0]]
        counts = np.bincount(self.labels, minlength=column.size).tolist()
        return dict(zip(column.names, counts, strict=True))

    def synthetic_set(self, *, test_share: float) -> SyntheticTable:
        """Return the rows in the splits that were declared; visits say whose they are."""
        if self.persons is None:
            return SyntheticTable(self.values, self.schema, test_share=test_share)
        values = np.concatenate([self.values, self.persons[:, None]], axis=1)
        return SyntheticTable(
            values, self.schema.released, test_share=test_share, persons=self.persons
        )

    def preview(self, synthetic: SyntheticTable) -> bytes:
        """Return how the columns are spread."""
        return draw_preview(synthetic)


def labels_of(values: Values, schema: TableSchema) -> NDArray[np.int16]:
    """Return the codes of the first declared target, or 0 for every row where there is none."""
    if not schema.targets:
        return np.zeros(len(values), dtype=np.int16)
    target = schema.targets[0]
    return schema.columns[target].codes_of(np.asarray(values[:, target]))


def facts(read: IntakeResult, folder: Path, *, schema: TableSchema) -> dict[str, Any]:
    """Return how often each level of a target occurs, cells that were changed, broken constraints."""
    table = np.load(folder / TABLE, mmap_mode="r", allow_pickle=False)
    targets = {}
    for target in schema.targets:
        column = schema.columns[target]
        counts = np.bincount(column.codes_of(np.asarray(table[:, target])), minlength=column.size)
        named = zip(column.names, counts.tolist(), strict=True)
        targets[column.name] = dict(named)
    return {
        "labels": next(iter(targets.values()), {}),
        "targets": targets,
        "columns": {name: dict(counts) for name, counts in read.columns.items()},
        "violations": dict(read.violations),
    }


def dataset(manifest: DatasetManifest, *, cohort_id: str, arrays: Arrays) -> StoredTable:
    """Return a stored version."""
    return StoredTable(manifest=manifest, cohort_id=cohort_id, **arrays)


def samples(manifest: SamplesManifest, *, schema: TableSchema, arrays: Arrays) -> TableSamples:
    """Return a stored synthetic set."""
    persons = arrays.get("synthetic_persons")
    return TableSamples(manifest, values=arrays["table"], schema=schema, persons=persons)


def draw(
    fitted: FittedTable, count: int, *, schema: TableSchema, seed: int, progress: Progress
) -> Drawn:
    """Draw rows; the number of them is what was asked for, never how many were trained on.

    What is in a row, its target included, comes from the charged mechanisms. Where in its bin a
    number lies is drawn here. Where visits are declared, rows come with synthetic persons.
    """
    blobs: dict[str, NDArray[Any]] = {}
    rng = np.random.default_rng([seed, count])
    if schema.visits is None:
        values = values_of(fitted.sample(count, seed=seed, progress=progress), schema, rng)
    else:
        codes, persons = _persons(fitted, count, seed=seed, progress=progress)
        values = in_order(values_of(codes, schema, rng), persons, schema)
        blobs[SYNTHETIC_PERSONS] = persons
    return Drawn(
        blobs={TABLE: values, **blobs},
        count=len(values),
        label_distribution="drawn",
        shown={"rows.json": first_rows(values, schema)},
    )


def _persons(
    fitted: FittedTable, count: int, *, seed: int, progress: Progress
) -> tuple[Codes, NDArray[np.int32]]:
    """Return rows and whose they are; a generator that draws rows apart draws persons of one row."""
    if isinstance(fitted, WithVisits):
        codes, persons = fitted.sample_persons(count, seed=seed)
        progress(count, count)
        return codes, persons.astype(np.int32)
    return fitted.sample(count, seed=seed, progress=progress), np.arange(count, dtype=np.int32)


def in_order(values: Values, persons: NDArray[np.integer], schema: TableSchema) -> Values:
    """Return the same persons' rows so that nobody goes back in the column that visits follow.

    Whole rows change places, since a constraint may tie that column to others; what was drawn for one
    bin stays in its order, and only where in the bin the numbers lie is sorted.
    """
    if schema.visits is None:
        return values
    column = schema.index(schema.visits.order)
    bins = schema.columns[column].codes_of(values[:, column])
    rows = np.lexsort((bins, persons))  # stable
    values, bins = values[rows], bins[rows]
    values[:, column] = values[np.lexsort((values[:, column], bins, persons)), column]
    return values


def first_rows(values: Values, schema: TableSchema) -> bytes:
    """Return the first rows as words, as JSON for a page."""
    document = {
        "columns": [column.name for column in schema.columns],
        "rows": [words_of(row, schema) for row in values[:_ROWS_SHOWN]],
    }
    return json.dumps(document, ensure_ascii=False).encode()


def utility(
    evidence: Evidence,
    *,
    stored: StoredTable,
    drawn: TableSamples,
    fitted: FittedTable,
    progress: Progress | None,
) -> dict[str, Any]:
    """Return what the table is good for, judged on held-out persons."""
    # Its learners take 300 MB, which a worker that only fits or draws should not.
    from workers.table_utility import measure_utility  # noqa: PLC0415

    return measure_utility(
        evidence,
        codes=stored.codes,
        synthetic=stored.schema.codes_of(drawn.values),
        schema=stored.schema,
        synthetic_persons=drawn.persons,
        # Copies are free: post-processing of what was fitted.
        redrawn=lambda rows, number: _copy(
            fitted, rows, schema=stored.schema, seed=drawn.manifest.seed + 1 + number
        ),
        noise=noise_of_shares(fitted, stored.schema),
        progress=progress,
    )


def _copy(
    fitted: FittedTable, count: int, *, schema: TableSchema, seed: int
) -> tuple[Codes, NDArray[np.integer] | None]:
    if schema.visits is None:
        return fitted.sample(count, seed=seed), None
    return _persons(fitted, count, seed=seed, progress=lambda *_: None)


def noise_of_shares(fitted: FittedTable, schema: TableSchema) -> tuple[float, ...]:
    """Return the variance that privacy adds to a share of each column, 0 where it is not known.

    Known where columns were measured by themselves: that of all measurements of a column together, of
    which a share is one of the expected number of persons that were trained on.
    """
    precision = np.zeros(len(schema.columns))
    for measured in getattr(fitted, "measurements", ()):
        if len(measured.columns) == 1:
            precision[measured.columns[0]] += measured.deviation**-2
    noise = np.divide(1.0, precision, out=np.zeros_like(precision), where=precision > 0)
    declared = schema.declared_count
    trained = public_train_count(declared, rates=rates_for(declared))
    return tuple((noise / trained**2).tolist())


def pairs(
    report: AuditReport, evidence: Evidence, *, schema: TableSchema
) -> tuple[rows.RowPair, ...]:
    """Return the suspicious pairs as words, column by column."""
    return rows.suspicious_rows(report, evidence, schema=schema)


def canaries(count: int, *, schema: TableSchema, rng: np.random.Generator) -> RowCanaries:
    """Return rows of nobody, drawn evenly over the declared domain."""
    return make_row_canaries(count, schema=schema, rng=rng)
