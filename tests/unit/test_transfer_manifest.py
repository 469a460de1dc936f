from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from tests.transfer_kit import CID, OTHER, S, fixed, refused
from transfer import jws, manifest
from transfer.errors import ChainError, HeaderError, PeerError, SignatureError, SizeError, VersionError
from transfer.ids import Cid, Digest
from transfer.manifest import Chain, ChainWriter
from transfer.messages import ItemEntry, Manifest, PackEntry, SeriesEntry, sign_message
from transfer.packs import BUCKETS

HASH = Digest(fixed("hash"))
ROOM = 65536 - 4


def pack(n: int, size: int = 65576, kind: Any = "D") -> PackEntry:
    return PackEntry(kind, n, size, HASH)


def series(no: int, have: int, *, closed: bool = False, uid: str = "") -> SeriesEntry:
    return SeriesEntry(no, uid or f"1.2.{no}", have, 0, closed)


def item(no: int, offset: int, length: int = 100, *, of: int = 0, uid: str = "") -> ItemEntry:
    return ItemEntry(
        no, of, "1.2.840.1", uid or f"1.2.3.{no}", "1.2.840.2", "raw", offset, length, length, HASH
    )


def chain() -> Chain:
    return Chain(CID, S.site)


def writer(key: SigningKey = S.key, cid: Cid = CID) -> ChainWriter:
    return ChainWriter(cid, key)


def started() -> tuple[Chain, ChainWriter, str]:
    """A chain after its first record: one pack, one series, one item."""
    ends = chain(), writer()
    first = ends[1].record([pack(0)], [series(0, 1)], [item(0, 0)])
    ends[0].add(first)
    ends[1].written(first)
    return *ends, first


def raw(key: SigningKey = S.key, **changes: Any) -> str:
    """A second record, as `started` would get it, with `changes`."""
    fields: dict[str, Any] = {
        "v": 1, "cid": CID, "i": 1, "packs": [], "series": [], "items": [], "end": False, "total": 0, "prev": "",
    }  # fmt: skip
    return sign_message(Manifest(**{**fields, **changes}), key)


def test_an_honest_chain() -> None:
    reader, writes, first = started()
    assert (reader.next, reader.items, reader.ended, reader.last) == (1, 1, False, jws.digest(first))
    second = writes.record(
        [pack(1), pack(3, 131112)],
        [series(0, 1, closed=True), series(1, 1)],
        [item(1, 100), item(2, 300, of=1)],
    )
    record = reader.add(second)
    writes.written(second)
    assert record.i == 1
    assert reader.packs == {0: HASH, 1: HASH, 3: HASH}
    last = writes.record([], [series(1, 0, closed=True)], [], total=3)
    reader.add(last)
    assert (reader.ended, reader.total, reader.items) == (True, 3, 3)
    assert {no: s.closed for no, s in reader.series.items()} == {0: True, 1: True}


def test_an_empty_study_has_an_end_too() -> None:
    reader = chain()
    reader.add(writer().record([], [], [], total=0))
    assert (reader.ended, reader.total) == (True, 0)


def test_a_restarted_writer_goes_on() -> None:
    reader, writes, _ = started()
    again = ChainWriter(CID, S.key, writes.i, writes.last)
    reader.add(again.record([], [series(0, 0, closed=True)], [], total=1))
    assert reader.ended


def test_a_record_that_was_not_written_is_made_again() -> None:
    _, writes, _ = started()
    one = writes.record([pack(1)], [], [])
    two = writes.record([pack(1)], [], [])
    assert jws.verify("manifest", one, S.site, Manifest.CAP) == jws.verify(
        "manifest", two, S.site, Manifest.CAP
    )


# ---- signed by S, this cid, the next number, the hash before


def test_a_record_of_somebody_else() -> None:
    """A former destination knows K and can seal a pack; it cannot sign."""
    reader, _, first = started()
    with refused(SignatureError):
        reader.add(raw(OTHER.key, prev=jws.digest(first).text))
    reader.add(raw(prev=jws.digest(first).text))


@pytest.mark.parametrize(
    "changes",
    [
        {"cid": Cid(bytes(16))}, {"i": 0}, {"i": 2}, {"prev": ""}, {"prev": Digest(bytes(32)).text}, {"prev": "x"},
        {"prev": "first="},
    ],
)  # fmt: skip
def test_what_does_not_follow(changes: dict[str, Any]) -> None:
    reader, _, first = started()
    with refused(ChainError):
        reader.add(raw(**{"prev": jws.digest(first).text, **changes}))


def test_the_first_has_no_number_and_no_hash_before() -> None:
    for changes in ({"i": 1}, {"i": 0, "prev": Digest(bytes(32)).text}):
        with refused(ChainError):
            chain().add(raw(**changes))
    chain().add(raw(i=0))


def test_the_same_record_again_is_no_next_one() -> None:
    reader, _, first = started()
    with refused(ChainError):
        reader.add(first)


def test_two_different_records_of_one_number() -> None:
    """S must never sign two M_i. Whichever comes second stops the delivery, and so does what builds on the other."""
    reader, writes, first = started()
    one = writes.record([pack(1)], [], [])
    two = writes.record([pack(2)], [], [])
    reader.add(one)
    with refused(ChainError):
        reader.add(two)
    other, twin = chain(), writer()
    other.add(first)
    other.add(two)
    twin.i, twin.last = 2, jws.digest(one)
    with refused(ChainError):
        other.add(twin.record([], [], []))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", HeaderError),
        ("a.b.c", HeaderError),
        (jws.sign("manifest", b"{}", S.key), HeaderError),
        (jws.sign("manifest", b'{"v":2}', S.key), VersionError),
        (jws.sign("offer", b"{}", S.key), HeaderError),
        ("x" * (Manifest.CAP + 1), SizeError),
    ],
)
def test_what_is_no_record(text: str, error: type[PeerError]) -> None:
    reader, writes, _ = started()
    with refused(error):
        reader.add(text)
    reader.add(writes.record([], [], []))


