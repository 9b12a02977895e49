"""Word the refusals of intake: file, what is wrong, value, limit, remedy, always in this order.

Values shown are sizes, labels and names of columns. A patient id or the value of a DICOM header is
never part of a refusal: it would reach logs and the job's row.
"""

from service.domain.errors import InputRefused

_SHOWN_CHARACTERS = 120


def refused(what: str, *, file: str, value: object, limit: object, remedy: str) -> InputRefused:
    """Return the refusal of `file`; the caller raises it. `limit` says what is allowed."""
    name, seen = shown(file), shown(str(value))
    sentence = f"{name} was refused: {what}: {seen}; allowed: {limit}. {remedy}"
    return InputRefused(sentence, file=name, value=seen, limit=str(limit), remedy=remedy)


def renamed(refusal: InputRefused, *, file: str) -> InputRefused:
    """Return a refusal of this module that calls the refused file by another name."""
    old, name = str(refusal.extensions["file"]), shown(file)
    sentence = name + refusal.sentence.removeprefix(old)
    return InputRefused(sentence, **(refusal.extensions | {"file": name}))


def shown(text: str) -> str:
    """Return `text` safe for a terminal and a page: printable, at most 120 characters."""
    printable = "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}" for character in text
    )
    if len(printable) > _SHOWN_CHARACTERS:
        return printable[: _SHOWN_CHARACTERS - 1] + "…"
    return printable
