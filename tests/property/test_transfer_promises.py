"""That the promises of the world (`World.check`) notice a party that breaks its word: what the model is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from tests.transfer_kit import OTHER, S
from tests.transfer_world.receiver import Receiver
from tests.transfer_world.send import Run, Send
from tests.transfer_world.sender import Sender
from tests.transfer_world.wire import Letter
from tests.transfer_world.world import World
from transfer import jws
from transfer.ids import ContentKey, PublicKey
from transfer.links import Door
from transfer.messages import Grant, Receipt, peek, sign_message
from transfer.release import Pin


class _ForgetsTries(Sender):
    def crash(self) -> None:
        super().crash()
        for row in self.rows.values():
            row.runs.clear()


class _ForgetsUsed(Receiver):
    def crash(self) -> None:
        self.used.clear()
        for row in self.rows.values():
            row.state = "SEEN"


class _ForgetsTheNo(Sender):
    def staff_decide(self, row: Send, kind: Literal["attest", "override"]) -> None:
        row.state, row.key = "OFFERED", ContentKey(bytes(32))
        super().staff_decide(row, kind)


class _AllowsAll(Receiver):
    def post(self, text: str) -> None:
        self.pin = Pin(S.site, attest=True, override=True)
        super().post(text)


class _TrustsReceipts(Sender):
    def _receipt(self, text: str) -> None:
        row = self.rows[peek(Receipt, text).tid]
        row.receipt, row.key, row.state = text, None, "COMPLETE"


class _LeavesTheFirst(Sender):
    def end(self, row: Send, event: str) -> None:
        if event != "divert":
            super().end(row, event)


class _HearsOldRuns(Sender):
    def run_of(self, row: Send, letter: Letter) -> Run | None:
        return row.runs.get(letter.run)


class _KeepsBothDoors(Sender):
    def shut(self, row: Send, said: str) -> None:
        row.shut = True


class _GivesFiveAtTheTelephone(Sender):
    def switch(self, row: Send, door: Door, scanned: str = "") -> None:
        self.shut(row, "REOPENED")
        self.open(row, door)


class _HasNoClock(Sender):
    def _answers(self, row: Send) -> bool:
        return True


class _TakesACodeTwice(Sender):
    def open(self, row: Send, door: Door, q: bytes = b"") -> None:
        super().open(row, door, bytes(16))


class _TakesTheLast(Sender):
    def _decide(self, row: Send, vp: PublicKey, grant: Grant, text: str) -> str:
        super()._decide(row, vp, grant, text)
        return ""


def _in_mid_delivery(world: World) -> None:
    world.take_packs()
    world.say_yes()
    world.s.divert(world.rows[0], "R2")
    world.spread([])
    world.settle()


def _guess(world: World) -> None:
    world.settle()
    for n in range(6):
        if n == 5:
            world.s.crash()
        world.come(world.rows[0], right=False)
        world.settle()


def _replay(world: World) -> None:
    world.say_yes()
    world.r.crash()
    for post in list(world.relay.posts):
        world.deliver_post(post)


def _attest_after_no(world: World) -> None:
    world.say_yes(d="deny")
    world.staff_decide(world.rows[0], "attest")


def _override(world: World) -> None:
    world.settle()
    world.staff_decide(world.rows[0], "override")
    world.settle()


def _invent(world: World) -> None:
    row = world.rows[0]
    lie = Receipt(
        v=1, tid=row.tid, offer=jws.digest(row.offer), grant=jws.digest(row.offer), manifest=min(row.manifests),
        state="COMPLETE", proof="store", gaps=[], iat=world.now,
    )  # fmt: skip
    world.s.post(sign_message(lie, OTHER.key))


def _old_run_at_the_new_door(world: World) -> None:
    world.settle()
    phone = world.come(world.rows[0])
    world.settle()
    world.switch(world.rows[0], "voice")
    world.decide(phone, "approve")
    world.deliver(world.relay.letters[-1]._replace(mb=world.rows[0].code.mb))


def _switch(world: World) -> None:
    world.switch(world.rows[0], "voice")


def _telephone_after_four_slips(world: World) -> None:
    world.settle()
    for _ in range(4):
        world.come(world.rows[0], right=False)
        world.settle()
    world.switch(world.rows[0], "voice")


def _after_ten_minutes(world: World) -> None:
    world.switch(world.rows[0], "voice")
    world.flush()
    world.now += 600  # and nobody has swept yet
    world.come(world.rows[0])
    world.settle()
    world.tick(0)


def _two_phones(world: World) -> None:
    world.settle()
    phones = [world.come(world.rows[0]) for _ in range(2)]
    world.settle()
    for phone, d in zip(phones, ("approve", "deny"), strict=True):
        world.decide(phone, d)
    world.settle()


@pytest.mark.parametrize(
    ("broken", "day", "said"),
    [
        ({"sender": _ForgetsTries}, _guess, "more guesses than a transfer has"),
        ({"receiver": _ForgetsUsed}, _replay, "one offer was opened twice"),
        ({"sender": _ForgetsTheNo}, _attest_after_no, "a page says another end"),
        ({"receiver": _AllowsAll}, _override, "opened by a type that R has not allowed"),
        ({"sender": _TrustsReceipts}, _invent, "COMPLETE, and R never said so"),
        ({"sender": _LeavesTheFirst}, _in_mid_delivery, "one study is on its way to two places"),
        ({"sender": _HearsOldRuns}, _old_run_at_the_new_door, "a code of before was good"),
        ({"sender": _KeepsBothDoors}, _switch, "a mailbox says what its door does not"),
        (
            {"sender": _GivesFiveAtTheTelephone},
            _telephone_after_four_slips,
            "more guesses than a transfer has",
        ),
        ({"sender": _HasNoClock}, _after_ten_minutes, "a run began too late"),
        ({"sender": _TakesACodeTwice}, _switch, "a mailbox's name was used twice"),
        ({"sender": _TakesTheLast}, _two_phones, "two answers were taken"),
    ],
)
def test_the_promises_notice_a_party_that_breaks_its_word(
    broken: dict[str, Any], day: Callable[[World], None], said: str
) -> None:
    """Models X10 and X08, and the tries of section 4: what the model would be worth without its checks."""
    honest = World()
    day(honest)
    honest.check()
    world = World(**broken)
    day(world)
    with pytest.raises(AssertionError, match=said):
        world.check()
