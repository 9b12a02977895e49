"""A small zip of made-up patients with an image for each row, and what its owner declares."""

import csv
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.table_schema import TableSchema
from tests.workers.intake.uploads import SIDE, dicom, encode, picture
from tests.workers.table_uploads import SECRET, clinic_rows, clinic_schema

PERSONS = 60
FILE = "file"
IMAGES = {"height": SIDE, "width": SIDE, "condition_on": ["grade", "sex"]}


def joint_schema(*, images: Mapping[str, Any] | None = None, **changes: Any) -> TableSchema:
    declared = {"declared_count": PERSONS, "images": IMAGES | dict(images or {})}
    return clinic_schema(**(declared | changes))


@dataclass
class JointZip:
    """A zip in the making: rows, and the images that they name by path from the table's folder."""

    rows: list[dict[str, object]]
    files: dict[str, bytes] = field(default_factory=dict)
    table: str = "clinic/table.csv"
    more: dict[str, bytes] = field(default_factory=dict)

    def csv(self) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]))
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue().encode()

    def parquet(self) -> bytes:
        columns = {
            name: [None if row[name] == "" else row[name] for row in self.rows]
            for name in self.rows[0]
        }
        stream = io.BytesIO()
        pq.write_table(pa.table(columns), stream)
        return stream.getvalue()

    def write(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in {**self.files, **self.more}.items():
                archive.writestr(name, content)
            if self.table:
                is_csv = self.table.lower().endswith(".csv")
                archive.writestr(self.table, self.csv() if is_csv else self.parquet())
        return path


def joint_zip(persons: int = PERSONS, *, seed: int = 0, **changes: Any) -> JointZip:
    """One or two rows of each person; every name of a file holds the person's id."""
    rows = clinic_rows(persons, seed=seed)
    made = JointZip(rows, **changes)
    for number, row in enumerate(rows):
        row[FILE] = f"images/{SECRET}-{number:04d}.png"
        made.files[f"clinic/{row[FILE]}"] = encode(picture(1000 * seed + number))
    return made


def dicom_zip(persons: int = PERSONS, *, without_ids: bool = False) -> JointZip:
    """The same as DICOM files, whose headers name the persons of the rows."""
    made = joint_zip(persons)
    made.files.clear()
    for number, row in enumerate(made.rows):
        row[FILE] = f"images/{number:04d}.dcm"
        person = "" if without_ids else str(row["patient_id"])
        made.files[f"clinic/{row[FILE]}"] = dicom(number, person=person)
    return made
