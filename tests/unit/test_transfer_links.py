from __future__ import annotations

import itertools

import pytest

from tests.transfer_kit import PIN, Q, fixed, refused
from transfer.encoding import b64, hkdf
from transfer.errors import HeaderError, TransferError, VersionError
from transfer.links import (
    PATHS,
    VOICE_DIGITS,
    Door,
    damm,
    heard,
    mailbox_of,
    make_address,
    make_link,
    make_nameplate,
    make_pin,
    make_scan,
    read_address,
    read_link,
    read_scan,
    spoken,
)


@pytest.mark.parametrize(
    "page",
    [
        "https://relay.example",
        "https://h.example/transfer",
        "http://127.0.0.1:8080",
        "https://[::1]:8443/a/b",
    ],
)
def test_a_link_goes_there_and_back(page: str) -> None:
    link = make_link(page, Q)
    assert link == f"{page}/s#1.{b64(Q)}"
    assert read_link(link) == (page, Q)
    assert read_link(f"  {link}\n") == (page, Q)


GOOD = b64(Q)


@pytest.mark.parametrize(
    ("link", "error"),
    [
        ("", HeaderError),
        ("hello", HeaderError),
        ("#", HeaderError),
        ("/s#1." + GOOD, HeaderError),
        ("s#1." + GOOD, HeaderError),
        ("https://r.example", HeaderError),
        ("https://r.example/", HeaderError),
        ("https://r.example/s", HeaderError),
        ("https://r.example/s#", HeaderError),
        ("https://r.example/s#1", HeaderError),
        ("https://r.example/s#1.", HeaderError),
        ("https://r.example/s#" + GOOD, HeaderError),
        ("https://r.example/s#1." + GOOD[:-1], HeaderError),
        ("https://r.example/s#1." + GOOD + "A", HeaderError),
        ("https://r.example/s#1." + GOOD + "==", HeaderError),
        ("https://r.example/s#1." + b64(bytes(15)), HeaderError),
        ("https://r.example/s#1." + b64(bytes(17)), HeaderError),
        ("https://r.example/s#1." + GOOD + "#x", HeaderError),
        ("https://r.example/s#1." + GOOD + ".x", HeaderError),
        ("https://r.example/s#1.é" + GOOD, HeaderError),
        ("https://r.example/s?x=1#1." + GOOD, HeaderError),
        ("https://r.example/s/#1." + GOOD, HeaderError),
        ("https://r.example/x#1." + GOOD, HeaderError),
        ("ftp://r.example/s#1." + GOOD, HeaderError),
        ("javascript:alert(1)/s#1." + GOOD, HeaderError),
        ("tt1:1." + GOOD, HeaderError),
        ("WIFI:S:guest;T:WPA;;", HeaderError),
        ("https://r.example\x00/s#1." + GOOD, HeaderError),
        ("https://r.exa mple/s#1." + GOOD, HeaderError),
        ("https://r.example\n/s#1." + GOOD, HeaderError),
        ("https:///s#1." + GOOD, HeaderError),
        ("https://r.example/s#2." + GOOD, VersionError),
        ("https://r.example/s#0." + GOOD, VersionError),
        ("https://r.example/s#1x." + GOOD, VersionError),
        ("https://r.example/v", HeaderError),
        ("https://r.example/p", HeaderError),
        ("https://r.example/p#1." + GOOD, HeaderError),
    ],
)
def test_other_texts_are_refused_by_name(link: str, error: type[TransferError]) -> None:
    with refused(error):
        read_link(link)


@pytest.mark.parametrize("door", PATHS)
def test_the_short_address_of_a_door(door: Door) -> None:
    address = make_address("https://h.example/transfer", door)
    assert address == f"https://h.example/transfer/{PATHS[door]}"
    assert read_address(f" {address}#1.{GOOD} ") == ("https://h.example/transfer", door)
    for other in (address + "/", address + "x", "/" + PATHS[door], PATHS[door], "", "https://h.example"):
        with refused(HeaderError):
            read_address(other)


