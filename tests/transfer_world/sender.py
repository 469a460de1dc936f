"""S with its disk in memory: the tables of `transfer.states` and the rules of `transfer.release`, as a gateway
keeps them. What is in a `Send` row or in the outbox survives `crash`; everything else is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.transfer_kit import PAIR, PAIR2, R2, R, S, an_attestation, an_override
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
from transfer.release import NO_RUN, accept_close, accept_receipt, covering, make_release
from transfer.states import OPEN_SENDER, SENDER, TERMINAL, step
from transfer.summary import Summary, make_summary, summary_hash

Slot = Literal[2, 4, 6]
SITES = {"R": (R, PAIR), "R2": (R2, PAIR2)}
"""The two destinations, by name."""


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
    to: str = "R"
    alt: tuple[str, ...] = ()
    add: int = 0
    root: Tid | None = None
    kind: Literal["divert", "add"] | None = None
    replaces: Tid | None = None
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
    type: ReleaseType = "patient"
    vp: PublicKey = NO_RUN
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

    def create(self, alt: tuple[str, ...] = (), add: int = 0) -> list[Pack]:
        """A transfer to R, offered at once; its packs."""
        row = self._new([b"A" * 90, b"B" * 150])
        row.alt, row.add = alt, add
        packs = self._packs(row)
        self._offer(row)
        return packs

    def _new(self, items: list[bytes]) -> Send:
        n = len(self.rows) + 1
        row = Send(
            Tid(self.random(16)), Cid(self.random(16)), ContentKey(self.random(32)), self.random(16),
            f"{n % 1000:03}000", items,
        )  # fmt: skip
        row.state = step(SENDER, "", "create").to
        return row

    def _offer(self, row: Send) -> None:
        now, (site, pair) = self.clock(), SITES[row.to]
        row.exp, row.salt = now + 7200, BlobKey(self.random(16))
        row.prekey = pair.publish(site.key, now)
        row.summary = make_summary(
            Summary(
                person=f"P{len(self.rows) + 1}", from_="S", to=row.to, what="Head", why="transfer",
                until=row.exp, alt=list(row.alt), add=row.add, call="", declined=None,
            )
        )  # fmt: skip
        child: dict[str, Any] = {}
        if row.root is not None:
            child = {"parent": jws.digest(self.rows[row.root].offer), "kind": row.kind}
        row.offer = sign_message(
            Offer(
                v=1, tid=row.tid, cid=row.cid, s=S.site, r=site.site, kid=pair.kid,
                sum=summary_hash(row.salt, row.summary), ct="consent-1", why="transfer",
                alt=[SITES[name][0].site for name in row.alt], add=row.add, iat=now, exp=row.exp, **child,
            ),
            S.key,
        )  # fmt: skip
        row.state = step(SENDER, row.state, "offer").to
        self.rows[row.tid] = row
        self._hello(row)
        self.outbox.append(Post(row.to, row.offer))

    # children

    def divert(self, leg: Send, to: str) -> list[Pack]:
        """To another site, under a child offer of the first one; the packs that are new."""
        root = self.rows[leg.root] if leg.root is not None else leg
        if leg.kind == "add" or leg.state not in ("OFFERED", "RELEASED") or to == leg.to:
            return []
        if any(row.replaces == leg.tid and row.state in OPEN_SENDER for row in self.rows.values()):
            return []
        row = self._new(leg.items)
        row.to, row.root, row.kind, row.replaces = to, root.tid, "divert", leg.tid
        packs = []
        if leg.release:  # whoever opened the first keeps its key
            packs = self._packs(row)
        else:
            row.cid, row.key, row.manifests = leg.cid, leg.key, set(leg.manifests)
        self._offer(row)
        if leg.release:
            self._cover(row, root)
        elif not self._reaches(row, root):
            self._end(leg, "divert")  # its question is no more of use
        return packs

    def add(self, root: Send) -> list[Pack]:
        """Something late under the grant of a released transfer; its packs."""
        if root.root is not None or root.state not in ("RELEASED", "COMPLETE", "PARTIAL") or not root.release:
            return []
        row = self._new([b"late"])
        row.to, row.root, row.kind = root.to, root.tid, "add"
        packs = self._packs(row)
        self._offer(row)
        self._cover(row, root)
        return packs

    @staticmethod
    def _reaches(row: Send, root: Send) -> bool:
        try:
            covering(peek(Offer, row.offer), root.offer, at=root.exp - 1, opened=True)
        except PeerError:
            return False
        return True

    def _permit(self, row: Send, grant: str, kind: ReleaseType, vp: PublicKey, event: str) -> None:
        """The first yes: to what staff have sent elsewhere meanwhile, if it named that place; else to this very one."""
        after = step(SENDER, row.state, event)
        row.grant, row.type, row.vp = grant, kind, vp
        for child in self._children(row, "OFFERED"):
            self._cover(child, row)
        if row.state == "OFFERED":
            self._release(row, after.to)

    def _cover(self, row: Send, root: Send) -> None:
        """Releases a child under its parent's grant, if that reaches; else it waits for one of its own."""
        if not root.grant or row.key is None:
            return
        row.grant, row.type, row.vp = root.grant, root.type, root.vp
        try:
            self._release(row, step(SENDER, row.state, "covered").to, root.offer)
        except PeerError:
            row.grant = ""

    def _release(self, row: Send, state: str, parent: str = "") -> None:
        assert row.key is not None
        row.release = make_release(
            key=S.key, offer_text=row.offer, offer=peek(Offer, row.offer), grant_text=row.grant, kind=row.type,
            vp=row.vp, prekey_text=row.prekey, content_key=row.key, now=self.clock(), parent_text=parent,
        )  # fmt: skip
        row.state = state
        self.outbox.append(Post(row.to, row.release))
        leg = self.rows.get(row.replaces) if row.replaces is not None else None
        if leg is not None and leg.state in OPEN_SENDER:
            self._end(leg, "divert")

    def _children(self, row: Send, *states: str) -> list[Send]:
        return [child for child in self.rows.values() if child.root == row.tid and child.state in states]

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
        step(SENDER, row.state, kind)
        if now >= row.exp:
            return
        made = an_attestation if kind == "attest" else an_override
        text = sign_message(made(tid=row.tid, offer=jws.digest(row.offer), iat=now), S.key)
        self._permit(row, text, kind, NO_RUN, kind)

    def tick(self) -> None:
        for row in self.rows.values():
            if row.state == "OFFERED" and self.clock() >= row.exp:
                self._end(row, "expire")

    def _end(self, row: Send, event: str) -> None:
        after = step(SENDER, row.state, event)
        row.state = after.to
        if "close" in after.effects:
            self._close(row, after.to)
        if "tombstone" in after.effects and row.decided is None:
            self.outbox.append((row.mb, encode(Tombstone(v=1, ended=after.to))))
        if "erase-keys" in after.effects:
            row.key = None

    def _close(self, row: Send, state: str) -> None:
        close = Close(
            v=1, tid=row.tid, offer=jws.digest(row.offer), iat=self.clock(), why="",
            state=state,  # type: ignore[arg-type]
        )  # fmt: skip
        self.outbox.append(Post(row.to, sign_message(close, S.key)))

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
                if row.state in ("COMPLETE", "PARTIAL"):  # nothing is taken back: R is told of the wish
                    self._close(row, "REVOKED")
                going = [at for at in (row, *self._children(row, *OPEN_SENDER)) if at.state in OPEN_SENDER]
                for at in going:
                    self._end(at, "stop")
                return "" if going else "decided"
            return self._decide(row, run, *wish)
        except PeerError as why:
            return why.code

    def _decide(self, row: Send, run: Run, grant: Grant, text: str) -> str:
        now = self.clock()
        if row.state != "OFFERED":
            return "decided"
        if now >= row.exp:
            return "expired"
        if grant.d == "deny":
            row.grant, row.vp, row.decided = text, run.vp, Decided(grant.d, now)
            for at in (row, *self._children(row, "OFFERED")):
                self._end(at, "deny")
            return ""
        self._permit(row, text, "patient", run.vp, "approve")
        row.decided = Decided(grant.d, now)
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
                        text,
                        site=SITES[row.to][0].site,
                        tid=row.tid,
                        offer=jws.digest(row.offer),
                        from_receiver=True,
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
            text, r=SITES[row.to][0].site, tid=row.tid, offer=jws.digest(row.offer), grant=jws.digest(row.grant),
            manifests=frozenset(row.manifests),
        )  # fmt: skip
        row.receipt = text
        if row.state == "RELEASED":
            self._end(row, "receipt-complete" if receipt.state == "COMPLETE" else "receipt-partial")

    def open_rows(self) -> list[Send]:
        """Transfers that have not ended."""
        return [row for row in self.rows.values() if row.state in OPEN_SENDER]
