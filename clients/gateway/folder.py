"""A gateway's folder: made once by `init`, opened by whoever holds its lock.

gateway.toml   what the hospital decides        gateway.db   everything that must survive
ladder.toml    in which order it asks for the yes
site.key       the key of the vault             incoming/    instances as they arrived
refused/       what could not be used           spool/       sealed packs on their way out
sealed/        sealed packs that came in        restored/    instances on their way to the PACS
"""

from __future__ import annotations

from pathlib import Path

from clients.gateway import ladder
from clients.gateway.clock import Clock, SystemClock, system_random
from clients.gateway.config import load_config
from clients.gateway.config_text import render_config
from clients.gateway.errors import ConfigError
from clients.gateway.store.backup import MARK
from clients.gateway.store.database import Con, Database, value
from clients.gateway.store.vault import Vault
from transfer.sites import Identity


async def init(folder: Path, *, name: str, relay: str, **options: object) -> Identity:
    """Makes a new gateway: configuration, site key, database, identity. Raises `ConfigError` where there is one."""
    text = render_config(name=name, relay=relay, **options)  # type: ignore[arg-type]
    if any((folder / name).exists() for name in ("gateway.toml", "site.key", "gateway.db")):
        raise ConfigError(
            "There is a gateway, or a part of one, in this folder already. Choose another folder."
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        vault = Vault.create(folder)
        identity = await _create(folder, vault)
        (folder / ladder.FILE).write_text(ladder.TEXT, "utf-8")
        (folder / "gateway.toml").write_text(text, "utf-8")
    except OSError:
        raise ConfigError("This folder cannot be written. Check its path, rights and disk.") from None
    return identity


async def _create(folder: Path, vault: Vault) -> Identity:
    db = Database(folder / "gateway.db")
    await db.open()
    seed = system_random(32)
    try:
        await db.run(
            lambda con: con.execute(
                "INSERT INTO own (k, v) VALUES ('identity', ?)", (vault.seal("identity", seed),)
            )
        )
    finally:
        await db.close()
    return Identity(seed)


def read_identity(con: Con, vault: Vault) -> Identity:
    """This site's identity. Raises `ConfigError`."""
    if value(con, "SELECT 1 FROM own WHERE k=?", (MARK,)):
        raise ConfigError(
            "This database is a copy from a backup. Use `gateway restore` with the whole backup."
        )
    sealed = value(con, "SELECT v FROM own WHERE k='identity'")
    if sealed is None:
        raise ConfigError("This gateway has no identity. Restore the folder from its backup.")
    return Identity(vault.open("identity", sealed))


def own_card(folder: Path, identity: Identity, clock: Clock | None = None) -> str:
    """This site's signed card, from its configuration: it receives where it has a PACS."""
    config = load_config(folder)
    return identity.card(
        name=config.site.name, place=config.site.place, relay=config.relay.url, page=config.site.page,
        roles=[r for r in config.site.roles if r == "send" or config.pacs is not None] or ["send"],
        now=(clock or SystemClock()).now(),
    )  # fmt: skip
