"""Open the bundle of a table with the tools that its readers have; part of `tests.open_bundle`.

Every tool is told what FORMATS.md and datapackage.json of the bundle say, and nothing else. DuckDB
and frictionless are tried where they are installed.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from service.spreadsheets import unescaped
from tests.open_bundle import Row, open_croissant, quiet, text

Cells = tuple[str | int | float | None, ...]


def plain(values, fields: list[dict], *, is_csv: bool = False) -> Cells:
    """Return a row as what is compared: integers, floats, texts, None where missing."""
    return tuple(
        cell(value, field["type"], is_csv=is_csv)
        for value, field in zip(values, fields, strict=True)
    )


def cell(value, kind: str, *, is_csv: bool):
    """Return a cell without the types of the tool that read it."""
    is_nan = isinstance(value, float) and math.isnan(value)
    if value is None or is_nan or type(value).__name__ == "NAType":
        return None
    if kind == "string":
        return unescaped(text(value)) if is_csv else text(value)
    number = float(value)
    if kind == "integer":
        assert math.floor(number) == number
        return int(value)
    return number


def parquet_of(root: Path, split: str) -> Path:
    return root / "parquet" / f"{split}-00000-of-00001.parquet"


def pandas_types(fields: list[dict]) -> dict[str, str]:
    kinds = {"integer": "Int64", "number": "float64", "string": "str"}
    return {field["name"]: kinds[field["type"]] for field in fields}


def with_pandas_csv(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import pandas as pd

    rows = pd.read_csv(
        root / "csv" / f"{split}.csv",
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
        dtype=pandas_types(fields),
    )
    assert list(rows.columns) == [field["name"] for field in fields]
    for row in rows.itertuples(index=False, name=None):
        yield plain(row, fields, is_csv=True)


def with_pandas_parquet(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import pandas as pd

    rows = pd.read_parquet(parquet_of(root, split))
    for row in rows.itertuples(index=False, name=None):
        yield plain(row, fields)


def with_pyarrow(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(parquet_of(root, split)).iter_batches():
        for row in batch.to_pylist():
            yield plain(row.values(), fields)


def with_datasets_parquet(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import datasets

    for row in datasets.load_dataset("parquet", data_dir=str(root / "parquet"))[split]:
        yield plain(row.values(), fields)


def with_datasets_csv(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import datasets

    # It has no whole number that may be missing, so these are read as texts.
    kinds = {"integer": "string", "number": "float64", "string": "string"}
    loaded = datasets.load_dataset(
        "csv",
        data_dir=str(root / "csv"),
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
        features=datasets.Features(
            {field["name"]: datasets.Value(kinds[field["type"]]) for field in fields}
        ),
    )[split]
    for row in loaded:
        yield plain(row.values(), fields, is_csv=True)


def with_datasets_card(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import datasets

    for row in datasets.load_dataset(str(root))[split]:
        yield plain(row.values(), fields)


def with_mlcroissant(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    for row in open_croissant(root / "croissant.json").records(split):
        yield plain(row.values(), fields)


def with_duckdb_parquet(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import duckdb

    query = "SELECT * FROM read_parquet(?)"
    for row in duckdb.execute(query, [str(parquet_of(root, split))]).fetchall():
        yield plain(row, fields)


def with_duckdb_csv(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import duckdb

    kinds = {"integer": "BIGINT", "number": "DOUBLE", "string": "VARCHAR"}
    columns = {field["name"]: kinds[field["type"]] for field in fields}
    rows = duckdb.read_csv(
        str(root / "csv" / f"{split}.csv"), header=True, columns=columns, quotechar='"',
        escapechar='"', na_values="", delimiter=",", auto_detect=False,
    )  # fmt: skip
    for row in rows.fetchall():
        yield plain(row, fields, is_csv=True)


def with_frictionless(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    """Validate the whole package in its own program, and read the split's rows."""
    import frictionless

    done = subprocess.run(
        [sys.executable, "-m", "frictionless", "validate", "datapackage.json"],
        capture_output=True, text=True, cwd=root, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(done.stdout[-2000:] or done.stderr[-2000:])
    package = frictionless.Package(str(root / "datapackage.json"))
    for row in package.get_resource(f"{split}-csv").read_rows():
        yield plain(row.values(), fields, is_csv=True)


@dataclass(frozen=True)
class TableTool:
    """A way to open one format; one that is no dependency of the tests is tried if it is there."""

    name: str
    format: str
    opened: str
    read: Callable[[Path, str, list[dict]], Iterator[Cells]]
    is_optional: bool = False


TOOLS = (
    TableTool("pyarrow", "parquet", "parquet/", with_pyarrow),
    TableTool("pandas", "parquet", "parquet/", with_pandas_parquet),
    TableTool("pandas", "csv", "csv/", with_pandas_csv),
    TableTool("datasets", "parquet", "parquet/", with_datasets_parquet),
    TableTool("datasets", "csv", "csv/", with_datasets_csv),
    TableTool("datasets", "parquet", "README.md", with_datasets_card),
    TableTool("mlcroissant", "parquet", "croissant.json", with_mlcroissant),
    TableTool("duckdb", "parquet", "parquet/", with_duckdb_parquet, is_optional=True),
    TableTool("duckdb", "csv", "csv/", with_duckdb_csv, is_optional=True),
    TableTool("frictionless", "csv", "datapackage.json", with_frictionless, is_optional=True),
)


def open_table(root: Path, certificate: dict) -> list[Row]:
    """Open an unpacked bundle with every tool that has something to open in it."""
    rows = []
    for split, count in certificate["splits"].items():
        for tool in TOOLS:
            is_there = not tool.is_optional or find_spec(tool.name) is not None
            if tool.format not in certificate["formats"] or not is_there:
                continue
            row = Row(tool.name, tool.opened, split, None, what="rows")
            try:
                with quiet():
                    row.records = list(tool.read(root, split, fields_of(root, certificate)))
            except Exception as error:  # noqa: BLE001 - whatever a tool raises is its finding
                row.reason = f"{type(error).__name__}: {error}"
            if row.records is not None and len(row.records) != count:
                row.reason = f"{count} rows are certified"
            rows.append(row)
    return rows


def fields_of(root: Path, certificate: dict) -> list[dict]:
    """Return name and type of every column: from the data package, or as it was declared."""
    package = json.loads((root / "datapackage.json").read_text(encoding="utf-8"))
    for resource in package["resources"]:
        if resource["type"] == "table":
            return resource["schema"]["fields"]
    kinds = {"integer": "integer", "number": "number"}
    return [
        {"name": column["name"], "type": kinds.get(column["kind"], "string")}
        for column in certificate["declared"]["columns"]
    ]
