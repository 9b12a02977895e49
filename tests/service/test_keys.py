"""The master key: made once, private, and tied to its database."""

import secrets
import threading
from pathlib import Path

import pytest

from service.store.instance import WrongMasterKey
from service.store.keys import Keys, load_keys, load_or_create_keys
from service.wiring import build, migrate
from tests.components import ObjectStoreServer
from tests.factories import application_for, remove_buckets, settings_for


def test_purposes_and_owners_have_independent_keys() -> None:
    keys = Keys(secrets.token_bytes(32))
    derived = [
        keys.tenant_key("a"),
        keys.tenant_key("b"),
        keys.reference_key("a"),
        keys.run_key("a"),
        keys.commitment_salt("a"),
    ]
    assert len({*derived}) == len(derived)
    assert all(len(key) == 32 for key in derived)
    assert keys.run_key("a") == derived[3]


def test_the_key_file_is_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "master.key"
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_or_create_keys(path).check_value()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    load_or_create_keys(path)
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        load_keys(path)


def test_a_key_shows_nothing_of_itself() -> None:
    master = secrets.token_bytes(32)
    assert repr(Keys(master)) == "Keys(...)"


def test_a_database_refuses_another_master_key(
    tmp_path: Path, object_store: ObjectStoreServer
) -> None:
    settings = settings_for(tmp_path, object_store)
    application = application_for(settings)
    application.close()
    migrate(settings)
    settings.effective_master_key_file.unlink()
    with pytest.raises(WrongMasterKey, match="Restore the file"):
        migrate(settings)
    remove_buckets(application)


def test_a_running_service_refuses_a_database_of_another_master_key(
    tmp_path: Path, object_store: ObjectStoreServer
) -> None:
    settings = settings_for(tmp_path, object_store)
    application = application_for(settings)
    application.close()
    settings.effective_master_key_file.unlink()
    other = build(settings)  # makes a key of its own, as the first start on SQLite does
    for read_only in (True, False):
        with pytest.raises(WrongMasterKey, match="Restore the file"):
            other.uow(read_only=read_only)
    other.close()
    remove_buckets(application)


def test_a_machine_beside_postgresql_never_makes_a_key_of_its_own(
    tmp_path: Path, object_store: ObjectStoreServer, postgres_url: str
) -> None:
    settings = settings_for(tmp_path, object_store, database_url=postgres_url)
    with pytest.raises(FileNotFoundError):
        build(settings)
