"""A proxy's name that no honest page signs, at each door, over a real relay: 10,000 characters, or letters that are
turned round. It decides nothing and spends nothing, and the same phone number or QR lets the person answer properly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.drill import NoAnswerError, Phone
from tests.rooms_kit import Desk, a_desk
from tests.transfer_kit import a_grant, payload, signed
from transfer.errors import SizeError
from transfer.ids import BlobKey
from transfer.links import PATHS, Door, make_scan
from transfer.mailbox import Sealed
from transfer.messages import Grant, encode
from transfer.text import person_name

Q = b"a phone's own q."
TURNED = "\u202eיול הענ\u202c \u200bJane"
NAMES = {"x" * 10_000: "not taken", "x" * 3000: "size", "\u202e" + "x" * 79: "header", TURNED: "header"}
"""Each, and why it is refused: the relay takes no message of 10,000 characters, S none of 2 KB."""


class Impostor(Phone):
    """A page of its own, which neither cleans nor bounds a name."""

    async def say(self, name: str) -> str:
        """A grant with this name; why it is refused, by S or on the way there."""
        asked, door = await self.ask(), self._door
        honest = a_grant(by="proxy", rel="parent", name="Jane", tid=asked.offer.tid, offer=door._hash)
        text = signed(Grant, payload(honest, name=name), door._key)
        door.state = "DECIDED"
        try:
            box = door._channel.seal(text.encode())
        except SizeError:  # as large, and all that the relay sees of it
            box = text.encode()
        try:
            await self._post(5, encode(Sealed(v=1, box=BlobKey(box))))
        except NoAnswerError:
            return "not taken"
        return (await self._status()).refused


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with a_desk(tmp_path) as made:
        yield made


@pytest.mark.parametrize("door", PATHS)
async def test_a_name_that_no_honest_page_signs(desk: Desk, door: Door) -> None:
    view = await desk.engine.transfer(await desk.offered())
    if door != "qr":
        view = await desk.engine.door(view.tid, door, make_scan(Q) if door == "scan" else "", "clerk")
    for name, why in NAMES.items():
        async with Impostor(view.link, view.pin, number=view.number, q=Q) as phone:
            assert await phone.say(name) == why
    after = await desk.engine.transfer(view.tid)
    assert (after.state, after.tries_left, after.decided_by) == ("OFFERED", view.tries_left, "")
    async with Phone(view.link, view.pin, number=view.number, q=Q) as phone:
        assert (await phone.ask()).decided is None
        status = await phone.decide("approve", by="proxy", name=person_name(TURNED), rel="parent")
    assert (status.state, status.refused) == ("RELEASED", "")
    shown = await desk.engine.transfer(view.tid)
    assert shown.decided_by == "proxy: יול הענ Jane (parent)"
