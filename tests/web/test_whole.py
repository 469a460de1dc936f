"""The whole story in a real browser: desk, phone and inbox, with real parties behind them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from clients.gateway.console import server, staff
from clients.phantom import write_study
from tests.world import Site, World, hashes

PASSWORD = "correct horse battery"
pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.open()
    yield made
    await made.close()


async def staff_page(
    browser: Browser, site: Site, user: str, role: str
) -> tuple[Page, BrowserContext, server.Server]:
    """A signed-in person at a gateway's own pages."""
    await site.engine.user_add(user, role, staff.hash_password(PASSWORD), "test")
    pages = await server.serve(site.engine, "127.0.0.1", 0)
    context = await browser.new_context(viewport={"width": 1280, "height": 720}, locale="en-US")
    page = await context.new_page()
    await page.goto(f"{pages.url}/sign-in")
    await page.get_by_label("Name").fill(user)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(r"/(desk|inbox)$"))
    return page, context, pages


async def test_clerk_patient_and_surgeon(browser: Browser, world: World, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, slices=8)
    await world.sender.engine.import_path(str(study), "test")
    desk, desk_context, desk_server = await staff_page(browser, world.sender, "clerk", "clerk")
    inbox, inbox_context, inbox_server = await staff_page(browser, world.receiver, "doctor", "clinician")
    phones = await browser.new_context(viewport={"width": 360, "height": 640}, locale="en-US")
    try:
        await desk.get_by_role("link", name=re.compile("PHANTOM")).first.click()
        await desk.get_by_role("radio", name=re.compile("Lakeside")).check()
        await desk.get_by_role("button", name=re.compile("^Send")).click()
        await expect(desk.get_by_role("img", name=re.compile("QR", re.IGNORECASE))).to_be_visible()
        view = (await world.sender.engine.transfers())[0]
        await expect(desk.locator("body")).to_contain_text(re.compile(r"\s*".join(view.pin)))
        await desk.screenshot(path=tmp_path / "desk-offered.png")

        phone = await phones.new_page()
        await phone.goto(view.link)
        await phone.locator("input").first.fill(view.pin)
        await phone.keyboard.press("Enter")
        await expect(phone.locator("body")).to_have_attribute("data-page", "ask")
        check = (await world.sender.engine.transfer(view.tid)).check
        await expect(phone.locator("body")).to_contain_text(check)
        await expect(desk.locator("main")).to_contain_text(check)
        await phone.screenshot(path=tmp_path / "phone-question.png")
        await phone.get_by_role("button", name=re.compile("^Yes")).click()

        await world.sender.until(view.tid, "COMPLETE")
        await expect(desk.locator("main")).to_contain_text(re.compile("complete", re.IGNORECASE))
        await expect(phone.locator("body")).to_have_attribute("data-page", "complete")
        await desk.screenshot(path=tmp_path / "desk-complete.png")
        await phone.screenshot(path=tmp_path / "phone-complete.png")
        await inbox.goto(f"{inbox_server.url}/transfers/{view.tid}")
        await expect(inbox.locator("body")).to_contain_text("Not for clinical use before reconciliation")
        await expect(inbox.locator("main")).to_contain_text("PHANTOM")
        await inbox.screenshot(path=tmp_path / "inbox-complete.png")
        assert world.stored() == hashes(study)
    finally:
        for context in (desk_context, inbox_context, phones):
            await context.close()
        for pages in (desk_server, inbox_server):
            await pages.stop()
