"""Collect the records of one upload, whatever its format, and end with a dataset version's blobs."""

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from privacy.manifests import DatasetSchema
from privacy.mechanisms import UnitOfPrivacy
from privacy.table_schema import TableSchema
from workers.intake import blobs
from workers.intake.duplicates import (
    DIGEST_BYTES,
    comparable_digest,
    content_digest,
    find_duplicates,
)
from workers.intake.image import Pixels
from workers.intake.limits import Limits
from workers.intake.persons import (
    check_person,
    keyed_content_digest,
    number_persons,
    person_digest,
    record_digest,
)
from workers.intake.refusal import refused
from workers.intake.result import IntakeResult, SourceFormat


class Collection:
    """Takes records one by one; holds their digests and labels, never their pixels or ids."""

    def __init__(
        self, folder: Path, count: int, *, schema: DatasetSchema, tenant_key: bytes, limits: Limits
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._key = tenant_key
        self._limits = limits
        depth = np.dtype(np.uint8 if schema.bit_depth == 8 else np.uint16)  # bits
        shape = (count, schema.height, schema.width)
        self._images = blobs.ImageWriter(folder / blobs.IMAGES, shape, depth)
        self._labels: list[int] = []
        self._names: list[str] = []
        self._persons: list[bytes] = []
        self._contents = bytearray()
        self._keyed_contents = bytearray()
        self._occurrences: Counter[tuple[bytes, int]] = Counter()
        self._splits: dict[bytes, tuple[str, str]] = {}

    def __enter__(self) -> Self:
        """Enter the block in which records are added."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the images; a shortfall is only an error if nothing else went wrong."""
        try:
            self._images.close()
        except ValueError:
            if kind is None:
                raise

    def add(
        self, pixels: Pixels, label: int, *, name: str, patient_id: str | None, split: str | None
    ) -> None:
        """Add one record. Shapes: pixels (height, width).

        Raises: InputRefused without a person where the unit is the person, and for a person in two
            declared splits.
        """
        content = content_digest(pixels)
        if self._schema.unit is UnitOfPrivacy.RECORD:
            occurrence = self._occurrences[content, label]
            self._occurrences[content, label] += 1
            person = record_digest(self._key, pixels, label=label, occurrence=occurrence)
        else:
            person = self._identify(patient_id, name)
            self._check_split(person, name, split)
        self._images.append(pixels)
        self._labels.append(label)
        self._names.append(name)
        self._persons.append(person)
        self._contents += comparable_digest(pixels, content)
        self._keyed_contents += keyed_content_digest(self._key, pixels)

    def finish(
        self, source_format: SourceFormat, *, dropped: set[str], ignored: tuple[str, ...]
    ) -> IntakeResult:
        """Write the remaining blobs and return the result. Raises: InputRefused for too few units."""
        self._images.close()
        persons, digests = number_persons(self._persons)
        check_unit_count(len(digests), self._schema, self._limits)
        contents = np.frombuffer(bytes(self._contents), np.uint8).reshape(-1, DIGEST_BYTES)
        flags, report = find_duplicates(
            contents, persons, names=self._names, examples=self._limits.duplicate_examples
        )
        blobs.write_array(self._folder / blobs.LABELS, np.asarray(self._labels, np.int16))
        blobs.write_array(self._folder / blobs.PERSONS, persons)
        blobs.write_array(self._folder / blobs.PERSON_DIGESTS, digests)
        blobs.write_array(self._folder / blobs.DUPLICATED_PERSONS, flags)
        return IntakeResult(
            source_format=source_format,
            record_count=len(persons),
            person_count=len(digests),
            duplicated_person_count=report.persons,
            duplicates=report,
            dropped=tuple(sorted(dropped)),
            ignored_columns=ignored,
            blobs=blobs.digest_blobs(self._folder),
            content_digests=np.frombuffer(bytes(self._keyed_contents), np.uint8).reshape(
                len(persons), -1
            ),
        )

    def _identify(self, patient_id: str | None, name: str) -> bytes:
        if patient_id is None:
            raise refused(
                "nothing says whose image it is",
                file=name,
                value="no patient id in the CSV, the header or the npz",
                limit="one patient id per image, because the unit of privacy is the person",
                remedy="Add patient ids. Declare the unit 'record' only if every image is of "
                "another person.",
            )
        check_person(patient_id, file=name)
        return person_digest(self._key, patient_id)

    def _check_split(self, person: bytes, name: str, split: str | None) -> None:
        if split is None:
            return
        first_split, first_name = self._splits.setdefault(person, (split, name))
        if first_split != split:
            raise refused(
                f"its person is in two splits: here, and with {first_name}",
                file=name,
                value=f"{split} and {first_split}",
                limit="all images of a person in one split",
                remedy="Move the person to one split, or remove the split column.",
            )


def check_unit_count(count: int, schema: DatasetSchema | TableSchema, limits: Limits) -> None:
    """Refuse fewer units than can hide anyone, or a count far from the declared one."""
    fewest, most = limits.unit_range(schema)
    if not fewest <= count <= most:
        records = "images" if schema.modality == "image" else "rows"
        noun = "persons" if schema.unit is UnitOfPrivacy.PERSON else records
        raise refused(
            f"it holds too {'few' if count < fewest else 'many'} {noun}",
            file="the upload",
            value=f"{count} {noun}",
            limit=f"{fewest} to {most} (at least {limits.minimum_units}, and within a factor "
            f"{limits.declared_count_factor} of the {schema.declared_count} declared)",
            remedy="Add data, or create the dataset again with the right rounded count.",
        )
