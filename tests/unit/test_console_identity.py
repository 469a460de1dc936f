"""The pages on which staff say who a patient is, without a browser: what they refuse, and what they leave nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from clients.gateway.console.pages.identity import can_correct, can_say
from clients.gateway.errors import GatewayError
from clients.gateway.whose import WorklistItem
from tests.console_kit import House, Person, house
from tests.fake_engine import blank

TID = "ab" * 16
PLACE = f"/transfers/{TID}"


def item(number: str, name: str, **values: Any) -> WorklistItem:
    facts: dict[str, Any] = {
        "patient_id": number, "issuer": "", "name": name, "shown_name": name, "birth_date": "1984-03-12", "sex": "F",
        "accession": "", "what": "", "scheduled": "", "fits": True,
    }  # fmt: skip
    return WorklistItem(**{**facts, **values})


def asked(built: House, **values: Any) -> None:
    built.engine.all_transfers[TID] = blank(
        tid=TID, role="receive", peer="County Hospital", state="OPENED", created_at=built.clock.time
    )
    built.engine.ask_who(TID, **{"name": "TEST, ALPHA", **values})


async def compared(person: Person, number: str = "4711", **fields: str) -> str:
    """The comparison with a typed patient; its draft's id."""
    await person.open(f"{PLACE}/identity")
    forms = [f for f in person.page.forms if f.action == f"{PLACE}/candidate"]
    await person.post(f"{PLACE}/candidate", {**forms[-1].fields, "mrn": number, **fields})
    return person.path.partition("?d=")[2]


async def test_it_is_confirmed_line_by_line_or_not_at_all() -> None:
    async with house() as built:
        asked(built)
        person = await built.person("dr-lee")
        await compared(person, name="TEST, ALPHA", born="1984-03-12")
        assert person.status == 200
        assert "4711" not in person.path
        form = person.page.form(f"{PLACE}/identify")
        assert {n for n in form.ticked if n.startswith("confirm-")} == {"confirm-name", "confirm-birth_date"}
        kept = {k: v for k, v in form.ticked.items() if k not in ("confirm-name", "whole")}
        text = (await person.post(f"{PLACE}/identify", {**kept, "again": "4711"})).text
        assert person.status == 409
        assert "Not everything was confirmed" in text
        assert built.engine.whose[TID].state == "waits"
        await person.post(f"{PLACE}/identify", {**kept, "confirm-name": "1", "again": "4711"})
        assert person.path == PLACE
        assert built.engine.whose[TID].filed_id == "4711"


async def test_a_number_that_cannot_be_one_is_named_and_nothing_is_done() -> None:
    async with house() as built:
        asked(built)
        person = await built.person("admin")
        for number, words in (
            ("a\\b", "holds a backslash"), ("4711^^^X", "holds a ^"), ("\t4711", "cannot be seen"),
            ("", "No patient number"), ("山田", "plain letters and digits"), ("4*", "stand for any number"),
            ("1" * 65, "longer than 64"),
        ):  # fmt: skip
            await compared(person, number)
            assert person.status == 409, number
            assert words in person.page.text
        await compared(person, "1", born="1984-13-12")
        assert "is no date" in person.page.text
        assert built.engine.whose[TID].state == "waits"


async def test_what_was_typed_differently_the_second_time_is_refused() -> None:
    async with house() as built:
        asked(built)
        person = await built.person("admin")
        await compared(person)
        await person.send(f"{PLACE}/identify", again="4712")
        assert person.status == 400
        assert "another one" in person.page.text
        assert built.engine.whose[TID].state == "waits"


async def test_drafts_belong_to_one_session_and_one_transfer() -> None:
    async with house() as built:
        asked(built)
        built.engine.on_worklist = [item("4711", "TEST^ALPHA")]
        first, other = await built.person("dr-lee"), await built.person("admin")
        draft = await compared(first)
        await other.open(f"{PLACE}/compare?d={draft}")
        assert other.path == f"{PLACE}/identity?d=gone"
        assert "no longer kept" in other.page.text
        await other.send(f"{PLACE}/candidate", mrn="4711")
        await other.post(f"{PLACE}/identify", {**other.page.form(f"{PLACE}/identify").ticked, "d": draft})
        assert other.status == 400
        await first.open(f"{PLACE}/identity")
        await first.send(f"{PLACE}/worklist", mrn="4711")
        kept = first.page.form(f"{PLACE}/candidate").fields
        for n in ("1", "-1", "x", "9999999999"):
            await first.post(f"{PLACE}/candidate", {**kept, "n": n})
            assert first.status == 400, n
        await first.post(f"{PLACE}/candidate", {**kept, "n": "0"})
        assert first.page.form(f"{PLACE}/identify").fields.get("again") is None, "chosen, not typed"


