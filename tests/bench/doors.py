"""Every door in Chromium, with whole programs behind it on this machine: how many round trips lie between the PIN and
the question, and how long it takes from the yes to the release.

Trips are counted, not timed (`tests.web.phone_kit.Trips`): whatever a network takes for one, the page takes so many.
"""

from __future__ import annotations

import asyncio
import re
import time

from playwright.async_api import Browser, Page, async_playwright

from clients.commands.demo import Demo
from clients.gateway.views import TransferView
from tests.bench.journey import offered, parties
from tests.bench.phone import ARGS, MISSING, chromium, release, shows
from tests.bench.studies import long_study
from tests.bench.table import ROUNDS, Row, at_most, emit
from tests.web.phone_kit import Trips
from transfer.links import make_scan

_DOORS = {"qr": "QR", "scan": "staff scan", "voice": "voice"}

Round = tuple[int, float, float]
"""Trips from the PIN to the question; seconds for that; seconds from the yes to the release at S."""


async def _opened(page: Page, demo: Demo, view: TransferView, door: str, number: int) -> str:
    """The page until only the code is missing; the code."""
    if door == "qr":
        await page.goto(view.link)
        await shows(page, "pin")
        return view.pin
    if door == "scan":  # q is what the phone draws: known here instead of read by a camera
        await page.add_init_script(f"crypto.getRandomValues = (array) => array.fill({number});")
        await page.goto(re.sub(r"/s#.*", "/p", view.link))
        await shows(page, "show")
        scanned = await demo.sender.door(view.tid, "scan", make_scan(bytes([number]) * 16), "bench")
        await shows(page, "pin")
        return scanned.pin
    spoken = await demo.sender.door(view.tid, "voice", "", "bench")
    await page.goto(spoken.link)
    await shows(page, "voice")
    async with page.expect_response(re.compile(r"/m/\d{7}/0$")):
        await page.locator("#number").fill(spoken.number)
    return spoken.pin


async def visit(browser: Browser, demo: Demo, door: str, number: int) -> Round:
    """One phone at one door, to the release."""
    view = await offered(demo, long_study(8, f"door{number}"))
    context = await browser.new_context()
    try:
        page = await context.new_page()
        code = await _opened(page, demo, view, door, number)
        await page.locator("#code").fill(code)
        trips, typed = Trips(page), time.monotonic()
        await page.locator("form button").click()
        asked = await shows(page, "ask")
        count = trips.count
        releasing = asyncio.create_task(release(demo, view))
        yes = time.monotonic()
        await page.locator("main button").first.click()
        return count, asked - typed, await releasing - yes
    finally:
        await context.close()


def rows(door: str, rounds: list[Round]) -> None:
    """Emits them."""
    counts, asked, released = map(list, zip(*rounds, strict=True))
    name = f"{_DOORS[door]} door"
    what = f"{name}: PIN typed to question"
    emit(Row(what=what, unit="round trips", values=counts, better="less", gate=at_most(3)))
    emit(Row(what=what, unit="s", values=asked, better="less"))
    emit(Row(what=f"{name}: yes to release", unit="s", values=released, better="less", gate=at_most(1.0)))


async def _run(path: str) -> None:
    async with parties() as demo, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGS)
        for i, door in enumerate(_DOORS):
            rows(door, [await visit(browser, demo, door, 1 + i * ROUNDS + n) for n in range(ROUNDS)])
        await browser.close()


def main() -> None:
    """Emits the rows."""
    path = chromium()
    if path is None:
        emit(Row(what="doors: PIN typed to question", note=MISSING))
        return
    asyncio.run(_run(path))
