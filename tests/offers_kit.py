"""A sender that is brought to any of its states, and what the person and the receiver may answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from clients.gateway.sending.offers import NO_RECEIPT_END
from tests.gateway_kit import Handset, House, houses
from transfer import jws, tries
from transfer.encoding import sha256
from transfer.ids import Digest, Tid
from transfer.mailbox import Hello, Tombstone
from transfer.messages import Close, Receipt, decode, open_message, sign_message

RECORD = Digest(sha256(b"a manifest record"))
STATES = ("PREPARING", "OFFERED", "RELEASED", "COMPLETE", "PARTIAL", "DENIED", "EXPIRED", "REVOKED")


class Parties:
    """A sender, a receiver and what the receiver may answer."""

    def __init__(self, s: House, r: House) -> None:
        self.s, self.r = s, r
        self.clock = s.clock

    async def bring(self, state: str) -> Tid:
        """A transfer in this state, by the events that lead there."""
        s = self.s
        if state == "PREPARING":
            return await s.offers.create(await s.a_study(), self.r.site, "transfer", "clerk")
        tid = await s.offer_to(self.r)
        await s.execute("INSERT OR IGNORE INTO records SELECT cid, 0, 0, ? FROM spools", RECORD)
        if state in ("RELEASED", "COMPLETE", "PARTIAL"):
            await self.decide(tid)
        if state in ("COMPLETE", "PARTIAL"):
            await self.receipt(tid, state)
        if state == "DENIED":
            await self.decide(tid, "deny")
        if state == "EXPIRED":
            await self.expire(tid)
        if state == "REVOKED":
            await s.offers.stop(tid, "clerk")
        assert await self.state(tid) == state
        return tid

    async def state(self, tid: Tid) -> str:
        return str((await self.s.send(tid))["state"])

    async def decide(self, tid: Tid, d: str = "approve") -> str:
        """A person answers; why it was refused, or that nobody answered the phone."""
        if (await self.s.send(tid))["q_sealed"] is None:
            return "no code"
        phone = await Handset.scan(self.s, tid)
        await phone.start()
        if not await phone.answers(2):
            return "no answer"
        await phone.prove()
        (m4,) = await phone.answers(4)
        phone.door.answer(m4)
        return (await phone.decide(d)).refused

    async def staff(self, tid: Tid, kind: Literal["attest", "override"], by: list[str]) -> None:
        """Staff decide in the person's place."""
        await self.s.db.run(
            lambda con: self.s.offers.staff_decide(
                con, self.s.offers._row(con, tid), kind, by, "nobody with them", self.clock.at
            )
        )

    async def receipt(self, of: Tid, state: str = "COMPLETE", **changes: Any) -> str:
        """A receipt by R arrives; its text."""
        row = await self.s.send(of)
        grant = self.s.vault.open("grant", row["grant_sealed"]).decode() if row["grant_sealed"] else ""
        fields = {
            "v": 1, "tid": of, "offer": jws.digest(row["offer"] or ""), "grant": jws.digest(grant),
            "manifest": RECORD, "state": state, "proof": "store", "gaps": [] if state == "COMPLETE" else [1],
            "iat": self.clock.at,
        }  # fmt: skip
        key = changes.pop("key", self.r.identity.key)
        text = sign_message(Receipt(**{**fields, **changes}), key)
        await self.s.offers.receipt(text, self.r.site, of)
        return text

    async def declined(self, of: Tid, why: str = "kid-unknown", **changes: Any) -> None:
        """R declines."""
        row = await self.s.send(of)
        fields = {
            "v": 1, "tid": of, "offer": jws.digest(row["offer"] or ""), "state": "DECLINED", "why": why,
            "iat": self.clock.at,
        }  # fmt: skip
        text = sign_message(Close(**{**fields, **changes}), self.r.identity.key)
        await self.s.offers.declined(text, self.r.site, of)

    async def expire(self, tid: Tid) -> None:
        at = self.clock.at
        self.clock.at = max(at, (await self.s.send(tid))["exp"])
        await self.s.offers.expire()
        self.clock.at = at

    async def no_receipt(self, tid: Tid) -> None:
        at = self.clock.at
        self.clock.at += NO_RECEIPT_END
        await self.s.offers.expire()
        self.clock.at = at

    async def letters(self, kind: type[Any]) -> list[Any]:
        """The messages of one kind that wait for R."""
        return [open_message(kind, t, self.s.site) for t in await self.s.letters() if is_kind(kind, t)]

    async def run_out(self, tid: Tid) -> None:
        """The time of a voice door's code is over; no other door has one."""
        await self.s.offers.switch(tid, "voice", "", "clerk")
        self.clock.at += tries.VOICE_SECONDS
        await self.s.offers.expire()

    async def mailbox(self, tid: Tid) -> Any:
        """What the relay is to show in the transfer's mailbox."""
        row = await self.s.send(tid)
        path = f"/m/{bytes(row['mailbox']).hex()}/0"
        found = await self.s.rows(
            "SELECT body FROM outbox WHERE kind='mailbox' AND target=? ORDER BY id", path
        )
        body = bytes(found[-1]["body"])
        return decode(body, Tombstone if b"ended" in body else Hello)


def is_kind(kind: type[Any], text: str) -> bool:
    return text.startswith(jws.header(kind.NAME) + ".")


@pytest.fixture
async def parties(tmp_path: Path) -> AsyncIterator[Parties]:
    async with houses(tmp_path) as (s, r):
        yield Parties(s, r)
