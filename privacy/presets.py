"""Presets: a generator's settings under three names, resolved from public numbers alone.

A preset is data, so that a process without torch can read it from a catalogue. Its numbers are
chosen on phantoms and public data; what it looks at when it is resolved is the expected number of
units trained on (from the declared count), the target and the kind of machine. It never sees a record.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from privacy.errors import InvalidParameter

PRESET_NAMES = ("quick", "balanced", "best")
PresetName = Literal["quick", "balanced", "best"]

SMALL_UNIT_EPSILON = 20_000.0
"""Units trained on times epsilon below which DP-SGD learns little that averages do not say.

Noise injected over a whole run is about 4 / (units × epsilon) per unit of gradient, whatever the
batch and the number of steps (see `privacy.regimes`), and up to twice that where averages and a
teacher take their part of the budget; 20,000 is about where that passes 4e-4.
"""

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ShareOfUnits(BaseModel):
    """A whole number that grows with the units trained on: `share` of them, between two limits."""

    model_config = _FROZEN
    share: float = Field(gt=0, le=1)
    least: int = Field(ge=1)
    most: int = Field(ge=1)

    def of(self, units: int) -> int:
        """Return the number for `units`; never more than there are."""
        return min(max(round(self.share * units), self.least), self.most, units)


Setting = bool | int | float | str | ShareOfUnits
Settings = dict[str, Setting]


class Preset(BaseModel):
    """Values of a generator's Config fields; fields that are not named keep their defaults.

    `if_small` replaces some of them where units × epsilon is below `SMALL_UNIT_EPSILON`, `on_gpu`
    where training runs on a GPU (and has the last word).
    """

    model_config = _FROZEN
    summary: str = Field(min_length=1, max_length=300, description="one sentence for people")
    settings: Settings = {}
    if_small: Settings = {}
    on_gpu: Settings = {}

    def resolved(
        self, *, units: int, epsilon: float, has_gpu: bool = False
    ) -> dict[str, bool | int | float | str]:
        """Return plain values for a run on `units` expected units at `epsilon`."""
        chosen = dict(self.settings)
        if units * epsilon < SMALL_UNIT_EPSILON:
            chosen |= self.if_small
        if has_gpu:
            chosen |= self.on_gpu
        return {
            name: value.of(units) if isinstance(value, ShareOfUnits) else value
            for name, value in chosen.items()
        }


def choose(presets: Mapping[str, Preset], name: str, *, generator: str) -> Preset:
    """Return the preset of a name.

    Raises: InvalidParameter naming those that there are.
    """
    if name in presets:
        return presets[name]
    known = ", ".join(presets)
    raise InvalidParameter(
        f"The preset {name!r} of {generator} was refused: "
        + (f"choose one of {known}." if known else "it has none. Leave the preset out.")
    )
