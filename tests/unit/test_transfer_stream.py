from __future__ import annotations

import pytest

from tests.transfer_kit import fixed, refused
from transfer.errors import HashError
from transfer.packs import capacity
from transfer.stream import Assembler, Cutter

SMALL = 2**16
FULL = capacity(SMALL)


def test_a_full_pack_fills_its_bucket_exactly() -> None:
    cutter = Cutter(SMALL)
    cutter.add(bytes(FULL - 1))
    assert cutter.next() is None
    cutter.add(b"\x01\x02")
    body = cutter.next()
    assert body is not None
    assert len(body) == FULL
    assert body[-1] == 1
    assert (cutter.position, cutter.end) == (FULL, FULL + 1)
    assert cutter.next() is None


def test_only_a_flush_gives_less() -> None:
    cutter = Cutter(SMALL)
    assert cutter.next(flush=True) is None
    cutter.add(b"")
    assert cutter.next(flush=True) is None
    cutter.add(b"one")
    cutter.add(b"two")
    assert cutter.next(flush=True) == b"onetwo"
    assert cutter.next(flush=True) is None
    assert cutter.position == cutter.end == 6


def test_a_flush_of_more_than_a_bucket_gives_full_packs_first() -> None:
    cutter = Cutter(SMALL)
    cutter.add(bytes(2 * FULL + 5))
    sizes = []
    while (body := cutter.next(flush=True)) is not None:
        sizes.append(len(body))
    assert sizes == [FULL, FULL, 5]


def test_the_bucket_may_change_between_two_packs() -> None:
    cutter = Cutter(SMALL)
    cutter.add(bytes(FULL + capacity(4 * SMALL)))
    first = cutter.next()
    cutter.bucket = 4 * SMALL
    second = cutter.next()
    assert first is not None
    assert second is not None
    assert (len(first), len(second)) == (FULL, capacity(4 * SMALL))


def test_after_a_restart_the_stream_goes_on() -> None:
    cutter = Cutter(SMALL, position=1000)
    assert cutter.end == 1000
    cutter.add(b"abc")
    assert cutter.end == 1003
    assert cutter.next(flush=True) == b"abc"
    assert cutter.position == 1003


def test_items_are_taken_by_offset_and_length() -> None:
    assembler = Assembler()
    assembler.add(b"0123")
    assembler.add(b"4567")
    assembler.add(b"89")
    assert assembler.end == assembler.held == 10
    assert assembler.take(0, 10) == b"0123456789"
    assert assembler.take(3, 2) == b"34"
    assert assembler.take(4, 4) == b"4567"
    assert assembler.take(9, 1) == b"9"
    assert assembler.take(10, 0) == b""
    assert assembler.take(0, 0) == b""


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 11), (10, 1), (11, 0), (2**50, 2**50), (9, 2), (2**50, 0)]
)
def test_what_has_not_arrived_is_not_made_up(offset: int, length: int) -> None:
    assembler = Assembler()
    assembler.add(bytes(10))
    with refused(HashError):
        assembler.take(offset, length)


def test_what_was_forgotten_is_gone_and_the_rest_is_there() -> None:
    assembler = Assembler()
    for n in range(4):
        assembler.add(bytes([n]) * 10)
    assembler.forget(9)
    assert assembler.held == 40
    assembler.forget(25)
    assert assembler.held == 20
    assert assembler.take(20, 10) == b"\x02" * 10
    for offset, length in ((19, 1), (0, 5), (15, 10)):
        with refused(HashError):
            assembler.take(offset, length)
    assembler.forget(10**9)
    assert assembler.held == 0
    assert assembler.end == 40
    with refused(HashError):
        assembler.take(39, 1)


def test_an_empty_body_changes_nothing() -> None:
    assembler = Assembler(position=5)
    assembler.add(b"")
    assert (assembler.end, assembler.held) == (5, 0)
    assembler.add(b"x")
    assert assembler.take(5, 1) == b"x"
    with refused(HashError):
        assembler.take(4, 1)


def test_bytes_that_no_item_names_are_passed_over() -> None:
    """A crash in the middle of an item leaves some in the stream; the next item starts behind them."""
    cutter, assembler = Cutter(SMALL), Assembler()
    half, whole = fixed("half", 50), fixed("whole", 90)
    cutter.add(half)
    start = cutter.end
    cutter.add(whole)
    body = cutter.next(flush=True)
    assert body is not None
    assembler.add(body)
    assert assembler.take(start, len(whole)) == whole
