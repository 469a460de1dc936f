"""The way of a person through the page, in Chromium against a real relay: yes, no, for someone else, stop."""

from __future__ import annotations

import os
import re
import time
from typing import Literal

import pytest
from playwright.async_api import Page, expect

from relay.service import Running
from tests.web.conftest import MakeHospital, MakePhone
from tests.web.phone_kit import Hospital, Trips, enter, shows
from tests.web.test_phone_doors import dial
from transfer.ids import Digest
from transfer.links import spoken
from transfer.mailbox import Decided, Stop
from transfer.messages import Grant
from transfer.summary import Declined
from transfer.text import is_seen

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def asked(hospital: Hospital, phone: MakePhone, **context: object) -> Page:
    """A phone on which the question stands."""
    page = await phone(hospital.link, **context)
    if hospital.door == "voice":
        await dial(page, hospital.number, spoken(hospital.pin))
    else:
        await enter(page, hospital.pin)
    await shows(page, "ask")
    return page


async def released(hospital: Hospital, phone: MakePhone) -> Page:
    """A phone whose owner has said yes, and S has heard it."""
    page = await asked(hospital, phone)
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "released")
    return page


async def test_yes_is_a_grant_of_the_patient(hospital: MakeHospital, phone: MakePhone) -> None:
    """Three steps: the link, the PIN, Yes. The question says what, from where, to whom, and the check number."""
    h = await hospital()
    page = await phone(h.link)
    await shows(page, "pin")
    trips = Trips(page)
    await enter(page, h.pin)
    await shows(page, "ask")
    assert 2 <= trips.count <= 3
    await expect(page.get_by_role("heading")).to_have_text("Send these scans to Lakeside Trauma Center?")
    text = await page.inner_text("main")
    for fact in ("Valley Hospital", "CT of head, chest", "J. D., born 1980", "1 hour 5", h.check):
        assert fact in text
    await page.get_by_role("button", name="Yes, send the scans").click()
    grant = await h.wishes.get()
    assert isinstance(grant, Grant)
    assert (grant.d, grant.by, grant.name, grant.rel, grant.lang) == ("approve", "patient", "", "self", "en")
    await shows(page, "released")
    assert "Ward 3, 555 010 0199" in await page.inner_text("main")
    assert await page.get_attribute("a.tel", "href") == "tel:5550100199"


async def test_the_end_is_shown_while_it_comes(hospital: MakeHospital, phone: MakePhone) -> None:
    """RELEASED moves to COMPLETE by itself; the live region says it; the receipt code is S's."""
    h = await hospital()
    page = await released(h, phone)
    await h.tell("COMPLETE", code="7K3Q-1XYZ")
    await shows(page, "complete")
    await expect(page.get_by_role("status")).to_have_text("Done. All scans have arrived")
    await expect(page.locator(".code")).to_have_text("7K3Q-1XYZ")


async def test_partial(hospital: MakeHospital, phone: MakePhone) -> None:
    """What is missing is the staff's matter, and the page says so."""
    h = await hospital()
    page = await released(h, phone)
    await h.tell("PARTIAL")
    await shows(page, "partial")
    assert "The staff know this" in await page.inner_text("main")


async def test_no_is_a_grant_too(hospital: MakeHospital, phone: MakePhone) -> None:
    """And it meets no word of regret."""
    h = await hospital()
    page = await asked(h, phone)
    await page.get_by_role("button", name="No, do not send").click()
    grant = await h.wishes.get()
    assert isinstance(grant, Grant)
    assert (grant.d, grant.by) == ("deny", "patient")
    await shows(page, "denied")
    await expect(page.get_by_role("button", name="Stop sharing")).to_be_hidden()


