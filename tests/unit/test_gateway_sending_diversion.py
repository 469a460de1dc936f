"""`clients.gateway.sending.diversion`: the same study to another site, from each state, and against every other end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.errors import GatewayError
from clients.gateway.sending.additions import ELSEWHERE
from clients.gateway.sending.diversion import DIVERTED
from clients.gateway.sending.offering import SiteWords
from tests.gateway_kit import HOUR, Handset, House, carry, houses
from transfer import jws
from transfer.ids import SiteId, Tid
from transfer.messages import Close, Offer, Release, open_message, peek

ROOT = Path(__file__).parents[2]
WORDS = SiteWords("Valley ED", "Ward 3")


class Three:
    """A sender and two receivers; nothing is delivered but by hand."""

    def __init__(self, s: House, r: House, r2: House) -> None:
        self.s, self.r, self.r2 = s, r, r2

    async def offer(self, *alt: House) -> Tid:
        study = await self.s.a_study()
        tid = await self.s.offers.create(study, self.r.site, "transfer", "clerk", alt=[h.site for h in alt])
        await self.s.make_offer(tid, self.r)
        return tid

    async def yes(self, tid: Tid, d: str = "approve") -> Handset:
        phone = await Handset.scan(self.s, tid)
        await phone.ask()
        assert (await phone.decide(d)).refused == ""
        return phone

    async def divert(self, tid: Tid, to: House | None = None, *, same_key: bool = False) -> Tid:
        to = to or self.r2
        text = await to.value("SELECT message FROM prekeys ORDER BY exp DESC LIMIT 1")
        prekey = self.s.pins._verified([text], to.site)
        assert prekey is not None
        return await self.s.offers.divert(tid, to.site, prekey, WORDS, 2 * HOUR, "clerk", same_key=same_key)

    async def states(self, *tids: Tid) -> list[str]:
        return [(await self.s.send(tid))["state"] for tid in tids]

    async def cids(self, *tids: Tid) -> int:
        return len({bytes((await self.s.send(tid))["cid"]) for tid in tids})

    async def to(self, house: House, kind: type[Close | Release | Offer]) -> list[Close | Release | Offer]:
        """The messages of one kind that wait for `house`."""
        found = await self.s.rows(
            "SELECT body FROM outbox WHERE kind='queue' AND target=? ORDER BY id", house.site.hex()
        )
        texts = [bytes(r[0]).decode() for r in found]
        head = jws.header(kind.NAME) + "."
        return [open_message(kind, t, self.s.site) for t in texts if t.startswith(head)]

    async def carry(self) -> None:
        for house in (self.r, self.r2):
            await carry(self.s, house)

    async def seen(self, house: House, tid: Tid) -> str:
        return str((await house.receive(tid))["state"])


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Three]:
    async with houses(tmp_path) as (s, r):
        r2 = await House(tmp_path / "r2", s.clock).make("Northside Trauma Center", pacs="PACS@127.0.0.1:9")
        try:
            await s.pin(r2)
            await r2.pin(s)
            for house in (r, r2):
                try:
                    await house.pins.renew()
                except GatewayError:  # the relay is down; the pre-key is made
                    pass
            yield Three(s, r, r2)
        finally:
            await r2.close()


async def test_before_the_answer_the_same_yes_sends_it_to_a_place_that_it_named(three: Three) -> None:
    tid = await three.offer(three.r2)
    phone = await Handset.scan(three.s, tid)
    asked = await phone.ask()
    assert asked.summary.alt == ["Northside Trauma Center"]
    assert asked.offer.alt == [three.r2.site]
    child = await three.divert(tid)
    assert await three.states(tid, child) == ["OFFERED", "OFFERED"]
    assert await three.cids(tid, child) == 1, "sealed again"
    status = await phone.decide()
    assert (status.refused, status.state) == ("", "DIVERTED")
    assert await three.states(tid, child) == ["DIVERTED", "RELEASED"]
    assert not await three.to(three.r, Release), "the first place got the key"
    await three.carry()
    assert (await three.seen(three.r, tid), await three.seen(three.r2, child)) == ("DIVERTED", "OPENED")


async def test_before_the_answer_a_place_that_nobody_named_gets_a_question_of_its_own(three: Three) -> None:
    tid = await three.offer()
    child = await three.divert(tid)
    assert await three.states(tid, child) == ["DIVERTED", "OFFERED"]
    assert await three.cids(tid, child) == 1
    row = await three.s.send(tid)
    assert (row["q_sealed"], row["pin_sealed"]) == (None, None), "the old code still works"
    offer = peek(Offer, (await three.s.send(child))["offer"])
    assert (offer.parent, offer.kind) == (jws.digest(row["offer"]), "divert")
    await three.yes(child)
    await three.carry()
    assert await three.seen(three.r, tid) == "DIVERTED"
    assert await three.seen(three.r2, child) == "OPENED"


@pytest.mark.parametrize(("same_key", "cids"), [(False, 2), (True, 1)])
async def test_after_the_yes_it_goes_at_once_where_the_yes_named_the_place(
    three: Three, same_key: bool, cids: int
) -> None:
    """Under a new key unless policy prefers speed: the first place keeps the one that it has."""
    tid = await three.offer(three.r2)
    await three.yes(tid)
    await three.carry()
    child = await three.divert(tid, same_key=same_key)
    assert await three.states(tid, child) == ["DIVERTED", "RELEASED"]
    assert await three.cids(tid, child) == cids
    row = await three.s.send(child)
    assert (row["decision"], row["joined_at"]) == ("approve", 0)
    await three.carry()
    assert await three.seen(three.r, tid) == "DIVERTED"
    opened = await three.r2.receive(child)
    assert opened["state"] == "OPENED"
    assert three.r2.vault.open("grant", opened["grant_sealed"]) == three.s.vault.open(
        "grant", (await three.s.send(tid))["grant_sealed"]
    )
    assert "transfer.covered" in await three.s.actions(child.hex())
    assert "transfer.diverted" in await three.s.actions(tid.hex())


async def test_after_the_yes_a_place_that_nobody_named_waits_while_the_first_goes_on(three: Three) -> None:
    tid = await three.offer()
    await three.yes(tid)
    await three.carry()
    child = await three.divert(tid)
    assert await three.states(tid, child) == ["RELEASED", "OFFERED"]
    await three.yes(child)
    assert await three.states(tid, child) == ["DIVERTED", "RELEASED"]
    await three.carry()
    assert await three.seen(three.r, tid) == "DIVERTED"
    assert await three.seen(three.r2, child) == "OPENED"


@pytest.mark.parametrize("allowed", [True, False])
async def test_what_staff_decided_goes_on_to_who_takes_it_of_them(three: Three, allowed: bool) -> None:
    """Each destination's own pin decides; the second transfer is emergency access in the log as the first one is."""
    s = three.s
    if allowed:
        await three.r2.pins.allow(s.site, ("override",), "admin")
    tid = await three.offer(three.r2)
    await s.db.run(
        lambda con: s.offers.staff_decide(
            con, s.offers._row(con, tid), "override", ["quill"], "helicopter leaves", s.clock.at
        )
    )
    child = await three.divert(tid)
    await three.carry()
    assert await three.seen(three.r2, child) == ("OPENED" if allowed else "DECLINED")
    assert "transfer.override" in await s.actions(child.hex())
    assert ("incoming.override" in await three.r2.actions(child.hex())) == allowed


