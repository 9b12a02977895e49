"""Which passwords are refused: short ones, obvious ones, and those made of the person's own names."""

import unicodedata
from collections.abc import Iterable

from service.domain.errors import InputRefused

SHORTEST, LONGEST = 12, 256
FEWEST_DIFFERENT = 5
_LEET = str.maketrans("013457@$", "oieastas")
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "0123456789012345678901234567890",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
)
_OBVIOUS_WORDS = """
admin administrator baseball charlie change changeme correcthorsebatterystaple default dragon
football freedom geheim guest hello hospital iloveyou incorrect kaima kaimakaima knee letmein login
master michael monkey monkeymonkey operator passphrase passw password passwordpassword passwort
princess qwerty radiology roentgen secret shadow starwars summer sunshine superman temp test
testtest tester trustno user welcome welcometo whatever winter xray
"""
_OBVIOUS = frozenset(_OBVIOUS_WORDS.split())
_PAST_WORDS = 4
"""What must be left of a password when obvious words and the person's own names are taken out."""


def check_password(password: str, *, names: Iterable[str]) -> str:
    """Return the password in the form that is hashed (Unicode NFKC).

    `names` are what a stranger knows of the person: sign-in name, name, tenant.
    Raises: InputRefused, which never repeats the password.
    """
    text = normal_form(password)
    if not SHORTEST <= len(text) <= LONGEST:
        raise InputRefused(
            f"The password was refused: it has {len(text)} characters. Choose {SHORTEST} to "
            f"{LONGEST}; four or five unrelated words do well.",
            limit=SHORTEST,
        )
    bare = "".join(letter for letter in text.casefold() if letter.isalnum())
    if len(set(bare or text)) < FEWEST_DIFFERENT:
        raise InputRefused(
            f"The password was refused: it uses fewer than {FEWEST_DIFFERENT} different letters or "
            "digits. Choose four or five unrelated words."
        )
    if _is_row(bare) or _is_repeated(bare):
        raise InputRefused(
            "The password was refused: it is a row of keys or the same piece again and again. "
            "Choose four or five unrelated words."
        )
    if len(_rest(text.casefold(), names)) < _PAST_WORDS:
        raise InputRefused(
            "The password was refused: it is made of an often used word or of your own names. "
            "Choose four or five unrelated words."
        )
    return text


def normal_form(password: str) -> str:
    """Return a password as it is hashed, so that every keyboard means the same (Unicode NFKC)."""
    return unicodedata.normalize("NFKC", password[: 4 * LONGEST])


def _is_row(bare: str) -> bool:
    rows = [row for one in _ROWS for row in (one, one[::-1])]
    return any(bare in row for row in rows) or (
        sum(bare[at : at + 4] in row for at in range(0, len(bare) - 3, 4) for row in _ROWS)
        >= max(2, len(bare) // 4)
    )


def _is_repeated(bare: str) -> bool:
    return any(
        bare == (bare[:size] * len(bare))[: len(bare)] for size in range(1, len(bare) // 2 + 1)
    )


def _rest(text: str, names: Iterable[str]) -> str:
    """Return what is left when names and obvious words, plain or in leet, are taken out."""
    known = {word for name in names for word in _words(name)} | _OBVIOUS
    bare = "".join(letter for letter in text if letter.isalnum())
    rest = "".join(letter for letter in text.translate(_LEET) if letter.isalnum())
    for word in sorted((word.translate(_LEET) for word in known), key=len, reverse=True):
        rest = rest.replace(word, "\x00")
    # Digits became letters above; what was a digit at the end (a year) is no secret either.
    digits = len(bare) - len(bare.rstrip("0123456789"))
    rest = rest[: len(rest) - digits] if digits and not rest.endswith("\x00") else rest
    return rest.replace("\x00", "")


def _words(name: str) -> list[str]:
    parts = "".join(letter if letter.isalnum() else " " for letter in name.casefold()).split()
    return [part for part in [*parts, "".join(parts)] if len(part) >= 3]
