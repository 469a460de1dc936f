"""What a person types, a scanner reads and a camera sees: a phone's code at the desk, the short addresses, the number
and the code of the telephone, the name of a mailbox. (The text of a desk's QR is in `doors.py`; the same fields in the
phone's page: `tests/web/test_phone_typed.py`.)
"""

from __future__ import annotations

from clients.drill import LinkError, Phone, TypoError
from clients.gateway.sending.scans import KINDS, ScanError, read_scanned
from tests.fuzz.harness import Harness
from tests.transfer_kit import PIN, Q
from transfer.errors import HeaderError, PeerError
from transfer.ids import Mailbox, read_mailbox, stored_mailbox
from transfer.links import (
    PATHS,
    damm,
    heard,
    mailbox_of,
    make_address,
    make_link,
    make_scan,
    read_address,
    read_scan,
    spoken,
)

PAGE = "https://relay.example"
NUMBER, CODE = "0057257", spoken("57257257")


def _text(data: bytes) -> str:
    """What a page's form or a command's argument may hold, half a character included."""
    return data.decode("utf-8", "surrogateescape")


def _scan(data: bytes) -> None:
    """What a scanner types at the desk: q of a phone, or an error of its own that holds nothing of it."""
    text = _text(data)
    refusal, q = _scanned(text)
    if refusal is not None:
        assert KINDS[refusal.code] is type(refusal)
        assert str(refusal) == str(KINDS[refusal.code]())
        raise refusal
    assert make_scan(q) == text.strip()
    assert read_scan(text) == q


def _scanned(text: str) -> tuple[ScanError | None, bytes]:
    try:
        return None, read_scanned(text)
    except ScanError as why:
        return why, b""


def _address(data: bytes) -> None:
    """A link of any door: where it leads, and nothing of its secret."""
    text = _text(data)
    page, door = read_address(text)
    assert make_address(page, door) == text.strip().partition("#")[0]
    assert page.startswith(("https://", "http://"))
    assert not any(char.isspace() for char in page)


def _code(data: bytes) -> None:
    """A telephone's code: one digit wrong, or two neighbours changed over, is never another code."""
    text = _text(data)
    code = heard(text)
    assert spoken(code) == text
    slips = {text[:i] + text[i + 1] + text[i] + text[i + 2 :] for i in range(len(text) - 1)}
    slips |= {text[:i] + digit + text[i + 1 :] for i in range(len(text)) for digit in "0123456789"}
    assert all(damm(slip) != "0" for slip in slips - {text})


def _mailbox(data: bytes) -> None:
    """The name of a mailbox in a path, and as a database keeps it."""
    text = _text(data)
    mailbox: Mailbox = read_mailbox(text)
    assert mailbox.name == text
    assert stored_mailbox(bytes(mailbox)) == mailbox


def _phone(data: bytes) -> None:
    """Link, PIN or code, number, one a line, as the command `phone` takes them."""
    link, _, rest = _text(data).partition("\n")
    pin, _, number = rest.partition("\n")
    phone = Phone(link, pin, number=number, q=Q)
    read_mailbox(phone._mailbox)
    if read_address(link)[1] == "voice":
        assert (phone._mailbox, spoken(phone._pin)) == (number, "".join(pin.split()))
    else:
        assert phone._pin == pin


HARNESSES = [
    Harness(
        name="scan", run=_scan, family=(ScanError,),
        samples=lambda: [
            make_scan(Q).encode(), f" {make_scan(Q)}\r\n".encode(), make_scan(Q).swapcase().encode(), b"tt1:2.x",
            make_link(PAGE, Q).encode(), f"{PAGE}/p".encode(), b"]C1MRN400003", b"",
        ],
    ),
    Harness(
        name="address", run=_address, family=(HeaderError,),
        samples=lambda: [f"{PAGE}/{path}".encode() for path in PATHS.values()] + [make_link(PAGE, Q).encode()],
    ),
    Harness(name="code", run=_code, family=(HeaderError,), samples=lambda: [CODE.encode(), b"000000000"]),
    Harness(
        name="mailbox-name", run=_mailbox, family=(HeaderError,),
        samples=lambda: [NUMBER.encode(), mailbox_of(Q).hex().encode()],
    ),
    Harness(
        name="phone-typed", run=_phone, family=(LinkError, TypoError, PeerError), share=0.5,
        samples=lambda: [
            f"{make_link(PAGE, Q)}\n{PIN}\n".encode(), f"{PAGE}/v\n{CODE}\n{NUMBER}".encode(),
            f"{PAGE}/p\n{PIN}\n".encode(),
        ],
    ),
]  # fmt: skip
