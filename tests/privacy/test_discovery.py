"""A plug-in is found by its file alone, and refused when it breaks its contract."""

import importlib
import sys

import pytest

from privacy import discovery
from privacy.errors import InvalidParameter

GOOD = '"""Does a thing."""\n\nSTAGES = ()\n\n\ndef fit():\n    """Fit."""\n'


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "plugins_for_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "good.py").write_text(GOOD)
    (folder / "another.py").write_text(GOOD)
    (folder / "_private.py").write_text("raise RuntimeError\n")
    (folder / "notes.txt").write_text("no module")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("plugins_for_a_test")
    for name in [name for name in sys.modules if name.startswith("plugins_for_a_test")]:
        del sys.modules[name]


def add(package, name, text):
    (importlib.resources.files(package) / f"{name}.py").write_text(text)
    importlib.invalidate_caches()


def test_modules_are_found_by_name_without_being_imported(package):
    add(package, "broken", "raise RuntimeError\n")
    assert discovery.available(package) == ("another", "broken", "good")
    assert "plugins_for_a_test.broken" not in sys.modules


def test_every_module_that_keeps_the_contract_is_loaded(package):
    found = discovery.discover(package, required=("STAGES", "fit"))
    assert sorted(found) == ["another", "good"]
    assert found["good"].STAGES == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace('"""Does a thing."""', ""), "has no docstring"),
        (GOOD.replace('"""Does a thing."""', '"""  """'), "has no docstring"),
        (GOOD.replace("STAGES = ()", ""), "lacks STAGES"),
        ('"""Does nothing."""\n', "lacks STAGES, fit"),
    ],
)
def test_a_module_that_breaks_the_contract_is_refused(package, text, sentence):
    add(package, "bad", text)
    with pytest.raises(InvalidParameter, match=f"plugins_for_a_test.bad was refused.*{sentence}"):
        discovery.load(package, "bad", required=("STAGES", "fit"))
    with pytest.raises(InvalidParameter, match=sentence):
        discovery.discover(package, required=("STAGES", "fit"))


@pytest.mark.parametrize("name", ["absent", "_private", "../good", "good.fit", "", "__init__"])
def test_a_name_that_is_no_plugin_is_refused_with_the_known_names(package, name):
    with pytest.raises(InvalidParameter, match="Known: another, good"):
        discovery.load(package, name, required=())
