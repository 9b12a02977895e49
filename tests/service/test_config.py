"""Settings come from the environment, once, and say which variable is wrong."""

from pathlib import Path

import pytest

from service.config import _VARIABLES, Settings


def test_without_an_environment_everything_is_local() -> None:
    settings = Settings.from_environment({})
    assert settings.effective_database_url.startswith("sqlite+pysqlite:///")
    assert settings.effective_database_url.endswith(".kaima/kaima.sqlite3")
    assert settings.effective_master_key_file == Path(".kaima/master.key")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_means_psycopg(scheme: str) -> None:
    settings = Settings.from_environment({"DATABASE_URL": f"{scheme}://u:p@h/d"})
    assert settings.effective_database_url == "postgresql+psycopg://u:p@h/d"


def test_a_wrong_value_names_its_variable() -> None:
    with pytest.raises(ValueError, match="KAIMA_QUOTA_JOBS was refused: 'many' is not of type int"):
        Settings.from_environment({"KAIMA_QUOTA_JOBS": "many"})


def test_a_misspelt_role_does_not_switch_the_second_factor_off() -> None:
    with pytest.raises(ValueError, match="KAIMA_SECOND_FACTOR_ROLES was refused: 'auditors'"):
        Settings.from_environment({"KAIMA_SECOND_FACTOR_ROLES": "auditors"})
    given = Settings.from_environment({"KAIMA_SECOND_FACTOR_ROLES": "auditor, operator"})
    assert given.second_factor_roles == "auditor, operator"


def test_every_variable_is_explained(repository: Path) -> None:
    text = (repository / "deploy" / "env.example").read_text(encoding="utf-8")
    assert [variable for variable in _VARIABLES if variable not in text] == []
