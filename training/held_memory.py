"""Holds on to freed memory while networks train on a processor, where the C library is glibc.

A pass allocates and frees the same hundreds of megabytes again and again. By default the library
hands large blocks back to the system, which fills them with zeros before they are lent anew; that
can cost as much as the arithmetic. See mallopt(3).
"""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

# Numbers of mallopt(3).
_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3
_LARGEST_MAP_THRESHOLD = 32 << 20  # the library takes no larger one; larger blocks always go back
_HELD = 1 << 30
_USUAL = 64 << 20  # where the library's own adjustment ends


@contextlib.contextmanager
def freed_memory_held() -> Iterator[None]:
    """Keep up to a gibibyte of freed memory in this process; does nothing without glibc."""
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_MAP_THRESHOLD, _LARGEST_MAP_THRESHOLD)
    library.mallopt(_TRIM_THRESHOLD, _HELD)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, _USUAL)
        library.malloc_trim(0)


def _glibc() -> Any:
    try:
        library = ctypes.CDLL(None)
        has_all = hasattr(library, "gnu_get_libc_version") and hasattr(library, "malloc_trim")
    except (OSError, TypeError):  # a system that cannot name its own program
        return None
    return library if has_all else None