async def late(three: Three, number: int) -> None:
    """One more image of the study, after all that was there has been sealed."""
    await three.s.execute(
        "UPDATE spools SET frozen=(SELECT max(id) FROM instances WHERE study=spools.study) WHERE frozen IS NULL"
    )
    await three.s.adopt(three.s.file(SeriesInstanceUID="2.25.77", InstanceNumber=number))


@pytest.mark.parametrize("answered", [False, True])
async def test_late_images_go_along(three: Three, answered: bool) -> None:
    """What was sealed does not have them and nothing follows a diversion: it is sealed anew, whatever the policy."""
    tid = await three.offer(three.r2)
    if answered:
        await three.yes(tid)
    await late(three, 1)
    child = await three.divert(tid, same_key=True)
    assert await three.cids(tid, child) == 2
    spool = await three.s.one("SELECT * FROM spools WHERE cid=?", (await three.s.send(child))["cid"])
    assert (spool["after"], spool["frozen"]) == (0, None), "all of the study, as it is when it closes"


async def test_an_addition_that_is_under_way_is_diverted_with_its_transfer(three: Three) -> None:
    """At the first hospital it ends as its transfer does; its images are in the new one."""
    study = await three.s.a_study()
    tid = await three.s.offers.create(study, three.r.site, "transfer", "clerk", alt=[three.r2.site], add=HOUR)
    await three.s.make_offer(tid, three.r)
    await three.yes(tid)
    await three.carry()
    await late(three, 1)
    await three.s.offers.follow_up()
    (addition,) = [Tid(r[0]) for r in await three.s.rows("SELECT tid FROM sends WHERE kind='add'")]
    await three.s.make_offer(addition, three.r)
    await three.carry()
    assert await three.seen(three.r, addition) == "OPENED"
    await late(three, 2)
    await three.s.offers.follow_up()
    waits = Tid(await three.s.value("SELECT tid FROM sends WHERE kind='add' AND state='PREPARING'"))
    child = await three.divert(tid)
    assert await three.states(tid, addition, waits, child) == ["DIVERTED", "DIVERTED", "REVOKED", "RELEASED"]
    assert {(await three.s.send(t))["why"] for t in (addition, waits)} == {ELSEWHERE}
    await three.carry()
    assert [await three.seen(three.r, t) for t in (tid, addition)] == ["DIVERTED", "DIVERTED"]
    assert (
        await three.s.value("SELECT frozen FROM spools WHERE cid=?", (await three.s.send(child))["cid"])
        is None
    )


