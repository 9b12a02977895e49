"""Settings -> database, object store, dispatcher, keys. The only place that chooses."""

import functools
import json
import threading
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import signing
from privacy.policy import Policy, load_policy
from privacy.policy_limits import check_limits
from service.config import Settings
from service.dispatch import Dispatcher
from service.store import listings, mapping, schema
from service.store.engine import connect
from service.store.instance import check_master_key, record_master_key
from service.store.keys import Keys, load_keys, load_or_create_keys
from service.store.objects import ObjectStore
from service.store.unit_of_work import Parts, SendsJobs, UnitOfWork, WatchedSession

_migrating = threading.Lock()


@dataclass(frozen=True)
class Application:
    """Everything that web, CLI and workers share in one process."""

    settings: Settings
    engine: sa.Engine
    parts: Parts
    key_is_checked: threading.Event = field(
        default_factory=threading.Event, repr=False, compare=False
    )

    def uow(self, *, read_only: bool = False) -> UnitOfWork:
        """Open one transaction; a read-only one never waits for writers on SQLite.

        The first one compares the master key with the database, in every process of every kind.
        Raises: WrongMasterKey.
        """
        if not self.key_is_checked.is_set():
            check_master_key(self.engine.execution_options(read_only=True), self.keys)
            self.key_is_checked.set()
        engine = self.engine.execution_options(read_only=True) if read_only else self.engine
        session = WatchedSession(engine, expire_on_commit=False)
        return UnitOfWork(session, self.parts, read_only=read_only)

    @property
    def objects(self) -> ObjectStore:
        """Return the object store."""
        return self.parts.objects

    @property
    def dispatcher(self) -> SendsJobs:
        """Return what wakes workers."""
        return self.parts.dispatcher

    @property
    def keys(self) -> Keys:
        """Return the derivations of the master key."""
        return self.parts.keys

    @property
    def policy(self) -> Policy:
        """Return the audit policy in force."""
        return self.parts.policy

    @property
    def catalogue(self) -> dict[str, Any]:
        """Return titles, documentation and JSON Schemas of generators and audits."""
        return self.parts.catalogue

    def signing_key(self) -> Ed25519PrivateKey:
        """Return the instance's signing key, made at the first use."""
        return signing.load_or_create_signing_key(self.settings.effective_signing_key_file)

    def close(self) -> None:
        """Close the database connections."""
        self.engine.dispose()


def build(settings: Settings, *, dispatcher: SendsJobs | None = None) -> Application:
    """Build the application of this process. Connects to nothing yet.

    `dispatcher` replaces the broker in tests and in commands that send nothing.
    """
    mapping.start_mappers()
    parts = Parts(
        settings=settings,
        objects=ObjectStore(settings),
        dispatcher=dispatcher or Dispatcher(settings),
        keys=_keys(settings),
        policy=_policy(settings.policy_file),
        catalogue=load_catalogue(settings.catalogue_file),
    )
    return Application(settings, connect(settings.effective_database_url), parts)


def migrate(settings: Settings) -> None:
    """Bring the database to the newest schema, make the keys and buckets that are missing.

    Safe to repeat.  Raises: WrongMasterKey if the database belongs to another master key.
    """
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = connect(settings.effective_database_url)
    try:
        with _migrating:
            schema.upgrade(engine)
            record_master_key(engine, load_or_create_keys(settings.effective_master_key_file))
            with engine.begin() as connection:
                listings.fill_missing(connection)
    finally:
        engine.dispose()
    ObjectStore(settings).create_buckets()


def _policy(path: Path | None) -> Policy:
    """Read version zero of the policy.  Raises: InvalidParameter if it is beyond the fixed limits."""
    policy = load_policy(path)
    check_limits(policy)
    return policy


def _keys(settings: Settings) -> Keys:
    """Read the master key; only `migrate` and a SQLite instance, which is alone, may make it.

    A second machine that made a key of its own would recognise nobody.
    """
    path = settings.effective_master_key_file
    if settings.effective_database_url.startswith("sqlite"):
        return load_or_create_keys(path)
    return load_keys(path)


@functools.cache
def load_catalogue(path: Path | None) -> dict[str, Any]:
    """Read the generated catalogue of generators and audits; without a path, the packaged one."""
    source = resources.files("service") / "catalogue.json" if path is None else path
    catalogue: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return catalogue
