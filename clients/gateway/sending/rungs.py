"""The ladder at the desk: which rung of `ladder.toml` is offered, and what staff decide on the upper two.

A rung is offered when its time has come, and only shown then: nothing is taken by itself. What staff decide in the
patient's place needs, in the transaction that makes the release,

- a transfer that is OFFERED and has not run out (`transfer.states`: nothing leads there from a no or an end);
- the rung on the ladder, and its time come; where a person said no to sending this study before, in whatever
  transfer, the rung that the ladder names for that and no other;
- members of staff who are clinicians now: for `attest` two of them, each with their own word. The pages ask each for
  their password first.

The first clinician's word lapses after half an hour. Whether the other site opens what staff decided is its own
pin's matter (protocol s. 5).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from clients.gateway.clock import Clock, Signal
from clients.gateway.errors import GatewayError
from clients.gateway.ladder import Ladder
from clients.gateway.sending.offers import Offers, refused_at
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, value
from clients.gateway.views import RungView, TransferView
from transfer.errors import ExpiredError, StateError
from transfer.ids import SiteId, Tid
from transfer.messages import Offer, peek
from transfer.text import one_line

LAPSE: Final = 1800
"""Seconds for which the first clinician's word waits for the second's."""
REASON_MOST: Final = 300


class RungError(GatewayError):
    """This is not what this hospital's policy allows now. Look at the transfer's page for what comes next."""

    code = "rung"


class RungOffError(RungError):
    """This hospital's policy does not allow this. Use the existing route, or ask whoever may decide."""

    code = "rung-off"


class RungEarlyError(RungError):
    """It is not yet time for this. The transfer's page says from when on it is offered."""

    code = "rung-early"


class RefusedError(RungError):
    """A person has said no to sending this study. Open that transfer: it says what may follow, with a reason."""

    code = "refused-before"


class NotClinicianError(RungError):
    """Only clinicians of this hospital may decide in a patient's place. Ask one to sign in under their own name."""

    code = "role"


class SameClinicianError(RungError):
    """You have attested this already. A second clinician has to, signed in under their own name."""

    code = "attest-same"


class OtherWordError(RungError):
    """The first clinician's words have changed or lapsed. Read them again before you confirm."""

    code = "attest-changed"


class ReasonError(RungError):
    """A reason is needed, of 300 characters at most. Write in one sentence why nobody was asked."""

    code = "reason"


class Rungs:
    """What staff may do on the ladder of one gateway."""

    def __init__(self, db: Database, offers: Offers, clock: Clock, outbox: Signal, changed: Signal) -> None:
        self._db, self._offers, self._clock = db, offers, clock
        self._outbox, self._changed = outbox, changed

    @property
    def ladder(self) -> Ladder:
        """The hospital's."""
        return self._offers.ladder

    async def attest(self, tid: Tid, reason: str, actor: str, word: str = "") -> None:
        """The first word of a clinician, with its reason; or the second, to the `word` that they read. Raises a
        `RungError`, a `TransferError`.
        """
        now = self._clock.now()

        def work(con: Con) -> None:
            row = self._may(con, tid, "attest", actor, now)
            first = _word(con, tid, now)
            if first is None and not word:
                said = _reason(reason)
                con.execute("INSERT OR REPLACE INTO attestations VALUES (?,?,?,?)", (tid, actor, said, now))
                audit.record(con, actor, "transfer.vouched", tid.hex(), said, now)
                return
            if first is None or (word and word != _mark(first)):
                raise OtherWordError
            if first["by"] == actor:
                raise SameClinicianError
            if not word:
                raise OtherWordError
            _clinician(con, first["by"])
            self._offers.staff_decide(con, row, "attest", [first["by"], actor], first["reason"], now)
            con.execute("DELETE FROM attestations WHERE tid=?", (tid,))

        await self._commit(work)

    async def override(self, tid: Tid, reason: str, actor: str) -> None:
        """One clinician decides. Raises a `RungError`, a `TransferError`."""
        now = self._clock.now()

        def work(con: Con) -> None:
            row = self._may(con, tid, "override", actor, now)
            self._offers.staff_decide(con, row, "override", [actor], _reason(reason), now)
            con.execute("DELETE FROM attestations WHERE tid=?", (tid,))

        await self._commit(work)

    async def again(self, tid: Tid, reason: str, actor: str) -> Tid:
        """A new transfer of what a person has said no to, to the same site: for the one rung that may follow."""
        said = _reason(reason)
        row = await self._db.run(lambda con: one(con, "SELECT * FROM sends WHERE tid=?", (tid,)))
        if row is None or row["state"] != "DENIED":
            raise StateError
        if not self.ladder.refusal.next:
            raise RungOffError
        return await self._offers.create(
            row["study"], SiteId(row["peer"]), row["reason"], actor, said, add=row["add_seconds"]
        )

    async def not_refused(self, study: str) -> None:
        """Raises `RefusedError` where a person has said no to sending this study."""
        if await self._db.run(lambda con: refused_at(con, study)):
            raise RefusedError

    # What the pages show

    def shown(self, con: Con, row: sqlite3.Row, view: TransferView) -> TransferView:
        """A view of what this site sends, with where it stands on the ladder."""
        now, no = self._clock.now(), refused_at(con, row["study"])
        if row["state"] == "DENIED":
            return msgspec.structs.replace(view, follows=self.ladder.refusal.next)
        if row["state"] != "OFFERED":
            return view
        first = _word(con, Tid(row["tid"]), now)
        rungs = [RungView(name=name, at=at, open=at <= now) for name, at in self._offered(row, no)]
        return msgspec.structs.replace(
            view, rungs=rungs, refused_at=no, again=row["again"], vouched_by=first["by"] if first else "",
            vouched_why=first["reason"] if first else "", vouched_at=first["at"] if first else 0,
            word=_mark(first) if first else "",
        )  # fmt: skip

    def _offered(self, row: sqlite3.Row, no: int) -> list[tuple[str, int]]:
        since = peek(Offer, row["offer"]).iat
        return self.ladder.after_no(since) if no else self.ladder.offered(since)

    # Rules

    def _may(
        self, con: Con, tid: Tid, kind: Literal["attest", "override"], actor: str, now: int
    ) -> sqlite3.Row:
        row = one(con, "SELECT * FROM sends WHERE tid=?", (tid,))
        if row is None or row["state"] != "OFFERED":
            raise StateError
        if now >= row["exp"]:
            raise ExpiredError
        no = refused_at(con, row["study"])
        at = dict(self._offered(row, no)).get(kind)
        if at is None:
            raise RefusedError if no else RungOffError
        if now < at:
            raise RungEarlyError
        _clinician(con, actor)
        return row

    async def _commit(self, work: Callable[[Con], None]) -> None:
        await self._db.run(work)
        self._outbox.set()
        self._changed.set()


def _clinician(con: Con, name: str) -> None:
    if value(con, "SELECT role FROM users WHERE name=? AND disabled=0", (name,)) != "clinician":
        raise NotClinicianError


def _word(con: Con, tid: Tid, now: int) -> sqlite3.Row | None:
    """The first clinician's, if it waits and has not lapsed."""
    return one(con, "SELECT * FROM attestations WHERE tid=? AND at>?", (tid, now - LAPSE))


def _mark(word: sqlite3.Row) -> str:
    """What the second clinician's form says they have read."""
    return f"{word['at']} {word['by']}"


def _reason(text: str) -> str:
    """A reason on one line. Raises `ReasonError`."""
    said = one_line(text)
    if not said or len(said) > REASON_MOST:
        raise ReasonError
    return said