async def test_who_speaks_for_the_patient(hospital: MakeHospital, phone: MakePhone) -> None:
    """Name and relation are asked for, once each is missing it is said where, and both are in the grant."""
    h = await hospital()
    page = await asked(h, phone)
    await page.get_by_text("someone else").click()
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "who")
    await page.get_by_role("button", name="Yes").click()
    await expect(page.get_by_text("Please type your name.")).to_be_visible()
    await expect(page.get_by_text("Please choose one.")).to_be_visible()
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.get_by_role("button", name="Go back").click()
    await shows(page, "ask")
    await expect(page.get_by_label("someone else")).to_be_checked()
    await page.get_by_role("button", name="Yes").click()
    await page.get_by_label("Your name").fill("  Zoë   Ünal 李 ")
    await page.get_by_label("Who are you to the patient?").select_option("guardian")
    await page.get_by_role("button", name="Yes").click()
    grant = await h.wishes.get()
    assert isinstance(grant, Grant)
    assert (grant.d, grant.by, grant.name, grant.rel) == ("approve", "proxy", "Zoë Ünal 李", "guardian")
    await shows(page, "released")


@pytest.mark.parametrize(("door", "d"), [("qr", "yes"), ("qr", "no"), ("voice", "yes")])
async def test_a_name_that_hides_something(
    door: str, d: str, hospital: MakeHospital, phone: MakePhone
) -> None:
    """What is typed or pasted is cleaned and bounded before it is signed; a no asks nobody who they are."""
    h = await hospital(door=door)
    page = await asked(h, phone)
    await page.get_by_text("someone else").click()
    if d == "no":
        await page.get_by_role("button", name="No, do not send").click()
        assert isinstance(grant := await h.wishes.get(), Grant)
        assert (grant.d, grant.by, grant.name, grant.rel) == ("deny", "proxy", "", "other")
        return await shows(page, "denied")
    await page.get_by_role("button", name="Yes").click()
    await page.get_by_label("Who are you to the patient?").select_option("poa")
    name = page.get_by_label("Your name")
    for typed, words in (
        ("\u202e\u200b \u2066", "Please type your name."),
        ("x" * 10_000, "This name is too long."),
    ):
        await name.evaluate("(el, typed) => { el.value = typed; }", typed)
        await page.get_by_role("button", name="Yes").click()
        await expect(page.get_by_text(words)).to_be_visible()
        await expect(name).to_be_focused()
    await name.evaluate(
        "(el, typed) => { el.value = typed; }", " \u202eנועה\u202c \u200b  לוי\x07 " + "e\u0301" * 71
    )
    await page.get_by_role("button", name="Yes").click()
    assert isinstance(grant := await h.wishes.get(), Grant)
    assert (grant.name, grant.rel) == ("נועה לוי " + "é" * 71, "poa")
    return await shows(page, "released")


async def test_the_page_knows_the_same_unseen_characters(phone: MakePhone, relay: Running) -> None:
    """As `transfer/text.py`, code by code."""
    page = await phone(f"{relay.url}/s")
    ours = [code for code in range(0x110000) if not is_seen(chr(code))]
    theirs = await page.evaluate(
        "async () => { const { UNSEEN } = await import('/a/app.js');"
        " return [...Array(0x110000).keys()].filter((c) => String.fromCodePoint(c).search(UNSEEN) === 0); }"
    )
    assert theirs == ours


@pytest.mark.parametrize(
    ("by", "words"), [("patient", "The patient was asked before and said no,"), ("proxy", "Someone who")]
)
async def test_who_is_asked_after_a_no_reads_of_it(
    by: Literal["patient", "proxy"], words: str, hospital: MakeHospital, phone: MakePhone
) -> None:
    """Protocol s. 10: the summary says "declined at 10:02"; both answers stay on the screen."""
    h = await hospital(declined=Declined(at=1_790_000_520, by=by), to="\u202eLakeside\u200b")
    page = await asked(h, phone, timezone_id="UTC")
    said = page.get_by_text(words).filter(visible=True)
    await expect(said).to_contain_text(re.compile(r"said no, Sep 21, 2026, 2:22\sPM\."))
    await expect(page.get_by_role("heading")).to_have_text("Send these scans to Lakeside?")
    for button in ("Yes, send the scans", "No, do not send"):
        await expect(page.get_by_role("button", name=button)).to_be_in_viewport(ratio=1)


