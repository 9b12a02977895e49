"""Read the formats of a table's bundle, and compare them value for value and in order.

Every cell is held against what the certificate declares as well: a level, a number between the
bounds, missing only where it may be. In CSV, no text may be one that a spreadsheet would run.
Memory holds a few thousand rows of each format. See `service.bundle_formats`.
"""

# ruff: noqa: PLC0415 - a library is imported when its format is read, and may be absent

from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

from pydantic import ValidationError

from privacy.table_schema import OTHER, Column, TableSchema
from service.bundle_files import UNDECODABLE, BundleFiles, FormatCheck, Unlike
from service.spreadsheets import escaped, is_formula, unescaped

NEEDS: dict[str, tuple[str, ...]] = {"parquet": ("pyarrow",), "csv": ("pyarrow",)}
_ROWS = 8192
_BLOCK_BYTES = 4 << 20

Problems = list[tuple[str, str]]
Batches = Iterator[Any]
"""Record batches of Arrow: texts, whole numbers and numbers, by the declared names."""
Reader = Callable[[BundleFiles, TableSchema, str], Batches]


class Form(NamedTuple):
    """A format: the file of a split, and how its rows are read."""

    file: str
    read: Reader


def compare_split(
    bundle: BundleFiles,
    split: str,
    checks: list[FormatCheck],
    problems: Problems,
    *,
    forms: Mapping[str, Form] | None = None,
) -> None:
    """Walk through all formats of a split at once; a format that fails is left out from there.

    `forms` says how each format is read, if other than as a table alone.
    """
    forms = forms or FORMS
    try:
        schema = TableSchema.model_validate(bundle.certificate["declared"]).released
    except ValidationError:
        problems.append(("certificate.json", "declares a table that this version cannot read"))
        return
    before = {check.format: check.rows for check in checks}
    files = [forms[check.format].file.format(split=split) for check in checks]
    streams = [
        _guarded(forms[check.format].read, bundle, schema, file, problems)
        for check, file in zip(checks, files, strict=True)
    ]
    _walk(streams, checks, problems, files=files)
    expected = bundle.certificate["splits"][split]
    for check, file in zip(checks, files, strict=True):
        count = check.rows - before[check.format]
        if count != expected:
            reason = f"holds {count} of the {expected} rows of {split} that are certified"
            problems.append((file, reason))


def _walk(
    streams: list[Batches], checks: list[FormatCheck], problems: Problems, *, files: list[str]
) -> None:
    """Count the rows of every format, and name each that differs from the first one, once."""
    start = 0
    reported: set[str] = set()
    for batches in zip_longest(*streams):
        there = [index for index, batch in enumerate(batches) if batch is not None]
        first = there[0]
        for index in there:
            check = checks[index]
            check.rows += batches[index].num_rows
            reason = _difference(batches[index], batches[first], start=start)
            if index != first and reason and check.format not in reported:
                reported.add(check.format)
                problems.append((files[index], f"{reason} {files[first]}"))
        start += _ROWS


def _difference(batch: Any, reference: Any, *, start: int) -> str | None:
    """Return where a batch differs from another, or None; a missing end is told by the counts."""
    rows = min(batch.num_rows, reference.num_rows)
    for name in reference.schema.names:
        mine, others = batch[name].slice(0, rows), reference[name].slice(0, rows)
        if not mine.equals(others):
            pairs = zip(mine.to_pylist(), others.to_pylist(), strict=True)
            row, (one, other) = next(
                (n, pair) for n, pair in enumerate(pairs) if pair[0] != pair[1]
            )
            return f"has {one!r} for {name!r} in row {start + row}, and not {other!r} as"
    return None


def _guarded(
    read: Reader, bundle: BundleFiles, schema: TableSchema, file: str, problems: Problems
) -> Batches:
    """Yield what a format holds, in batches of one size, until it is not what it should be."""
    import pyarrow as pa

    try:
        for batch in _evenly(read(bundle, schema, file)):
            for column in schema.columns:
                _check_cells(batch[column.name], column, file)
            yield batch
    except Unlike as error:
        problems.append((error.file, str(error)))
    except (pa.ArrowException, *UNDECODABLE) as error:
        what = "CSV" if file.endswith(".csv") else "Parquet"
        problems.append((file, f"cannot be read as {what} with the declared columns ({error})"))


