"""`clients.gateway.receiving.choosing`: what pages and the control socket give is read before anything is decided."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from clients.gateway.dicom.person import PersonError
from clients.gateway.errors import AbsentError, GatewayError
from clients.gateway.receiving.choosing import IdentityEngine
from clients.gateway.store.database import Database
from clients.gateway.whose import IdentityView
from tests.office_kit import BOTH, HEADER, PEER, SAME, TID, Office

HEX = TID.hex()
JSON = msgspec.to_builtins(SAME)
"""A candidate as the control socket gives it."""


def engine_of(office: Office) -> IdentityEngine:
    """The engine's part, over this receiver."""
    engine = IdentityEngine()
    engine._rooms = cast(Any, SimpleNamespace(reconciling=office.reconciling, changed=office.changed))
    return engine


async def asking(db: Database) -> tuple[Office, IdentityEngine, asyncio.Task[Any]]:
    """Staff are asked, and the first image waits for what they say."""
    office = Office(db)
    await office.opened()
    asked = office.asks()
    await office.waits()
    return office, engine_of(office), asked


@pytest.mark.parametrize("tid", ["", "zz", HEX[:-2], HEX + "00", "0" * 32])
async def test_a_number_that_is_none_is_a_transfer_that_is_not_there(db: Database, tid: str) -> None:
    engine = engine_of(Office(db))
    for work in (
        engine.identity(tid),
        engine.compare(tid, SAME),
        engine.identify(tid, SAME, BOTH, "dr-lee"),
        engine.correct(tid, SAME, BOTH, "dr-lee"),
    ):
        with pytest.raises(AbsentError):
            await work


async def test_a_candidate_comes_as_json_too(db: Database) -> None:
    _, engine, asked = await asking(db)
    sides = await engine.compare(HEX, cast(Any, JSON))
    assert sides == await engine.compare(HEX, SAME)
    view = await engine.identify(HEX, cast(Any, JSON), BOTH, "dr-lee")
    assert (view.how, view.filed_id) == ("match", "900")
    assert view == await engine.identity(HEX)
    assert (await asked).change is not None


@pytest.mark.parametrize(
    ("candidate", "confirmed"),
    [
        ("900", BOTH),
        ({**JSON, "patient_id": 900}, BOTH),
        ({}, BOTH),
        (JSON, "name"),
        (JSON, [1, 2]),
        (JSON, None),
    ],
)
async def test_what_cannot_be_read_decides_nothing(db: Database, candidate: Any, confirmed: Any) -> None:
    _, engine, asked = await asking(db)
    for work in (engine.identify, engine.correct):
        with pytest.raises(GatewayError) as caught:
            await work(HEX, candidate, confirmed, "dr-lee")
        assert caught.value.code == "header"
    assert (await engine.identity(HEX)).state == "waits"
    asked.cancel()


async def test_of_two_who_answer_at_once_one_hears_that_it_is_decided(db: Database) -> None:
    """Both saw the question; the second is told by the gateway's error and not by the protocol's."""
    _, engine, asked = await asking(db)
    said = await asyncio.gather(
        *(engine.identify(HEX, None, [], user) for user in ("dr-lee", "admin")), return_exceptions=True
    )
    done = [s for s in said if isinstance(s, IdentityView)]
    late = [s for s in said if isinstance(s, GatewayError)]
    assert (len(done), [why.code for why in late]) == (1, ["state"])
    assert (await asked).change is not None


async def test_who_waits_for_changes_hears_of_a_correction(db: Database) -> None:
    office = Office(db, "prefix")
    await office.opened()
    await office.identities.of(TID, PEER, HEADER)
    await office.ended()
    seen, engine = office.changed.seen, engine_of(office)
    view = await engine.correct(HEX, cast(Any, JSON), BOTH, "dr-lee")
    assert (view.now_id, view.changes[0].by) == ("900", "dr-lee")
    assert office.changed.seen > seen


async def test_a_search_says_which_of_its_fields_is_wrong(db: Database) -> None:
    engine = engine_of(Office(db))
    for given, code in (
        (("\\", "", ""), "mrn-backslash"),
        (("", "1" * 17, ""), "accession"),
        (("", "", "A*"), "name-character"),
    ):
        with pytest.raises(PersonError) as caught:
            await engine.worklist(*given)
        assert caught.value.code == code
