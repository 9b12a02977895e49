"""The sentences that every certificate carries, in the words of the declared unit of privacy."""

from privacy.mechanisms import UnitOfPrivacy
from privacy.modality import Modality

_ONE: dict[Modality, str] = {"image": "image", "table": "row", "joint": "row with its image"}
_MANY: dict[Modality, str] = {
    "image": "images",
    "table": "rows",
    "joint": "rows and images",
}
_RECORDS: dict[Modality, tuple[str, str, str]] = {
    "image": (
        "Labels of synthetic images are spread evenly over the declared set and cost nothing.",
        "The count, image size, bit depth and label set are declared public by the data owner.",
        "These images are synthetic and must not be used for diagnosis.",
    ),
    "table": (
        "Synthetic rows, and marginals where they are part of the release, follow from that alone.",
        "The count, columns, bounds, levels and constraints are declared public by the data owner.",
        "These rows are synthetic and must not be used for decisions about patients.",
    ),
    "joint": (
        "Synthetic rows, and the images that are drawn for them, follow from that alone.",
        (
            "The count, columns, bounds, levels, constraints, image size and bit depth are declared "
            "public by the data owner."
        ),
        "These rows and images are synthetic and must not be used for diagnosis or decisions.",
    ),
}
"""What epsilon costs nothing for, what is declared, and what the records are not."""


def unit_word(unit: UnitOfPrivacy, *, modality: Modality = "image") -> str:
    """Return what epsilon is stated per: a person, an image or a row."""
    return "person" if unit is UnitOfPrivacy.PERSON else _ONE[modality]


def statements(unit: UnitOfPrivacy, *, modality: Modality = "image") -> tuple[str, ...]:
    """Return what somebody who reads the numbers must know beside them."""
    word, one, many = unit_word(unit, modality=modality), _ONE[modality], _MANY[modality]
    protected = (
        f"any one person, with all of their {many}"
        if unit is UnitOfPrivacy.PERSON
        else f"any one {one}; a person with several {many} is protected less"
    )
    for_free, declared, synthetic = _RECORDS[modality]
    return (
        (
            f"Epsilon and delta are stated per {word}, under the add-or-remove-one relation (one "
            f"{word} more or less): they bound what the release reveals about {protected}."
        ),
        f"Epsilon covers everything that the generator computed from real records. {for_free}",
        "Choosing among candidates used evidence that epsilon does not cover.",
        "Verdicts are computed from real records and are not covered by epsilon.",
        (
            "The cumulative epsilon of the cohort counts every run on these records up to "
            "publication, also those that were never released."
        ),
        (f"{declared} Nothing measured on real records is in this certificate, verdicts aside."),
        (
            "Epsilon is derived from the mechanisms that the signer attests. Whoever verifies this "
            "certificate trusts the signer that these mechanisms ran, and no others."
        ),
        synthetic,
    )
