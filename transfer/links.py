"""The three doors' links, and the names and codes that belong to them (protocol s. 1).

qr      {page}/s#1.{b64 q}   the phone scans; q stays in the fragment, so no server ever sees it
voice   {page}/v             a public number and a code are read out; nothing secret is in the link
scan    {page}/p             the phone makes q and shows a QR of `tt1:1.{b64 q}`, which the staff scan
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal

from transfer.encoding import b64, hkdf, unb64
from transfer.errors import HeaderError, VersionError
from transfer.ids import MailboxId, Nameplate

Door = Literal["qr", "voice", "scan"]
PATHS: Final[dict[Door, str]] = {"qr": "s", "voice": "v", "scan": "p"}
"""Where each door's page is."""
Q_SIZE = 16
PIN_DIGITS = 6
VOICE_DIGITS = 8
"""Of the voice door's code, without its check digit, which is no part of the PRS."""
_SCAN = "tt1:"
_PAGE = re.compile(r"https?://[^\s\x00-\x1f\x7f/]+(/[^\s\x00-\x1f\x7f]*)?")
_DAMM = (
    "0317598642", "7092154863", "4206871359", "1750983426", "6123045978",
    "3674209581", "5869720134", "8945362017", "9438617205", "2581436790",
)  # fmt: skip
"""The standard quasigroup of order 10 (Damm 2004): weak total anti-symmetry."""


def mailbox_of(q: bytes) -> MailboxId:
    """The mailbox's name: derived one way, so that the relay learns nothing of q."""
    return MailboxId(hkdf(q, b"", b"tt1/mailbox", 16))


def make_link(page: str, q: bytes) -> str:
    """What the QR at the sending hospital's desk says."""
    return f"{page}/s#1.{b64(q)}"


def read_link(link: str) -> tuple[str, bytes]:
    """(page, q) of what a desk's QR says. Raises `HeaderError` or `VersionError`."""
    address, hash_mark, fragment = link.strip().partition("#")
    page, _, door = address.rpartition("/")
    if door != PATHS["qr"] or not hash_mark or not _PAGE.fullmatch(page):
        raise HeaderError
    return page, _read_secret(fragment)


def make_address(page: str, door: Door) -> str:
    """The short address of a door, without any secret: what a poster shows and a voice says."""
    return f"{page}/{PATHS[door]}"


def read_address(link: str) -> tuple[str, Door]:
    """(page, door) of a link of any door, whatever its fragment says. Raises `HeaderError`."""
    page, _, path = link.strip().partition("#")[0].rpartition("/")
    door = next((door for door, known in PATHS.items() if known == path), None)
    if door is None or not _PAGE.fullmatch(page):
        raise HeaderError
    return page, door


def make_scan(q: bytes) -> str:
    """What the QR on a phone says at the staff-scan door."""
    return f"{_SCAN}1.{b64(q)}"


def read_scan(text: str) -> bytes:
    """q of a phone's QR. Raises `HeaderError` or `VersionError`."""
    text = text.strip()
    if not text.startswith(_SCAN):
        raise HeaderError
    return _read_secret(text.removeprefix(_SCAN))


def _read_secret(text: str) -> bytes:
    """`1.{b64 q}`"""
    version, dot, secret = text.partition(".")
    if not dot:
        raise HeaderError
    if version != "1":
        raise VersionError
    return unb64(secret, Q_SIZE)


def make_nameplate(random: Callable[[int], bytes]) -> Nameplate:
    """The public number of a voice door; uniform."""
    return Nameplate(make_pin(random, Nameplate.SIZE).encode("ascii"))


def spoken(code: str) -> str:
    """A voice door's code as it is read out: with its check digit."""
    return code + damm(code)


def heard(text: str) -> str:
    """The code of what was typed. Raises `HeaderError` for another length, and where the check digit is wrong."""
    if len(text) != VOICE_DIGITS + 1 or damm(text) != "0":
        raise HeaderError
    return text[:VOICE_DIGITS]


def make_pin(random: Callable[[int], bytes], digits: int = PIN_DIGITS) -> str:
    """Uniform digits by rejection sampling from `random(n)` bytes."""
    limit, space = 2**64, 10**digits
    while True:
        n = int.from_bytes(random(8), "big")
        if n < limit - limit % space:
            return f"{n % space:0{digits}d}"


def damm(digits: str) -> str:
    """The check digit of the voice door's code. Raises `HeaderError` where that is not ASCII digits."""
    if not digits.isascii() or not digits.isdigit():
        raise HeaderError
    row = 0
    for d in digits:
        row = int(_DAMM[row][int(d)])
    return str(row)
