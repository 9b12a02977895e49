"""Hostile uploads as data: who builds the file, which words refuse it, which file they name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.domain.errors import InputRefused
from tests.workers.intake import uploads
from tests.workers.intake.uploads import SECRET, Upload
from workers.intake import Limits, read_upload

FIRST = "images/000.png"
FIRST_DICOM = "images/000.dcm"

Builder = Callable[[Path], Path]


@dataclass(frozen=True)
class Case:
    """One hostile file. `schema` and `limits` change what is declared and allowed."""

    build: Builder
    words: str
    file: str = ""
    schema: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.build.__name__


class Cases(list):
    """Cases in the order in which they were registered."""

    def register(self, words: str, **options):
        """Register the builder that follows."""

        def register(build: Builder) -> Builder:
            self.append(Case(build, words, **options))
            return build

        return register


def assert_refused(case: Case, folder: Path) -> None:
    """Check the words, that nothing was stored, and that no identifier is in the refusal."""
    path = case.build(folder)
    out = folder / "version"
    with pytest.raises(InputRefused) as caught:
        read_upload(
            path,
            schema=uploads.schema(**case.schema),
            tenant_key=b"key",
            out=out,
            limits=Limits(**case.limits),
        )
    refusal = caught.value
    assert case.words in refusal.sentence
    assert case.file in str(refusal.extensions["file"])
    assert all(refusal.extensions[key] for key in ("file", "value", "limit", "remedy"))
    assert str(refusal.extensions["remedy"]) in refusal.sentence
    assert SECRET not in refusal.sentence
    assert refusal.sentence.isprintable()
    assert not out.exists()


def with_file(name: str, content: bytes | None = None, *, upload: Upload | None = None):
    """Build an upload that holds one more file."""

    def build(folder: Path) -> Path:
        made = upload or uploads.png_upload()
        made.files[name] = uploads.encode(uploads.picture(1)) if content is None else content
        return made.write(folder / "upload.zip")

    return build


def with_first(content: bytes, folder: Path, *, suffix: str = "png") -> Path:
    """Build an upload whose first image has this content."""
    made = uploads.png_upload()
    del made.files[FIRST]
    made.rows[0][0] = f"images/000.{suffix}"
    made.files[f"images/000.{suffix}"] = content
    return made.write(folder / "upload.zip")


def with_dicom(folder: Path, content: bytes) -> Path:
    made = uploads.dicom_upload()
    made.files[FIRST_DICOM] = content
    return made.write(folder / "upload.zip")


def with_cell(folder: Path, column: int, text: str, *, row: int = 0) -> Path:
    made = uploads.png_upload()
    made.rows[row][column] = text
    return made.write(folder / "upload.zip")


def with_arrays(folder: Path, **changes) -> Path:
    arrays = {**uploads.npz_arrays(), **changes}
    np.savez(folder / "upload.npz", **{k: v for k, v in arrays.items() if v is not None})
    return folder / "upload.npz"


def without_table() -> Upload:
    made = uploads.png_upload()
    made.table_name = ""
    return made
