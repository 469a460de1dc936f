"""Under which identity a received study is filed (IHE RAD TF-1 3.22, Import Reconciliation Workflow).

Both hospitals have their own number for the same, often unknown, person, and the same number for different ones. What
decides is a policy of the receiving site:

    prefix   the sender's number behind the sender's code: nobody else has it, and it is the same each time
    match    nothing is stored before staff have said who this is here, and compared two identifiers
    as-is    the sender's identity, byte for byte: for drills and tests

Staff who are asked have a while (`wait`): then the number behind the code is taken, with an alarm, so that no patient
waits for images because nobody was at the inbox.

Whatever it is, it is frozen before the first C-STORE of a transfer, in `identities`: a study is never filed half under
one number and half under another. Two unknown patients are never one: where the sender gave no number, the study's
own UID makes it. A name or a birth date decides nothing (two hospitals' DOE, JANE are two). Nor are two patients made
one the other way round: an image of the study that names another patient than its first did is not filed with it.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from typing import Literal

import msgspec

from clients.gateway.clock import Clock, Signal, date_time
from clients.gateway.dicom.coercion import Change, Local
from clients.gateway.dicom.header import InstanceHeader
from clients.gateway.errors import IntakeError
from clients.gateway.receiving.claim import Claim, present, presented
from clients.gateway.receiving.merging import changes_of
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, one, value
from transfer.errors import StateError
from transfer.ids import SiteId, Tid
from transfer.states import OPEN_RECEIVER

Policy = Literal["prefix", "match", "as-is"]
_LONGEST = 64
"""Characters of a Patient ID (PS3.5 6.2, LO)."""
_CODE = 12
_LOOK = 60.0
"""Seconds between two looks at the clock."""
_PARENT = 2.0
"""The same of an addition, at its parent."""
WAITS, AS_PREFIX = "identity", "identity-prefix"
"""Why an opened transfer stands still: staff are to say who it is; or they have said that they do not know."""


LATE = (
    "Nobody said in time who this patient is, so the images went under the sender's number behind its code."
    " Say it on the transfer's page when you know: nothing is sent again."
)
_OTHER = "An image of this study names another patient than the first one did, and was not stored. Call the sender."


class OtherPatientError(IntakeError):
    """An image of this study names another patient than the first one did. Call the sender."""

    code = "identity-other"


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of one transfer, decided. `change` is None for `as-is`."""

    change: Change | None
    by: str
    at: int
    sender: Claim | None = None
    """What the first instance said of its patient; None for what an older version has decided."""


