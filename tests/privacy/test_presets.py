"""Presets: settings under three names, resolved from declared numbers."""

import pytest

from privacy.errors import InvalidParameter
from privacy.presets import SMALL_UNIT_EPSILON, Preset, ShareOfUnits, choose

PRESET = Preset(
    summary="For tests.",
    settings={"steps": 100, "batch": ShareOfUnits(share=0.1, least=64, most=1000), "mode": "a"},
    if_small={"steps": 50},
    on_gpu={"mode": "b"},
)


@pytest.mark.parametrize(
    ("units", "batch"), [(40, 40), (100, 64), (2000, 200), (9999, 1000), (10**6, 1000)]
)
def test_a_share_grows_with_the_units_between_its_limits_and_never_exceeds_them(units, batch):
    assert PRESET.resolved(units=units, epsilon=100)["batch"] == batch


def test_small_data_and_a_gpu_have_settings_of_their_own():
    enough = round(SMALL_UNIT_EPSILON)
    assert PRESET.resolved(units=enough, epsilon=1.0)["steps"] == 100
    assert PRESET.resolved(units=enough - 1, epsilon=1.0)["steps"] == 50
    assert PRESET.resolved(units=enough, epsilon=1.0)["mode"] == "a"
    assert PRESET.resolved(units=enough, epsilon=1.0, has_gpu=True)["mode"] == "b"


def test_a_preset_travels_as_json_and_back():
    assert Preset.model_validate_json(PRESET.model_dump_json()) == PRESET


def test_a_preset_that_does_not_exist_is_refused_with_those_that_do():
    assert choose({"quick": PRESET}, "quick", generator="g") is PRESET
    with pytest.raises(InvalidParameter, match="choose one of quick"):
        choose({"quick": PRESET}, "best", generator="g")
    with pytest.raises(InvalidParameter, match="it has none"):
        choose({}, "best", generator="g")
