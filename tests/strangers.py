"""Strangers with a photo of the code, in a process of their own: `python -m tests.strangers LINK PIN FIRST LAST`.

Each of them guesses once: the PIN plus its number. One line for each that was answered: `wrong LEFT` or `locked`; a
stranger who gets no answer says nothing. A PIN that is let in though it is wrong ends the process with a traceback.
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

_PATIENCE = 4.0


async def guess(link: str, pin: str) -> None:
    """One stranger."""
    with contextlib.suppress(NoAnswerError, GatewayError):
        async with Phone(link, pin) as phone:
            try:
                await phone.ask()
            except WrongPinError as why:
                print("wrong", why.left, flush=True)
            except LockedError:
                print("locked", flush=True)
            else:
                raise AssertionError("a wrong PIN was let in")


async def main(link: str, pin: str, first: int, last: int) -> None:
    """All of them at once."""
    drill._STEP, drill._RUNS = _PATIENCE, 1
    pins = [f"{(int(pin) + n) % 10**6:06d}" for n in range(first, last + 1)]
    await asyncio.gather(*(guess(link, one) for one in pins))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
