from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transfer_kit import CID, K, fixed, stream
from transfer.packs import BUCKETS, capacity, open_pack, seal_pack
from transfer.stream import Assembler, Cutter

ITEM = st.integers(0, 200_000)
STEP = st.one_of(
    ITEM.map(lambda size: ("item", size)),
    st.sampled_from(BUCKETS[:3]).map(lambda bucket: ("bucket", bucket)),
    st.just(("flush", 0)),
    st.just(("restart", 0)),
)


@settings(max_examples=60)
@given(st.lists(STEP, max_size=30))
def test_any_items_any_buckets_any_flushes_give_the_same_items(steps: list[tuple[str, int]]) -> None:
    """S cuts, flushes and changes its mind about sizes; R gets the same items, and holds no more than it must."""
    cutter = Cutter(BUCKETS[0])
    bodies: list[bytes] = []
    items: list[tuple[int, bytes]] = []

    def drain(*, flush: bool = False) -> None:
        while (body := cutter.next(flush=flush)) is not None:
            assert len(body) == capacity(cutter.bucket) or flush
            bodies.append(body)

    for n, (what, value) in enumerate(steps):
        if what == "item":
            data = fixed(f"item {n}", value)
            items.append((cutter.end, data))
            cutter.add(data)
        elif what == "bucket":
            cutter.bucket = value
        elif what == "flush":
            drain(flush=True)
        else:
            drain(flush=True)
            cutter = Cutter(cutter.bucket, cutter.position)
        drain()
        assert cutter.position == sum(map(len, bodies))
        assert cutter.end == sum(len(data) for _, data in items)
    drain(flush=True)

    assembler = Assembler()
    waiting = list(items)
    for body in [*bodies, b""]:
        assembler.add(body)
        while waiting and waiting[0][0] + len(waiting[0][1]) <= assembler.end:
            offset, data = waiting.pop(0)
            assert assembler.take(offset, len(data)) == data
            assembler.forget(offset + len(data))
        assert assembler.held <= len(body) + (len(waiting[0][1]) if waiting else 0) + capacity(BUCKETS[2])
    assert not waiting


@settings(max_examples=40)
@given(st.integers(0, capacity(BUCKETS[1]) + 1), st.integers(0, 2**32 - 1), st.sampled_from("DM"))
def test_a_pack_of_any_size_comes_back(size: int, n: int, kind: str) -> None:
    body = fixed("body", size)
    ct = seal_pack(K, CID, kind, n, body, stream("nonce"))  # type: ignore[arg-type]
    assert len(ct) - 40 in BUCKETS
    assert len(ct) - 44 >= size
    assert len(ct) - 40 == BUCKETS[0] or (len(ct) - 40) // 2 - 4 < size
    assert open_pack(K, CID, kind, n, ct) == body  # type: ignore[arg-type]
