"""Open the bundle of rows with images with the tools that its readers have; part of `tests.open_bundle`.

Every tool is told what FORMATS.md and datapackage.json of the bundle say, and nothing else; an image
stands in its row as a digest of its pixels. DuckDB is tried where it is installed.
"""

import io
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from service.spreadsheets import escaped
from tests.open_bundle import Row, open_croissant, pixels_of, quiet, seen
from tests.open_table import Cells, TableTool, pandas_types, parquet_of, plain

FILE_NAME, IMAGE = "file_name", "image"


def row_of(image, cells: dict, fields: list[dict], *, depth: int, is_csv: bool = False) -> Cells:
    """Return a row as what is compared: its cells, and the image that stands in it."""
    known = [field["name"] for field in fields]
    return (
        *plain([cells[name] for name in known], fields, is_csv=is_csv),
        seen("", pixels_of(image, depth))[1],
    )


def opened(content: bytes):
    from PIL import Image

    return Image.open(io.BytesIO(content))


def with_pandas_parquet(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import pandas as pd

    for row in pd.read_parquet(parquet_of(root, split)).to_dict("records"):
        yield row_of(opened(row[IMAGE]["bytes"]), row, fields, depth=depth_of(root))


def with_pandas_csv(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import pandas as pd

    folder = root / "imagefolder" / split
    fields = [{**field, "name": escaped(field["name"])} for field in fields]
    rows = pd.read_csv(
        folder / "metadata.csv",
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
        dtype={FILE_NAME: "str", **pandas_types(fields)},
    )
    for row in rows.to_dict("records"):
        picture = opened((folder / row[FILE_NAME]).read_bytes())
        yield row_of(picture, row, fields, depth=depth_of(root), is_csv=True)


def with_datasets_parquet(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import datasets

    loaded = datasets.load_dataset("parquet", data_dir=str(root / "parquet"))[split]
    assert isinstance(loaded.features[IMAGE], datasets.Image)
    for row in loaded:
        yield row_of(row[IMAGE], row, fields, depth=depth_of(root))


def with_datasets_card(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import datasets

    for row in datasets.load_dataset(str(root))[split]:
        yield row_of(row[IMAGE], row, fields, depth=depth_of(root))


def with_mlcroissant(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    for row in open_croissant(root / "croissant.json").records(split):
        named = {key.rpartition("/")[2]: value for key, value in row.items()}
        image = named.pop(IMAGE)
        cells = dict(zip((field["name"] for field in fields), named.values(), strict=True))
        yield row_of(image, cells, fields, depth=depth_of(root))


def with_duckdb_parquet(root: Path, split: str, fields: list[dict]) -> Iterator[Cells]:
    import duckdb

    names = [IMAGE, *(field["name"] for field in fields)]
    query = "SELECT * FROM read_parquet(?)"
    for row in duckdb.execute(query, [str(parquet_of(root, split))]).fetchall():
        cells = dict(zip(names, row, strict=True))
        yield row_of(opened(cells[IMAGE]["bytes"]), cells, fields, depth=depth_of(root))


TOOLS = (
    TableTool("pandas", "parquet", "parquet/", with_pandas_parquet),
    TableTool("pandas", "imagefolder", "imagefolder/", with_pandas_csv),
    TableTool("datasets", "parquet", "parquet/", with_datasets_parquet),
    TableTool("datasets", "parquet", "README.md", with_datasets_card),
    TableTool("mlcroissant", "parquet", "croissant.json", with_mlcroissant),
    TableTool("duckdb", "parquet", "parquet/", with_duckdb_parquet, is_optional=True),
)


def depth_of(root: Path) -> int:
    """Return the declared depth of the images."""
    certificate = json.loads((root / "certificate.json").read_text(encoding="utf-8"))
    return int(certificate["declared"]["images"]["bit_depth"])


def fields_of(root: Path, certificate: dict) -> list[dict]:
    """Return name and type of every column, as it was declared."""
    kinds = {"integer": "integer", "number": "number"}
    return [
        {"name": column["name"], "type": kinds.get(column["kind"], "string")}
        for column in certificate["declared"]["columns"]
    ]


def open_joint(root: Path, certificate: dict) -> list[Row]:
    """Open an unpacked bundle with every tool that has something to open in it."""
    rows = []
    for split, count in certificate["splits"].items():
        for tool in TOOLS:
            is_there = not tool.is_optional or find_spec(tool.name) is not None
            if tool.format not in certificate["formats"] or not is_there:
                continue
            row = Row(tool.name, tool.opened, split, None, what="rows with images")
            try:
                with quiet():
                    row.records = list(tool.read(root, split, fields_of(root, certificate)))
            except Exception as error:  # noqa: BLE001 - whatever a tool raises is its finding
                row.reason = f"{type(error).__name__}: {error}"
            if row.records is not None and len(row.records) != count:
                row.reason = f"{count} rows are certified"
            rows.append(row)
    return rows
