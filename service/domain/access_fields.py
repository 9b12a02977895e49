"""The questions that a data owner puts to whoever asks for a release, and the check of answers."""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.domain.countries import COUNTRIES
from service.domain.errors import InputRefused

MOST_FIELDS = 20
LONGEST_ANSWER = 2000

_NAME = r"^[a-z][a-z0-9_]{0,39}$"
_PLAIN = r"^[^\x00-\x1f\x7f]+$"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class FieldKind(StrEnum):
    """How a question is answered."""

    TEXT = "text"
    CHOICE = "choice"
    CHECKBOX = "checkbox"
    DATE = "date"
    COUNTRY = "country"


class RequestField(BaseModel):
    """One question. A checkbox that is required must be ticked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=_NAME)]
    label: Annotated[str, Field(min_length=1, max_length=300, pattern=_PLAIN)]
    kind: FieldKind = FieldKind.TEXT
    required: bool = True
    choices: tuple[Annotated[str, Field(min_length=1, max_length=120, pattern=_PLAIN)], ...] = (
        Field(default=(), max_length=50)
    )

    @model_validator(mode="after")
    def _choices_suit(self) -> Self:
        """Refuse a choice without alternatives, and alternatives of anything else."""
        if (self.kind is FieldKind.CHOICE) != bool(self.choices):
            raise ValueError(
                f"the field {self.name!r} was refused: a choice needs its choices, and only a "
                "choice has them"
            )
        if len(set(self.choices)) != len(self.choices):
            raise ValueError(f"the choices of {self.name!r} were refused: name each once")
        return self


PURPOSE = RequestField(name="purpose", label="What do you want to use it for?")
"""Asked where a data owner declares no questions: a decision needs something to decide on."""


def check_fields(fields: Iterable[RequestField]) -> list[dict[str, Any]]:
    """Return the questions as documents.  Raises: InputRefused for too many, or a name used twice."""
    found = list(fields)
    names = [field.name for field in found]
    if len(found) > MOST_FIELDS or len(set(names)) != len(names):
        raise InputRefused(
            f"The {len(found)} fields were refused: declare {MOST_FIELDS} at most, each with a "
            "name of its own.",
            value=len(found),
            limit=MOST_FIELDS,
        )
    return [field.model_dump(mode="json") for field in found]


def check_answers(
    fields: Iterable[Mapping[str, Any]], answers: Mapping[str, object]
) -> dict[str, Any]:
    """Return the answers to the declared questions.

    Raises: InputRefused with `field` and, for every refused one, its sentence in `errors`.
    """
    asked = [RequestField.model_validate(field) for field in fields]
    unknown = sorted(set(answers) - {field.name for field in asked})
    errors = dict.fromkeys(unknown, "This question was not asked.")
    checked: dict[str, Any] = {}
    for field in asked:
        try:
            value = _checked(field, answers.get(field.name))
        except ValueError as error:
            errors[field.name] = str(error)
            continue
        if value is not None:
            checked[field.name] = value
    if errors:
        first = next(iter(errors))
        raise InputRefused(
            f"The request was refused at {first!r}: {errors[first]}",
            field=first,
            errors=[{"field": name, "reason": reason} for name, reason in errors.items()],
        )
    return checked


def _checked(field: RequestField, given: object) -> str | bool | None:
    if field.kind is FieldKind.CHECKBOX:
        if not isinstance(given, bool | None):
            raise ValueError("Answer with true or false.")
        if field.required and given is not True:
            raise ValueError("This must be confirmed.")
        return bool(given)
    if given is None or given == "":
        if field.required:
            raise ValueError("This must be answered.")
        return None
    if not isinstance(given, str):
        raise ValueError("Answer with text.")  # noqa: TRY004 (a refused answer, not a defect)
    return _checked_text(field, given.strip())


def _checked_text(field: RequestField, text: str) -> str:
    if field.required and not text:
        raise ValueError("This must be answered.")
    if len(text) > LONGEST_ANSWER or _CONTROL.search(text):
        raise ValueError(f"Write {LONGEST_ANSWER} characters at most, no control characters.")
    if field.kind is FieldKind.CHOICE and text not in field.choices:
        raise ValueError(f"Choose one of: {', '.join(field.choices)}.")
    if field.kind is FieldKind.COUNTRY and text not in COUNTRIES:
        raise ValueError("Choose a country by its two-letter code, such as DE.")
    if field.kind is FieldKind.DATE:
        try:
            date.fromisoformat(text)
        except ValueError:
            raise ValueError("Write a date as 2027-01-31.") from None
    return text
