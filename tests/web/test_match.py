"""Who is this patient: the pages in Chromium, from the inbox to what is stored, with and without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from clients.gateway.views import TransferView
from clients.gateway.whose import WorklistItem
from tests.web.desk_kit import Desk, axe, desk, live

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


def on_worklist(number: str, name: str, born: str = "1984-03-12", **values: Any) -> WorklistItem:
    family, _, given = name.partition(", ")
    facts: dict[str, Any] = {
        "patient_id": number, "issuer": "LAKESIDE", "name": f"{family}^{given}", "shown_name": name, "birth_date": born,
        "sex": "F", "accession": f"A{number}", "what": "CT, import", "scheduled": "2026-11-24 14:03", "fits": True,
    }  # fmt: skip
    return WorklistItem(**{**facts, **values})


def asked(made: Desk, **sender: Any) -> TransferView:
    """An opened transfer that waits for staff."""
    now = made.engine.clock.now()
    view = made.incoming(
        state="OPENED", why="identity", patient_name=sender.get("name", "TEST, ALPHA"), birth_date="1984-03-12",
        decided_by="patient", decided_at=now, created_at=now - 60, bytes=140_000_000, moved=140_000_000,
    )  # fmt: skip
    made.engine.ask_who(view.tid, **{"name": "TEST, ALPHA", **sender})
    return made.engine.all_transfers[view.tid]


async def tick_all(page: Page) -> None:
    for box in await page.get_by_role("group", name="Confirm each line").get_by_role("checkbox").all():
        await box.check()


async def test_from_the_inbox_by_the_worklist_to_a_stored_study_with_scripts_blocked(
    browser: Browser,
) -> None:
    async with desk(browser) as made:
        made.engine.policy = "match"
        made.engine.on_worklist = [
            on_worklist("4711", "TEST, ALPHA"),
            on_worklist("5", "TEST, BRAVO", "1951-11-02"),
        ]
        view = asked(made)
        page = await made.person("dr-lee", java_script_enabled=False)
        await expect(page.locator("#inbox")).to_contain_text("Who is this patient?")
        await page.get_by_role("link", name="Say who this is").click()
        await expect(page.get_by_role("heading", name="Who is this patient?")).to_be_visible()
        await expect(page.locator("#standing")).to_contain_text("If nobody says it within")
        await expect(page.locator("dl.facts")).to_contain_text("of COUNTY")
        await page.get_by_label("Our number (MRN)", exact=True).fill("4711")
        await page.get_by_role("button", name="Search").click()
        await expect(page.locator("#answers tbody tr")).to_have_count(1)
        await expect(page.get_by_text("1 answer was for other patients than asked for")).to_be_visible()
        await page.get_by_role("button", name="Compare with TEST, ALPHA, 4711").click()
        await expect(page.get_by_role("heading", name="Are these one person?")).to_be_visible()
        assert not re.search("TEST|ALPHA|4711", page.url)
        assert made.engine.whose[view.tid].state == "waits"
        await page.get_by_role("button", name="Yes, store them").click()
        assert made.engine.whose[view.tid].state == "waits", "nothing is done before both lines are confirmed"
        await tick_all(page)
        await page.get_by_role("button", name="Yes, store them").click()
        await expect(page.locator("#filed")).to_contain_text("Filed under 4711.")
        assert made.engine.whose[view.tid].how == "match"
        assert "page:identify" in made.engine.actions()


async def test_an_unknown_patient_and_what_differs_are_confirmed_for_themselves(browser: Browser) -> None:
    async with desk(browser) as made:
        view = asked(made, name="DOE, JANE")
        page = await made.at(view, "/identity", user="admin")
        await page.get_by_label("Our number (MRN), typed or scanned").fill("900")
        await page.get_by_label("Name in our system").fill("DOE, JANE")
        await page.get_by_label("Date of birth in our system").fill("1990-01-01")
        await page.get_by_label("Sex in our system").select_option("M")
        await page.get_by_role("button", name="Compare both").click()
        await expect(page.get_by_text("An unknown patient.")).to_be_visible()
        await expect(page.locator("#row-birth_date")).to_contain_text("differs")
        red = await page.locator("#row-birth_date td").first.evaluate(
            "(e) => getComputedStyle(e).backgroundColor"
        )
        assert red == "rgb(251, 228, 226)"
        boxes = page.get_by_role("group", name="Confirm each line").get_by_role("checkbox")
        await expect(boxes).to_have_count(4)
        await expect(page.get_by_role("checkbox", name="I have compared the name")).to_have_count(0)
        assert await axe(page) == []
        await tick_all(page)
        await page.get_by_label("Type or scan our number once more").fill("901")
        await page.get_by_role("button", name="Yes, store them").click()
        await expect(
            page.get_by_text("The number that was typed the second time is another one.")
        ).to_be_visible()
        assert made.engine.whose[view.tid].state == "waits"
        await page.go_back()
        await tick_all(page)
        await page.get_by_label("Type or scan our number once more").fill("900")
        await page.get_by_role("button", name="Yes, store them").click()
        await expect(page.locator("#filed")).to_contain_text("Filed under 900.")


async def test_nobody_knows_yet_and_later_somebody_does(browser: Browser) -> None:
    async with desk(browser) as made:
        view = asked(made)
        page = await made.at(view, "/identity", user="admin")
        await page.get_by_role("button", name="We do not know yet: store them").click()
        await expect(page.locator("#filed")).to_contain_text("Filed under COUNTY2K7Q-4711.")
        await live(page)
        made.engine.change(
            view.tid, state="COMPLETE", stored=575, total=575, ended_at=made.engine.clock.now()
        )
        await page.get_by_role("link", name="Say which patient of ours this is").click()
        await page.get_by_label("Our number (MRN), typed or scanned").fill("4711")
        await page.get_by_role("button", name="Compare both").click()
        await expect(page.get_by_text("It cannot be taken back here.")).to_be_visible()
        await tick_all(page)
        await page.get_by_label("Type or scan our number once more").fill("4711")
        await page.get_by_role("button", name="Yes, tell our systems").click()
        await expect(page.locator("#filed")).to_contain_text("This is our patient 4711.")
        await page.get_by_role("link", name="Correct whose images these are").click()
        same = page.get_by_role("region", name="The number is right, and we know who it is")
        await same.get_by_label("Name in our system").fill("TEST, BRAVO")
        await same.get_by_role("button", name="Compare the person").click()
        assert await axe(page) == []
        await tick_all(page)
        await page.get_by_role("button", name="Yes, tell our systems").click()
        await expect(page.locator("#filed")).to_contain_text("4711 is TEST, BRAVO.")


async def test_a_wristband_scanner_and_the_keyboard_are_enough(browser: Browser) -> None:
    async with desk(browser) as made:
        made.engine.on_worklist = [on_worklist("4711", "TEST, ALPHA")]
        view = asked(made)
        page = await made.at(view, "/identity", user="admin")
        await expect(page.get_by_label("Our number (MRN)", exact=True)).to_be_focused()
        await page.keyboard.type("4711\n")
        await expect(page.locator("#answers")).to_be_visible()
        await page.get_by_role("button", name="Compare with TEST, ALPHA").press("Enter")
        for _ in range(2):
            await page.keyboard.press("Tab")
        box = page.get_by_role("checkbox", name="I have compared the name")
        await box.focus()
        await page.keyboard.press("Space")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Space")
        await page.get_by_role("button", name="Yes, store them").press("Enter")
        await expect(page.locator("#filed")).to_contain_text("Filed under 4711.")


async def test_the_longest_name_fits_on_a_small_screen(browser: Browser) -> None:
    """320 CSS pixels are also what 1280 become at 400 % zoom (WCAG 2.2 1.4.10)."""
    async with desk(browser) as made:
        long = "X" * 32 + ", " + "Y" * 30
        made.engine.on_worklist = [on_worklist("4" * 64, long)]
        view = asked(made, name=long, patient_id="9" * 64)
        page = await made.at(view, "/identity", user="admin", viewport={"width": 320, "height": 720})
        await page.get_by_label("Name, as FAMILY, GIVEN").fill("XX")
        await page.get_by_role("button", name="Search").click()
        await expect(page.locator("#answers")).to_be_visible()
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not await page.evaluate(wide)
        await page.get_by_role("button", name=re.compile("^Compare with X")).click()
        await expect(page.get_by_role("heading", name="Are these one person?")).to_be_visible()
        assert not await page.evaluate(wide)
        assert await axe(page) == []
