"""`clients.gateway.receiving.destinations`: which PACS there are, and the children that go to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.gateway.config import parse_config
from clients.gateway.config_text import render_config
from clients.gateway.errors import ConfigError
from clients.gateway.receiving.destinations import Destinations, destinations_of
from clients.gateway.receiving.routing import Kind, Sender

BASE = render_config(name="Lakeside", relay="https://relay.example", pacs="PACS@127.0.0.1:104")
TWO = (
    BASE
    + """
[[destinations]]
name = "neuro"
aet = "NEURO"
address = "127.0.0.1:105"
associations = 2

[[routes]]
modality = ["MR"]
to = ["pacs", "neuro"]
"""
)
SENDER = Sender("Valley ED", "1234")


def made(text: str) -> Destinations:
    found = destinations_of(parse_config(text))
    assert found is not None
    return found


def test_a_site_that_only_sends_has_none() -> None:
    assert destinations_of(parse_config(render_config(name="Valley", relay="https://relay.example"))) is None


def test_one_pacs_is_where_all_goes() -> None:
    found = made(BASE)
    assert [(pacs.name, pacs.key) for pacs in found] == [("pacs", "PACS@127.0.0.1:104")]
    assert found.of_all(SENDER) == (found.default,)
    assert found.at("PACS@127.0.0.1:104") is found.default
    assert found.at("OLD@127.0.0.1:104") is None


def test_a_rule_sends_a_series_to_several() -> None:
    found = made(TWO)
    assert found.of_all(SENDER) is None
    assert [pacs.name for pacs in found.of_series(SENDER, Kind("MR", ""))] == ["pacs", "neuro"]
    assert [pacs.name for pacs in found.of_series(SENDER, Kind("CT", ""))] == ["pacs"]


async def test_only_the_default_has_a_child_before_it_is_needed() -> None:
    found = made(TWO)
    await found.start()
    try:
        assert [pacs.scu.was_started for pacs in found] == [True, False]
        await found.restart()
        assert [pacs.scu.was_started for pacs in found] == [True, False]
        assert set(found.answers.values()) == {0}
    finally:
        await found.stop()


async def test_every_certificate_is_looked_at_before_the_start(tmp_path: Path) -> None:
    files = "".join(f'tls_{what} = "{tmp_path / what}"\n' for what in ("cert", "key", "ca"))
    found = made(TWO.replace("associations = 2\n", files))
    with pytest.raises(ConfigError):
        await found.start()
    await found.stop()