@pytest.mark.parametrize(
    ("user", "status"), [("desk1", 403), ("privacy", 403), ("dr-lee", 200), ("admin", 200)]
)
async def test_who_may_say_it(user: str, status: int) -> None:
    async with house() as built:
        asked(built)
        person = await built.person(user)
        await person.open(f"{PLACE}/identity")
        assert person.status == status
        await person.open(PLACE)
        assert ("Say who this is" in person.page.text) == (status == 200)


async def test_a_worklist_that_does_not_answer_is_said_in_words() -> None:
    async with house() as built:
        asked(built)
        built.engine.fails["worklist"] = GatewayError("The worklist cannot be reached.", code="worklist-down")
        person = await built.person("admin")
        await person.open(f"{PLACE}/identity")
        await person.send(f"{PLACE}/worklist", mrn="4711")
        assert person.status == 409
        assert "The worklist cannot be reached." in person.page.text


async def test_what_waits_and_under_what_it_was_filed_is_said_everywhere() -> None:
    async with house() as built:
        asked(built)
        person = await built.person("dr-lee")
        for place in ("/inbox", PLACE):
            text = (await person.open(place)).text
            assert "Opened: who is it?" in text
            assert "Say who this is" in text
        await person.open(f"{PLACE}/identity")
        await person.send(f"{PLACE}/unknown")
        assert "Filed under COUNTY2K7Q-4711." in person.page.text
        assert "Filed under COUNTY2K7Q-4711." in (await person.open("/inbox")).text
        await person.open(f"{PLACE}/identity")
        assert "Nobody is asked any more." in person.page.text


async def test_who_is_behind_the_number_is_said_without_typing_it_again_and_put_right_later() -> None:
    async with house() as built:
        asked(
            built,
            name="DOE, JANE",
            state="filed",
            how="prefix",
            filed_id="COUNTY2K7Q-4711",
            sentence="Filed.",
        )
        built.engine.change(TID, state="COMPLETE")
        person = await built.person("dr-lee")
        for name in ("TEST, ALPHA", "TEST, ALFA"):
            await person.open(PLACE)
            assert "/identity" in str(person.page.links)
            await person.open(f"{PLACE}/identity")
            same = next(f for f in person.page.forms if "same" in f.fields)
            await person.post(f"{PLACE}/candidate", {**same.fields, "name": name, "born": "1984-03-12"})
            assert "told who the patient of COUNTY2K7Q-4711 is" in person.page.text
            form = person.page.form(f"{PLACE}/identify")
            assert "again" not in form.fields
            await person.post(f"{PLACE}/identify", {k: v or "1" for k, v in form.ticked.items()})
            assert f"COUNTY2K7Q-4711 is {name}." in person.page.text
        assert [c.kind for c in built.engine.whose[TID].changes] == ["update", "update"]
        text = (await person.open(f"{PLACE}/identity")).text
        assert "TEST, ALPHA" in text, "each correction adds a line"
        assert "TEST, ALFA" in text


@pytest.mark.parametrize("policy", ["prefix", "match", "as-is"])
async def test_the_inbox_says_what_its_policy_does(policy: str) -> None:
    async with house() as built:
        built.engine.policy = policy
        text = (await (await built.person("dr-lee")).open("/inbox")).text
        assert ("Not for clinical use before reconciliation." in text) == (policy == "as-is")
        assert ("Filed under our own number" in text) == (policy == "prefix")
        assert ("Nothing is stored before" in text) == (policy == "match")


def test_when_there_is_something_to_say() -> None:
    def view(**values: Any) -> Any:
        return blank(**{"tid": TID, "role": "receive", "peer": "X", "state": "COMPLETE", **values})

    assert can_correct(view(identity="prefix"))
    assert can_correct(view(identity="match", state="REVOKED"))
    assert can_correct(view(identity="corrected"))
    for values in (
        {"identity": "prefix", "state": "OPENED"}, {"identity": "as-is"},
        {"identity": "sealed"}, {"identity": "prefix", "role": "send"},
    ):  # fmt: skip
        assert not can_correct(view(**values)), values
        assert not can_say(view(**values)), values
    assert can_say(view(identity="waits", state="OPENED"))
