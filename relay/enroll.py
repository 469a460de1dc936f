"""Enrolls a site: its card is put among those whose requests the relay takes, or taken out again.

It writes into the database beside a relay that runs, which looks there when the site first calls. The card
proves only that its key made it: whether the key is that hospital's, the operator learns by comparing
fingerprints over another channel, as the hospitals do with each other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
    with _database(data_dir, now, make=True) as con:
        sqlite.enroll(con, Site(card.site, card.name, card_text.strip(), now))
    return card


def enrolled(data_dir: Path) -> list[Card]:
    """The cards of all enrolled sites, by name. Raises `RelayError`."""
    with _database(data_dir, system_clock(), make=False) as con:
        found = con.execute("SELECT card FROM sites ORDER BY name, site").fetchall()
    return [read_card(card) for (card,) in found]


def dismiss(data_dir: Path, which: str) -> Card:
    """Ends what `enroll` began, for the site of this id or name; its card.

    Within `relay.sites.TRUST` seconds a relay that runs takes no request of that site any more. What it has stored goes
    by its own time. Raises `RelayError`, also where not exactly one site is meant.
    """
    matches = [card for card in enrolled(data_dir) if which in (card.site.text, card.name)]
    if len(matches) != 1:
        raise ConfigError("Not exactly one site has this name. Give its id: `relay sites DIR` lists them.")
    with _database(data_dir, system_clock(), make=False) as con:
        con.execute("DELETE FROM sites WHERE site = ?", (matches[0].site,))
    return matches[0]


@contextmanager
def _database(data_dir: Path, now: int, *, make: bool) -> Iterator[sqlite3.Connection]:
    """One transaction in the database beside a relay that may be running. Raises `RelayError`."""
    try:
        if make:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not (data_dir / DATABASE).exists():
            raise ConfigError("There is no relay's database in this folder. Check the path.")
        with closing(sqlite3.connect(data_dir / DATABASE, isolation_level=None)) as con:
            tune(con)
            con.execute("BEGIN IMMEDIATE")
            prepare(con, now)
            yield con
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
