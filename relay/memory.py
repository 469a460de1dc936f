"""Both stores without a disk: the rules of `relay.metastore` and `relay.blobstore` in a few dictionaries.

They serve tests and trials, and are the shortest statement of what the real ones must do: the same tests run
over both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from relay import metastore
from relay.blobstore import BlobName
from relay.boxes import is_nameplate
from relay.clock import Clock
from relay.config import Quota
from relay.errors import AbsentError, DifferentError, DiskError, GoneError, QuotaError, RateError
from relay.metastore import Counts, Hello, Letter, Pack, Posted, Site, check_owner, first_number
from transfer.ids import Cid, Digest, Kid, Nonce, SiteId
from transfer.mailbox import SLOT_CAPS


class MemoryBlobs:
    """`BlobStore` that holds up to `room` bytes."""

    def __init__(self, room: int = 2**30) -> None:
        self._room = room
        self._blobs: dict[Cid, dict[BlobName, bytes]] = defaultdict(dict)

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def put(self, name: BlobName, chunks: Sequence[bytes]) -> None:
        body = b"".join(chunks)
        if len(body) > await self.room():
            raise DiskError
        self._blobs[name.cid].setdefault(name, body)

    async def read(self, name: BlobName, start: int, length: int) -> bytes:
        body = self._blobs.get(name.cid, {}).get(name)
        if body is None:
            raise AbsentError
        return body[start : start + length]

    async def drop(self, name: BlobName) -> None:
        self._blobs.get(name.cid, {}).pop(name, None)

    async def broken(self, names: Mapping[BlobName, int]) -> list[BlobName]:
        return [
            name for name, size in names.items() if len(self._blobs.get(name.cid, {}).get(name, b"")) != size
        ]

    async def erase(self, cid: Cid) -> None:
        self._blobs.pop(cid, None)

    async def room(self) -> int:
        return self._room - sum(len(b) for blobs in self._blobs.values() for b in blobs.values())

    async def cids(self) -> list[Cid]:
        return list(self._blobs)


class _Cid:
    """A content id and what is known under it."""

    def __init__(self, owner: SiteId, dies: int) -> None:
        self.owner, self.dies = owner, dies
        self.gone = self.erased = False
        self.packs: dict[int, Pack] = {}
        self.readers: set[SiteId] = set()

    def end(self) -> None:
        self.gone = True
        self.packs, self.readers = {}, set()


class _Box:
    """A mailbox: its m0, and `{(run, slot): [(digest, body, at)]}`."""

    def __init__(self, owner: SiteId, hello: Hello) -> None:
        self.owner, self.hello = owner, hello
        self.gone = False
        self.slots: dict[tuple[str, int], list[tuple[Digest, bytes, int]]] = defaultdict(list)

    def end(self) -> None:
        self.gone = True
        self.slots = defaultdict(list)

    def check_room(self, slot: int, phone: bool, now: int) -> None:
        """That one more message fits."""
        total = sum(len(found) for found in self.slots.values())
        phones = sum(len(found) for (_, s), found in self.slots.items() if s % 2)
        if total >= metastore.BOX_MESSAGES or (phone and phones >= metastore.BOX_PHONE_MESSAGES):
            raise QuotaError
        waiting = [
            run for (run, s), found in self.slots.items()
            if s == 1 and found and found[0][2] > now - metastore.RUN_PATIENCE and not self.slots.get((run, 2))
        ]  # fmt: skip
        if slot == 1 and len(waiting) >= metastore.BOX_OPEN_RUNS:
            raise RateError(retry=60)


class MemoryMeta:
    """`MetaStore` until the process ends. No method awaits anything, so each is a transaction."""

    def __init__(self, quota: Quota, clock: Clock) -> None:
        self._quota = quota
        self._sites: dict[SiteId, Site] = {}
        self._requests: dict[tuple[SiteId, Nonce], int] = {}
        self._queues: dict[bytes, dict[int, Letter]] = defaultdict(dict)
        self._prekeys: dict[SiteId, dict[Kid, tuple[int, int, str]]] = defaultdict(dict)
        self._cids: dict[Cid, _Cid] = {}
        self._boxes: dict[str, _Box] = {}
        self._number = first_number(clock())

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def ping(self) -> None:
        """Nothing to ask."""

    async def counts(self) -> Counts:
        alive = [found for found in self._cids.values() if not found.gone]
        packs = [pack.size for found in alive for pack in found.packs.values()]
        letters = sum(len(queue) for queue in self._queues.values())
        boxes = sum(not box.gone for box in self._boxes.values())
        return Counts(len(alive), len(packs), sum(packs), letters, boxes)

    async def enroll(self, site: Site) -> None:
        self._sites[site.site] = site

    async def site(self, site: SiteId) -> Site | None:
        return self._sites.get(site)

    async def remember(self, site: SiteId, jti: Nonce, now: int) -> bool:
        if (site, jti) in self._requests:
            return False
        self._requests[site, jti] = now
        return True

    async def post(self, owner: SiteId, sender: SiteId, digest: Digest, body: bytes, now: int) -> int:
        if owner not in self._sites:
            raise AbsentError
        for letter in self._queues[owner].values():
            if letter.sender == sender and letter.body == body:
                return letter.seq
        return self._add_letter(owner, Letter(0, now, sender, body))

    def _add_letter(self, owner: SiteId, letter: Letter) -> int:
        queue = self._queues[owner]
        pair = [len(other.body) for other in queue.values() if other.sender == letter.sender]
        if len(pair) >= self._quota.pair_letters or sum(pair) + len(letter.body) > self._quota.pair_bytes:
            raise QuotaError
        seq = self._next()
        queue[seq] = msgspec.structs.replace(letter, seq=seq)
        return seq

    async def letters(self, owner: SiteId, after: int, most: int) -> list[Letter]:
        return [letter for seq, letter in self._queues[owner].items() if seq > after][:most]

    async def ack(self, owner: SiteId, seqs: list[int]) -> None:
        for seq in seqs:
            self._queues[owner].pop(seq, None)

    async def put_prekey(self, site: SiteId, kid: Kid, compact: str, nbf: int, exp: int, now: int) -> None:
        keys = self._prekeys[site]
        keys[kid] = (nbf, exp, compact)
        newest = sorted(((k, v) for k, v in keys.items() if v[1] > now), key=lambda kv: (-kv[1][0], kv[0]))
        self._prekeys[site] = dict(newest[: metastore.PREKEYS])

    async def prekeys(self, site: SiteId, now: int) -> list[str]:
        if site not in self._sites:
            raise AbsentError
        return [compact for _, exp, compact in self._prekeys[site].values() if exp > now]

    async def own(self, cid: Cid, site: SiteId, now: int) -> None:
        known = self._cids.get(cid)
        if known is not None:
            check_owner(known.owner, site, known.gone)
            return
        if sum(c.owner == site and not c.gone for c in self._cids.values()) >= self._quota.site_cids:
            raise QuotaError
        self._cids[cid] = _Cid(site, now + metastore.PACK_LIFE)

    async def find_pack(self, cid: Cid, n: int, owner: SiteId) -> tuple[bool, Pack | None]:
        known = self._cids.get(cid)
        if known is None:
            return False, None
        check_owner(known.owner, owner, known.gone)
        return True, known.packs.get(n)

    async def add_pack(self, cid: Cid, site: SiteId, pack: Pack) -> bool:
        known = self._cids.get(cid)
        if known is None:
            raise AbsentError
        check_owner(known.owner, site, known.gone)
        same = known.packs.get(pack.n)
        if same is not None and (same.kind, same.digest) != (pack.kind, pack.digest):
            raise DifferentError
        if same is not None:
            return False
        stored = sum(p.size for c in self._cids.values() if c.owner == site for p in c.packs.values())
        if len(known.packs) >= self._quota.cid_packs or stored + pack.size > self._quota.site_bytes:
            raise QuotaError
        known.packs[pack.n] = msgspec.structs.replace(pack, arrival=self._next())
        return True

    async def every_pack(self, after: int, most: int) -> list[tuple[Cid, Pack]]:
        found = [(cid, p) for cid, c in self._cids.items() for p in c.packs.values() if p.arrival > after]
        return sorted(found, key=lambda each: each[1].arrival)[:most]

    async def forget_packs(self, cid: Cid, numbers: list[int]) -> None:
        for n in numbers:
            self._cids[cid].packs.pop(n, None)

    def _readable(self, cid: Cid, reader: SiteId) -> _Cid:
        known = self._cids.get(cid)
        if known is None:
            raise AbsentError
        if known.gone:
            raise GoneError
        check_owner(reader if reader in known.readers else known.owner, reader, gone=False)
        return known

    async def pack(self, cid: Cid, n: int, reader: SiteId) -> Pack:
        found = self._readable(cid, reader).packs.get(n)
        if found is None:
            raise AbsentError
        return found

    async def packs(self, cid: Cid, reader: SiteId, after: int, most: int) -> list[Pack]:
        return [p for p in self._readable(cid, reader).packs.values() if p.arrival > after][:most]

    async def add_readers(self, cid: Cid, site: SiteId, readers: list[SiteId], now: int) -> None:
        known = self._cids.get(cid)
        if len((known.readers if known else set()) | set(readers)) > self._quota.cid_readers:
            raise QuotaError
        await self.own(cid, site, now)
        self._cids[cid].readers.update(readers)

    async def delete_cid(self, cid: Cid, site: SiteId, now: int) -> None:
        known = self._cids.get(cid)
        if known is None:
            raise AbsentError
        check_owner(known.owner, site, gone=False)
        known.end()

    async def put_hello(self, mb: str, site: SiteId, hello: Hello, now: int) -> None:
        box = self._boxes.get(mb)
        if box is None:
            if (
                sum(b.owner == site and not b.gone for b in self._boxes.values())
                >= self._quota.site_mailboxes
            ):
                raise QuotaError
            self._boxes[mb] = _Box(site, hello)
            return
        if box.owner != site and is_nameplate(mb):
            raise DifferentError
        check_owner(box.owner, site, box.gone)
        if box.hello.ended and not hello.ended:
            raise GoneError
        box.hello = msgspec.structs.replace(hello, dies=box.hello.dies) if box.hello.ended else hello

    def _box(self, mb: str) -> _Box:
        box = self._boxes.get(mb)
        if box is None:
            raise AbsentError
        return box

    def _living(self, mb: str) -> _Box:
        box = self._box(mb)
        if box.gone:
            raise GoneError
        return box

    async def hello(self, mb: str) -> bytes:
        return self._living(mb).hello.body

    async def put_message(
        self, mb: str, run: str, slot: int, body: bytes, digest: Digest, site: SiteId | None, now: int
    ) -> Posted:
        box = self._box(mb)
        if site is not None:
            check_owner(box.owner, site, box.gone)
        found = box.slots.get((run, slot), [])
        for i, (other, _, _) in enumerate(found):
            if other == digest:
                return Posted(i, box.owner, new=False)
        if site is None and (box.gone or box.hello.ended):
            raise GoneError
        if len(found) >= SLOT_CAPS[slot]:
            raise DifferentError
        box.check_room(slot, site is None, now)
        i = len(found)
        if site is None:
            self._add_letter(box.owner, Letter(0, now, b"", body, mb, run, slot, i))
        box.slots[run, slot].append((digest, body, now))
        return Posted(i, box.owner, new=True)

    async def message(self, mb: str, run: str, slot: int, i: int) -> bytes | None:
        found = self._living(mb).slots.get((run, slot), [])
        return found[i][1] if i < len(found) else None

    async def delete_mailbox(self, mb: str, site: SiteId) -> None:
        box = self._box(mb)
        check_owner(box.owner, site, gone=False)
        self._end_box(mb)

    def _end_box(self, mb: str) -> None:
        box = self._boxes[mb]
        box.end()
        if is_nameplate(mb):
            del self._boxes[mb]
        queue = self._queues[box.owner]
        self._queues[box.owner] = {seq: letter for seq, letter in queue.items() if letter.mb != mb}

    async def expire(self, now: int, most: int) -> bool:
        self._requests = {k: at for k, at in self._requests.items() if at > now - metastore.REQUEST_LIFE}
        for owner, queue in self._queues.items():
            self._queues[owner] = {s: x for s, x in queue.items() if x.at > now - metastore.LETTER_LIFE}
        for site, keys in self._prekeys.items():
            self._prekeys[site] = {kid: key for kid, key in keys.items() if key[1] > now}
        for known in self._cids.values():
            if known.dies <= now:
                known.end()
        for mb, box in list(self._boxes.items()):
            if not box.gone and box.hello.dies <= now:
                self._end_box(mb)
        return False

    async def doomed(self, most: int) -> list[Cid]:
        return [cid for cid, known in self._cids.items() if known.gone and not known.erased][:most]

    async def erased(self, cid: Cid) -> None:
        self._cids[cid].erased = True

    async def alive(self, cids: list[Cid]) -> set[Cid]:
        return {cid for cid in cids if cid in self._cids and not self._cids[cid].erased}
