"""`clients.gateway.folder`: a gateway is made once, whole, and for its owner alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from clients.gateway.config import load_config
from clients.gateway.errors import ConfigError
from clients.gateway.folder import init, own_card, read_identity
from clients.gateway.store.database import Database
from clients.gateway.store.vault import Vault
from tests.gateway_kit import NOW, StillClock
from transfer.sites import read_card

RELAY = "https://relay.example"


async def test_what_is_made_opens_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "gateway"
    made = await init(folder, name='Valley "ED"', relay=RELAY, pacs="PACS@10.0.0.1:104")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "gateway.db").stat().st_mode) == 0o600
    assert load_config(folder).site.name == 'Valley "ED"'
    db, vault = Database(folder / "gateway.db"), Vault.load(folder)
    await db.open()
    assert (await db.run(lambda con: read_identity(con, vault))).site == made.site
    await db.close()


async def test_the_identity_is_not_readable_on_disk(tmp_path: Path) -> None:
    made = await init(tmp_path / "g", name="Valley ED", relay=RELAY)
    seed = made.key.encode()
    for path in (tmp_path / "g").iterdir():
        assert seed not in path.read_bytes()


async def test_two_gateways_are_two_sites(tmp_path: Path) -> None:
    one, two = [await init(tmp_path / name, name="X", relay=RELAY) for name in "ab"]
    assert one.site != two.site


async def test_a_gateway_is_never_made_over_another(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    await init(folder, name="Valley ED", relay=RELAY)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ConfigError, match="already"):
        await init(folder, name="Another", relay=RELAY)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("part", ["site.key", "gateway.db", "gateway.toml"])
async def test_nor_over_a_part_of_one(tmp_path: Path, part: str) -> None:
    """A backup that is being restored, or an `init` that was killed: nothing of it is overwritten."""
    (tmp_path / part).write_bytes(b"part")
    with pytest.raises(ConfigError, match="already"):
        await init(tmp_path, name="Valley ED", relay=RELAY)
    assert (tmp_path / part).read_bytes() == b"part"


async def test_a_wrong_option_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await init(tmp_path / "g", name="", relay=RELAY)
    with pytest.raises(ConfigError):
        await init(tmp_path / "g", name="X", relay=RELAY, http="0.0.0.0:80")
    assert not (tmp_path / "g").exists()


async def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        await init(tmp_path / "file" / "g", name="X", relay=RELAY)


async def test_the_card_is_what_the_configuration_says(tmp_path: Path) -> None:
    made = await init(tmp_path / "g", name="Zürich 救急", relay=RELAY + "/")
    card = read_card(own_card(tmp_path / "g", made, StillClock()))
    assert (card.site, card.name, card.relay, card.page, card.iat) == (
        made.site,
        "Zürich 救急",
        RELAY,
        "",
        NOW,
    )
    assert card.roles == ["send"]  # it has no PACS


async def test_another_folder_s_key_or_an_empty_database_is_said_in_words(tmp_path: Path) -> None:
    await init(tmp_path / "a", name="A", relay=RELAY)
    await init(tmp_path / "b", name="B", relay=RELAY)
    db = Database(tmp_path / "a" / "gateway.db")
    await db.open()
    with pytest.raises(ConfigError, match="does not fit"):
        await db.run(lambda con: read_identity(con, Vault.load(tmp_path / "b")))
    await db.run(lambda con: con.execute("DELETE FROM own"))
    with pytest.raises(ConfigError, match="no identity"):
        await db.run(lambda con: read_identity(con, Vault.load(tmp_path / "a")))
    await db.close()


async def test_a_gateway_with_a_pacs_receives(tmp_path: Path) -> None:
    made = await init(tmp_path / "g", name="Lakeside", relay=RELAY, pacs="PACS@10.0.0.1:104")
    assert read_card(own_card(tmp_path / "g", made)).roles == ["send", "receive"]
