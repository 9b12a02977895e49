"""One spelling of a person's id, shared by the ingest that stores its digest and by withdrawals."""

import unicodedata

_MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none", "nil", "inf", "-inf", "?"})


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


def _canonical(text: str) -> str:
    seen = "".join(
        char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf"
    )
    # Once more: a mark that stood apart from its letter may now stand beside it.
    return unicodedata.normalize("NFKC", seen).strip()
