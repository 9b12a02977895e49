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


def check_master_key(engine: sa.Engine, keys: Keys) -> None:
    """Record the key's check value at the first start; later, refuse another key."""
    mine = keys.check_value()
    with engine.begin() as connection:
        found = connection.execute(sa.select(_instance.c.master_key_check)).scalar()
        if found is None:
            connection.execute(sa.insert(_instance).values(id=1, master_key_check=mine))
        elif not hmac.compare_digest(found, mine):
            raise WrongMasterKey(
                "Starting was refused: the master key file is not the one that this database was "
                "made with. Restore the file KAIMA_MASTER_KEY_FILE from its backup."
            )