class Identities:
    """Decides for all transfers of this site."""

    def __init__(
        self, db: Database, clock: Clock, policy: Policy, system: str, changed: Signal, wait: int = 600
    ) -> None:
        self._db, self._clock, self._policy, self._system = db, clock, policy, system
        self._changed, self._wait = changed, wait
        self.decided = Signal()

    async def of(self, tid: Tid, peer: SiteId, h: InstanceHeader) -> Frozen:
        """What a transfer is filed under, whose first instance says `h`; waits for staff where the policy asks them."""
        while True:
            seen = self.decided.seen
            frozen, left = await self._db.run(lambda con: self._decide(con, tid, peer, h))
            if frozen is not None:
                return frozen
            self._changed.set()
            await self.decided.wait(seen, left)

    async def check(self, tid: Tid, frozen: Frozen, h: InstanceHeader) -> None:
        """Holds an instance to the patient of the first. Raises `OtherPatientError`, with an alarm, for another's: one
        number for all of a study would make two patients one.
        """
        if frozen.change is None or frozen.sender is None or not frozen.sender.is_other(h):
            return
        now = self._clock.now()
        await self._db.run(lambda con: audit.alarm(con, tid, OtherPatientError.code, _OTHER, now))
        self._changed.set()
        raise OtherPatientError

    def _decide(self, con: Con, tid: Tid, peer: SiteId, h: InstanceHeader) -> tuple[Frozen | None, float]:
        """What is decided, or for how many seconds to wait for it."""
        now = self._clock.now()
        if (frozen := frozen_of(con, tid)) is not None:
            return frozen, 0.0
        if (found := self._of_parent(con, tid, h, now)) is not None:
            return found
        since = present(con, tid, h, now)
        said = value(con, "SELECT why FROM receives WHERE tid=?", (tid,)) == AS_PREFIX
        if self._policy == "match" and not said:
            if not self._is_late(since, now):
                con.execute("UPDATE receives SET why=? WHERE tid=?", (WAITS, tid))
                return None, min(_LOOK, since + self._wait - now) if self._wait else _LOOK
            audit.alarm(con, tid, "identity-late", LATE, now)
            audit.record(con, "gateway", "incoming.identity", tid.hex(), "prefix, nobody said who", now)
        con.execute("UPDATE receives SET why='' WHERE tid=? AND why IN (?,?)", (tid, AS_PREFIX, WAITS))
        change = None if self._policy == "as-is" else self._prefix(con, peer, h, now)
        return freeze(con, tid, change, "gateway", now), 0.0

    @staticmethod
    def _of_parent(con: Con, tid: Tid, h: InstanceHeader, now: int) -> tuple[Frozen | None, float] | None:
        """An addition is filed as its parent is by now, and waits while nobody has said who that is; None for what is
        none, or where the parent ended without an image.
        """
        parent = one(
            con,
            "SELECT p.tid, p.state FROM receives r JOIN receives p ON p.tid=r.parent WHERE r.tid=?",
            (tid,),
        )
        if parent is None:
            return None
        first = Tid(parent["tid"])
        if (frozen := frozen_of(con, first)) is None:
            return (None, _PARENT) if parent["state"] in OPEN_RECEIVER else None
        con.execute(
            "INSERT OR IGNORE INTO presented (tid, sender, at) SELECT ?, sender, ? FROM presented WHERE tid=?",
            (tid, now, first),
        )
        present(con, tid, h, now)
        change, by = frozen.change, frozen.by
        said = [c for c in changes_of(con, first) if c.state != "failed"]
        if change is not None and said:
            local = msgspec.structs.replace(
                change.local, patient_id=said[-1].to_id, issuer=said[-1].to_issuer
            )
            change, by = msgspec.structs.replace(change, local=local), said[-1].by
        return freeze(con, tid, change, by, now), 0.0

    def _is_late(self, since: int, now: int) -> bool:
        return bool(self._wait) and now >= since + self._wait

    def until(self, since: int) -> int:
        """When the sender's number is taken if nobody says who it is; 0: never."""
        return since + self._wait if self._wait else 0

    def _prefix(self, con: Con, peer: SiteId, h: InstanceHeader, now: int) -> Change:
        name = str(value(con, "SELECT name FROM peers WHERE site=?", (peer,)) or "")
        return Change(
            local=Local(patient_id=prefixed(code_of(name, peer), h)),
            system=self._system,
            source=name,
            at=date_time(now),
        )

    async def choose(self, tid: Tid, local: Local | None, actor: str, confirmed: str = "") -> None:
        """Staff say who it is here, and what they have `confirmed`; None: the sender's number behind its code.
        `StateError` where nobody asks.
        """
        now = self._clock.now()

        def work(con: Con) -> None:
            row = one(con, "SELECT * FROM receives WHERE tid=? AND state='OPENED' AND why=?", (tid, WAITS))
            if row is None:
                raise StateError
            if local is not None:
                name = str(value(con, "SELECT name FROM peers WHERE site=?", (row["peer"],)) or "")
                change = Change(local=local, system=self._system, source=name, at=date_time(now))
                freeze(con, tid, change, actor, now)
            after, how = ("", f"match, {confirmed}") if local is not None else (AS_PREFIX, "prefix")
            con.execute("UPDATE receives SET why=? WHERE tid=?", (after, tid))
            audit.record(con, actor, "incoming.identity", tid.hex(), how, now)

        await self._db.run(work)
        self.decided.set()


def code_of(name: str, site: SiteId) -> str:
    """What stands in front of a sender's numbers: letters of its name, and four of its key, which no other site has."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().upper()
    letters = "".join(c for c in plain if c.isalnum())[: _CODE - 5] or "SITE"
    return letters + base64.b32encode(hashlib.sha256(site).digest()).decode()[:4]


def prefixed(code: str, h: InstanceHeader) -> str:
    """The sender's number behind its code, and behind a mark of its issuer where it has one: many a PACS looks at the
    number alone. A digest of it where it does not fit or cannot be written.
    """
    own = h.patient_id
    if not own:
        return f"{code}-X{_digest('study', h.study_uid)}"
    if h.issuer:
        code += "." + _digest(h.issuer)[:4]
    if own.isascii() and own.isprintable() and "\\" not in own and len(code) + 1 + len(own) <= _LONGEST:
        return f"{code}-{own}"
    return f"{code}-H{_digest(own)}"


def _digest(*parts: str) -> str:
    body = hashlib.sha256("\0".join(parts).encode()).digest()
    return base64.b32encode(body).decode()[:16]


def freeze(con: Con, tid: Tid, change: Change | None, by: str, now: int) -> Frozen:
    """Stores what was decided, once: who comes second gets what the first one said."""
    body = msgspec.json.encode(change) if change is not None else b""
    con.execute(
        "INSERT INTO identities (tid, change, by, at) VALUES (?,?,?,?) ON CONFLICT (tid) DO NOTHING",
        (tid, body, by, now),
    )
    frozen = frozen_of(con, tid)
    assert frozen is not None
    return frozen


def frozen_of(con: Con, tid: Tid) -> Frozen | None:
    """What was decided for a transfer, if anything was."""
    row = one(con, "SELECT * FROM identities WHERE tid=?", (tid,))
    if row is None:
        return None
    change = msgspec.json.decode(row["change"], type=Change) if row["change"] else None
    said = presented(con, tid)
    return Frozen(change=change, by=row["by"], at=row["at"], sender=said[0] if said is not None else None)
