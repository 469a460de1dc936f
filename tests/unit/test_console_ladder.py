"""`clients.gateway.console.pages.ladder`: clinicians decide, each with their own password, in red, and on paper."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from clients.gateway.views import RungView, TransferView
from tests.console_kit import House, Person, house
from tests.fake_engine import PASSWORD

WHY = "unconscious, nobody with them"


@pytest.fixture
async def built() -> AsyncIterator[House]:
    async with house() as made:
        made.engine.put_user("dr-moss", "clinician")
        yield made


async def offered(built: House, **values: Any) -> TransferView:
    """A transfer of which both upper rungs are offered."""
    engine, now = built.engine, built.clock.time
    study = (await engine.studies())[0]
    peer = next(p.site for p in engine.all_peers.values() if p.reachable)
    view = await engine.send(study.id, peer, "transfer", "desk1")
    rungs = [RungView(name=n, at=now, open=True) for n in ("patient", "attest", "override")]
    return engine.change(view.tid, **{"rungs": rungs, **values})


async def decide(person: Person, view: TransferView, kind: str, **fields: str) -> str:
    """From the transfer's page to the answer; its text."""
    await person.open(f"/transfers/{view.tid}")
    assert f"/transfers/{view.tid}/{kind}" in person.page.links
    await person.open(f"/transfers/{view.tid}/{kind}")
    given = {"reason": WHY, "sure": "yes", "password": PASSWORD, **fields}
    return (await person.send(f"/transfers/{view.tid}/{kind}", **given)).text


async def test_two_clinicians_attest_each_in_their_own_name(built: House) -> None:
    view = await offered(built)
    lee, moss = await built.person("dr-lee"), await built.person("dr-moss")
    assert "dr-lee attested at" in await decide(lee, view, "attest")
    assert built.engine.all_transfers[view.tid].state == "OFFERED"
    again = await lee.open(f"/transfers/{view.tid}/attest")
    assert "A second clinician has to" in again.text
    assert all(f.action != f"/transfers/{view.tid}/attest" for f in again.forms)
    await moss.open(f"/transfers/{view.tid}/attest")
    assert WHY in moss.page.text
    assert "reason" not in moss.page.form(f"/transfers/{view.tid}/attest").fields
    text = await decide(moss, view, "attest")
    assert (
        f"Without the patient's yes: attested by two clinicians: dr-lee and dr-moss, 2027-01-15 {WHY}"[:75]
        in text
    )
    assert WHY in text


async def test_one_overrides_and_the_notice_says_who_when_why_and_whom_to_call(built: House) -> None:
    view = await offered(built)
    person = await built.person("dr-lee")
    assert "emergency override: dr-lee" in await decide(person, view, "override")
    assert f"/transfers/{view.tid}/notice" in person.page.links
    notice = (await person.open(f"/transfers/{view.tid}/notice")).text
    for words in ("without your yes", "sin su permiso", "dr-lee", WHY, "Ward 3, 555 0100", view.tid[:8]):
        assert words in notice
    assert "The answer was no" not in notice
    assert "271 828" not in notice
    assert person.answer is not None
    assert '<svg class="qr"' not in await person.answer.text(), "a clinician sees no code"
    clerk = await built.person("desk1")
    built.engine.change(view.tid, refused_at=built.clock.time - 60)
    notice = (await clerk.open(f"/transfers/{view.tid}/notice")).text
    assert "271 828" in notice
    assert "The answer was no, 2027-01-15 07:59:00" in notice
    assert clerk.answer is not None
    assert '<svg class="qr"' in await clerk.answer.text()


@pytest.mark.parametrize("kind", ["attest", "override"])
@pytest.mark.parametrize(
    ("fields", "words", "action"),
    [
        ({"password": "not the password"}, "That is not your password", "page:confirm-refused"),
        ({"password": ""}, "That is not your password", "page:confirm-refused"),
        ({"sure": ""}, "Tick the box", "page:"),
    ],
    ids=["wrong", "none", "not sure"],
)
async def test_without_password_and_word_nothing_is_decided(
    built: House, kind: str, fields: dict[str, str], words: str, action: str
) -> None:
    view = await offered(built)
    person = await built.person("dr-lee")
    assert words in await decide(person, view, kind, **fields)
    assert person.status in (400, 403)
    now = built.engine.all_transfers[view.tid]
    assert (now.state, now.vouched_by) == ("OFFERED", "")
    assert built.engine.actions()[-1].startswith(action)


async def test_wrong_passwords_are_slowed_down(built: House) -> None:
    view = await offered(built)
    person = await built.person("dr-lee")
    for _ in range(5):
        await decide(person, view, "override", password="x")
    assert "Wait" in await decide(person, view, "override")
    assert built.engine.all_transfers[view.tid].state == "OFFERED"


async def test_others_see_that_it_is_offered_and_may_not(built: House) -> None:
    view = await offered(built)
    clerk = await built.person("desk1")
    page = await clerk.open(f"/transfers/{view.tid}")
    assert "a clinician signs in and decides" in page.text
    csrf = page.forms[0].fields["csrf"]
    for kind in ("attest", "override"):
        assert f"/transfers/{view.tid}/{kind}" not in page.links
        await clerk.open(f"/transfers/{view.tid}/{kind}")
        assert clerk.status == 403
        await clerk.post(
            f"/transfers/{view.tid}/{kind}",
            {"csrf": csrf, "sure": "yes", "password": PASSWORD, "reason": WHY},
        )
        assert clerk.status == 403
    assert built.engine.all_transfers[view.tid].state == "OFFERED"


async def test_a_rung_says_when_it_is_offered_and_has_no_page_before(built: House) -> None:
    later = [
        RungView(name="patient", at=0, open=True),
        RungView(name="override", at=built.clock.time + 97, open=False),
    ]
    view = await offered(built, rungs=later)
    person = await built.person("dr-lee")
    page = await person.open(f"/transfers/{view.tid}")
    assert "Emergency override" in page.text
    assert "offered in 2 min , at 08:01:37" in page.text
    assert f"/transfers/{view.tid}/override" not in page.links
    await person.open(f"/transfers/{view.tid}/override")
    assert person.status == 400


async def test_after_a_no_only_what_the_policy_names_and_with_a_reason(built: House) -> None:
    view = await offered(built, state="DENIED", rungs=[], follows="override", ended_at=built.clock.time)
    person = await built.person("desk1")
    page = await person.open(f"/transfers/{view.tid}")
    assert "lets one thing follow: emergency override" in page.text
    assert f"/studies/{view.study}" not in page.links
    await person.send(f"/transfers/{view.tid}/again", reason="bleeding")
    assert person.path != f"/transfers/{view.tid}"
    assert "A person said no to this" in person.page.text
    assert "bleeding" in person.page.text
    built.engine.change(view.tid, follows="")
    page = await person.open(f"/transfers/{view.tid}")
    assert "lets nothing follow a no" in page.text
    assert all(not f.action.endswith("/again") for f in page.forms)


async def test_red_at_the_receiver_too_in_the_list_and_on_the_page(built: House) -> None:
    view = await offered(
        built, role="receive", state="OPENED", rung="override", decided_by="emergency override: rn.marsh",
        decided_why=WHY, decided_at=built.clock.time,
    )  # fmt: skip
    person = await built.person("dr-lee")
    for address in ("/inbox", f"/transfers/{view.tid}"):
        text = (await person.open(address)).text
        assert "Without the patient's yes" in text
        assert "emergency override: rn.marsh" in text
        assert WHY in text
    assert f"/transfers/{view.tid}/notice" not in person.page.links
