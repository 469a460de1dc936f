"""What every page keeps: accessible, light, usable without scripts, by keyboard, on a small screen, on paper."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, Page, expect

from tests.web.desk_kit import a_full_day, axe, desk

OPEN_ALL = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def test_axe_finds_nothing_on_any_page(browser: Browser) -> None:
    async with desk(browser) as made:
        places = await a_full_day(made)
        page = await made.person()
        await page.goto(made.url + "/sign-in?why=ended")
        found = {"sign-in": await axe(page)}
        await page.get_by_label("Name").fill("desk1")
        await page.get_by_label("Password").fill("wrong words here")
        await page.get_by_label("Password").press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        found["sign-in refused"] = await axe(page)
        await made.sign_in(page, "admin")
        for name, place in places.items():
            await page.goto(made.url + place)
            await page.evaluate(OPEN_ALL)
            found[name] = await axe(page)
        clinician = await made.person("dr-lee")
        for name, place in (("attest", places["offered"]), ("override", places["again"])):
            await clinician.goto(f"{made.url}{place}/{name}")
            await expect(clinician.get_by_label("Password")).to_be_visible()
            found[name] = await axe(clinician)
        assert {name: faults for name, faults in found.items() if faults} == {}


async def sideways(page: Page) -> bool:
    return bool(
        await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )


async def test_no_page_scrolls_sideways(browser: Browser) -> None:
    """320 CSS pixels are also what 1280 become at 400 % zoom (WCAG 2.2 1.4.10)."""
    async with desk(browser) as made:
        places = await a_full_day(made)
        page = await made.person("admin")
        wide = []
        for name, place in places.items():
            await page.goto(made.url + place)
            await page.evaluate(OPEN_ALL)
            for width in (1280, 320):
                await page.set_viewport_size({"width": width, "height": 720})
                if await sideways(page):
                    wide.append((name, width))
        assert wide == []


async def test_text_spacing_cuts_nothing_at_the_desk(browser: Browser) -> None:
    """WCAG 2.2 1.4.12."""
    spacing = (
        "line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important;"
    )
    async with desk(browser) as made:
        places = await a_full_day(made)
        page = await made.person("admin", bypass_csp=True)
        for name in ("desk", "offered", "inbox", "study"):
            await page.goto(made.url + places[name])
            await page.add_style_tag(content=f"* {{ {spacing} }}")
            assert not await sideways(page), name


async def test_every_page_weighs_less_than_100_kb_and_comes_from_here(browser: Browser) -> None:
    async with desk(browser) as made:
        places = await a_full_day(made)
        page = await made.person("admin")
        for name, place in places.items():
            fresh = await page.context.new_page()
            await fresh.goto(made.url + place)
            weight = await fresh.evaluate(
                "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
                ".filter((e) => !e.name.endsWith('/live')).reduce((sum, e) => sum + e.encodedBodySize, 0)"
            )
            assert 1_000 < weight < 100_000, (name, weight)
            await fresh.close()


async def tab_to(page: Page, name: re.Pattern[str]) -> None:
    """Presses Tab until the focus is on what is called `name`, and checks that the focus can be seen each time."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        shown = await page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();"
            " return { name: e.getAttribute('aria-label') || e.innerText || e.value || '',"
            "  seen: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 && r.width > 0,"
            "  body: e === document.body }; })()"
        )
        assert shown["seen"] or shown["body"], shown["name"]
        if name.search(shown["name"]):
            return
    raise AssertionError(f"Tab does not reach {name.pattern}")


async def test_from_the_list_to_a_stopped_transfer_by_keyboard_alone(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("desk1")
        await tab_to(page, re.compile("^Send DOE, JANE"))
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/studies/*")
        await tab_to(page, re.compile("^Send and show the QR code"))
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/transfers/*")
        await expect(page.locator("svg.qr")).to_be_visible()
        await tab_to(page, re.compile("^Stop$"))
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/stop")
        await tab_to(page, re.compile("^Yes, stop it"))
        await page.keyboard.press("Enter")
        await expect(page.locator("#state")).to_contain_text("Stopped")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()


async def test_all_of_it_works_with_scripts_blocked(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("desk1", java_script_enabled=False)
        await page.get_by_role("searchbox").fill("DOE")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("link", name="Send DOE, JANE").click()
        await page.get_by_role("button", name="All images are here").click()
        await expect(page.locator("#counts")).to_contain_text("all here")
        await page.get_by_role("button", name="Send and show the QR code").click()
        await expect(page.locator("svg.qr")).to_be_visible()
        view = next(iter(made.engine.all_transfers.values()))
        made.engine.change(view.tid, moved=view.bytes, check="4821")
        await page.get_by_role("link", name="Refresh").click()
        await expect(page.locator("p.check")).to_have_text("4821")
        await page.get_by_role("link", name="Stop").click()
        await page.get_by_role("button", name="Yes, stop it").click()
        await expect(page.locator("#state")).to_contain_text("Stopped")
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/sign-in")


async def test_paper_gets_the_facts_and_the_qr_but_never_the_pin(browser: Browser) -> None:
    async with desk(browser) as made:
        places = await a_full_day(made)
        page = await made.person("desk1")
        await page.emulate_media(media="print")
        await page.goto(made.url + places["offered"])
        await expect(page.locator("svg.qr")).to_be_visible()
        await expect(page.locator("p.pin")).to_be_hidden()
        await expect(page.get_by_role("link", name="Stop")).to_be_hidden()
        await page.goto(made.url + places["partial"])
        for words in ("3 images are missing.", "7QK4M2PX", "proxy: A. TEST (parent)", "printed by desk1"):
            await expect(page.get_by_text(words)).to_be_visible()


async def test_the_qr_can_be_read_by_a_camera(browser: Browser) -> None:
    """Dark on light, square, no smaller than 4 pixels for each module, with its quiet zone."""
    async with desk(browser) as made:
        view = await made.sent()
        page = await made.at(view)
        box = await page.locator("svg.qr").bounding_box()
        modules = float((await page.locator("svg.qr").get_attribute("viewBox") or "").split()[2])
        assert box is not None
        assert box["width"] == box["height"] >= 4 * modules
        ground = page.locator("svg.qr path").first
        assert await ground.evaluate("(e) => getComputedStyle(e).fill") == "rgb(255, 255, 255)"
        assert (
            await page.locator("svg.qr path").last.evaluate("(e) => getComputedStyle(e).fill")
            == "rgb(0, 0, 0)"
        )


async def test_two_gateways_on_one_machine_do_not_sign_each_other_out(browser: Browser) -> None:
    async with desk(browser) as sender, desk(browser) as receiver:
        page = await sender.person("desk1")
        other = await page.context.new_page()
        await receiver.sign_in(other, "dr-lee")
        await page.goto(sender.url + "/")
        await expect(page).to_have_url(sender.url + "/desk")
        await other.goto(receiver.url + "/")
        await expect(other).to_have_url(receiver.url + "/inbox")
