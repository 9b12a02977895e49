"""One spelling of a person's id, shared by the ingest that stores its digest and by withdrawals."""

import unicodedata

_MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none", "nil", "inf", "-inf", "?"})


def canonical_person(patient_id: str) -> bytes:
    """Return the bytes whose keyed digest stands for a person: stripped, Unicode NFC, UTF-8."""
    return unicodedata.normalize("NFC", patient_id.strip()).encode()


def is_missing(text: str) -> bool:
    """Tell whether a cell is one of the ways in which programs write 'no value'."""
    return text.strip().lower() in _MISSING
