"""Read one upload from start to end: sniff its format, read its records, write the blobs.

Not done here: the persons of another cohort (the operation that finishes the ingest checks digests in
its transaction), fetching the upload, storing the blobs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from privacy.manifests import DatasetSchema
from privacy.mechanisms import UnitOfPrivacy
from workers.intake import npz
from workers.intake.archive import UPLOAD, Archive, open_archive
from workers.intake.blobs import staged
from workers.intake.collection import Collection, check_unit_count
from workers.intake.dicom import decode_dicom, is_dicom_name
from workers.intake.image import DROPPED as IMAGE_METADATA
from workers.intake.image import decode_image, is_image_name
from workers.intake.limits import Limits
from workers.intake.refusal import refused
from workers.intake.result import IntakeResult
from workers.intake.table import PersonColumn, Row, Table, read_table

# Called with stage, step and total.
Progress = Callable[[str, int, int], None]

_FILE_NAMES = "file and folder names"
_PATIENT_IDS = "patient ids (kept only as keyed digests)"
_PROGRESS_RECORDS = 64


def read_upload(
    path: Path,
    *,
    schema: DatasetSchema,
    tenant_key: bytes,
    out: Path,
    progress: Progress | None = None,
    limits: Limits | None = None,
) -> IntakeResult:
    """Read the upload at `path` and write the blobs of a version into `out`.

    Blobs: images.npy (records, height, width) uint8|uint16, labels.npy (records,) int16,
    persons.npy (records,) int32, person_digests.npy (persons, 32) uint8,
    duplicated_persons.npy (persons,) bool. `progress(stage, step, total)` counts records.
    Raises: InputRefused naming file, value, limit and remedy; then nothing is left in `out`.
    """
    limits = limits or Limits()
    with open_archive(path, limits) as archive, staged(out) as folder:
        reading = _Upload(
            archive=archive,
            schema=schema,
            key=tenant_key,
            folder=folder,
            limits=limits,
            progress=progress or _drop,
        )
        return reading.read_npz() if npz.is_npz(archive) else reading.read_files()


@dataclass(frozen=True)
class _Upload:
    """One upload while it is read."""

    archive: Archive
    schema: DatasetSchema
    key: bytes
    folder: Path
    limits: Limits
    progress: Progress

    def read_npz(self) -> IntakeResult:
        splits, ignored = npz.find_splits(self.archive, self.schema, self.limits)
        total = sum(split.count for split in splits)
        dropped = {_FILE_NAMES}
        if self.schema.unit is UnitOfPrivacy.PERSON:
            dropped.add(_PATIENT_IDS)
        else:
            check_unit_count(total, self.schema, self.limits)
        done = 0
        with self._collect(total) as collection:
            for split in splits:
                for record in npz.read_split(self.archive, split, self.schema):
                    collection.add(
                        record.pixels,
                        record.label,
                        name=record.name,
                        patient_id=record.patient_id,
                        split=record.split,
                    )
                    done += 1
                    self._tell(done, total)
            return collection.finish("npz", dropped=dropped, ignored=ignored)

    def read_files(self) -> IntakeResult:
        table_name, images = self._sort_files()
        is_dicom = any(map(is_dicom_name, images))
        person: PersonColumn = "unused"
        if self.schema.unit is UnitOfPrivacy.PERSON:
            person = "optional" if is_dicom else "required"
        table = read_table(
            self.archive.read(table_name, limit_bytes=self.limits.table_bytes),
            name=table_name,
            schema=self.schema,
            limits=self.limits,
            person=person,
        )
        self._check_rows_match(table, images, table_name)
        if self.schema.unit is UnitOfPrivacy.RECORD:
            check_unit_count(len(table.rows), self.schema, self.limits)
        dropped = {_FILE_NAMES} if is_dicom else {_FILE_NAMES, IMAGE_METADATA}
        if self.schema.unit is UnitOfPrivacy.PERSON:
            dropped.add(_PATIENT_IDS)
        with self._collect(len(table.rows)) as collection:
            for done, row in enumerate(table.rows, start=1):
                if is_dicom:
                    dropped |= self._add_dicom(collection, row)
                else:
                    self._add_image(collection, row)
                self._tell(done, len(table.rows))
            return collection.finish(
                "dicom+csv" if is_dicom else "images+csv",
                dropped=dropped,
                ignored=table.ignored_columns,
            )

    def _add_image(self, collection: Collection, row: Row) -> None:
        content = self.archive.read(row.file, limit_bytes=self.limits.image_file_bytes)
        pixels = decode_image(content, file=row.file, schema=self.schema)
        collection.add(pixels, row.label, name=row.file, patient_id=row.patient_id, split=row.split)

    def _add_dicom(self, collection: Collection, row: Row) -> set[str]:
        content = self.archive.read(row.file, limit_bytes=self.limits.image_file_bytes)
        image = decode_dicom(content, file=row.file, schema=self.schema, limits=self.limits)
        if row.patient_id and image.patient_id and row.patient_id != image.patient_id:
            raise refused(
                f"its header names another person than the CSV, line {row.line}",
                file=row.file,
                value="two patient ids",
                limit="the same patient id in header and CSV",
                remedy="Correct the CSV, or leave the column patient_id out of it.",
            )
        collection.add(
            image.pixels,
            row.label,
            name=row.file,
            patient_id=image.patient_id or row.patient_id,
            split=row.split,
        )
        return {f"DICOM {keyword}" for keyword in image.dropped}

    def _sort_files(self) -> tuple[str, list[str]]:
        """Return the name of the CSV and the names of the images; refuse any other file."""
        tables = [name for name in self.archive.names if name.lower().endswith(".csv")]
        if len(tables) != 1:
            raise refused(
                "there is not exactly one CSV",
                file=UPLOAD,
                value=", ".join(tables) or "no CSV",
                limit="one CSV with the columns file and label, such as labels.csv",
                remedy="Put one CSV into the zip.",
            )
        images = [name for name in self.archive.names if name != tables[0]]
        kinds: dict[bool, str] = {}
        for name in images:
            if not is_image_name(name) and not is_dicom_name(name):
                raise refused(
                    "it is neither an image nor the CSV",
                    file=name,
                    value=Path(name).suffix,
                    limit=".png, .jpg, .jpeg, .dcm and one .csv",
                    remedy="Remove the file from the zip.",
                )
            kinds.setdefault(is_dicom_name(name), name)
        if len(kinds) == 2:  # both kinds
            raise refused(
                f"DICOM files and other images are mixed, such as {kinds[True]}",
                file=kinds[False],
                value="two kinds of file",
                limit="one kind of image",
                remedy="Upload DICOM files alone or PNG and JPEG files alone.",
            )
        return tables[0], images

    def _check_rows_match(self, table: Table, images: list[str], table_name: str) -> None:
        present, listed = set(images), {row.file for row in table.rows}
        for row in table.rows:
            if row.file not in present:
                raise refused(
                    f"line {row.line} of {table_name} names a file that is not in the zip",
                    file=row.file,
                    value=f"{len(listed - present)} rows without a file",
                    limit="every row has its file",
                    remedy="Add the file or remove the row.",
                )
        for name in images:
            if name not in listed:
                raise refused(
                    f"no row of {table_name} names it",
                    file=name,
                    value=f"{len(present - listed)} files without a row",
                    limit="every file has its row",
                    remedy="Add the row or remove the file.",
                )

    def _collect(self, count: int) -> Collection:
        return Collection(
            self.folder,
            count,
            schema=self.schema,
            tenant_key=self.key,
            limits=self.limits,
        )

    def _tell(self, done: int, total: int) -> None:
        if done % _PROGRESS_RECORDS == 0 or done == total:
            self.progress("reading records", done, total)


def _drop(_stage: str, _step: int, _total: int) -> None:
    """Show progress to nobody."""
