"""A day at the desk in Chromium: sign in, search, send, QR; what a phone and the other site do shows by itself."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, expect

from clients.gateway.views import SeriesProgress
from tests.web.desk_kit import desk, live

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def test_from_the_list_to_the_qr_in_two_clicks(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("desk1")
        row = page.get_by_role("row").filter(has_text="DOE, JANE")
        await expect(row).to_contain_text("1984-03-12")
        await row.get_by_role("link", name="Send DOE, JANE").click()
        await page.get_by_role("button", name="Send and show the QR code").click()
        await expect(page.get_by_role("img", name="QR code for the phone")).to_be_visible()
        await expect(page.get_by_role("img", name="QR code for the phone")).to_be_in_viewport(ratio=1)
        view = next(iter(made.engine.all_transfers.values()))
        await expect(page.locator("p.pin")).to_have_text(f"{view.pin[:3]} {view.pin[3:]}")
        await expect(page.locator("p.pin")).to_be_in_viewport(ratio=1)
        assert view.link.partition("#")[2] not in page.url
        assert view.patient_name not in await page.title()


async def test_a_wristband_scanner_types_and_two_more_keys_send(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("desk1")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.type("400003\n")
        await page.wait_for_url(re.compile(r"\?s=[0-9a-f]{16}$"))
        await expect(page.get_by_role("row")).to_have_count(2)
        await expect(page.get_by_role("link", name="Send TEST, BRAVO")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/studies/*")
        await page.get_by_role("button", name="Send and show the QR code").press("Enter")
        await expect(page.locator("svg.qr")).to_be_visible()


async def test_the_transfer_page_follows_to_the_end_without_a_reload(browser: Browser) -> None:
    async with desk(browser) as made:
        view = await made.sent(moved=10_000_000, bytes=140_000_000, speed=2e6)
        page = await made.at(view)
        await live(page)
        await page.evaluate("window.same = true")
        change = made.engine.change
        change(view.tid, moved=70_000_000)
        await expect(page.locator("#progress")).to_contain_text("70 MB of 140 MB")
        change(view.tid, stalled=True)
        await expect(page.locator("#progress")).to_contain_text("Nothing moved for 5 seconds.")
        change(view.tid, stalled=False, check="4821", joined_at=made.engine.clock.now(), tries_left=4)
        await expect(page.locator("p.check")).to_have_text("4821")
        now = made.engine.clock.now()
        change(
            view.tid, state="RELEASED", decided_by="proxy: A. TEST (parent)", decided_at=now, released_at=now
        )
        await expect(page.locator("svg.qr")).to_have_count(0)
        await expect(page.locator("#facts")).to_contain_text("proxy: A. TEST (parent)")
        change(
            view.tid,
            state="COMPLETE",
            stored=575,
            total=575,
            ended_at=now,
            proof="store",
            receipt_code="7QK4M2PX",
        )
        await expect(page.locator("#progress")).to_contain_text("575 of 575 images at the PACS")
        await expect(page.locator("#facts")).to_contain_text("7QK4M2PX")
        await expect(page.get_by_role("link", name="New transfer")).to_be_visible()
        assert await page.evaluate("window.same"), "the page was never loaded again"
        assert made.engine.actions().count("page:view-transfer") == 1, "one look, one line"


async def test_the_desk_counts_images_as_they_come_and_keeps_what_is_typed(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("desk1")
        await live(page)
        await page.keyboard.type("half a na")
        study = (await made.engine.studies())[0]
        made.engine.put_study(replace(study, instances=612, open=False))
        row = page.get_by_role("row").filter(has_text="DOE, JANE")
        await expect(row).to_contain_text("612 images")
        await expect(row).to_contain_text("all here")
        await expect(page.get_by_role("searchbox")).to_have_value("half a na")
        await expect(page.get_by_role("searchbox")).to_be_focused()


async def test_the_inbox_shows_sealed_then_each_series(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("dr-lee")
        await expect(page.get_by_role("heading", name="Nothing is coming")).to_be_visible()
        await live(page)
        view = made.incoming(
            state="SEEN", moved=140_000_000, bytes=140_000_000, created_at=made.engine.clock.now()
        )
        await expect(page.locator("#inbox")).to_contain_text("Incoming from County Hospital")
        await expect(page.locator("#inbox")).to_contain_text("140 MB here, still sealed, waiting for the yes")
        series = [SeriesProgress(label="CT 2 · Head 5 mm", have=63, want=120, closed=False)]
        made.engine.change(
            view.tid, state="OPENED", patient_name="DOE, JANE", decided_by="patient", stored=63, series=series
        )
        await expect(page.locator("#inbox")).to_contain_text("CT 2 · Head 5 mm 63/120")
        now = made.engine.clock.now()
        made.engine.change(view.tid, state="COMPLETE", stored=688, total=688, ended_at=now)
        await expect(page.locator("#inbox")).to_contain_text("PACS confirmed 688/688")
        await expect(page.get_by_role("complementary")).to_contain_text(
            "Filed under our own number of the sender's patient."
        )


async def test_stopping_asks_and_re_opening_gives_a_new_code(browser: Browser) -> None:
    async with desk(browser) as made:
        view = await made.sent(locked=True, tries_left=0)
        page = await made.at(view)
        await page.get_by_role("button", name="Re-open with a new QR and PIN").click()
        again = made.engine.all_transfers[view.tid]
        await expect(page.locator("p.pin")).to_have_text(f"{again.pin[:3]} {again.pin[3:]}")
        await page.get_by_role("link", name="Stop").click()
        await expect(
            page.get_by_role("heading", name="Stop sending to Lakeside Trauma Center?")
        ).to_be_visible()
        await page.get_by_role("link", name="No, go on").click()
        assert made.engine.all_transfers[view.tid].state == "OFFERED"
        await page.get_by_role("link", name="Stop").click()
        await page.get_by_role("button", name="Yes, stop it").click()
        await expect(page.locator("#state")).to_contain_text("Stopped")
        assert made.engine.all_transfers[view.tid].state == "REVOKED"


async def test_a_hidden_pin_stays_hidden_while_the_page_updates(browser: Browser) -> None:
    async with desk(browser) as made:
        view = await made.sent()
        page = await made.at(view)
        await live(page)
        await page.locator("#pin > summary").click()
        await expect(page.locator("p.pin")).to_be_hidden()
        made.engine.change(view.tid, check="0042", tries_left=4)
        await expect(page.locator("p.check")).to_have_text("0042")
        await expect(page.locator("p.pin")).to_be_hidden()
        await expect(page.locator("#pin > summary")).to_be_focused()


async def test_signing_out_or_losing_the_account_closes_every_open_page(browser: Browser) -> None:
    async with desk(browser) as made:
        view = await made.sent()
        page = await made.at(view)
        await live(page)
        made.engine.disable("desk1")
        made.engine.signal.set()
        await page.wait_for_url("**/sign-in?*")
        await expect(page.locator("body")).not_to_contain_text("DOE, JANE")
        await page.go_back()
        await expect(page.locator("body")).not_to_contain_text("DOE, JANE")


async def test_many_pages_one_after_another_do_not_use_up_the_streams(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("admin")
        for _ in range(12):
            for place in ("/desk", "/inbox"):
                await page.goto(made.url + place)
        await live(page)


async def test_a_server_that_restarts_is_found_again(browser: Browser) -> None:
    async with desk(browser) as made:
        page = await made.person("desk1")
        await live(page)
        await page.context.set_offline(True)
        made.engine.signal.set()
        await page.evaluate("dispatchEvent(new Event('visibilitychange'))")
        await expect(page.locator("#live")).to_have_attribute("data-live-state", "lost")
        await page.context.set_offline(False)
        await live(page)
