"""What a data owner declares about a release beside its images: licence, uses, citation.

Everything in a declaration is public: it stands on the release's page and goes into the bundle's
card, Croissant file and licence terms. It may change only while a release may be revised.
"""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from privacy.modality import Modality

LICENCES: dict[str, str] = {
    "": "Only the terms of this release apply.",
    "CC0-1.0": "Public domain: anything is allowed.",
    "CC-BY-4.0": "Any use, also commercial, if the source is named.",
    "CC-BY-SA-4.0": "Any use if the source is named; what is made of it carries the same licence.",
    "CC-BY-NC-4.0": "Non-commercial use if the source is named.",
    "CC-BY-NC-SA-4.0": "Non-commercial use; what is made of it carries the same licence.",
    "CC-BY-NC-ND-4.0": "Non-commercial use; changed copies may not be passed on.",
    "ODbL-1.0": "Any use of the database; databases made of it carry the same licence.",
}
"""Licences that may be declared (SPDX names, and the terms alone), in plain words."""

DUO_TERMS: dict[str, tuple[str, str]] = {
    "DUO:0000004": ("no restriction", "May be used for any purpose."),
    "DUO:0000042": ("general research use", "May be used for any research."),
    "DUO:0000006": (
        "health, medical or biomedical research",
        "May be used for health research, and not for research on ancestry.",
    ),
    "DUO:0000007": (
        "disease-specific research",
        "May be used for research on the named disease only.",
    ),
    "DUO:0000011": (
        "population origins or ancestry research only",
        "May be used for research on origins or ancestry only.",
    ),
    "DUO:0000043": ("clinical care use", "May be used for clinical care and decisions."),
    "DUO:0000012": (
        "research-specific restrictions",
        "May be used for studies of the named kind only.",
    ),
    "DUO:0000015": (
        "no general methods research",
        "May not be used merely to develop methods, software or algorithms.",
    ),
    "DUO:0000016": (
        "genetic studies only",
        "May be used for genetic studies only.",
    ),
    "DUO:0000018": (
        "not for profit, non-commercial use only",
        "May be used by non-profit organisations, and not commercially.",
    ),
    "DUO:0000045": (
        "not-for-profit organisations only",
        "May be used by non-profit organisations.",
    ),
    "DUO:0000046": ("non-commercial use only", "May not be used commercially."),
    "DUO:0000019": ("publication required", "Results must be made available to everybody."),
    "DUO:0000020": (
        "collaboration required",
        "Must be used together with the people who made it.",
    ),
    "DUO:0000021": (
        "ethics approval required",
        "An ethics committee of the user must have approved the use.",
    ),
    "DUO:0000022": ("geographical restriction", "May be used in the named region only."),
    "DUO:0000024": (
        "publication moratorium",
        "Results may not be published before the named date.",
    ),
    "DUO:0000025": ("time limit on use", "May be used for the named number of months."),
    "DUO:0000026": ("user-specific restriction", "May be used by the named users only."),
    "DUO:0000027": ("project-specific restriction", "May be used in the named project only."),
    "DUO:0000028": ("institution-specific restriction", "May be used in the named institution."),
    "DUO:0000029": (
        "return to database or resource",
        "Derived data must be given back to the people who made this.",
    ),
}
"""Data Use Ontology codes that may be declared: the ontology's name, and what it means."""

NEED_DETAILS = frozenset(
    {
        "DUO:0000007", "DUO:0000012", "DUO:0000022", "DUO:0000024",
        "DUO:0000025", "DUO:0000026", "DUO:0000027", "DUO:0000028",
    }
)  # fmt: skip
"""Codes that say nothing until it is told which disease, region, date or person is meant."""

MODALITIES: dict[str, str] = {
    "CR": "computed radiography",
    "DX": "digital radiography",
    "RG": "radiographic imaging, digitised film",
    "MG": "mammography",
    "CT": "computed tomography",
    "MR": "magnetic resonance",
    "US": "ultrasound",
    "XA": "angiography",
    "NM": "nuclear medicine",
    "OT": "other",
}
"""DICOM's codes for how an image was made; a synthetic image is declared as what it imitates."""
TABLE_MODALITY = "TABLE"
"""What the catalogue lists a table as, in place of a code."""

