"""R with its disk in memory: offers, releases and closes by the rules, packs in any order, each item once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.transfer_kit import R, S
from tests.transfer_world.wire import Pack, Post
from transfer import jws
from transfer.encoding import sha256
from transfer.errors import ChainError, PackError, PeerError, TransferError
from transfer.ids import Cid, ContentKey, Digest, Kid, PublicKey, Tid
from transfer.manifest import Chain
from transfer.messages import Close, Offer, Receipt, Release, name_of, peek, sign_message
from transfer.packs import SIZES, open_pack
from transfer.prekeys import PrekeyPair
from transfer.release import KEEP, Pin, accept_close, accept_offer, open_release, says_yes
from transfer.sites import Identity
from transfer.states import RECEIVER, step
from transfer.stream import Assembler


class Opening(NamedTuple):
    """R opened a study: by whose word, and what that word was."""

    tid: Tid
    at: str
    offer: Digest
    granted: Digest
    vp: PublicKey
    kind: str
    yes: bool


@dataclass
class Receive:
    """One transfer on R's disk."""

    offer: str
    cid: Cid
    exp: int
    state: str
    key: ContentKey | None = None
    grant: str = ""
    delivered: dict[int, bytes] = field(default_factory=dict)
    last: Digest | None = None


class Receiver:
    """R."""

    def __init__(
        self, clock: Callable[[], int], pair: PrekeyPair, pin: Pin, me: Identity = R, name: str = "R"
    ) -> None:
        self.clock, self.pair, self.pin, self.me, self.name = clock, pair, pin, me, name
        self.rows: dict[Tid, Receive] = {}
        self.used: dict[Tid, Digest] = {}
        self.waiting: list[str] = []
        self.spool: dict[tuple[Cid, int], Pack] = {}
        self.outbox: list[Post] = []
        self.openings: list[Opening] = []
        self.said: list[Receipt] = []

    def crash(self) -> None:
        """Nothing is in memory that is not on disk."""

    def _pair(self, kid: Kid) -> PrekeyPair | None:
        return self.pair if kid == self.pair.kid else None

    def post(self, text: str) -> None:
        """A message of S."""
        try:
            name = name_of(text)
            if name == "offer":
                self._offer(text)
            elif name == "release" or name == "close":
                self._later(text)
        except TransferError:
            return

    def _offer(self, text: str) -> None:
        tid = peek(Offer, text).tid
        if tid in self.rows:
            return
        try:
            offer = accept_offer(text, pin=self.pin, me=self.me.site, now=self.clock(), prekey=self._pair)
        except PeerError as why:
            jws.verify(Offer.NAME, text, S.site, Offer.CAP)
            self._decline(tid, text, why.code)
            return
        self.rows[tid] = Receive(text, offer.cid, offer.exp, step(RECEIVER, "", "offer").to)
        waiting, self.waiting = self.waiting, []
        for later in waiting:
            self._later(later)

    def _later(self, text: str) -> None:
        kind = name_of(text)
        tid = _tid_of(text)
        row = self.rows.get(tid)
        if row is None:
            self.waiting.append(text)
        elif kind == "release":
            self._release(tid, row, text)
        else:
            close = accept_close(text, site=S.site, tid=tid, offer=jws.digest(row.offer), from_receiver=False)
            after = step(RECEIVER, row.state, f"close-{close.state}")
            opened = row.state == "OPENED"
            row.state = after.to
            self._finish(tid, row, receipt=opened)

    def _release(self, tid: Tid, row: Receive, text: str) -> None:
        try:
            opened = open_release(
                text,
                row.offer,
                pin=self.pin,
                me=self.me.site,
                now=self.clock(),
                prekey=self._pair,
                used=self.used.get(tid),
                opened=self._has_opened,
            )
        except PeerError as why:
            jws.verify("release", text, S.site, 16384)
            if row.state == "SEEN":
                row.state = step(RECEIVER, row.state, "refuse").to
                self._decline(tid, row.offer, why.code)
            return
        if row.state != "SEEN":
            return
        self.used[tid] = jws.digest(text)
        row.state = step(RECEIVER, row.state, "release").to
        row.key, row.grant = opened.key, opened.grant_text
        self.openings.append(
            Opening(
                tid,
                self.name,
                jws.digest(row.offer),
                opened.grant.offer,
                opened.release.pk,
                opened.release.type,
                says_yes(opened.grant),
            )
        )
        self.deliver(tid)

    def _has_opened(self, offer: Digest) -> bool:
        return any(tid in self.used and jws.digest(row.offer) == offer for tid, row in self.rows.items())

    def _decline(self, tid: Tid, offer: str, code: str) -> None:
        close = Close(v=1, tid=tid, offer=jws.digest(offer), state="DECLINED", why=code, iat=self.clock())  # type: ignore[arg-type]
        self.outbox.append(Post("S", sign_message(close, self.me.key)))

    def pack(self, pack: Pack) -> None:
        """A ciphertext that the relay says is this one."""
        if len(pack.ct) not in SIZES:
            return
        self.spool.setdefault((pack.cid, pack.n), pack)
        for tid, row in self.rows.items():
            if row.cid == pack.cid:
                self.deliver(tid)

    def deliver(self, tid: Tid) -> None:
        """Everything that the manifest names and that is here, each item once."""
        row = self.rows[tid]
        if row.state != "OPENED" or row.key is None:
            return
        chain, stream, entries, n = Chain(row.cid, S.site), Assembler(), [], 0
        try:
            while (pack := self.spool.get((row.cid, n))) is not None:
                body = open_pack(row.key, row.cid, pack.kind, n, pack.ct)
                if pack.kind == "M":
                    entries += chain.add(body.decode()).items
                    row.last = chain.last
                else:
                    stream.add(body)
                n += 1
        except PackError:
            del self.spool[row.cid, n]  # fetched again
        except ChainError:
            row.state = step(RECEIVER, row.state, "chain").to
            self._finish(tid, row, receipt=True)
            return
        for entry in entries:
            data = stream.take(entry.offset, entry.length)
            assert sha256(data) == entry.hash
            row.delivered[entry.no] = data
        if chain.ended and len(row.delivered) == chain.total:
            row.state = step(RECEIVER, row.state, "delivered").to
            self._finish(tid, row, receipt=True)

    def give_up(self, tid: Tid) -> None:
        """The PACS's deadline has passed."""
        row = self.rows[tid]
        row.state = step(RECEIVER, row.state, "gave-up").to
        self._finish(tid, row, receipt=True)

    def _finish(self, tid: Tid, row: Receive, *, receipt: bool) -> None:
        row.key = None
        if receipt and row.last is not None:
            message = Receipt(
                v=1, tid=tid, offer=jws.digest(row.offer), grant=jws.digest(row.grant), manifest=row.last,
                state="COMPLETE" if row.state == "COMPLETE" else "PARTIAL", proof="store", gaps=[], iat=self.clock(),
            )  # fmt: skip
            self.said.append(message)
            self.outbox.append(Post("S", sign_message(message, self.me.key)))

    def tick(self) -> None:
        for tid, row in self.rows.items():
            if row.state == "SEEN" and self.clock() > row.exp + KEEP:
                row.state = step(RECEIVER, row.state, "expire").to
                self._finish(tid, row, receipt=False)


def _tid_of(text: str) -> Tid:
    return peek(Release, text).tid if name_of(text) == "release" else peek(Close, text).tid
