"""S with its disk in memory: the tables of `transfer.states` and the rules of `transfer.release`, as a gateway
keeps them; its doors are in `doors`. What is in a `Send` row or in the outbox survives `crash`; everything else is
forgotten.
"""

from __future__ import annotations

from typing import Any, Literal

from tests.transfer_kit import PAIR, PAIR2, R2, R, S, an_attestation, an_override
from tests.transfer_world.doors import Doors
from tests.transfer_world.send import Send
from tests.transfer_world.wire import Pack, Post
from transfer import jws, tries
from transfer.encoding import sha256
from transfer.errors import PeerError, TransferError
from transfer.ids import BlobKey, Cid, ContentKey, Digest, PublicKey, Tid
from transfer.mailbox import Decided
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
    name_of,
    peek,
    sign_message,
)
from transfer.packs import seal_pack
from transfer.release import NO_RUN, accept_close, accept_receipt, covering, make_release
from transfer.states import OPEN_SENDER, SENDER, TERMINAL, step
from transfer.summary import Summary, make_summary, summary_hash

SITES = {"R": (R, PAIR), "R2": (R2, PAIR2)}
"""The two destinations, by name."""
NO_RECEIPT = 7 * 86400
"""Seconds after which S ends what R never confirmed."""


class Sender(Doors):
    """S."""

    # staff and time

    def create(self, alt: tuple[str, ...] = (), add: int = 0) -> list[Pack]:
        """A transfer to R, offered at once; its packs."""
        row = self._new([b"A" * 90, b"B" * 150])
        row.alt, row.add = alt, add
        packs = self._packs(row)
        self._offer(row)
        return packs

    def _new(self, items: list[bytes]) -> Send:
        row = Send(Tid(self.random(16)), Cid(self.random(16)), ContentKey(self.random(32)), items)
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
        self.open(row, "qr")
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
            self.end(leg, "divert")  # its question is no more of use
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
        row.decided = Decided("approve" if kind == "patient" else "staff", self.clock())
        for child in self.children(row, "OFFERED"):
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
        row.state, row.released_at = state, self.clock()
        self.outbox.append(Post(row.to, row.release))
        leg = self.rows.get(row.replaces) if row.replaces is not None else None
        if leg is not None and leg.state in OPEN_SENDER:
            self.end(leg, "divert")

    def children(self, row: Send, *states: str) -> list[Send]:
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

    def stop(self, row: Send) -> None:
        self.end(row, "stop")

    def staff_decide(self, row: Send, kind: Literal["attest", "override"]) -> None:
        """What staff decide in the person's place. The table refuses what comes after an end or a decision."""
        now = self.clock()
        after = step(SENDER, row.state, kind)
        if now >= row.exp:
            return
        made = an_attestation if kind == "attest" else an_override
        text = sign_message(made(tid=row.tid, offer=jws.digest(row.offer), iat=now), S.key)
        if row.code.door != "qr" or row.shut:  # the notice on paper needs a code that can be printed
            self.shut(row, after.to)
            self.open(row, "qr")
        self._permit(row, text, kind, NO_RUN, kind)
        self.tell(row)

    def tick(self) -> None:
        now = self.clock()
        for row in self.rows.values():
            if row.state == "OFFERED" and now >= row.exp:
                self.end(row, "expire")
            self.run_out(row)
            if row.state == "RELEASED" and now >= row.released_at + NO_RECEIPT:
                self.end(row, "no-receipt")
            if row.state in TERMINAL and not row.shut and now >= row.ended_at + tries.AFTER_END:
                self.forget(row)

    def end(self, row: Send, event: str) -> None:
        after = step(SENDER, row.state, event)
        row.state, row.ended_at = after.to, self.clock()
        if "close" in after.effects:
            self.close(row, after.to)
        if "erase-keys" in after.effects:
            row.key = None
        if row.decided is None:  # else the receipt page answers for a day
            self.forget(row)
        self.tell(row)

    def close(self, row: Send, state: str) -> None:
        close = Close(
            v=1, tid=row.tid, offer=jws.digest(row.offer), iat=self.clock(), why="",
            state=state,  # type: ignore[arg-type]
        )  # fmt: skip
        self.outbox.append(Post(row.to, sign_message(close, S.key)))

    # a person

    def _decide(self, row: Send, vp: PublicKey, grant: Grant, text: str) -> str:
        now = self.clock()
        if row.state != "OFFERED":
            return "decided"
        if now >= row.exp:
            return "expired"
        if grant.d == "deny":
            row.grant, row.vp, row.decided = text, vp, Decided(grant.d, now)
            for at in (row, *self.children(row, "OFFERED")):
                self.end(at, "deny")
            return ""
        self._permit(row, text, "patient", vp, "approve")
        return ""

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
                        self.end(row, "declined")
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
            self.end(row, "receipt-complete" if receipt.state == "COMPLETE" else "receipt-partial")

    def open_rows(self) -> list[Send]:
        """Transfers that have not ended."""
        return [row for row in self.rows.values() if row.state in OPEN_SENDER]
