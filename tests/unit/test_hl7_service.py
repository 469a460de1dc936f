"""`clients.gateway.hl7.service`: what gateway.toml says is what listens."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.config import Hl7Section
from clients.gateway.errors import ConfigError
from clients.gateway.hl7.service import Hl7Service
from clients.gateway.sending.reports import Reports
from tests.gateway_kit import NOWHERE, House, StillClock, running
from tests.hl7_kit import deliver, oru


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path / "s", StillClock(), NOWHERE).make("Valley ED")
    yield made
    await made.close()


def service(house: House, **given: object) -> Hl7Service:
    reports = Reports(house.db, house.clock, house.studies, "Valley ED")
    section = Hl7Section(**given)  # type: ignore[arg-type]
    return Hl7Service(section, house.db, house.clock, reports, house.folder, house.arrived, house.changed)


async def test_nothing_where_nothing_is_set(house: House) -> None:
    made = service(house)
    await made.start()
    assert (made.address, made.loops()) == (None, {})
    await made.stop()
    assert not (house.folder / "hl7").exists()


async def test_a_foreign_client_is_answered(house: House) -> None:
    await house.a_study(1, AccessionNumber="A4711")
    made = service(house, listen="127.0.0.1:0", adt="127.0.0.1:9")
    assert set(made.loops()) == {"hl7-reports", "hl7-identities"}
    await made.start()
    try:
        assert made.address is not None
        async with running(house.studies.run(), made.loops()["hl7-reports"]()):
            answers = await deliver(*made.address, oru(), oru(control="M2"), oru(control="M3", number="P2"))
        assert answers == [("AA", "M1"), ("AA", "M2"), ("AE", "M3")]
    finally:
        await made.stop()


async def test_a_port_that_another_program_has(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        made = service(house, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match="HL7 cannot use port"):
            await made.start()
        await made.stop()
