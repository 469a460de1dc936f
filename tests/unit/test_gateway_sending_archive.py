"""The archive's part of the engine, over open rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.gateway.config import parse_config
from clients.gateway.config_text import render_config
from clients.gateway.errors import AbsentError, ConfigError, GatewayError
from clients.gateway.sending.archive import reach_of
from tests.rooms_kit import a_desk

TOML = render_config(name="Valley ED", relay="http://relay.example")
SOURCE = '[source]\naet = "PACS"\naddress = "127.0.0.1:104"\n'


async def test_without_a_source_everybody_is_told_what_to_set(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        for call in (desk.engine.find_studies({"accession": "A1"}, "me"), desk.engine.pull("1.2.3", "me")):
            with pytest.raises(GatewayError) as why:
                await call
            assert why.value.code == "source-none"
            assert "[source]" in why.value.sentence
        with pytest.raises(GatewayError) as why:
            await desk.engine.find_studies({"name": "DOE"}, "me")
        assert why.value.code == "search"
        assert await desk.engine.pulls() == []
        for absent in (desk.engine.pull_view("x"), desk.engine.stop_pull("x", "me")):
            with pytest.raises(AbsentError):
                await absent


async def test_what_a_rule_prepared_is_offered_by_a_person_once(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        study = await desk.study()
        with pytest.raises(GatewayError):
            await desk.engine.offer_prepared(study, "clerk")
        await desk.rooms.db.run(
            lambda con: con.execute(
                "INSERT INTO prepared (study, peer, reason, rule, state, at) VALUES (?,?,'consult',2,'prepared',1)",
                (study, desk.house.site),
            )
        )
        view = await desk.engine.study(study)
        assert (view.prepared, view.prepared_by) == ("Lakeside Trauma Center", "rule 2")
        tid = await desk.engine.offer_prepared(study, "clerk")
        made = await desk.engine.transfer(tid)
        assert (made.study, made.reason, made.peer) == (study, "consult", "Lakeside Trauma Center")
        assert (await desk.engine.study(study)).prepared == ""
        with pytest.raises(GatewayError) as why:
            await desk.engine.offer_prepared(study, "clerk")
        assert why.value.code == "prepared"
        with pytest.raises(AbsentError):
            await desk.engine.dismiss_prepared(study, "clerk")
        assert [
            line.actor for line in await desk.engine.audit() if line.action == "study.prepared-offered"
        ] == ["clerk"]


def test_settings_are_strict() -> None:
    config = parse_config(TOML + SOURCE + '[[prepare]]\nto = "Lakeside"\nstation = "CT*"\n')
    assert config.source is not None
    assert (config.source.retrieve, config.prepare[0].reason) == ("move", "transfer")
    for wrong, key in (
        (SOURCE.replace(":104", ":0"), "source.address"),
        (SOURCE + 'retrieve = "push"\n', "retrieve"),
        (SOURCE + 'tls_cert = "a.pem"\n', "source.tls_key"),
        ('[[prepare]]\nto = "Lakeside"\n', "prepare[0]"),
        ('[[prepare]]\nto = "Lakeside"\nstation = "' + "C" * 65 + '"\n', "station"),
        ('[[prepare]]\nto = "Lakeside"\nsend = true\n', "send"),
    ):
        with pytest.raises(ConfigError) as why:
            parse_config(TOML + wrong)
        assert key in why.value.sentence, wrong


def test_the_archive_is_told_an_address_that_it_can_reach() -> None:
    reach = reach_of(parse_config(TOML))
    assert (reach.aet, reach.address) == ("TRAUMATX", "127.0.0.1, port 11112")
    everywhere = reach_of(parse_config(TOML.replace("127.0.0.1:11112", "0.0.0.0:11112")))
    assert not everywhere.address.startswith("0.")