async def test_what_comes_after_a_diversion_is_said_at_its_transfer(three: Three) -> None:
    """Also after its end: the person was told that late images would follow, and nothing follows a diversion."""
    study = await three.s.a_study()
    tid = await three.s.offers.create(study, three.r.site, "transfer", "clerk", alt=[three.r2.site], add=HOUR)
    await three.s.make_offer(tid, three.r)
    await three.yes(tid)
    child = await three.divert(tid)
    await three.s.execute("UPDATE sends SET state='COMPLETE' WHERE tid=?", child)
    await three.s.offers.follow_up()
    assert await three.s.alarms(child) == []
    await late(three, 1)
    await three.s.offers.follow_up()
    assert (await three.s.alarms(tid), await three.s.alarms(child)) == ([], ["late-images"])
    assert await three.s.value("SELECT count(*) FROM sends WHERE kind='add'") == 0


async def test_before_there_is_an_offer_it_is_a_transfer_of_its_own(three: Three) -> None:
    study = await three.s.a_study()
    tid = await three.s.offers.create(study, three.r.site, "transfer", "clerk", alt=[three.r2.site])
    made = await three.divert(tid)
    row, new = await three.s.send(tid), await three.s.send(made)
    assert (row["state"], row["why"], new["state"], new["parent"]) == ("REVOKED", DIVERTED, "OFFERED", None)
    assert await three.cids(tid, made) == 1
    assert await three.s.value("SELECT count(*) FROM spools WHERE k_sealed IS NOT NULL") == 1
    await three.yes(made)
    await three.carry()
    assert await three.seen(three.r2, made) == "OPENED"


async def test_twice_is_once_and_staff_may_change_their_minds(three: Three) -> None:
    tid = await three.offer(three.r2)
    child = await three.divert(tid)
    assert await three.divert(tid) == await three.divert(child) == child
    assert await three.divert(child, three.r) == tid, "back: the first one is open still"
    assert await three.states(tid, child) == ["OFFERED", "DIVERTED"]
    await three.yes(tid)
    assert await three.states(tid, child) == ["RELEASED", "DIVERTED"]


