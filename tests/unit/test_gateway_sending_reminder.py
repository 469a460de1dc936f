"""`clients.gateway.sending.reminder`: a relay that forgot an offer hears of it again, and of no ended one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from clients.gateway.peers.relay import RelayRefusal
from clients.gateway.sending.reminder import Reminder
from clients.gateway.sending.uploader import Uploader
from tests.gateway_kit import House, StillClock, a_relay, eventually, houses, running
from transfer.ids import Cid, Tid

CT = bytes(2**16 + 40)


class Party:
    """An offer whose relay knows nothing of it."""

    def __init__(self, s: House, r: House, tid: Tid) -> None:
        self.s, self.r, self.tid = s, r, tid
        self.uploader = Uploader(s.db, s.relay, s.clock, s.folder / "spool", s.packed, s.changed)
        self.reminder = Reminder(s.db, s.relay, s.identity, self.uploader)

    async def hello(self) -> tuple[int, str]:
        """What a phone finds."""
        mailbox = bytes((await self.s.send(self.tid))["mailbox"]).hex()
        url = f"{self.s.relay.origin}/m/{mailbox}/0"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def party(tmp_path: Path) -> AsyncIterator[Party]:
    clock = StillClock()
    async with houses(tmp_path, clock=clock) as (s, r):
        tid = await s.offer_to(r)
        await s.execute("DELETE FROM outbox")  # the relay took all of it, once
        async with a_relay(tmp_path / "relay", clock, s.card, r.card) as relay:
            s.relay.origin = r.relay.origin = relay.url
            yield Party(s, r, tid)


async def test_hello_readers_and_packs_come_again(party: Party) -> None:
    cid = Cid((await party.s.send(party.tid))["cid"])
    folder = party.s.folder / "spool" / cid.hex()
    folder.mkdir(parents=True)
    (folder / "0").write_bytes(CT)
    await party.s.execute(
        "INSERT INTO packs (cid, n, kind, size, hash, uploaded) VALUES (?,0,'D',?,x'00',1)", cid, len(CT)
    )
    assert (await party.hello())[0] == 404
    async with running(party.uploader.run()):
        await party.reminder.remind()
        status, body = await party.hello()
        assert status == 200
        assert party.tid.text in body

        async def readable() -> bool:
            return [p.n for p in (await party.r.relay.list_packs(cid, 0, wait=0)).packs] == [0]

        await eventually(readable)
    assert await party.r.relay.get_pack(cid, 0) == CT


async def test_again_is_no_harm(party: Party) -> None:
    for _ in range(3):
        await party.reminder.remind()
    assert (await party.hello())[0] == 200


async def test_a_yes_leaves_the_mailbox_as_it_is(party: Party) -> None:
    await party.s.execute("UPDATE sends SET state='RELEASED'")
    await party.reminder.remind()
    assert (await party.hello())[0] == 404


async def test_what_ended_is_not_told_again(party: Party) -> None:
    await party.s.offers.stop(party.tid, "clerk")
    await party.reminder.remind()
    assert (await party.hello())[0] == 404
    with pytest.raises(RelayRefusal):
        await party.s.relay.list_packs(Cid((await party.s.send(party.tid))["cid"]), 0, wait=0)


async def test_a_tombstone_is_not_undone(party: Party) -> None:
    """The state ends between the look and the call: the relay takes no hello after a tombstone."""
    await party.reminder.remind()
    await party.s.offers.stop(party.tid, "clerk")
    async with running(party.s.outbox.run()):

        async def ended() -> bool:
            return "ended" in (await party.hello())[1]

        await eventually(ended)
    await party.s.execute("UPDATE sends SET state='OFFERED'")
    await party.reminder.remind()
    assert "ended" in (await party.hello())[1]


async def test_a_relay_that_is_down_is_no_end(party: Party) -> None:
    party.s.relay.origin = "http://127.0.0.1:9"
    await party.reminder.remind()
