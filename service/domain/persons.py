"""One spelling of a person's id, shared by the ingest that stores its digest and by withdrawals."""

import re
import unicodedata

_MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none", "nil", "inf", "-inf", "?"})

# As programs write a whole number that they hold as a float: 17.0, 17., 1e+16, 1.5e3. Not 12E5,
# which a pseudonym of hexadecimal digits may be, nor 12E-5, a site with a number.
_FLOAT = re.compile(r"[+-]?(\d+\.0*|\d+(\.\d*)?[eE]\+\d+|\d+\.\d*[eE]\d+)", re.ASCII)
FLOAT_REMEDY = (
    "Write ids as text or as whole numbers, as in every other file about these persons: 17, not "
    "17.0. Programs turn a column of numbers with an empty cell into floats."
)


def canonical_person(patient_id: str) -> bytes:
    """Return the bytes whose keyed digest stands for a person.

    Ids that look the same are the same: Unicode NFKC, so that a full-width digit is that digit,
    without the characters of category Cf, which nobody sees (joiners, marks of direction, soft
    hyphens), stripped, UTF-8.
    """
    return _canonical(patient_id).encode()


def is_missing(text: str) -> bool:
    """Tell whether a cell is one of the ways in which programs write 'no value'."""
    return _canonical(text).lower() in _MISSING


def is_float(patient_id: str) -> bool:
    """Tell whether an id is a whole number that a program wrote as a float, such as 17.0.

    It would be another person than 17, with a budget and an arm of their own, and a withdrawal of
    17 would miss it. Uploads refuse it; bringing it to 17 would change digests that are stored.
    """
    return _FLOAT.fullmatch(_canonical(patient_id)) is not None


def spellings(patient_id: str) -> tuple[str, ...]:
    """Return the ids under which a person may be stored, as written first.

    Ids that uploads refuse today may be stored from before: 17.0 for 17.
    """
    text = _canonical(patient_id)
    if re.fullmatch(r"\d+", text, re.ASCII):
        return (text, f"{text}.0")
    if (whole := re.fullmatch(r"(\d+)\.0*", text, re.ASCII)) is not None:
        return (text, whole[1])
    return (text,)


def _canonical(text: str) -> str:
    seen = "".join(
        char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf"
    )
    # Once more: a mark that stood apart from its letter may now stand beside it.
    return unicodedata.normalize("NFKC", seen).strip()
