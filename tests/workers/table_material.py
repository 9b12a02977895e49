"""Small release bundles of tables for tests: made-up rows, a certificate."""

from pathlib import Path

import numpy as np

from privacy.table_schema import Column, Constraint, TableSchema
from privacy.table_values import values_of
from service.domain.declarations import ReleaseDeclaration
from tests.workers.bundle_material import KEY, certificate_of
from workers.bundling.table_rows import SyntheticTable
from workers.bundling.writer import write_bundle

# Spreadsheets take the full-width forms of = and + for the start of a formula as well.
HOSTILE_LEVELS = (
    'a,"b"', "\uff1d1+1", "'\uff0b1", "'s", "NA", "null", "01", "1.0", "true", "<b>bold</b>", "Überbein ≥ 2",
    "$x$", "{{ 7*7 }}", "x=1", "../x", "[a](b)",
)  # fmt: skip
SCHEMA = TableSchema(
    declared_count=100,
    person="patient",
    columns=(
        Column(name="age", kind="integer", edges=(0, 40, 65, 110), unit="years"),
        Column(name="change", kind="number", edges=(-40, -1, 0, 40), decimals=3, missing=True),
        Column(name="visits", kind="integer", edges=(-5, 0, 9), missing=True),
        Column(name="sex", kind="category", levels=("f", "m"), role="quasi_identifier"),
        Column(name="grade", kind="ordinal", levels=("0", "1", "2"), role="target", missing=True),
    ),
    constraints=(Constraint(name="women only", then={"sex": ("f",)}),),
)
HOSTILE = TableSchema(
    declared_count=100,
    unit="record",
    columns=(
        Column(
            name="\uff1dcmd", kind="category", levels=HOSTILE_LEVELS, other=True,
            missing=True, description='<script>"it\'s"</script> | * _',
        ),
        Column(name="a, b/c", kind="number", edges=(-1e9, 0, 1e-7, 1e9), unit="µmol/l"),
        Column(name='say "so"', kind="integer", edges=(-(10**15), 0, 10**15)),
        Column(name="split", kind="ordinal", levels=("tëst", "0", "00")),
        Column(name="$\\alpha$", kind="category", levels=("x",)),
    ),
)  # fmt: skip


def synthetic_table(
    count: int = 50, *, schema: TableSchema = SCHEMA, test_share: float = 0.0
) -> SyntheticTable:
    """Return rows of random codes, in which every level of every column occurs."""
    rng = np.random.default_rng(0)
    codes = np.stack([np.arange(count) % size for size in schema.sizes], axis=1).astype(np.int16)
    values = values_of(rng.permuted(codes, axis=0), schema, rng)
    return SyntheticTable(values=values, schema=schema, test_share=test_share)


def make_table_bundle(
    folder: Path, synthetic: SyntheticTable, *, declared: ReleaseDeclaration | None = None
) -> Path:
    """Write and sign a whole bundle."""
    declared = declared or ReleaseDeclaration(
        formats=("parquet", "csv"), test_share=synthetic.test_share
    )
    folder.mkdir(parents=True)
    write_bundle(
        folder, synthetic, certificate=certificate_of(synthetic, declared), declared=declared,
        terms="Ask before you share.", key=KEY, progress=lambda *_: None,
    )  # fmt: skip
    return folder
