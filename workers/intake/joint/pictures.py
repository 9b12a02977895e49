"""Decode the images of a table's rows, one after the other, into images.npy in row order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.manifests import DatasetSchema
from service.domain.errors import InputRefused
from workers.intake import blobs
from workers.intake.archive import Archive
from workers.intake.dicom import decode_dicom, is_dicom_name
from workers.intake.duplicates import (
    DIGEST_BYTES,
    DuplicateReport,
    comparable_digest,
    content_digest,
    find_duplicates,
)
from workers.intake.image import DROPPED as IMAGE_METADATA
from workers.intake.image import Pixels, decode_image
from workers.intake.joint.files import Places
from workers.intake.limits import Limits
from workers.intake.persons import keyed_content_digest, person_digest
from workers.intake.refusal import refused, renamed

_PROGRESS_RECORDS = 64

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is known of the images once they are written; pixels are only in the blob."""

    shared: NDArray[np.bool_]  # (persons,): who has an image that another person has as well
    report: DuplicateReport
    dropped: frozenset[str]  # kinds of identifier, never their values
    content_digests: NDArray[np.uint8]  # (records, 32), keyed


@dataclass(frozen=True, eq=False)
class PictureReader:
    """Reads the images that rows name; holds one of them at a time, and their digests."""

    archive: Archive
    names: Sequence[str]  # of the images inside the zip
    schema: DatasetSchema
    key: bytes
    limits: Limits

    def write(
        self,
        places: Places,
        *,
        persons: NDArray[np.int32],
        person_digests: NDArray[np.uint8],
        folder: Path,
        progress: Progress,
    ) -> Pictures:
        """Write images.npy (records, height, width) uint8|uint16 into `folder`.

        Shapes: places (records,) the image of each row; persons (records,); person_digests
        (persons, 32).
        Raises: InputRefused for an image that is not of the declared kind, naming its row.
        """
        contents, keyed = bytearray(), bytearray()
        dropped: set[str] = set()
        depth = np.dtype(np.uint8 if self.schema.bit_depth == 8 else np.uint16)  # bits
        shape = (len(places), self.schema.height, self.schema.width)
        with _writer(folder / blobs.IMAGES, shape, depth) as writer:
            for at, place in enumerate(places.tolist()):
                with _about_row(at + 1):
                    pixels, kinds = self._read(
                        self.names[place], person=person_digests[persons[at]].tobytes()
                    )
                writer.append(pixels)
                dropped |= kinds
                contents += comparable_digest(pixels, content_digest(pixels))
                keyed += keyed_content_digest(self.key, pixels)
                if (at + 1) % _PROGRESS_RECORDS == 0 or at + 1 == len(places):
                    progress("reading images", at + 1, len(places))
        flags, report = find_duplicates(
            np.frombuffer(bytes(contents), np.uint8).reshape(-1, DIGEST_BYTES),
            persons,
            names=[f"row {row}" for row in range(1, len(places) + 1)],
            examples=0,
        )
        return Pictures(
            shared=flags,
            report=report,
            dropped=frozenset(dropped),
            content_digests=np.frombuffer(bytes(keyed), np.uint8).reshape(len(places), -1),
        )

    def _read(self, name: str, *, person: bytes) -> tuple[Pixels, set[str]]:
        content = self.archive.read(name, limit_bytes=self.limits.image_file_bytes)
        if not is_dicom_name(name):
            return decode_image(content, file=name, schema=self.schema), {IMAGE_METADATA}
        image = decode_dicom(content, file=name, schema=self.schema, limits=self.limits)
        if image.patient_id and person_digest(self.key, image.patient_id) != person:
            raise refused(
                "its header names another person than its row",
                file=name,
                value="two patient ids",
                limit="the same patient id in header and table",
                remedy="Correct the table, or remove the id from the header.",
            )
        return image.pixels, {f"DICOM {keyword}" for keyword in image.dropped}


@contextmanager
def _writer(
    path: Path, shape: tuple[int, int, int], depth: np.dtype[np.generic]
) -> Iterator[blobs.ImageWriter]:
    """Yield a writer; a shortfall is only an error if nothing else went wrong."""
    writer = blobs.ImageWriter(path, shape, depth)
    try:
        yield writer
    except BaseException:
        with suppress(ValueError):
            writer.close()
        raise
    writer.close()


@contextmanager
def _about_row(row: int) -> Iterator[None]:
    """Name the row in a refusal of its image, in place of the file, which is a cell of the table."""
    try:
        yield
    except InputRefused as refusal:
        raise renamed(refusal, file=f"the image of row {row}") from None
