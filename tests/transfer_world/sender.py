"""S with its disk in memory: the tables of `transfer.states` and the rules of `transfer.release`, as a gateway
keeps them. What is in a `Send` row or in the outbox survives `crash`; everything else is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.transfer_kit import R, S, an_attestation, an_override
from tests.transfer_world.wire import Letter, Pack, Post
from transfer import jws, tries
from transfer.channel import Channel, ChannelState
from transfer.door import SiteDoor, read_wish
from transfer.encoding import sha256
from transfer.errors import PeerError, TransferError
from transfer.ids import BlobKey, Cid, ContentKey, Digest, MailboxId, PublicKey, RunId, Tid
from transfer.links import mailbox_of
from transfer.mailbox import (
    Decided,
    Hello,
    Proof,
    Question,
    Refusal,
    Sealed,
    Start,
    Status,
    Stop,
    Tombstone,
    read_body,
)
from transfer.manifest import ChainWriter
from transfer.messages import (
    Close,
    Grant,
    ItemEntry,
    Offer,
    PackEntry,
    Receipt,
    ReleaseType,
    SeriesEntry,
    encode,
    name_of,
    peek,
    sign_message,
)
from transfer.packs import seal_pack
from transfer.prekeys import read_prekey
from transfer.release import NO_RUN, accept_close, accept_receipt, make_release
from transfer.states import OPEN_SENDER, SENDER, TERMINAL, step
from transfer.summary import Summary, make_summary, summary_hash

Slot = Literal[2, 4, 6]


class Crash(Exception):
    """The power went at a chosen point."""


@dataclass
class Run:
    """One run of the handshake as S's disk has it."""

    vp: PublicKey
    state: tries.RunState = "open"
    m4: bytes | None = None
    channel: ChannelState | None = None
    answered: dict[bytes, bytes] = field(default_factory=dict)


@dataclass
class Send:
    """One transfer on S's disk."""

    tid: Tid
    cid: Cid
    key: ContentKey | None
    q: bytes
    pin: str
    items: list[bytes]
    state: str = ""
    offer: str = ""
    summary: str = ""
    salt: BlobKey = field(default_factory=lambda: BlobKey(b""))
    prekey: str = ""
    exp: int = 0
    reopens: int = 0
    runs: dict[RunId, Run] = field(default_factory=dict)
    decided: Decided | None = None
    grant: str = ""
    release: str = ""
    receipt: str = ""
    manifests: set[Digest] = field(default_factory=set)

    @property
    def mb(self) -> MailboxId:
        return mailbox_of(self.q)

    @property
    def spent(self) -> int:
        return sum(run.state == "spent" for run in self.runs.values())


