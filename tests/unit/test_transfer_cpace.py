"""The draft's own numbers are in tests/vectors; here is what no vector says."""

from __future__ import annotations

import pytest

from tests.transfer_kit import fixed, refused
from transfer import cpace
from transfer.encoding import lv
from transfer.errors import HeaderError

PRIME = 2**255 - 19
LOW = [
    0, 1, PRIME - 1, PRIME, PRIME + 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]  # fmt: skip
"""The u-coordinates of points of order 1, 2, 4 and 8, on the curve and on its twist (RFC 7748 6.1)."""


@pytest.mark.parametrize("u", LOW)
@pytest.mark.parametrize("top", [0, 0x80])
def test_a_low_order_point_is_refused(u: int, top: int) -> None:
    point = bytearray(u.to_bytes(32, "little"))
    point[31] |= top
    with refused(HeaderError):
        cpace.multiply(fixed("scalar"), bytes(point))


def test_the_password_fills_the_first_block_alone() -> None:
    """Draft 7.1: DSI, password and padding together are one input block of SHA-512 less one byte, or longer."""
    for size in (0, 1, 24, 100, 116, 117, 118, 127, 128, 300):
        text = cpace.generator_string(bytes(size), b"ci", b"sid")
        rest = lv(b"ci") + lv(b"sid")
        assert text.endswith(rest)
        head = len(text) - len(rest)
        assert head == max(128, len(lv(b"CPace255")) + len(lv(bytes(size))) + 1)


def test_generator_depends_on_all_it_is_given() -> None:
    base = (b"prs", b"ci", b"sid")
    seen = {cpace.generator(*base)}
    for at in range(3):
        other = list(base)
        other[at] += b"x"
        seen.add(cpace.generator(*other))
    seen.add(cpace.generator(b"pr", b"sci", b"sid"))
    seen.add(cpace.generator(b"prs", b"cis", b"id"))
    assert len(seen) == 6


@pytest.mark.parametrize("number", [0, 1, 2, PRIME - 1, PRIME, PRIME + 1, 2**255 - 1])
def test_the_map_ends_on_the_curve_for_every_input(number: int) -> None:
    """v^3 + A v^2 + v is a square: the point is on the curve and not on its twist; the top bit does not count."""
    data = number.to_bytes(32, "little")
    v = int.from_bytes(cpace._elligator2(data), "little")
    assert v < PRIME
    square = pow((v**3 + 486662 * v * v + v) % PRIME, (PRIME - 1) // 2, PRIME)
    assert square in (0, 1)
    masked = bytearray(data)
    masked[31] ^= 0x80
    assert cpace._elligator2(bytes(masked)) == cpace._elligator2(data)


def test_the_transcript_is_ordered_and_framed() -> None:
    isk = cpace.isk(b"sid", b"k", b"ya", b"ada", b"yb", b"adb")
    assert len(isk) == 64
    others = [
        cpace.isk(b"sid", b"k", b"yb", b"adb", b"ya", b"ada"),
        cpace.isk(b"si", b"dk", b"ya", b"ada", b"yb", b"adb"),
        cpace.isk(b"sid", b"k", b"yaa", b"da", b"yb", b"adb"),
        cpace.isk(b"sid", b"k", b"ya", b"ada", b"yb", b""),
    ]
    assert isk not in others


def test_a_tag_names_its_side() -> None:
    tag = cpace.tag(b"sid", b"isk", b"ya", b"ada")
    assert len(tag) == 64
    assert tag != cpace.tag(b"sid", b"isk", b"yb", b"adb")
    assert tag != cpace.tag(b"sid", b"isk", b"yaa", b"da")
    assert tag != cpace.tag(b"sid2", b"isk", b"ya", b"ada")
