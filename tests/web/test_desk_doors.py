"""The other doors in Chromium: what is read aloud, what a scanner types, the poster; and once with everything real."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from clients.phantom import write_study
from tests.web.desk_kit import axe, desk, live
from tests.web.test_whole import staff_page
from tests.world import World
from transfer.links import make_scan

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]
CODE = make_scan(b"q" * 16)


async def test_a_number_and_a_code_are_read_aloud(browser: Browser) -> None:
    async with desk(browser) as made:
        view = await made.sent()
        page = await made.at(view)
        await live(page)
        await page.locator("#doors summary").click()
        await page.get_by_role("button", name="Read a code on the telephone").click()
        fresh = made.engine.all_transfers[view.tid]
        spoken = page.locator("ol[lang=en] .spoken")
        await expect(spoken).to_have_text(
            [f"{fresh.number[:3]} {fresh.number[3:]}", f"{fresh.pin[:3]} {fresh.pin[3:6]} {fresh.pin[6:]}"]
        )
        await expect(spoken.nth(1)).to_be_in_viewport(ratio=1)
        await expect(page.locator("svg.qr")).to_have_count(0)
        await page.locator("#spanish summary").click()
        await expect(page.locator("ol[lang=es] .spoken").first).to_be_visible()
        assert await axe(page) == []
        made.engine.change(view.tid, check="4821", joined_at=made.engine.clock.now())
        await expect(page.locator("p.check")).to_have_text("4821")
        await expect(page.locator("#spanish")).to_have_attribute("open", "")
        made.engine.change(view.tid, link="", pin="", number="", code_until=0)
        await expect(page.get_by_role("heading", name="The time of this code is over")).to_be_visible()
        await expect(page.locator("p.check")).to_have_text("4821")
        assert await axe(page) == []
        made.engine.change(view.tid, check="")
        await expect(page.get_by_role("heading", name="No code is open")).to_be_visible()
        await page.get_by_role("button", name="Show a QR code").click()
        await expect(page.locator("svg.qr")).to_be_visible()


async def test_a_scanner_types_wherever_the_focus_is(browser: Browser) -> None:
    async with desk(browser) as made:
        view = await made.sent()
        page = await made.at(view, "/scan")
        await expect(page.locator("#scanned")).to_be_focused()
        await page.keyboard.type("]C1400003\n")
        await expect(page.locator("#problem")).to_contain_text("scan-rubbish")
        await expect(page.locator("#scanned")).to_be_focused()
        assert await axe(page) == []
        await page.locator("h1").click()
        await expect(page.locator("#scanned")).not_to_be_focused()
        await page.keyboard.type(CODE + "\n")
        await page.wait_for_url(re.compile(r"/transfers/[0-9a-f]{32}$"))
        await expect(page.get_by_role("heading", name="Their phone was scanned")).to_be_visible()
        await expect(page.locator("p.pin")).to_be_in_viewport(ratio=1)
        assert made.engine.all_transfers[view.tid].door == "scan"
        assert await axe(page) == []


async def test_a_camera_where_the_browser_reads_codes(browser: Browser) -> None:
    """Chromium on Linux has no reader of its own: one is put in its place."""
    async with desk(browser) as made:
        view = await made.sent()
        page = await made.at(view, "/scan")
        await expect(page.locator("#camera")).to_be_hidden()
        await page.add_init_script(f"""
          globalThis.BarcodeDetector = class {{
            static async getSupportedFormats() {{ return ['qr_code']; }}
            async detect() {{ return [{{ rawValue: '{CODE}' }}]; }}
          }};
          navigator.mediaDevices.getUserMedia = async () => document.createElement('canvas').captureStream();
          HTMLMediaElement.prototype.play = async () => {{}};
        """)
        await page.reload()
        await page.locator("#camera").click()
        await page.wait_for_url(re.compile(r"/transfers/[0-9a-f]{32}$"))
        assert made.engine.all_transfers[view.tid].door == "scan"


async def test_the_poster(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("desk1")
        await page.goto(f"{made.url}/poster")
        await expect(page.locator(".poster-address .address")).to_have_text("relay.example/p")
        assert await axe(page) == []
        await page.emulate_media(media="print")
        await expect(page.get_by_role("navigation")).to_be_hidden()


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.open()
    yield made
    await made.close()


async def test_one_transfer_at_every_door(browser: Browser, world: World, tmp_path: Path) -> None:
    """Desk and phone side by side, everything real: one door ends with the next, the last is answered."""
    write_study(tmp_path / "study", slices=2)
    await world.sender.engine.import_path(str(tmp_path / "study"), "test")
    clerk, context, server = await staff_page(browser, world.sender, "clerk", "clerk")
    phones = await browser.new_context(viewport={"width": 360, "height": 640}, locale="en-US")
    try:
        study = (await world.sender.engine.studies())[0]
        peer = (await world.sender.engine.peers())[0]
        first = await world.sender.engine.send(study.id, peer.site, "transfer", "test")
        await clerk.goto(f"{server.url}/transfers/{first.tid}")
        await clerk.locator("#doors summary").click()
        await clerk.locator("#door-voice").click()
        await expect(clerk.locator("ol[lang=en] .spoken")).to_have_count(2)
        number, code = await clerk.locator("ol[lang=en] .spoken").all_inner_texts()
        old, caller, shown = [await phones.new_page() for _ in range(3)]
        await old.goto(first.link)
        await expect(old.locator("body")).to_have_attribute("data-page", "ended")
        voice = (await world.sender.engine.transfer(first.tid)).link
        await caller.goto(voice)
        await caller.locator("#number").fill(number)
        await caller.locator("#code").fill(code)
        await caller.locator("form button").click()
        await expect(caller.locator("body")).to_have_attribute("data-page", "ask")
        check = await caller.locator(".check b").inner_text()
        await expect(clerk.locator("p.check")).to_have_text(check)

        await shown.add_init_script("crypto.getRandomValues = (array) => array.fill(7);")
        await shown.goto(voice[:-1] + "p")
        await expect(shown.locator("body")).to_have_attribute("data-page", "show")
        await clerk.goto(f"{server.url}/transfers/{first.tid}/scan")
        await clerk.keyboard.type(make_scan(bytes([7]) * 16) + "\n")
        await expect(clerk.locator("p.pin")).to_be_visible()
        await expect(shown.locator("body")).to_have_attribute("data-page", "pin")
        await shown.locator("#code").fill(re.sub(r"\D", "", await clerk.locator("p.pin").inner_text()))
        await shown.keyboard.press("Enter")
        await expect(shown.locator("body")).to_have_attribute("data-page", "ask")
        await caller.get_by_role("button", name=re.compile("^Yes")).click()
        await expect(caller.locator("body")).to_have_attribute("data-page", "ended")
        await shown.get_by_role("button", name=re.compile("^Yes")).click()
        await world.sender.until(first.tid, "COMPLETE")
        await expect(shown.locator("body")).to_have_attribute("data-page", "complete")
    finally:
        await context.close()
        await phones.close()
        await server.stop()
