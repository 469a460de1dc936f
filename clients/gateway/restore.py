"""A gateway made anew from a backup (docs/adr/0017-gateway-backup.md).

A backup is an older state, and an older state of a gateway is dangerous: it has forgotten wrong PINs, used
channel counters and opened transfers. So nothing that was open goes on:

- S: what waited for a key or for an answer is REVOKED, its code and its mailbox are closed. A release whose study
  was sealed to its end stays RELEASED, without any key, and ends with the receipt that R gives again.
- R: what waited for a release is DECLINED, what was being delivered ends PARTIAL; the sender hears of both. All
  old pre-keys are gone, so no release that was ever made for this gateway opens here again, whatever `used` says.
- Staff sign in anew; pre-keys are made anew at the next start.

All that is one transaction on the copy, before it is the database of a gateway. `gateway.toml` comes last: a
restore that was cut off has left no gateway.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from clients.gateway.clock import Clock, Signal, SystemClock, system_random
from clients.gateway.config import load_config
from clients.gateway.disk import sync_folder
from clients.gateway.errors import ConfigError
from clients.gateway.folder import read_identity
from clients.gateway.ladder import FILE as LADDER
from clients.gateway.ladder import load_ladder
from clients.gateway.peers.pins import Pins
from clients.gateway.peers.relay import RelayClient
from clients.gateway.receiving.inbox import Inbox
from clients.gateway.sending.offers import Offers
from clients.gateway.store import audit
from clients.gateway.store.backup import DATABASE, KEY, MARK, SETTINGS, unpack
from clients.gateway.store.database import Con, Database, rows, value
from clients.gateway.store.vault import Vault
from transfer.sites import Identity

_WORK = ".restoring"


class Restored(msgspec.Struct, frozen=True):
    """What a restore did, and what a person must look at: it may be older than a decision of theirs."""

    at: int
    """When the backup was made."""
    site: str
    stopped: int
    """Transfers that were open to or from other sites, and have ended."""
    peers: list[str]
    users: list[str]


async def restore(file: Path, folder: Path, key: Path | None = None, clock: Clock | None = None) -> Restored:
    """Makes the gateway of a backup in `folder`, which must be empty or not there. Raises `ConfigError`,
    `DiskFullError`, and leaves the folder as it was then.
    """
    work = _make(folder)
    try:
        unpack(file, work, key)
        load_config(work)
        load_ladder(work)
        found = await _settle(work, clock or SystemClock())
        for name in (KEY, DATABASE, LADDER, SETTINGS):
            if name == LADDER and not (work / name).exists():
                continue
            os.replace(work / name, folder / name)
            sync_folder(folder)
    except OSError:
        raise ConfigError("The folder cannot be written. Check its path, rights and disk.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(
                "The folder is not empty, and nothing in it was touched. Name a new one; never restore over a gateway."
            )
        folder.chmod(0o700)
        work = folder / _WORK
        work.mkdir(mode=0o700)
    except OSError:
        raise ConfigError("The folder cannot be written. Check its path and rights.") from None
    return work


async def _settle(work: Path, clock: Clock) -> Restored:
    vault, now = Vault((work / KEY).read_bytes()), clock.now()
    db = Database(work / DATABASE)
    await db.open()
    try:
        return await db.run(lambda con: _settle_all(con, db, vault, clock, now))
    finally:
        await db.scrub()
        await db.close()


def _settle_all(con: Con, db: Database, vault: Vault, clock: Clock, now: int) -> Restored:
    made = value(con, "SELECT v FROM own WHERE k=?", (MARK,))
    if made is None:
        raise ConfigError("The database in this file is not a backup's. Take a file of `gateway backup`.")
    con.execute("DELETE FROM own WHERE k=?", (MARK,))
    identity = read_identity(con, vault)
    stopped = _end_all(con, db, vault, identity, clock, now)
    audit.record(con, "gateway", "gateway.restore", identity.site.hex(), f"backup of {int(made)}", now)
    names = [r[0] for r in rows(con, "SELECT name FROM peers WHERE unpinned_at=0 ORDER BY name")]
    users = [r[0] for r in rows(con, "SELECT name FROM users WHERE disabled=0 ORDER BY name")]
    return Restored(int(made), identity.site.text, stopped, names, users)


def _end_all(con: Con, db: Database, vault: Vault, identity: Identity, clock: Clock, now: int) -> int:
    """By the rooms that know how a transfer ends; none of them calls anybody here."""
    own, nobody = (db, vault, identity), RelayClient("http://127.0.0.1", identity.key, clock, system_random)
    pins = Pins(*own, nobody, clock, system_random)
    offers = Offers(*own, clock, system_random, Signal(), Signal())
    inbox = Inbox(*own, pins, clock, Signal(), Signal())
    return offers.restored(con, now) + inbox.restored(con, now)
