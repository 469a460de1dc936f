"""Enrolls a site: its card is put among those whose requests the relay takes.

It writes into the database beside a relay that runs, which looks there when the site first calls. The card
proves only that its key made it: whether the key is that hospital's, the operator learns by comparing
fingerprints over another channel, as the hospitals do with each other.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from relay import sqlite
from relay.clock import Clock, system_clock
from relay.errors import ConfigError, DiskError
from relay.ledger import prepare, tune
from relay.metastore import Site
from transfer.errors import TransferError
from transfer.messages import Card
from transfer.sites import read_card

DATABASE = "relay.db"


def enroll(data_dir: Path, card_text: str, *, clock: Clock = system_clock) -> Card:
    """The card, once its site is enrolled in the relay whose data folder is `data_dir`. Raises `RelayError`."""
    try:
        card = read_card(card_text)
    except TransferError:
        raise ConfigError(
            "This is not a site card, or it was changed. Ask the site to make its card anew."
        ) from None
    now = clock()
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(sqlite3.connect(data_dir / DATABASE, isolation_level=None)) as con:
            tune(con)
            con.execute("BEGIN IMMEDIATE")
            prepare(con, now)
            sqlite.enroll(con, Site(card.site, card.name, card_text.strip(), now))
            con.execute("COMMIT")
    except OSError:
        raise ConfigError("The relay's data folder cannot be written. Check its path and rights.") from None
    except sqlite3.OperationalError as why:
        if why.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            raise DiskError from None
        raise ConfigError(
            "The relay's database cannot be opened. Check the folder's path and rights."
        ) from None
    except sqlite3.DatabaseError:
        raise ConfigError(
            "The file relay.db in this folder is not a relay's database. Check the path."
        ) from None
    return card
