"""How to cite a release, as a sentence and as BibTeX; what is not declared follows from the release."""

from dataclasses import dataclass
from datetime import datetime

from privacy.modality import Modality
from service.domain.declarations import ReleaseDeclaration

_RECORDS = {
    "image": "radiographs",
    "table": "table",
    "joint": "radiographs with their table",
}

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


@dataclass(frozen=True)
class Citation:
    """Both forms."""

    text: str
    bibtex: str


def cite(
    declared: ReleaseDeclaration,
    *,
    name: str,
    version: str,
    tenant: str,
    published_at: datetime | None,
    sha256: str | None,
    modality: Modality = "image",
) -> Citation:
    """Return the citation of a release; without authors, its tenant stands in their place."""
    authors = declared.authors or (tenant,)
    title = declared.title or f"{name}: synthetic {_RECORDS[modality]}"
    year = declared.year or (published_at.year if published_at else None)
    when = f" ({year})" if year else ""
    where = f" https://doi.org/{declared.doi}" if declared.doi else ""
    by = ", ".join(authors)
    made = f"{by}{when}. {title}, version {version} [synthetic data]. {tenant}.{where}"
    text = declared.citation or made
    entries = {
        "title": f"{{{_escaped(title)}}}",
        "author": " and ".join(f"{{{_escaped(author)}}}" for author in authors),
        "year": "" if year is None else str(year),
        "version": version,
        "publisher": _escaped(tenant),
        "doi": declared.doi,
        "note": f"SHA-256 {sha256}" if sha256 else "",
    }
    lines = [f"  {key} = {{{value}}}," for key, value in entries.items() if value]
    key = "".join(letter for letter in f"{name}-{version}" if letter.isalnum() or letter in "-.")
    return Citation(text, "\n".join([f"@dataset{{{key},", *lines, "}"]))


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
