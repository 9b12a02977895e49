"""What differs between a bundle of images and one of a table; a module for each provides it.

The writer, the certificate, the signature, the card and the Croissant file are the same for both.
`workers.bundling.images` and `workers.bundling.tables` are modules of this form.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from privacy.manifests import ReleaseCertificate
from service.domain.declarations import ReleaseDeclaration

Progress = Callable[[int, int], None]
Records_contra = TypeVar("Records_contra", contravariant=True)


class Modality(Protocol[Records_contra]):
    """A kind of records: its words, its formats, its part of every document."""

    ONE: str
    MANY: str
    CITED_AS: str
    TAGS: tuple[str, ...]
    TASK: str
    PAGES: dict[str, str]
    """File of the bundle -> template that makes it."""

    def write_formats(
        self,
        root: Path,
        synthetic: Records_contra,
        *,
        certificate: ReleaseCertificate,
        declared: ReleaseDeclaration,
        progress: Progress,
    ) -> None:
        """Write the files of every chosen format into `root`."""

    def count(self, certificate: ReleaseCertificate) -> int:
        """Return how many records the release has."""

    def sentence(self, certificate: ReleaseCertificate) -> str:
        """Return what the set is."""

    def configs(self, certificate: ReleaseCertificate) -> list[dict[str, Any]]:
        """Return where dataset hubs find the records, for the header of the card."""

    def page_facts(
        self, synthetic: Records_contra, certificate: ReleaseCertificate
    ) -> dict[str, Any]:
        """Return what the templates need beside what they need for every set."""

    def responsible_use(self, certificate: ReleaseCertificate) -> dict[str, Any]:
        """Return the fields of Croissant's RAI vocabulary that depend on the kind of records."""

    def files(self, certificate: ReleaseCertificate) -> dict[str, str]:
        """Return path -> media type of the files that hold records for programs."""

    def record_sets(self, certificate: ReleaseCertificate) -> list[dict[str, Any]]:
        """Return Croissant's record sets."""