# ---- packs


@pytest.mark.parametrize(
    "packs",
    [
        [pack(0)], [pack(2), pack(1)], [pack(1), pack(1)], [pack(1, kind="M")],
        [pack(1, 65536)], [pack(1, 0)], [pack(1, 65577)], [pack(1, 2**23 + 40)],
    ],
)  # fmt: skip
def test_data_packs_in_order_each_once_in_a_bucket(packs: list[PackEntry]) -> None:
    reader, writes, _ = started()
    with refused(ChainError):
        reader.add(writes.record(packs, [], []))


def test_numbers_may_have_gaps_where_records_and_lost_packs_are() -> None:
    reader, writes, _ = started()
    reader.add(writes.record([pack(n, BUCKETS[n % 7] + 40) for n in range(2, 30, 3)], [], []))


# ---- items


@pytest.mark.parametrize(
    "items",
    [
        [item(2, 100)],
        [item(0, 100)],
        [item(1, 100), item(1, 200)],
        [item(1, 100), item(3, 200)],
        [item(1, 99)],
        [item(1, 100), item(2, 199)],
        [item(1, ROOM - 99)],
        [item(1, ROOM)],
        [item(1, 2**50, 2**50)],
        [item(1, 100, of=1)],
        [item(1, 100, uid="1.2.3.0")],
        [item(1, 100, uid="1.2.9"), item(2, 200, uid="1.2.9")],
    ],
)
def test_items_follow_each_other_within_the_stream(items: list[ItemEntry]) -> None:
    reader, writes, _ = started()
    with refused(ChainError):
        reader.add(writes.record([], [series(0, len(items))], items))


def test_the_last_byte_of_the_stream_may_be_an_item_s() -> None:
    reader, writes, _ = started()
    reader.add(writes.record([], [series(0, 1)], [item(1, ROOM - 100)]))


def test_an_item_may_span_packs_of_its_own_record() -> None:
    reader, writes, _ = started()
    reader.add(writes.record([pack(1)], [series(0, 1)], [item(1, 100, 2 * ROOM - 100)]))
    assert reader.items == 2


def test_items_have_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_ITEMS", 3)
    reader, writes, _ = started()
    full = writes.record([], [series(0, 2)], [item(1, 100), item(2, 200)])
    reader.add(full)
    writes.written(full)
    with refused(ChainError):
        reader.add(writes.record([], [series(0, 1)], [item(3, 300)]))


# ---- series


@pytest.mark.parametrize(
    ("rows", "items"),
    [
        ([series(2, 0)], []),
        ([series(0, 0, uid="9.9")], []),
        ([series(1, 1)], []),
        ([series(1, 0)], [item(1, 100, of=1)]),
        ([series(1, 2)], [item(1, 100, of=1)]),
        ([], [item(1, 100)]),
        ([series(0, 1), series(0, 1)], [item(1, 100)]),
        ([series(0, 1), series(1, 0)], [item(1, 100, of=1)]),
        ([series(1, 0, closed=True), series(1, 0)], []),
    ],
)
def test_a_series_says_what_it_adds(rows: list[SeriesEntry], items: list[ItemEntry]) -> None:
    reader, writes, _ = started()
    with refused(ChainError):
        reader.add(writes.record([], rows, items))


@pytest.mark.parametrize("row", [series(0, 1), series(0, 0), series(0, 0, closed=True)])
def test_a_closed_series_gets_no_more(row: SeriesEntry) -> None:
    reader, writes, _ = started()
    close = writes.record([], [series(0, 0, closed=True)], [])
    reader.add(close)
    writes.written(close)
    with refused(ChainError):
        reader.add(writes.record([], [row], [item(1, 100)] if row.have else []))


def test_a_closed_series_gets_no_more_behind_its_back() -> None:
    reader, writes, _ = started()
    close = writes.record([], [series(0, 0, closed=True)], [])
    reader.add(close)
    writes.written(close)
    with refused(ChainError):
        reader.add(writes.record([], [], [item(1, 100)]))


def test_a_series_may_close_with_its_last_item() -> None:
    reader, writes, _ = started()
    reader.add(writes.record([], [series(0, 1, closed=True)], [item(1, 100)]))
    assert reader.series[0].closed


def test_series_have_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_SERIES", 3)
    reader, writes, _ = started()
    with refused(ChainError):
        reader.add(writes.record([], [series(no, 0) for no in range(1, 4)], []))


# ---- the end


@pytest.mark.parametrize("changes", [{"total": 0}, {"total": 2}, {"end": False, "total": 1}])
def test_the_total_is_the_number_of_items(changes: dict[str, Any]) -> None:
    reader, _, first = started()
    with refused(ChainError):
        reader.add(raw(**{"prev": jws.digest(first).text, "end": True, **changes}))


def test_after_the_end_nothing_follows() -> None:
    reader, writes, _ = started()
    last = writes.record([], [], [], total=1)
    reader.add(last)
    writes.written(last)
    for text in (last, writes.record([], [], [], total=1), writes.record([pack(9)], [], [])):
        with refused(ChainError):
            reader.add(text)
    assert (reader.ended, reader.total) == (True, 1)


def test_a_record_over_its_cap_is_not_signed() -> None:
    """The writer's caller cuts a record before it grows past 2^22 - 4 bytes."""
    many = [item(no, no, 1) for no in range(30_000)]
    with pytest.raises(ValueError, match="manifest over its cap"):
        writer().record([pack(0)], [series(0, 30_000)], many)
