"""A sender that can be made to lie, the receiver that hears it, and a ledger as a delivery leaves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.gateway_kit import Handset, House, houses
from transfer import jws
from transfer.ids import Tid
from transfer.manifest import ChainWriter
from transfer.messages import Close, Message, Offer, Release, SeriesEntry, open_message, peek, sign_message


class Parties:
    """A sender that can be made to lie, and the receiver under test. Nothing is delivered but by hand."""

    def __init__(self, s: House, r: House) -> None:
        self.s, self.r, self.clock = s, r, s.clock

    async def offer(self, **changes: Any) -> tuple[Tid, str]:
        """An offer of S, and its text; not delivered."""
        tid = await self.s.offer_to(self.r)
        text = (await self.s.send(tid))["offer"]
        if changes:
            text = self.signed(msgspec.structs.replace(peek(Offer, text), **changes))
            await self.s.execute("UPDATE sends SET offer=? WHERE tid=?", text, tid)
        return tid, text

    async def release(self, tid: Tid, **changes: Any) -> str:
        """L after a yes on the phone; with `changes`, what a dishonest S might sign instead."""
        if (await self.s.send(tid))["release"] is None:
            phone = await Handset.scan(self.s, tid)
            await phone.ask()
            assert (await phone.decide()).refused == ""
        text = str((await self.s.send(tid))["release"])
        return self.signed(msgspec.structs.replace(peek(Release, text), **changes)) if changes else text

    def signed(self, message: Message) -> str:
        return sign_message(message, self.s.identity.key)

    def close(self, tid: Tid, text: str, state: str = "REVOKED", **changes: Any) -> str:
        """C for the offer `text`."""
        fields = {
            "v": 1,
            "tid": tid,
            "offer": jws.digest(text),
            "state": state,
            "why": "",
            "iat": self.clock.at,
        }
        return self.signed(Close(**{**fields, **changes}))

    async def hear(self, *texts: str) -> None:
        for text in texts:
            await self.r.hear(text, self.s)

    async def opened(self) -> Tid:
        """A transfer that R has opened."""
        tid, offer = await self.offer()
        await self.hear(offer, await self.release(tid))
        assert await self.state(tid) == "OPENED"
        return tid

    async def state(self, tid: Tid) -> str:
        found = await self.r.rows("SELECT state FROM receives WHERE tid=?", tid)
        return str(found[0]["state"]) if found else ""

    async def declined(self) -> list[str]:
        """The codes of what R declined, as S will read them."""
        closes = [
            open_message(Close, t, self.r.site) for t in await self.r.letters() if jws.header("close") in t
        ]
        assert all(c.state == "DECLINED" for c in closes)
        return [c.why for c in closes]

    async def acked(self) -> int:
        return len(await self.r.letters("ack"))


@pytest.fixture
async def p(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses(tmp_path) as (s, r):
        yield Parties(s, r)


# The end


def a_record(p: Parties, cid: Any, *, end: bool = True, want: int = 0) -> str:
    """A manifest record as S signs it, without items."""
    series = [SeriesEntry(0, "2.25.12", 0, want, end)]
    return ChainWriter(cid, p.s.identity.key).record([], series, [], total=0 if end else None)


async def list_items(p: Parties, tid: Tid, *states: str, want: int = 0, end: bool = True) -> str:
    """The ledger as the delivery leaves it."""
    row = await p.r.receive(tid)
    cid = peek(Offer, row["offer"]).cid
    text = a_record(p, cid, end=end, want=want)
    await p.r.execute("INSERT INTO in_records VALUES (?,0,0,?)", cid, text)
    await p.r.execute("UPDATE receives SET total=? WHERE tid=?", len(states) if end else 0, tid)
    await p.r.execute(
        "INSERT INTO in_series (cid, no, uid, want, closed) VALUES (?,0,'2.25.12',?,?)", cid, want, int(end)
    )
    for no, state in enumerate(states):
        await p.r.execute(
            "INSERT INTO ledger (destination, sop_uid, tid, no, series, hash, state, at, proof)"
            " VALUES ('P',?,?,?,0,x'00',?,0,?)",
            f"2.25.{no}", tid, no, state, "store" if state == "stored" else "",
        )  # fmt: skip
    return text
