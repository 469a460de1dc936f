"""Strangers with a photo of the code, or who know a voice door's number, in a process of their own:
`python -m tests.strangers LINK PIN FIRST LAST [NUMBER]`.

Each of them guesses once: the PIN (or the code) plus its number. One line for each that was answered: `wrong
LEFT` or `locked`; a stranger who gets no answer says nothing. A PIN that is let in though it is wrong ends the process
with a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from clients import drill
from clients.drill import NoAnswerError, Phone
from clients.gateway.errors import GatewayError
from transfer.door import WrongPinError
from transfer.errors import LockedError
from transfer.links import VOICE_DIGITS, spoken

_PATIENCE = 4.0


async def guess(link: str, pin: str, number: str) -> None:
    """One stranger."""
    with contextlib.suppress(NoAnswerError, GatewayError):
        async with Phone(link, pin, number=number) as phone:
            try:
                await phone.ask()
            except WrongPinError as why:
                print("wrong", why.left, flush=True)
            except LockedError:
                print("locked", flush=True)
            else:
                raise AssertionError("a wrong PIN was let in")


def guesses(pin: str, first: int, last: int, number: str) -> list[str]:
    """Other PINs, or other codes with the check digit that belongs to them: a typo costs no try."""
    digits = pin[:VOICE_DIGITS] if number else pin
    space = 10 ** len(digits)
    found = [f"{(int(digits) + n) % space:0{len(digits)}d}" for n in range(first, last + 1)]
    return [spoken(code) for code in found] if number else found


async def main(link: str, pin: str, first: int, last: int, number: str) -> None:
    """All of them at once."""
    drill._STEP, drill._PATIENCE, drill._RUNS = _PATIENCE, _PATIENCE, 1
    await asyncio.gather(*(guess(link, one, number) for one in guesses(pin, first, last, number)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), "".join(sys.argv[5:])))
