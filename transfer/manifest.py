"""The manifest: a hash chain of signed records that says what the packs hold (protocol s. 6).

What `Chain` makes sure of, for R:

- each record is signed by S, names this cid, carries the next number and the hash of the one before;
- a record lists data packs in the order of their numbers, each once and of a bucket's size, with the hash of
  its ciphertext;
- items are numbered without a gap, none overlaps the one before, each lies within the listed packs' stream;
- a series, once closed, gets no more items; `have` is the number of its items that the record adds;
- after `end` nothing follows, and `total` is the number of items.

Any breach raises `ChainError`: the caller stops, ends PARTIAL and raises an alarm. M is signed because a
former destination knows K.
"""

from __future__ import annotations

from collections import Counter

from nacl.signing import SigningKey

from transfer import jws
from transfer.errors import ChainError
from transfer.ids import Cid, Digest, SiteId
from transfer.messages import ItemEntry, Manifest, PackEntry, SeriesEntry, open_message, sign_message
from transfer.packs import LENGTH, OVERHEAD, SIZES

RECORD_PACKS = 16
"""A record at least every so many data packs."""
RECORD_SECONDS = 5.0
MAX_ITEMS = 200_000
MAX_SERIES = 5_000


class Chain:
    """R's view of the manifest, record by record."""

    def __init__(self, cid: Cid, site: SiteId) -> None:
        self.cid, self.site = cid, site
        self.next = 0
        self.last: Digest | None = None
        self.packs: dict[int, Digest] = {}
        self.series: dict[int, SeriesEntry] = {}
        self.items = 0
        self.ended = False
        self.total = 0
        self._last_pack = -1
        self._item_end = 0
        self._room = 0
        self._uids: set[str] = set()

    def add(self, compact: str) -> Manifest:
        """The next record, checked; raises `ChainError` or another `PeerError`."""
        record = open_message(Manifest, compact, self.site)
        prev = self.last.text if self.last else ""
        if self.ended or record.cid != self.cid or record.i != self.next or record.prev != prev:
            raise ChainError
        for pack in record.packs:
            self._add_pack(pack)
        for series in record.series:
            if series.no not in self.series and series.no != len(self.series):
                raise ChainError
            known = self.series.get(series.no)
            if known and (known.closed or known.uid != series.uid):
                raise ChainError
            self.series[series.no] = series
            if len(self.series) > MAX_SERIES:
                raise ChainError
        for item in record.items:
            self._add_item(item)
        added = Counter(item.series for item in record.items)
        if any(added.pop(s.no, 0) != s.have for s in record.series) or added:
            raise ChainError
        if record.total != (self.items if record.end else 0):
            raise ChainError
        self.next += 1
        self.last = jws.digest(compact)
        self.ended, self.total = record.end, record.total
        return record

    def _add_pack(self, pack: PackEntry) -> None:
        if pack.kind != "D" or pack.n <= self._last_pack or pack.size not in SIZES:
            raise ChainError
        self._last_pack = pack.n
        self.packs[pack.n] = pack.hash
        self._room += pack.size - OVERHEAD - LENGTH

    def _add_item(self, item: ItemEntry) -> None:
        if item.no != self.items or item.series not in self.series or item.sop_uid in self._uids:
            raise ChainError
        if item.offset < self._item_end or item.offset + item.length > self._room or self.items >= MAX_ITEMS:
            raise ChainError
        self.items += 1
        self._item_end = item.offset + item.length
        self._uids.add(item.sop_uid)


class ChainWriter:
    """S's side: makes the next record. It holds the last hash and number only, so that a restart can go on."""

    def __init__(self, cid: Cid, key: SigningKey, i: int = 0, last: Digest | None = None) -> None:
        self.cid, self.i, self.last = cid, i, last
        self._key = key

    def record(
        self,
        packs: list[PackEntry],
        series: list[SeriesEntry],
        items: list[ItemEntry],
        *,
        total: int | None = None,
    ) -> str:
        """The signed text of record `i`; `total` makes it the last. Call `written` once it is on disk."""
        return sign_message(
            Manifest(
                v=1, cid=self.cid, i=self.i, prev=self.last.text if self.last else "", packs=packs,
                series=series, items=items, end=total is not None, total=total or 0,
            ),
            self._key,
        )  # fmt: skip

    def written(self, compact: str) -> None:
        """The record is on disk: the next one follows it."""
        self.i += 1
        self.last = jws.digest(compact)