async def test_a_second_diversion_is_a_child_of_the_first_offer(three: Three) -> None:
    """What the person was asked first is what covers, however often the helicopter turns."""
    tid = await three.offer(three.r2)
    await three.yes(tid)
    child = await three.divert(tid)
    again = await three.divert(child, three.r)
    assert (await three.s.send(again))["parent"] == tid
    assert await three.states(tid, child, again) == ["DIVERTED", "RELEASED", "OFFERED"]
    await three.yes(again)
    assert await three.states(tid, child, again) == ["DIVERTED", "DIVERTED", "RELEASED"]
    await three.carry()
    assert await three.seen(three.r, again) == "OPENED"


async def test_what_has_ended_is_not_diverted(three: Three) -> None:
    tid = await three.offer(three.r2)
    await three.s.offers.stop(tid, "clerk")
    with pytest.raises(GatewayError) as why:
        await three.divert(tid)
    assert why.value.code == "state"
    assert await three.s.value("SELECT count(*) FROM sends") == 1


async def test_a_no_to_the_first_is_a_no_to_what_waits_for_it(three: Three) -> None:
    tid = await three.offer(three.r2)
    child = await three.divert(tid)
    await three.yes(tid, "deny")
    assert await three.states(tid, child) == ["DENIED", "DENIED"]
    assert await three.s.value("SELECT count(*) FROM spools WHERE k_sealed IS NOT NULL") == 0
    await three.carry()
    assert await three.seen(three.r2, child) == "DENIED"


async def test_the_person_s_stop_reaches_what_was_diverted(three: Three) -> None:
    tid = await three.offer(three.r2)
    phone = await three.yes(tid)
    child = await three.divert(tid)
    phone.door.status((await phone.answers(6))[1])
    status = await phone.stop()
    assert (status.state, status.refused) == ("REVOKED", "")
    assert await three.states(tid, child) == ["DIVERTED", "REVOKED"]
    assert (await phone.stop()).refused == "decided", "nothing is left to stop"


ASKED = "asked to stop by parent: called at 14:10"


async def test_staff_pass_a_wish_to_stop_on_as_the_phone_does(three: Three) -> None:
    """Asked by telephone at any transfer of the family: all that is open ends, and the log says who asked whom."""
    tid = await three.offer(three.r2)
    phone = await three.yes(tid)
    child = await three.divert(tid)
    phone.door.status((await phone.answers(6))[1])
    await three.s.offers.stop_asked(child, ASKED, "clerk")
    assert await three.states(tid, child) == ["DIVERTED", "REVOKED"]
    lines = await three.s.rows(
        "SELECT actor, detail, subject FROM audit WHERE action='transfer.stop-request'"
    )
    assert [tuple(line) for line in lines] == [("clerk", ASKED, t.hex()) for t in (child, tid)]
    assert await three.s.value("SELECT actor FROM audit WHERE action='transfer.stop'") == "clerk"
    await three.carry()
    assert await three.seen(three.r2, child) == "REVOKED"
    with pytest.raises(GatewayError, match="nothing to stop"):
        await three.s.offers.stop_asked(tid, ASKED, "clerk")


@pytest.mark.parametrize("answered", [False, True])
async def test_a_wish_to_stop_before_delivery_stops_everything(three: Three, answered: bool) -> None:
    tid = await three.offer()
    if answered:
        await three.yes(tid)
    child = await three.divert(tid)
    await three.s.offers.stop_asked(tid, ASKED, "clerk")
    assert await three.states(tid, child) == ["REVOKED" if answered else "DIVERTED", "REVOKED"]


async def test_a_wish_to_stop_after_the_end_takes_nothing_back_and_is_passed_on_once(three: Three) -> None:
    tid = await three.offer()
    await three.yes(tid)
    await three.carry()
    for house, table in ((three.s, "sends"), (three.r, "receives")):
        await house.execute(f"UPDATE {table} SET state='COMPLETE', ended_at=1")
    for _ in range(2):
        await three.s.offers.stop_asked(tid, ASKED, "clerk")
        await three.carry()
    assert await three.states(tid) == ["COMPLETE"]
    assert await three.s.alarms(tid) == await three.r.alarms(tid) == ["stop-asked"]
    actions = await three.s.actions(tid.hex())
    assert (actions.count("transfer.stop-request"), actions.count("transfer.stop-asked")) == (2, 1)
    assert await three.seen(three.r, tid) == "COMPLETE"


