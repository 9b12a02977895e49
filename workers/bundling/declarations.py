"""What the owner of a release declares about it: formats, splits, licence, terms of use, citation.

Everything here is written by a person for the public; nothing is read from records.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Format = Literal["imagefolder", "parquet", "medmnist", "dicom"]
FORMATS: tuple[Format, ...] = ("imagefolder", "parquet", "medmnist", "dicom")

# The Data Use Ontology's terms for permissions and their modifiers, release 2021-02-23
# (http://purl.obolibrary.org/obo/duo.owl); a term that needs more words has them in the terms.
DUO_TERMS = {
    "DUO:0000004": "no restriction",
    "DUO:0000006": "health or medical or biomedical research",
    "DUO:0000007": "disease specific research",
    "DUO:0000011": "population origins or ancestry research only",
    "DUO:0000012": "research specific restrictions",
    "DUO:0000015": "no general methods research",
    "DUO:0000016": "genetic studies only",
    "DUO:0000018": "not for profit, non commercial use only",
    "DUO:0000019": "publication required",
    "DUO:0000020": "collaboration required",
    "DUO:0000021": "ethics approval required",
    "DUO:0000022": "geographical restriction",
    "DUO:0000024": "publication moratorium",
    "DUO:0000025": "time limit on use",
    "DUO:0000026": "user specific restriction",
    "DUO:0000027": "project specific restriction",
    "DUO:0000028": "institution specific restriction",
    "DUO:0000029": "return to database or resource",
    "DUO:0000042": "general research use",
    "DUO:0000043": "clinical care use",
    "DUO:0000044": "population origins or ancestry research prohibited",
    "DUO:0000045": "not for profit organisation use only",
    "DUO:0000046": "non-commercial use only",
}


class Declarations(BaseModel):
    """The owner's choices for a bundle; the defaults are what a release without any gets."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    formats: tuple[Format, ...] = Field(default=FORMATS, min_length=1)
    test_share: float = Field(default=0.0, ge=0.0, le=0.5)
    licence: str = Field(default="", max_length=200, description="SPDX id, or a name of its own")
    licence_url: str = Field(default="", max_length=500)
    duo: tuple[str, ...] = ()
    citation: str = Field(default="", max_length=4000)
    keywords: tuple[str, ...] = ()

    @field_validator("duo")
    @classmethod
    def _codes_are_known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [code for code in codes if code not in DUO_TERMS]
        if unknown:
            raise ValueError(
                f"the data use terms {unknown} are not in the Data Use Ontology; "
                f"use {', '.join(DUO_TERMS)}"
            )
        return codes

    @classmethod
    def of(cls, document: dict[str, Any] | None) -> "Declarations":
        """Return what a release's document declares; what it leaves out has its default."""
        return cls.model_validate({k: v for k, v in (document or {}).items() if v is not None})