class Sender:
    """S."""

    def __init__(self, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self.clock, self.random = clock, random
        self.rows: dict[Tid, Send] = {}
        self.outbox: list[Letter | Post | tuple[MailboxId, bytes]] = []
        self.doors: dict[RunId, SiteDoor] = {}
        self.crash_after_spending = False
        self.wrong: dict[Tid, int] = {}

    def crash(self) -> None:
        self.doors = {}

    # staff and time

    def create(self, n: int, prekey: str) -> list[Pack]:
        """A transfer, offered at once; its packs."""
        tid, cid = Tid(self.random(16)), Cid(self.random(16))
        row = Send(
            tid, cid, ContentKey(self.random(32)), self.random(16), f"{n}{n}{n}000", [b"A" * 90, b"B" * 150]
        )
        row.state = step(SENDER, "", "create").to
        packs = self._packs(row)
        now = self.clock()
        row.exp, row.prekey, row.salt = now + 7200, prekey, BlobKey(self.random(16))
        row.summary = make_summary(
            Summary(
                person=f"P{n}",
                from_="S",
                to="R",
                what="Head",
                why="transfer",
                until=row.exp,
                alt=[],
                add=0,
                call="",
            )
        )
        row.offer = sign_message(
            Offer(
                v=1, tid=tid, cid=cid, s=S.site, r=R.site, kid=read_prekey(prekey, site=R.site, now=now).kid,
                sum=summary_hash(row.salt, row.summary), ct="consent-1", why="transfer", alt=[], add=0, iat=now,
                exp=row.exp,
            ),
            S.key,
        )  # fmt: skip
        row.state = step(SENDER, row.state, "offer").to
        self.rows[tid] = row
        self._hello(row)
        self.outbox.append(Post("R", row.offer))
        return packs

    def _packs(self, row: Send) -> list[Pack]:
        assert row.key is not None
        writer, packs, offset = ChainWriter(row.cid, S.key), [], 0
        for no, data in enumerate(row.items):
            ct = seal_pack(row.key, row.cid, "D", 2 * no, data, self.random)
            length, digest, last = len(data), Digest(sha256(data)), no == len(row.items) - 1
            record = writer.record(
                [PackEntry("D", 2 * no, len(ct), Digest(sha256(ct)))],
                [SeriesEntry(0, "1.2", 1, len(row.items), last)],
                [ItemEntry(no, 0, "1.2", f"1.2.{no}", "1.2.840", "raw", offset, length, length, digest)],
                total=len(row.items) if last else None,
            )  # fmt: skip
            writer.written(record)
            row.manifests.add(jws.digest(record))
            offset += len(data)
            packs.append(Pack(row.cid, 2 * no, "D", ct))
            n, body = 2 * no + 1, record.encode()
            packs.append(Pack(row.cid, n, "M", seal_pack(row.key, row.cid, "M", n, body, self.random)))
        return packs

    def _hello(self, row: Send) -> None:
        self.outbox.append((row.mb, encode(Hello(v=1, tid=row.tid, s=S.site, exp=row.exp))))

    def stop(self, row: Send) -> None:
        self._end(row, "stop")

    def reopen(self, row: Send) -> None:
        """A new code for the same offer; what was spent stays spent."""
        step(SENDER, row.state, "reopen")
        if row.reopens < tries.REOPENS:
            row.reopens, row.q, row.pin = row.reopens + 1, self.random(16), f"{row.reopens + 1}{row.pin[1:]}"
            self._hello(row)

    def staff_decide(self, row: Send, kind: Literal["attest", "override"]) -> None:
        """What staff decide in the person's place. The table refuses what comes after an end or a decision."""
        now = self.clock()
        after = step(SENDER, row.state, kind)
        if now >= row.exp:
            return
        made = an_attestation if kind == "attest" else an_override
        text = sign_message(made(tid=row.tid, offer=jws.digest(row.offer), iat=now), S.key)
        self._release(row, text, kind, NO_RUN, now)
        row.state, row.grant = after.to, text

    def _release(self, row: Send, grant: str, kind: ReleaseType, vp: PublicKey, now: int) -> None:
        assert row.key is not None
        row.release = make_release(
            key=S.key, offer_text=row.offer, offer=peek(Offer, row.offer), grant_text=grant, kind=kind, vp=vp,
            prekey_text=row.prekey, content_key=row.key, now=now,
        )  # fmt: skip
        self.outbox.append(Post("R", row.release))

    def tick(self) -> None:
        for row in self.rows.values():
            if row.state == "OFFERED" and self.clock() >= row.exp:
                self._end(row, "expire")

    def _end(self, row: Send, event: str) -> None:
        after = step(SENDER, row.state, event)
        row.state = after.to
        if "close" in after.effects:
            close = Close(
                v=1, tid=row.tid, offer=jws.digest(row.offer), iat=self.clock(), why="",
                state=after.to,  # type: ignore[arg-type]
            )  # fmt: skip
            self.outbox.append(Post("R", sign_message(close, S.key)))
        if "tombstone" in after.effects and row.decided is None:
            self.outbox.append((row.mb, encode(Tombstone(v=1, ended=after.to))))
        if "erase-keys" in after.effects:
            row.key = None

    # phones

    def letter(self, letter: Letter) -> None:
        """What lies in a mailbox. A stranger's message changes nothing."""
        row = next((row for row in self.rows.values() if row.mb == letter.mb), None)
        if row is None:
            return
        try:
            if letter.slot == 1:
                self._start(row, letter)
            elif letter.slot == 3:
                self._prove(row, letter)
            elif letter.slot == 5:
                self._wish(row, letter)
        except PeerError:
            return

    def _start(self, row: Send, letter: Letter) -> None:
        m1 = read_body(letter.body, Start)
        if m1.nP != letter.run or letter.run in row.runs or row.state == "PREPARING":
            return
        if row.state in TERMINAL and row.decided is None:
            return
        opened = sum(run.state == "open" for run in row.runs.values())
        if not tries.may_start(opened, len(row.runs), row.reopens):
            return
        door = SiteDoor(q=row.q, code=row.pin, tid=row.tid, site=S.site, offer=row.offer, random=self.random)
        m2 = door.start(m1)
        row.runs[letter.run] = Run(m1.vP)
        self.doors[letter.run] = door
        self._reply(letter, 2, encode(m2))

    def _prove(self, row: Send, letter: Letter) -> None:
        m3 = read_body(letter.body, Proof)
        run = row.runs.get(letter.run)
        if run is None:
            return
        if run.m4 is not None:
            self._reply(letter, 4, run.m4)
            return
        door = self.doors.get(letter.run)
        if door is None or run.state != "open":
            return
        if tries.left(row.spent, row.reopens) <= 0:
            self._reply(letter, 4, encode(Refusal(v=1, error="locked", left=0)))
            return
        run.state = "spent"
        if self.crash_after_spending:
            self.crash_after_spending = False
            raise Crash
        if not door.prove(m3):
            self.wrong[row.tid] = self.wrong.get(row.tid, 0) + 1
            left = tries.left(row.spent, row.reopens)
            self._reply(letter, 4, encode(Refusal(v=1, error="wrong" if left else "locked", left=left)))
            return
        question = Question(
            offer=row.offer,
            summary=row.summary,
            salt=row.salt,
            state=row.state,
            decided=row.decided,
            now=self.clock(),
        )
        m4 = encode(door.answer(question))
        run.state, run.m4, run.channel = "ok", m4, door.channel.state
        self._reply(letter, 4, m4)

    def _wish(self, row: Send, letter: Letter) -> None:
        m5 = read_body(letter.body, Sealed)
        run = row.runs.get(letter.run)
        if run is None or run.channel is None:
            return
        if m5.box in run.answered:
            self._reply(letter, 6, run.answered[m5.box])
            return
        channel = Channel(run.channel)
        plain = channel.open(m5.box)
        refused = self._apply(row, run, plain)
        status = Status(v=1, state=row.state, at=self.clock(), refused=refused, decided=row.decided, code="")
        m6 = encode(Sealed(v=1, box=BlobKey(channel.seal(encode(status)))))
        run.channel, run.answered[m5.box] = channel.state, m6
        self._reply(letter, 6, m6)

    def _apply(self, row: Send, run: Run, plain: bytes) -> str:
        try:
            wish = read_wish(plain, vp=run.vp, tid=row.tid, offer=row.offer)
            if isinstance(wish, Stop):
                if row.state in TERMINAL:
                    return "decided"
                self._end(row, "stop")
                return ""
            return self._decide(row, run, *wish)
        except PeerError as why:
            return why.code

    def _decide(self, row: Send, run: Run, grant: Grant, text: str) -> str:
        now = self.clock()
        if row.state != "OFFERED":
            return "decided"
        if now >= row.exp:
            return "expired"
        if grant.d == "approve":
            self._release(row, text, "patient", run.vp, now)
            row.state = step(SENDER, row.state, "approve").to
        row.grant, row.decided = text, Decided(grant.d, now)
        if grant.d == "deny":
            self._end(row, "deny")
        return ""

    def _reply(self, letter: Letter, slot: Slot, body: bytes) -> None:
        self.outbox.append(Letter(slot, letter.mb, letter.run, body))

    # R

    def post(self, text: str) -> None:
        """A message of R."""
        try:
            name = name_of(text)
            if name == "receipt":
                self._receipt(text)
            elif name == "close":
                close = peek(Close, text)
                row = self.rows.get(close.tid)
                if row is not None:
                    accept_close(
                        text, site=R.site, tid=row.tid, offer=jws.digest(row.offer), from_receiver=True
                    )
                    if row.state == "RELEASED":
                        self._end(row, "declined")
        except TransferError:
            return

    def _receipt(self, text: str) -> None:
        row = self.rows.get(peek(Receipt, text).tid)
        if row is None or not row.grant:
            return
        receipt = accept_receipt(
            text, r=R.site, tid=row.tid, offer=jws.digest(row.offer), grant=jws.digest(row.grant),
            manifests=frozenset(row.manifests),
        )  # fmt: skip
        row.receipt = text
        if row.state == "RELEASED":
            self._end(row, "receipt-complete" if receipt.state == "COMPLETE" else "receipt-partial")

    def open_rows(self) -> list[Send]:
        """Transfers that have not ended."""
        return [row for row in self.rows.values() if row.state in OPEN_SENDER]
