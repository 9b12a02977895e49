"""The versions of a release: MAJOR.MINOR.PATCH, as Semantic Versioning 2.0.0 writes them.

What counts as which is in docs/bundle.md: MAJOR breaks what a reader's program relies on (labels,
size, depth, formats left out), MINOR adds (images, formats), PATCH mends words and metadata.
"""

import re

from service.domain.errors import InputRefused

_PART = r"(0|[1-9][0-9]{0,5})"
VERSION_PATTERN = rf"^{_PART}\.{_PART}\.{_PART}$"
_VERSION = re.compile(VERSION_PATTERN)


def check_version(version: str) -> None:
    """Refuse what is no MAJOR.MINOR.PATCH.  Raises: InputRefused."""
    if not _VERSION.fullmatch(version):
        raise InputRefused(
            f"The version {version[:80]!r} was refused: it is no MAJOR.MINOR.PATCH. Write three "
            "whole numbers below 1,000,000 without leading zeros, such as 1.0.0: raise the first "
            "for what breaks readers' programs, the second for additions, the third for mended "
            "words.",
            value=version[:80],
        )
