"""The steps of an honest run at the door, for the tests of `transfer.door`."""

from __future__ import annotations

from typing import Any

from tests.transfer_kit import NOW, Doors, a_question, hello
from transfer.mailbox import Question
from transfer.messages import encode

YES: dict[str, Any] = {"d": "approve", "by": "patient", "name": "", "rel": "self", "lang": "en", "t": NOW}
"""What a patient who agrees enters."""


def make_m2(ends: Doors) -> bytes:
    """S's first answer to this phone."""
    return encode(ends.site.start(ends.phone.hello(hello())))


def make_m4(ends: Doors, question: Question | None = None) -> bytes:
    """S's question, `question` or the usual one, to a phone that has proved the PIN."""
    assert ends.site.prove(ends.phone.point(make_m2(ends)))
    return encode(ends.site.answer(question or a_question()))
