"""Rounds a number of persons to what may be declared public: the exact one tells if one more is there."""

SIGNIFICANT_DIGITS = 2


def rounded_count(count: int) -> int:
    """Return a count, rounded to two significant digits."""
    step: int = 10 ** max(len(str(count)) - SIGNIFICANT_DIGITS, 0)
    return round(count / step) * step
