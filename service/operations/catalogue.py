"""Which generators exist and what may be set; a torch-free reading of the generated catalogue."""

from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match
from pydantic import TypeAdapter

from privacy.mechanisms import Stage
from service.domain.errors import InputRefused
from service.store.unit_of_work import UnitOfWork

_STAGES: TypeAdapter[tuple[Stage, ...]] = TypeAdapter(tuple[Stage, ...])


def list_generators(uow: UnitOfWork) -> dict[str, Any]:
    """Return name -> title, documentation, JSON Schema of the configuration, defaults, stages."""
    generators: dict[str, Any] = uow.parts.catalogue["generators"]
    return generators


def stages_of(uow: UnitOfWork, generator: str) -> tuple[Stage, ...]:
    """Return the mechanisms that a generator promises to run, before their noise is known."""
    return _STAGES.validate_python(_entry(uow, generator)["stages"])


def validate_config(uow: UnitOfWork, generator: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole configuration, defaults filled in.

    Raises: InputRefused naming the field, for an unknown generator or a value out of bounds.
    """
    entry = _entry(uow, generator)
    whole = {**entry["defaults"], **config}
    validator = jsonschema.Draft202012Validator(entry["schema"])
    error = best_match(validator.iter_errors(whole))
    if error is not None:
        field = ".".join(str(part) for part in error.absolute_path) or "config"
        raise InputRefused(
            f"The configuration of {generator} was refused at {field!r}: {error.message}. "
            "GET /v1/generators lists what may be set.",
            field=field,
        )
    return whole


def _entry(uow: UnitOfWork, generator: str) -> dict[str, Any]:
    generators = list_generators(uow)
    if generator not in generators:
        raise InputRefused(
            f"The generator {generator!r} was refused: it is unknown. "
            f"Choose from: {', '.join(sorted(generators))}.",
            value=generator,
        )
    entry: dict[str, Any] = generators[generator]
    return entry