def _evenly(batches: Batches) -> Batches:
    """Yield the same rows in batches of one size, whatever size they came in."""
    import pyarrow as pa

    pending: list[Any] = []
    count = 0
    for batch in batches:
        pending.append(batch)
        count += batch.num_rows
        while count >= _ROWS:
            whole = pa.concat_batches(pending)
            yield whole.slice(0, _ROWS)
            count -= _ROWS
            pending = [whole.slice(_ROWS)]
    if count:
        yield pa.concat_batches(pending)


def arrow_type(column: Column) -> Any:
    """Return the type of a column's cells: a whole number, a number or a text."""
    import pyarrow as pa

    kinds = {"integer": pa.int64(), "number": pa.float64()}
    return kinds.get(column.kind, pa.string())


def _read_parquet(bundle: BundleFiles, schema: TableSchema, file: str) -> Batches:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pq.ParquetFile(bundle.on_disk(file))
    check_names(source.schema_arrow.names, [column.name for column in schema.columns], file)
    layout = pa.schema([(column.name, arrow_type(column)) for column in schema.columns])
    for batch in source.iter_batches(batch_size=_ROWS):
        check_types(batch, schema, file)
        yield batch.cast(layout)


def check_types(batch: Any, schema: TableSchema, file: str) -> None:
    """Refuse columns of Parquet with another type than declared.  Raises: Unlike naming one."""
    import pyarrow as pa

    for column in schema.columns:
        kind = batch[column.name].type
        if (kind.value_type if pa.types.is_dictionary(kind) else kind) != arrow_type(column):
            raise Unlike(file, f"holds {kind} for {column.name!r}, a {column.kind}")


def _read_csv(bundle: BundleFiles, schema: TableSchema, file: str) -> Batches:
    return csv_batches(bundle, schema, file)


def csv_batches(
    bundle: BundleFiles, schema: TableSchema, file: str, *, before: tuple[str, ...] = ()
) -> Batches:
    """Yield the rows of a CSV file as the texts and numbers that they stand for.

    `before` are columns of plain text that stand before those of the table.
    """
    import pyarrow as pa
    from pyarrow import csv

    names = [*before, *(escaped(column.name) for column in schema.columns)]
    kinds = [*(pa.string() for _ in before), *(arrow_type(column) for column in schema.columns)]
    layout = pa.schema(
        list(zip((*before, *(column.name for column in schema.columns)), kinds, strict=True))
    )
    reader = csv.open_csv(
        bundle.on_disk(file),
        read_options=csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
        convert_options=csv.ConvertOptions(
            column_types=dict(zip(names, kinds, strict=True)),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    check_names(reader.schema.names, names, file)
    for batch in reader:
        cells = zip(batch.columns[len(before) :], schema.columns, strict=True)
        arrays = [
            *batch.columns[: len(before)],
            *(_texts(a, column, file) if not column.is_numeric else a for a, column in cells),
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=layout)


def _texts(cells: Any, column: Column, file: str) -> Any:
    """Return the texts that cells stand for.  Raises: Unlike if a spreadsheet would run one."""
    import pyarrow as pa

    coded = cells.dictionary_encode()
    words = coded.dictionary.to_pylist()
    for word in words:
        if is_formula(word):
            reason = f"holds {word!r} in {column.name!r}, which a spreadsheet would run"
            raise Unlike(file, reason)
    return pa.array([unescaped(word) for word in words], pa.string()).take(coded.indices)


def check_names(found: list[str], declared: list[str], file: str) -> None:
    """Refuse a file with other columns.  Raises: Unlike naming it."""
    if found != declared:
        raise Unlike(file, "has other columns than those that are declared, or in another order")


def _check_cells(cells: Any, column: Column, file: str) -> None:
    """Refuse a cell that was not declared.  Raises: Unlike naming it."""
    import pyarrow.compute as pc

    if cells.null_count and not column.missing:
        raise Unlike(file, f"has an empty cell in {column.name!r}, which may have none")
    if not column.is_numeric:
        strange = set(pc.unique(cells).to_pylist()) - {None, *column.levels}
        strange -= {OTHER} if column.other else set()
        if strange:
            raise Unlike(file, f"holds {min(strange)!r} in {column.name!r}, which is not declared")
        return
    low, high = column.edges[0], column.edges[-1]
    # Written so that a NaN is refused too.
    inside = pc.and_(pc.greater_equal(cells, low), pc.less_equal(cells, high))
    if not pc.all(inside, min_count=0).as_py():
        raise Unlike(file, f"holds a number in {column.name!r} outside of {low:g} to {high:g}")


FORMS = {
    "parquet": Form("parquet/{split}-00000-of-00001.parquet", _read_parquet),
    "csv": Form("csv/{split}.csv", _read_csv),
}
"""How the formats of a table alone are read."""
