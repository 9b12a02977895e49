"""Ask a rule for its sentence, so that a control which it disables says why."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from service.domain.errors import DomainError
from service.refusals import from_validation_error


def reason(check: Callable[[], object]) -> str | None:
    """Return the sentence with which a check refuses, or None if it passes."""
    try:
        check()
    except DomainError as error:
        return error.sentence
    return None


def field_errors(error: ValidationError, *, prefix: str = "") -> dict[str, str]:
    """Return, for each field of a form that was refused, the sentence to show beside it."""
    told: Any = from_validation_error(error).extensions.get("errors", [])
    found: dict[str, str] = {}
    for entry in told:
        name = str(entry["field"]).removeprefix(prefix)
        found.setdefault(name, _sentence(str(entry["reason"])))
    return found


def number_in(form: Mapping[str, str], name: str) -> float | str | None:
    """Return a number that was typed, None for nothing; other text stays for the model to refuse."""
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def count_in(form: Mapping[str, str], name: str) -> int | str | None:
    """Return a whole number that was typed; spaces and commas between digits are no mistake."""
    text = form.get(name, "").strip().replace(",", "").replace(" ", "").replace("\u202f", "")
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else text


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