async def test_stop_sharing(hospital: MakeHospital, phone: MakePhone) -> None:
    """It is asked once more, then S hears it and the page shows the end."""
    h = await hospital()
    page = await released(h, phone)
    await page.get_by_role("button", name="Stop sharing").click()
    await shows(page, "stop")
    await page.get_by_role("button", name="Go back").click()
    await shows(page, "released")
    await page.get_by_role("button", name="Stop sharing").click()
    await page.get_by_role("button", name="Yes, stop sharing").click()
    assert isinstance(await h.wishes.get(), Grant)
    assert isinstance(await h.wishes.get(), Stop)
    await shows(page, "revoked")


async def test_stop_comes_too_late(hospital: MakeHospital, phone: MakePhone) -> None:
    """After the end S says "decided": the scans are there, and the page says where to ask."""
    h = await hospital()
    page = await released(h, phone)
    await h.tell("COMPLETE")
    await shows(page, "complete")
    h.refuse = "decided"
    await page.get_by_role("button", name="Stop sharing").click()
    await expect(page.get_by_text("No more scans will be sent.")).to_be_hidden()
    await expect(
        page.get_by_text("We can tell Lakeside Trauma Center that you want to stop.")
    ).to_be_visible()
    await page.get_by_role("button", name="Yes, stop sharing").click()
    await expect(page.get_by_text("It was too late to stop it.").first).to_be_visible()
    await expect(page.get_by_text("We tell Lakeside Trauma Center that you want to stop.")).to_be_visible()
    await expect(page.get_by_role("button", name="Stop sharing")).to_be_hidden()


async def test_a_stop_that_nobody_hears_any_more(hospital: MakeHospital, phone: MakePhone) -> None:
    """A day after the end the mailbox is closed: the page promises nothing."""
    h = await hospital()
    page = await released(h, phone)
    await h.tell("COMPLETE")
    await shows(page, "complete")
    await h.end("COMPLETE")
    await page.get_by_role("button", name="Stop sharing").click()
    await page.get_by_role("button", name="Yes, stop sharing").click()
    await expect(page.get_by_text("Your wish did not reach the hospital.")).to_be_visible()
    await expect(page.get_by_text("We tell Lakeside Trauma Center")).to_be_hidden()


async def test_two_phones_stop(hospital: MakeHospital, phone: MakePhone) -> None:
    """The second wish finds it stopped: nothing is too late."""
    h = await hospital()
    page = await released(h, phone)
    await page.get_by_role("button", name="Stop sharing").click()
    h.refuse, h.state = "decided", "REVOKED"
    await page.get_by_role("button", name="Yes, stop sharing").click()
    await shows(page, "revoked")
    await expect(page.get_by_text("It was too late to stop it.")).to_be_hidden()


async def test_what_was_diverted_says_so_and_can_still_be_stopped(
    hospital: MakeHospital, phone: MakePhone
) -> None:
    """A child offer is asked like any other; when a yes has moved on to another hospital, so has the wish to stop."""
    h = await hospital()
    h.offer = h.sign(parent=Digest(os.urandom(32)), kind="divert")
    page = await released(h, phone)
    await h.tell("DIVERTED")
    await shows(page, "diverted")
    await expect(page.get_by_role("heading")).to_have_text("The scans go to another hospital.")
    await page.get_by_role("button", name="Stop sharing").click()
    await page.get_by_role("button", name="Yes, stop sharing").click()
    await shows(page, "revoked")


async def test_a_second_phone_sees_what_was_decided(hospital: MakeHospital, phone: MakePhone) -> None:
    """Scanned again after the answer: no question, but what and when; it may still ask to stop."""
    h = await hospital()
    page = await released(h, phone)
    second = await phone(h.link)
    await enter(second, h.pin)
    await shows(second, "used")
    text = await second.inner_text("main")
    assert "The answer was yes, " in text
    assert "The scans are on their way." in text
    await second.get_by_role("button", name="Stop sharing").click()
    await second.get_by_role("button", name="Yes, stop sharing").click()
    await expect(second.get_by_text("The hospital stopped it.").first).to_be_visible()
    await shows(page, "revoked")


