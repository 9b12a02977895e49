"""Which generators exist and what may be set; a torch-free reading of the generated catalogue."""

from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match
from pydantic import TypeAdapter

from privacy import presets
from privacy.errors import InvalidParameter
from privacy.mechanisms import Stage
from privacy.presets import Preset
from service.domain.errors import InputRefused
from service.store.unit_of_work import UnitOfWork

_STAGES: TypeAdapter[tuple[Stage, ...]] = TypeAdapter(tuple[Stage, ...])
_PRESETS: TypeAdapter[dict[str, Preset]] = TypeAdapter(dict[str, Preset])
_GPU_QUEUE = "gpu"
_RECORDS = {"image": "images", "table": "rows of a table", "joint": "rows with an image each"}


def list_generators(uow: UnitOfWork, modality: str | None = None) -> dict[str, Any]:
    """Return name -> title, documentation, JSON Schema of the configuration, defaults, stages.

    With a modality, only the generators that learn from such records.
    """
    generators: dict[str, Any] = uow.parts.catalogue["generators"]
    if modality is None:
        return generators
    return {name: entry for name, entry in generators.items() if _modality(entry) == modality}


def check_modality(uow: UnitOfWork, generator: str, modality: str) -> None:
    """Refuse a generator of images for a table, and the other way round.

    Raises: InputRefused naming those that fit.
    """
    learns = _modality(_entry(uow, generator))
    if learns == modality:
        return
    fitting = ", ".join(sorted(list_generators(uow, modality))) or "none is installed"
    raise InputRefused(
        f"The generator {generator!r} was refused: it learns from {_RECORDS[learns]}, and this "
        f"dataset holds {_RECORDS[modality]}. Choose from: {fitting}.",
        value=generator,
    )


def stages_of(uow: UnitOfWork, generator: str) -> tuple[Stage, ...]:
    """Return the mechanisms that a generator promises to run, before their noise is known."""
    return _STAGES.validate_python(_entry(uow, generator)["stages"])


def suits_from(uow: UnitOfWork, modality: str) -> dict[str, float | None]:
    """Return, for each generator, the units × epsilon from which it is the one to recommend."""
    found = list_generators(uow, modality)
    return {name: entry.get("suits_from") for name, entry in found.items()}


def presets_of(uow: UnitOfWork, generator: str) -> dict[str, Preset]:
    """Return the presets of a generator by name."""
    return _PRESETS.validate_python(_entry(uow, generator).get("presets", {}))


def preset_settings(
    uow: UnitOfWork, generator: str, preset: str | None, *, units: int, epsilon: float
) -> dict[str, Any]:
    """Return the values that a preset sets for this many units at this epsilon; none sets nothing.

    Raises: InputRefused for a preset that the generator does not have.
    """
    if preset is None:
        return {}
    try:
        chosen = presets.choose(presets_of(uow, generator), preset, generator=generator)
    except InvalidParameter as error:
        raise InputRefused(str(error), value=preset) from error
    has_gpu = uow.settings.train_queue == _GPU_QUEUE
    return chosen.resolved(units=units, epsilon=epsilon, has_gpu=has_gpu)


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


def _modality(entry: Mapping[str, Any]) -> str:
    return str(entry.get("modality", "image"))
