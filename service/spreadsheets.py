"""Write rows as CSV that no spreadsheet takes for formulas.

Escaped as OWASP advises ("CSV injection"): an apostrophe before a text that starts with = + - @, one
of their full-width forms, a tab or a carriage return. So that nothing is lost, apostrophes before such
a character get one more, and whoever reads a text of this form takes one apostrophe off.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_STARTS = "=+\\-@\uff1d\uff0b\uff0d\uff20\t\r"
_FORMULA = re.compile(f"[{_STARTS}]")
_TO_ESCAPE = re.compile(f"'*[{_STARTS}]")
_ESCAPED = re.compile(f"'+[{_STARTS}]")


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return CSV; a cell that a spreadsheet would run as a formula begins with an apostrophe."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_harmless(cell) for cell in row])
    return stream.getvalue()


def escaped(text: str) -> str:
    """Return a text as it stands in a cell, where no spreadsheet takes it for a formula."""
    return f"'{text}" if _TO_ESCAPE.match(text) else text


def unescaped(cell: str) -> str:
    """Return the text that a cell stands for; the opposite of `escaped`."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def is_formula(cell: str) -> bool:
    """Return whether a spreadsheet may run a cell's text."""
    return _FORMULA.match(cell) is not None


def _harmless(cell: object) -> str:
    return escaped("" if cell is None else str(cell))