def test_a_phone_s_code_goes_there_and_back() -> None:
    assert make_scan(Q) == f"tt1:1.{GOOD}"
    assert read_scan(f" {make_scan(Q)}\n") == Q


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", HeaderError), (GOOD, HeaderError), ("tt1:" + GOOD, HeaderError), ("tt1:1." + GOOD[:-1], HeaderError),
        ("TT1:1." + GOOD, HeaderError), (f"https://r.example/s#1.{GOOD}", HeaderError), ("tt1:2." + GOOD, VersionError),
    ],
)  # fmt: skip
def test_other_texts_are_no_phone_s_code(text: str, error: type[TransferError]) -> None:
    with refused(error):
        read_scan(text)


def test_a_spoken_code_ends_in_its_check_digit() -> None:
    assert spoken("57257257") == "57257257" + damm("57257257")
    assert heard(spoken("57257257")) == "57257257"
    assert len(spoken(make_pin(lambda n: bytes(n), VOICE_DIGITS))) == 9
    wrong = f"57257257{(int(damm('57257257')) + 1) % 10}"
    for other in (
        wrong,
        "57257257",
        spoken("57257257") + "0",
        "",
        "57257257x",
        "５7257257",
    ):
        with refused(HeaderError):
            heard(other)


def test_a_nameplate_is_seven_digits_with_its_zeros() -> None:
    assert make_nameplate(lambda n: (42).to_bytes(n, "big")).name == "0000042"


def test_the_mailbox_s_name_says_nothing_of_q() -> None:
    assert mailbox_of(Q) == hkdf(Q, b"", b"tt1/mailbox", 16)
    assert mailbox_of(Q) not in (Q, mailbox_of(fixed("other", 16)))


def test_a_pin_is_six_digits_with_its_zeros() -> None:
    assert make_pin(lambda n: bytes(n)) == "000000"
    assert make_pin(lambda n: (42).to_bytes(n, "big")) == "000042"
    assert make_pin(lambda n: (42).to_bytes(n, "big"), 8) == "00000042"
    assert len(PIN) == 6


@pytest.mark.parametrize("digits", [6, 8])
def test_a_pin_is_uniform_because_the_rest_is_rejected(digits: int) -> None:
    """2^64 is no multiple of 10^6: the numbers above the last full run of them are drawn again."""
    space = 10**digits
    edge = 2**64 - 2**64 % space
    drawn = iter([2**64 - 1, edge + 1, edge, edge - 1])
    assert make_pin(lambda n: next(drawn).to_bytes(n, "big"), digits) == "9" * digits
    assert next(drawn, None) is None


def test_pins_spread() -> None:
    pins = [make_pin(lambda n, i=i: fixed(f"pin {i}", n)) for i in range(3000)]  # type: ignore[misc]
    first = [sum(pin[0] == str(d) for pin in pins) for d in range(10)]
    assert all(220 < count < 380 for count in first)
    assert len(set(pins)) > 2980


def test_the_check_digit_of_the_standard_example() -> None:
    """Damm 2004: 572 is followed by 4, and a number with its check digit checks to 0."""
    assert damm("572") == "4"
    assert damm("5724") == "0"


def test_every_slip_of_one_digit_and_every_swap_of_neighbours_is_found() -> None:
    for code in ("27182818", "00000000", "99999999", "13579024"):
        whole = code + damm(code)
        assert damm(whole) == "0"
        for at, digit in itertools.product(range(9), "0123456789"):
            if digit != whole[at]:
                assert damm(whole[:at] + digit + whole[at + 1 :]) != "0"
    for a, b, rest in itertools.product("0123456789", "0123456789", ("", "4", "77", "0918273")):
        if a != b:
            assert damm(rest + a + b) != damm(rest + b + a)
        whole = rest + a + damm(rest + a)
        swapped = whole[:-2] + whole[-1] + whole[-2]
        assert damm(swapped) != "0" or swapped == whole


@pytest.mark.parametrize("code", ["12a", "1 2", "１２", "-1", "\x00"])
def test_a_code_of_other_characters_has_no_check_digit(code: str) -> None:
    with refused(HeaderError):
        damm(code)