async def test_a_phone_hears_that_the_hospital_decided(hospital: MakeHospital, phone: MakePhone) -> None:
    """Not a yes of somebody: words of its own, and it may be stopped."""
    h = await hospital()
    h.state, h.decided = "RELEASED", Decided("staff", int(time.time()))
    page = await phone(h.link)
    await enter(page, h.pin)
    await shows(page, "used")
    text = await page.inner_text("main")
    assert "The hospital decided to send the scans" in text
    assert "The answer was" not in text
    assert "If that was not you" not in text
    await page.get_by_role("button", name="Stop sharing").click()
    await page.get_by_role("button", name="Yes, stop sharing").click()
    await expect(page.get_by_text("The hospital stopped it.").first).to_be_visible()


async def test_the_slower_of_two_phones(hospital: MakeHospital, phone: MakePhone) -> None:
    """Both reach the question; the first answer counts, and the other phone is told which it was."""
    h = await hospital()
    first, second = await asked(h, phone), await asked(h, phone)
    await first.get_by_role("button", name="No, do not send").click()
    await shows(first, "denied")
    h.refuse = "decided"
    await second.get_by_role("button", name="Yes").click()
    await shows(second, "used")
    assert "The answer was no, " in await second.inner_text("main")


async def test_what_may_go_elsewhere_and_later_is_seen(hospital: MakeHospital, phone: MakePhone) -> None:
    """Alternative destinations and later additions are part of the yes, so they stand beside it."""
    h = await hospital(
        alt=["Hill Hospital", "Bay Hospital"], add=7200, why="drill", person="unknown", call=""
    )
    page = await asked(h, phone)
    text = await page.inner_text("main")
    assert "they may go to Hill Hospital or Bay Hospital." in text
    assert "For 2 hours, new scans and reports may be sent too" in text
    assert "This is only a drill" in text
    assert "Name not known yet" in text


async def test_a_double_tap_sends_once(hospital: MakeHospital, phone: MakePhone) -> None:
    """Two taps in one moment make one m5."""
    h = await hospital()
    page = await asked(h, phone)
    posts: list[str] = []
    page.on("request", lambda r: posts.append(r.url) if r.method == "POST" else None)
    await page.get_by_role("button", name="Yes").dblclick()
    await shows(page, "released")
    assert len([url for url in posts if url.endswith("/5")]) == 1
    assert h.wishes.qsize() == 1


async def test_the_language_follows_the_phone_and_the_person(
    hospital: MakeHospital, phone: MakePhone
) -> None:
    """Spanish by the phone's setting; a switch on the way keeps what was chosen; the grant says which was shown."""
    h = await hospital()
    page = await asked(h, phone, locale="es-MX")
    await expect(page.get_by_role("heading")).to_have_text("¿Mandar estas imágenes a Lakeside Trauma Center?")
    assert "Tomografía: cabeza, pecho" in await page.inner_text("main")
    await page.get_by_text("otra persona").click()
    await page.get_by_role("button", name="English").click()
    await expect(page.get_by_role("heading")).to_have_text("Send these scans to Lakeside Trauma Center?")
    await expect(page.get_by_label("someone else")).to_be_checked()
    assert await page.get_attribute("html", "lang") == "en"
    await page.get_by_text("the patient", exact=True).click()
    await page.get_by_role("button", name="Español").click()
    await page.get_by_role("button", name="Sí, mandarlas").click()
    grant = await h.wishes.get()
    assert isinstance(grant, Grant)
    assert grant.lang == "es"
    await shows(page, "released")


async def test_keyboard_alone(hospital: MakeHospital, phone: MakePhone) -> None:
    """From the PIN to the receipt without a pointer; every new page has the focus at its heading."""
    h = await hospital()
    page = await phone(h.link, has_touch=False)
    await expect(page.locator("#code")).to_be_focused()
    await page.keyboard.type(h.pin)
    await page.keyboard.press("Enter")
    await shows(page, "ask")
    await expect(page.get_by_role("heading")).to_be_focused()
    await page.keyboard.press("Tab")  # More about yes and no
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("You still get care.")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("the patient")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Yes")).to_be_focused()
    await page.keyboard.press("Enter")
    await shows(page, "who")
    await page.keyboard.press("Tab")
    await page.keyboard.type("Sam")
    await page.keyboard.press("Tab")
    await page.keyboard.type("Son")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    grant = await h.wishes.get()
    assert isinstance(grant, Grant)
    assert (grant.name, grant.rel) == ("Sam", "child")
    await shows(page, "released")
