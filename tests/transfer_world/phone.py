"""A phone's page, and what its owner means to do."""

from __future__ import annotations

from collections.abc import Callable

from tests.transfer_world.send import Code
from tests.transfer_world.wire import Letter
from transfer.door import Asked, EndedError, PhoneDoor
from transfer.errors import PeerError
from transfer.ids import Tid
from transfer.links import heard, make_link, read_link, spoken
from transfer.mailbox import Status
from transfer.messages import encode

PAGE = "https://relay.example"


def another(digits: str, by: int = 1) -> str:
    """As many digits, and not these: what a guesser types."""
    return f"{(int(digits) + by) % 10 ** len(digits):0{len(digits)}d}"


class Phone:
    """One page at one code; `typed` is the PIN, or at the voice door what was heard, with the check digit."""

    def __init__(self, tid: Tid, code: Code, typed: str, random: Callable[[int], bytes]) -> None:
        """Raises `HeaderError` for a slip that the check digit finds."""
        self.tid, self.code = tid, code
        q, digits = code.q, typed
        if code.door == "qr":
            _, q = read_link(make_link(PAGE, code.q))
        elif code.door == "voice":
            digits = heard(typed)
        self.knows = digits == code.pin
        self.door = PhoneDoor(q, digits, random)
        self.asked: Asked | None = None
        self.ended = ""
        self.status: Status | None = None
        self.last: Letter | None = None

    @classmethod
    def of(cls, tid: Tid, code: Code, random: Callable[[int], bytes], *, right: bool = True) -> Phone:
        """In the hand of who was told the code, or of who guesses."""
        pin = code.pin if right else another(code.pin)
        return cls(tid, code, spoken(pin) if code.door == "voice" else pin, random)

    def hello(self, body: bytes) -> Letter | None:
        """m0 in, m1 out; or the page says that this has ended, or that something does not fit."""
        try:
            return self.say(1, encode(self.door.hello(body)))
        except EndedError as why:
            self.ended = why.state
        except PeerError:
            pass
        return None

    def hear(self, letter: Letter) -> Letter | None:
        """One body of S in the state the page is in, and what it answers. Raises a `TransferError`."""
        if letter.slot == 2:
            return self.say(3, encode(self.door.point(letter.body)))
        if letter.slot == 4:
            self.asked = self.door.answer(letter.body)
        elif letter.slot == 6:
            self.status = self.door.status(letter.body)
        return None

    def say(self, slot: int, body: bytes) -> Letter:
        """A letter in this page's mailbox."""
        self.last = Letter(slot, self.code.mb, self.door.run, body)
        return self.last

    def wish_to_stop(self) -> Letter:
        """m5 that asks to stop."""
        return self.say(5, encode(self.door.stop()))
