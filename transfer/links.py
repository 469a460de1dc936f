"""The link that a QR carries, and the names and codes that belong to it (protocol s. 1).

    {page}/s#1.{b64 q}      the phone scans; q stays in the fragment, so no server ever sees it

`{page}/v` (voice door) and `{page}/p` (staff scan) come later; their links are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from transfer.encoding import b64, hkdf, unb64
from transfer.errors import HeaderError, NotYetError, VersionError
from transfer.ids import MailboxId

Q_SIZE = 16
PIN_DIGITS = 6
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
    """(page, q) of a link. Raises `HeaderError`, `VersionError`, or `NotYetError` for the later doors."""
    address, hash_mark, fragment = link.strip().partition("#")
    page, _, door = address.rpartition("/")
    if door in ("v", "p") and page:
        raise NotYetError
    if door != "s" or not hash_mark or not _PAGE.fullmatch(page):
        raise HeaderError
    version, dot, text = fragment.partition(".")
    if not dot:
        raise HeaderError
    if version != "1":
        raise VersionError
    return page, unb64(text, Q_SIZE)


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
