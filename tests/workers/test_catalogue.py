"""The catalogue that the service reads says what the plug-ins say."""

import json

from click.testing import CliRunner

from training import generators
from workers import catalogue


def test_the_committed_catalogue_is_current():
    assert catalogue.is_current(), "run `python -m workers.catalogue` and commit the file"


def test_every_generator_and_its_settings_are_in_the_catalogue():
    content = json.loads(catalogue.catalogue_text())
    assert tuple(sorted(content["generators"])) == generators.available()
    for name, entry in content["generators"].items():
        module = generators.load(name)
        assert entry["title"]
        assert entry["defaults"] == module.Config().model_dump(mode="json")
        assert entry["schema"]["additionalProperties"] is False
        assert [stage["stage"] for stage in entry["stages"]] == [s.stage for s in module.STAGES]


def test_a_stale_catalogue_is_reported_and_mended(tmp_path, monkeypatch):
    path = tmp_path / "catalogue.json"
    monkeypatch.setattr(catalogue, "PATH", path)
    path.write_text("{}")
    assert not catalogue.is_current(path)
    assert CliRunner().invoke(catalogue.main, []).exit_code == 0
    assert catalogue.is_current(path)
