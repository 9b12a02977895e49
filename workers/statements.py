"""The sentences that every certificate carries, in the words of the declared unit of privacy."""

from privacy.mechanisms import UnitOfPrivacy

_PROTECTED = {
    UnitOfPrivacy.PERSON: "any one person, with all of their images",
    UnitOfPrivacy.RECORD: "any one image; a person with several images is protected less",
}
_WORDS = {UnitOfPrivacy.PERSON: "person", UnitOfPrivacy.RECORD: "image"}


def unit_word(unit: UnitOfPrivacy) -> str:
    """Return what epsilon is stated per: a person or an image."""
    return _WORDS[unit]


def statements(unit: UnitOfPrivacy) -> tuple[str, ...]:
    """Return what somebody who reads the numbers must know beside them."""
    word = unit_word(unit)
    return (
        (
            f"Epsilon and delta are stated per {word}, under the add-or-remove-one relation (one "
            f"{word} more or less): they bound what the release reveals about {_PROTECTED[unit]}."
        ),
        (
            "Epsilon covers everything that the generator computed from real records. Labels of "
            "synthetic images are spread evenly over the declared set and cost nothing."
        ),
        "Choosing among candidates used evidence that epsilon does not cover.",
        "Verdicts are computed from real records and are not covered by epsilon.",
        (
            "The cumulative epsilon of the cohort counts every run on these records up to "
            "publication, also those that were never released."
        ),
        (
            "The count, image size, bit depth and label set are declared public by the data owner. "
            "Nothing measured on real records is in this certificate, verdicts aside."
        ),
        (
            "Epsilon is derived from the mechanisms that the signer attests. Whoever verifies this "
            "certificate trusts the signer that these mechanisms ran, and no others."
        ),
        "These images are synthetic and must not be used for diagnosis.",
    )
