"""An instance that was filled in bulk is one that the service itself could have written."""

from pathlib import Path

from sqlalchemy.orm import Session

from benchmarks.service_seed import seed
from service.config import Settings
from service.operations import journal_heads, releases
from service.store import journal_proof, schema
from service.store.engine import connect
from service.store.instance import record_master_key
from service.store.keys import load_or_create_keys
from service.wiring import build


def test_the_seeded_journal_is_whole_and_its_releases_are_listed(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, redis_url="memory://")
    engine = connect(settings.effective_database_url)
    schema.upgrade(engine)
    record_master_key(engine, load_or_create_keys(settings.effective_master_key_file))
    engine.dispose()
    application = build(settings)
    filled = seed(application, releases=60, events=4000)
    with Session(application.engine) as session:
        assert journal_proof.verify(session, None) == []
    with application.uow(read_only=True) as uow:
        owner = filled.actors["data_owner"]
        assert journal_heads.sign_head(uow)["size"] == filled.events >= 4000
        mine = releases.list_releases(uow, owner, catalogue=False, limit=200)
        public = releases.list_releases(uow, filled.actors["collaborator"], limit=200)
    application.close()
    assert len(mine.items) == 60
    assert 0 < len(public.items) < 60