async def test_after_a_no_there_is_nothing_to_stop(three: Three) -> None:
    tid = await three.offer()
    await three.yes(tid, "deny")
    with pytest.raises(GatewayError, match="nothing to stop"):
        await three.s.offers.stop_asked(tid, ASKED, "clerk")
    assert "transfer.stop-request" not in await three.s.actions(tid.hex())


async def test_when_the_question_is_over_a_yes_covers_no_other_place(three: Three) -> None:
    tid = await three.offer(three.r2)
    await three.yes(tid)
    three.s.clock.at = (await three.s.send(tid))["exp"]
    child = await three.divert(tid)
    assert await three.states(tid, child) == ["RELEASED", "OFFERED"]


async def test_a_receipt_of_the_first_that_comes_late_changes_nothing(three: Three) -> None:
    """Divert against complete: what S commits first counts, at both."""
    tid = await three.offer(three.r2)
    await three.yes(tid)
    child = await three.divert(tid)
    await three.carry()
    assert await three.states(tid, child) == ["DIVERTED", "RELEASED"]
    with pytest.raises(GatewayError):
        await three.divert(tid, three.r2)


_KILL = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.gateway_kit import House, StillClock
from tests.unit.test_gateway_sending_diversion import WORDS
from transfer.ids import SiteId, Tid

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    s = House(Path(sys.argv[1]), StillClock())
    await s.open()
    setattr(s.offers if sys.argv[2] == "_supersede" else s.db, sys.argv[2], die)
    site = SiteId.from_hex(sys.argv[4])
    prekey = s.pins._verified([sys.argv[5]], site)
    await s.offers.divert(Tid.from_hex(sys.argv[3]), site, prekey, WORDS, 7200, "clerk")

asyncio.run(main())
"""


@pytest.mark.parametrize(("where", "happened"), [("_supersede", False), ("scrub", True)])
async def test_kill_9_in_the_middle_is_before_or_after(three: Three, where: str, happened: bool) -> None:
    """Before the commit nothing was diverted; behind it, all of it was. The same action again leads to one transfer."""
    tid = await three.offer(three.r2)
    await three.yes(tid)
    text = await three.r2.value("SELECT message FROM prekeys ORDER BY exp DESC LIMIT 1")
    await three.s.close()
    argv = (str(three.s.folder), where, tid.hex(), three.r2.site.hex(), text)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILL, *argv, cwd=ROOT)
    assert await process.wait() == -signal.SIGKILL
    await three.s.open()
    assert await three.states(tid) == ["DIVERTED" if happened else "RELEASED"]
    children = await three.s.rows("SELECT tid, state FROM sends WHERE parent=?", tid)
    assert [r["state"] for r in children] == (["RELEASED"] if happened else [])
    await three.s.pins.pin(three.r2.card, "test")
    child = Tid(children[0]["tid"]) if happened else await three.divert(tid)
    await three.carry()
    assert await three.states(tid, child) == ["DIVERTED", "RELEASED"]
    assert await three.seen(three.r2, child) == "OPENED"


async def test_a_release_that_has_not_left_is_taken_back(three: Three) -> None:
    tid = await three.offer(three.r2)
    await carry(three.s, three.r)
    await three.yes(tid)
    await three.divert(tid)
    assert await three.to(three.r, Release) == []
    await three.carry()
    row = await three.r.receive(tid)
    assert (row["state"], row["release"]) == ("DIVERTED", None)


async def test_who_is_not_paired_any_more_is_named_in_no_question(three: Three) -> None:
    study = await three.s.a_study()
    alt = [three.r2.site, SiteId(bytes(32))]
    tid = await three.s.offers.create(study, three.r.site, "transfer", "clerk", alt=alt)
    await three.s.pins.unpin(three.r2.site, "admin")
    await three.s.make_offer(tid, three.r)
    assert peek(Offer, (await three.s.send(tid))["offer"]).alt == []
