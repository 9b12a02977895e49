"""A long zip of rows with images is read in memory that does not grow with its pixels; two at once are apart."""

import csv
import hashlib
import io
import json
import resource
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privacy.table_schema import TableSchema
from service.domain.errors import InputRefused
from tests.workers.intake.test_mutated_files import mutated
from tests.workers.joint_uploads import joint_schema, joint_zip
from workers.intake.joint import read_joint_upload

ROWS = 20_000
SIDE = 64
ROUNDS = 60
MOST_BYTES = 60 * 1024 * 1024
"""Above what the process held before: the pixels are 82 MB, the zip is as large."""


def long_schema() -> TableSchema:
    column = {"name": "age", "kind": "integer", "edges": [0, 50, 100]}
    return TableSchema.model_validate(
        {
            "declared_count": ROWS // 2,
            "person": "id",
            "columns": [column],
            "images": {"height": SIDE, "width": SIDE, "condition_on": ["age"]},
        }
    )


def write_long(path: Path) -> None:
    rng = np.random.default_rng(0)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "id", "age"])
    with zipfile.ZipFile(path, "w") as archive:
        for row in range(ROWS):
            picture = io.BytesIO()
            pixels = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
            Image.fromarray(pixels).save(picture, "PNG", compress_level=0)
            archive.writestr(f"{row}.png", picture.getvalue())
            writer.writerow([f"{row}.png", f"person {row // 2}", row % 100])
        archive.writestr("table.csv", text.getvalue())


def measure(path: str, out: str) -> None:
    """Read the zip, and print how much memory that took above what the process held before."""
    read_joint_upload(
        _small(Path(out)), schema=joint_schema(), tenant_key=b"key", out=Path(out) / "small"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = read_joint_upload(
        Path(path), schema=long_schema(), tenant_key=b"key", out=Path(out) / "long"
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"rows": found.record_count, "bytes": after - before}))


def _small(folder: Path) -> Path:
    return joint_zip().write(folder / "small.zip")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_thousand_rows_are_read_without_holding_their_pixels(tmp_path):
    write_long(tmp_path / "long.zip")
    command = "from tests.workers.intake.test_joint_at_length import measure; measure(*{!r})"
    done = subprocess.run(
        [sys.executable, "-c", command.format((str(tmp_path / "long.zip"), str(tmp_path)))],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["rows"] == ROWS
    assert told["bytes"] < MOST_BYTES
    images = np.load(tmp_path / "long" / "images.npy", mmap_mode="r")
    assert images.shape == (ROWS, SIDE, SIDE)
    assert len({hashlib.sha256(image).digest() for image in images[::1000]}) == ROWS // 1000


def test_two_uploads_at_once_do_not_touch_each_other(tmp_path):
    paths = [joint_zip(seed=seed).write(tmp_path / f"{seed}.zip") for seed in (0, 1)]

    def read(number: int, out: str) -> dict[str, str]:
        return read_joint_upload(
            paths[number], schema=joint_schema(), tenant_key=b"key", out=tmp_path / out
        ).blobs

    alone = [read(number, f"alone {number}") for number in (0, 1)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(read, (0, 1), ("one", "other")))
    assert together == alone
    assert alone[0] != alone[1]


@pytest.mark.slow
@pytest.mark.parametrize("table", ["clinic/table.csv", "clinic/table.parquet"])
@pytest.mark.parametrize("damaged", ["zip", "table"])
def test_a_damaged_zip_or_table_is_read_or_refused(tmp_path, table, damaged):
    rng = np.random.default_rng(5)
    made = joint_zip(table=table)
    whole = made.write(tmp_path / "whole.zip").read_bytes()
    rows = made.csv() if table.endswith("csv") else made.parquet()
    path, refusals = tmp_path / "upload.zip", 0
    for number in range(ROUNDS):
        if damaged == "zip":
            path.write_bytes(mutated(whole, rng))
        else:
            made.table, made.more = "", {table: mutated(rows, rng)}
            made.write(path)
        out = tmp_path / str(number)
        try:
            read_joint_upload(path, schema=joint_schema(), tenant_key=b"key", out=out)
        except InputRefused:
            refusals += 1
            assert not out.exists()
    assert refusals > ROUNDS // 10
