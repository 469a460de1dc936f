from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transfer_kit import CID, S, fixed, refused
from transfer.errors import ChainError
from transfer.ids import Digest
from transfer.manifest import Chain, ChainWriter
from transfer.messages import ItemEntry, PackEntry, SeriesEntry
from transfer.packs import BUCKETS, OVERHEAD, capacity

RECORD = st.tuples(
    st.lists(st.sampled_from(BUCKETS), max_size=4),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 90_000), st.integers(0, 3)), max_size=6),
    st.sets(st.integers(0, 5), max_size=2),
    st.booleans(),
)


class Study:
    """A sender that never breaks a rule, whatever it is told to send."""

    def __init__(self) -> None:
        self.writer = ChainWriter(CID, S.key)
        self.n = self.room = self.end = self.items = 0
        self.known: list[int] = []
        self.closed: set[int] = set()

    def record(
        self,
        buckets: list[int],
        wishes: list[tuple[int, int, int]],
        closing: set[int],
        restart: bool,
        last: bool,
    ) -> str:
        packs: list[PackEntry] = []
        rows: dict[int, int] = {}
        items: list[ItemEntry] = []
        for bucket in buckets:
            packs.append(PackEntry("D", self.n, bucket + OVERHEAD, Digest(fixed(f"pack {self.n}"))))
            self.n += 1
            self.room += capacity(bucket)
        self.n += 1  # the record itself takes a number
        for wanted, length, gap in wishes:
            series = wanted if wanted in self.known else len(self.known)
            offset = self.end + gap
            if series in self.closed or series > 5 or offset + length > self.room:
                continue
            if series not in self.known:
                self.known.append(series)
            rows[series] = rows.get(series, 0) + 1
            uid = f"1.2.3.{self.items}"
            items.append(
                ItemEntry(
                    self.items,
                    series,
                    "1.2",
                    uid,
                    "1.2.840",
                    "raw",
                    offset,
                    length,
                    length,
                    Digest(bytes(32)),
                )
            )
            self.items, self.end = self.items + 1, offset + length
        for series in closing & {*self.known} - self.closed:
            rows.setdefault(series, 0)
            self.closed.add(series)
        if restart:
            self.writer = ChainWriter(CID, S.key, self.writer.i, self.writer.last)
        text = self.writer.record(
            packs,
            [SeriesEntry(no, f"1.9.{no}", have, 0, no in self.closed) for no, have in sorted(rows.items())],
            items,
            total=self.items if last else None,
        )
        self.writer.written(text)
        return text


@settings(max_examples=60)
@given(st.lists(RECORD, min_size=1, max_size=8))
def test_every_honest_chain_is_read_to_its_end(
    records: list[tuple[list[int], list[tuple[int, int, int]], set[int], bool]],
) -> None:
    study, chain = Study(), Chain(CID, S.site)
    texts = []
    for i, (buckets, wishes, closing, restart) in enumerate(records):
        texts.append(study.record(buckets, wishes, closing, restart, last=i == len(records) - 1))
        chain.add(texts[-1])
        assert (chain.next, chain.items) == (i + 1, study.items)
    assert (chain.ended, chain.total) == (True, study.items)
    with refused(ChainError):
        chain.add(texts[-1])


@settings(max_examples=60)
@given(st.lists(RECORD, min_size=3, max_size=6), st.data())
def test_no_record_may_be_missing_or_come_in_another_order(
    records: list[tuple[list[int], list[tuple[int, int, int]], set[int], bool]], data: st.DataObject
) -> None:
    study = Study()
    texts = [study.record(*record, last=i == len(records) - 1) for i, record in enumerate(records)]
    order = data.draw(st.permutations(texts))
    chain = Chain(CID, S.site)
    right = next((i for i, (a, b) in enumerate(zip(order, texts, strict=True)) if a != b), len(texts))
    for text in order[:right]:
        chain.add(text)
    for text in order[right:]:
        if text != texts[right]:
            with refused(ChainError):
                Chain.add(chain, text)
    assert chain.next == right