FormatName = Literal["imagefolder", "parquet", "medmnist", "dicom", "csv"]
IMAGE_FORMATS: tuple[FormatName, ...] = ("imagefolder", "parquet", "medmnist", "dicom")
TABLE_FORMATS: tuple[FormatName, ...] = ("parquet", "csv")
JOINT_FORMATS: tuple[FormatName, ...] = ("parquet", "imagefolder")
FORMATS_OF: dict[Modality, tuple[FormatName, ...]] = {
    "image": IMAGE_FORMATS,
    "table": TABLE_FORMATS,
    "joint": JOINT_FORMATS,
}
"""What a bundle may hold, by what the records are."""
FORMAT_WORDS: dict[FormatName, str] = {
    "imagefolder": "PNG files in folders",
    "parquet": "Parquet",
    "medmnist": "arrays as in MedMNIST",
    "dicom": "DICOM",
    "csv": "CSV",
}
"""Formats of a bundle, in plain words."""

_PLAIN = r"^[^\x00-\x1f\x7f]*$"
Line = Annotated[str, Field(max_length=300, pattern=_PLAIN)]
Paragraphs = Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")]


class ReleaseDeclaration(BaseModel):
    """What the data owner declares about a release. Without anything, the terms alone rule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Line = ""
    description: Paragraphs = ""
    modality: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = "DX"
    body_part: Annotated[str, Field(max_length=16, pattern=r"^[A-Z0-9 _]*$")] = Field(
        default="", description="DICOM Body Part Examined, such as KNEE"
    )
    keywords: tuple[Annotated[str, Field(min_length=1, max_length=60, pattern=_PLAIN)], ...] = (
        Field(default=(), max_length=30)
    )
    licence: Annotated[str, Field(max_length=40)] = Field(
        default="", description="SPDX name; left out where the terms alone rule"
    )
    duo: tuple[str, ...] = Field(default=(), max_length=len(DUO_TERMS))
    duo_details: dict[str, Line] = Field(
        default_factory=dict, description="by code: which disease, region, date, months or person"
    )
    authors: tuple[Annotated[str, Field(min_length=1, max_length=200, pattern=_PLAIN)], ...] = (
        Field(default=(), max_length=100)
    )
    year: int | None = Field(default=None, ge=1900, le=2200)
    doi: Annotated[str, Field(max_length=200, pattern=r"^(10\.\d{4,9}/[!-~]+)?$")] = ""
    citation: Line = Field(default="", description="in words; made from the fields above if empty")
    formats: tuple[FormatName, ...] = Field(
        default=IMAGE_FORMATS,
        min_length=1,
        max_length=4,
        description="of a table: parquet and csv, which are what it gets if left out",
    )
    test_share: float = Field(
        default=0.0, ge=0.0, le=0.5, description="of the synthetic images or rows, as a test split"
    )
    marginals: bool = Field(
        default=False,
        description="of a table: release what its generator measured as well, with the noise's sigma",
    )
    contact: Line = ""
    changes: Paragraphs = Field(default="", description="what changed since the version before")
    intended_use: Paragraphs = ""
    limitations: Paragraphs = ""
    maintenance: Paragraphs = ""

    @model_validator(mode="after")
    def _codes_are_known(self) -> Self:
        """Refuse a code that no page could put into words, or that lacks its detail."""
        if self.modality not in MODALITIES:
            raise ValueError(
                f"the modality {self.modality!r} is unknown: choose from {', '.join(MODALITIES)}"
            )
        if self.licence not in LICENCES:
            known = ", ".join(name for name in LICENCES if name)
            raise ValueError(f"the licence {self.licence!r} is unknown: choose from {known}")
        for code in (*self.duo, *self.duo_details):
            if code not in DUO_TERMS:
                raise ValueError(
                    f"the data use code {code!r} is unknown: choose from {', '.join(DUO_TERMS)}"
                )
        if len(set(self.duo)) != len(self.duo):
            raise ValueError("data use codes must be distinct; name each once")
        for code in self.duo:
            detail = self.duo_details.get(code, "").strip()
            if code in NEED_DETAILS and not detail:
                raise ValueError(
                    f"{code} ({DUO_TERMS[code][0]}) was refused without its detail: "
                    "say in duo_details which disease, region, date, months or person is meant"
                )
            if code == "DUO:0000024" and not _is_date(detail):
                raise ValueError(f"the moratorium {detail!r} is no date: write 2027-01-31")
        return self


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def duo_purl(code: str) -> str:
    """Return the ontology's own address of a code."""
    return "http://purl.obolibrary.org/obo/" + code.replace(":", "_")
