"""Enrolling a site."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from relay.config import Quota
from relay.enroll import DATABASE, dismiss, enroll, enrolled
from relay.errors import ConfigError
from relay.sqlite import SqliteMeta
from transfer.sites import Identity

NOW = 1_795_000_000


def card(identity: Identity, name: str = "Valley Hospital") -> str:
    return identity.card(
        name=name, place="Valley", relay="https://relay.example", page="", roles=["send"], now=NOW
    )


async def test_a_site_is_enrolled_before_the_relay_ever_ran_and_again_later(tmp_path: Path) -> None:
    site = Identity(os.urandom(32))
    folder = tmp_path / "new" / "relay"
    found = enroll(folder, card(site) + "\n", clock=lambda: NOW)
    assert (found.site, found.name) == (site.site, "Valley Hospital")
    enroll(folder, card(site, "Valley Hospital East"), clock=lambda: NOW + 5)
    store = SqliteMeta(folder / DATABASE, Quota(), lambda: NOW)
    await store.open()
    known = await store.site(site.site)
    await store.close()
    assert known is not None
    assert known.name == "Valley Hospital East"
    assert known.card == card(site, "Valley Hospital East")
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é", "x" * 10_000])
def test_what_is_no_card(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        enroll(tmp_path / "d", text)
    assert not (tmp_path / "d").exists()


def test_a_card_that_was_changed(tmp_path: Path) -> None:
    mine, other = card(Identity(os.urandom(32))), card(Identity(os.urandom(32)))
    mixed = ".".join([*mine.split(".")[:2], other.split(".")[2]])
    with pytest.raises(ConfigError):
        enroll(tmp_path, mixed)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        enroll(tmp_path / "file", card(Identity(os.urandom(32))))


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError):
        enroll(tmp_path, card(Identity(os.urandom(32))))
    (tmp_path / DATABASE).unlink()
    (tmp_path / DATABASE).mkdir()
    with pytest.raises((ConfigError, sqlite3.Error)):
        enroll(tmp_path, card(Identity(os.urandom(32))))


def test_who_is_enrolled_and_who_is_dismissed(tmp_path: Path) -> None:
    valley, hill, twin = (Identity(os.urandom(32)) for _ in range(3))
    for site, name in ((valley, "Valley"), (hill, "Hill"), (twin, "Valley")):
        enroll(tmp_path, card(site, name))
    assert [c.name for c in enrolled(tmp_path)] == ["Hill", "Valley", "Valley"]
    with pytest.raises(ConfigError, match="Not exactly one"):  # two of that name
        dismiss(tmp_path, "Valley")
    with pytest.raises(ConfigError, match="Not exactly one"):
        dismiss(tmp_path, "Nobody")
    assert dismiss(tmp_path, valley.site.text).site == valley.site
    assert dismiss(tmp_path, "Valley").site == twin.site
    assert [c.site for c in enrolled(tmp_path)] == [hill.site]


def test_a_folder_without_a_relay_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        enrolled(tmp_path)
    assert not list(tmp_path.iterdir())
