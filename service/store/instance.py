"""Tie a database to its master key.

With another key every person gets another digest: known persons would look new, join a second
cohort and buy a second budget. So a service with the wrong key must not start.
"""

import hmac

import sqlalchemy as sa

from service.store import tables
from service.store.keys import Keys

_instance = tables.instance


class WrongMasterKey(RuntimeError):
    """The master key file is not the one that this database was made with."""


def record_master_key(engine: sa.Engine, keys: Keys) -> None:
    """Record the key's check value at the first start; later, refuse another key.

    Raises: WrongMasterKey.
    """
    with engine.begin() as connection:
        if _recorded(connection) is None:
            values = {"id": 1, "master_key_check": keys.check_value()}
            connection.execute(sa.insert(_instance).values(values))
    check_master_key(engine, keys)


def check_master_key(engine: sa.Engine, keys: Keys) -> None:
    """Refuse a key that is not the recorded one, and a database that has recorded none.

    Raises: WrongMasterKey.
    """
    with engine.connect() as connection:
        found = _recorded(connection)
    if found is None or not hmac.compare_digest(found, keys.check_value()):
        raise WrongMasterKey(
            "Starting was refused: the master key file is not the one that this database was "
            "made with. Restore the file KAIMA_MASTER_KEY_FILE from its backup."
        )


def _recorded(connection: sa.Connection) -> str | None:
    found: str | None = connection.execute(sa.select(_instance.c.master_key_check)).scalar()
    return found
