"""A generator's settings as form fields, made from its JSON Schema, and what was typed read back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_UNIT = re.compile(r"\s*\(([^()]{1,40})\)\.?$")


@dataclass(frozen=True)
class Setting:
    """One setting. `name` is unique in the form: generator, then the field of its config."""

    name: str
    words: str
    hint: str
    unit: str
    default: object
    choices: list[tuple[str, str]]
    bounds: dict[str, object]


def settings_of(generator: str, about: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of a generator in the order of its schema."""
    properties = about["schema"].get("properties", {})
    defaults = about.get("defaults", {})
    return [
        _setting(f"{generator}.{name}", name, schema, defaults.get(name, schema.get("default")))
        for name, schema in properties.items()
    ]


def config_in(form: Mapping[str, str], generator: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that somebody typed; those left empty are the preset's.

    What is no number stays text, for the generator's schema to refuse in its own words.
    """
    properties = about["schema"].get("properties", {})
    typed = {name: form.get(f"{generator}.{name}", "").strip() for name in properties}
    return {name: _read(text, properties[name]) for name, text in typed.items() if text}


def _setting(name: str, field: str, schema: Mapping[str, Any], default: object) -> Setting:
    text = str(schema.get("description", ""))
    unit = _UNIT.search(text)
    kinds = [str(one) for one in schema.get("enum", [])]
    if schema.get("type") == "boolean":
        kinds = ["true", "false"]
    empty = [("", f"as the preset says, else {_shown(default)}")]
    is_integer = schema.get("type") == "integer"
    bounds = {
        "min": schema.get("minimum", schema.get("exclusiveMinimum")),
        "max": schema.get("maximum", schema.get("exclusiveMaximum")),
        "step": schema.get("multipleOf", 1 if is_integer else "any"),
    }
    limits = _limits(schema)
    return Setting(
        name=name,
        words=field.replace("_", " ").capitalize(),
        hint=" ".join(part for part in (_UNIT.sub(".", text).replace("..", "."), limits) if part),
        unit=f"({unit[1]})" if unit else "",
        default=default,
        choices=empty + [(one, one) for one in kinds] if kinds else [],
        bounds={key: value for key, value in bounds.items() if value is not None},
    )


def _limits(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    first = f"{low:g}" if low is not None else f"more than {above:g}" if above is not None else ""
    last = f"{high:g}" if high is not None else f"less than {below:g}" if below is not None else ""
    return f"{first} to {last}.".capitalize() if first and last else ""


def _read(text: str, schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


def _shown(value: object) -> str:
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
