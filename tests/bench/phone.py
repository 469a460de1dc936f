"""The phone page in Chromium, on Slow 3G (400 kbit/s) with a CPU that is six times slower, with
real gateways behind it: from the scan to the PIN field and to the question, and from the yes to the release.

Each round is a browser context of its own, so nothing is cached. The PIN is typed at once, as no person does:
what is left is ours. Requests that wait for one another are counted, because each costs a round trip whatever the
page does: their sum is the floor that stands beside.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time

from playwright.async_api import Browser, Page, async_playwright, expect

from clients.commands.demo import Demo
from clients.gateway.views import TransferView
from tests.bench.journey import offered, parties
from tests.bench.studies import long_study
from tests.bench.table import ROUNDS, Row, at_most, emit

_RATE, _SLOWER = 400_000 / 8, 6
_NETWORKS = {"Slow 3G, 2 s": 2.0, "3G, 0.4 s": 0.4}
"""Round trips: what browsers call Slow 3G, and what such a network has where it is not crowded."""
_TRIPS, _AFTER_PIN = 5, 3
"""Requests that wait for one another: page, its script; then m0 (typing hides it), m1 with m2, m3 with m4."""
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
_PATIENCE = 60_000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MISSING = "Chromium is not installed"

Round = tuple[float, float, float, float, float]
"""Seconds: scan to PIN field, PIN to question, scan to question, yes to release at S, yes to the page that says so."""


async def slow(page: Page, round_trip: float) -> None:
    """The network and the CPU of this page."""
    tools = await page.context.new_cdp_session(page)
    await tools.send("Network.enable")
    network = {"latency": 1e3 * round_trip, "downloadThroughput": _RATE, "uploadThroughput": _RATE}
    await tools.send("Network.emulateNetworkConditions", {"offline": False, **network})
    await tools.send("Emulation.setCPUThrottlingRate", {"rate": _SLOWER})


async def shows(page: Page, name: str) -> float:
    """When the page called `name` (or one of several, `a|b`) stands on the screen."""
    await expect(page.locator("body")).to_have_attribute(
        "data-page", re.compile(f"^({name})$"), timeout=_PATIENCE
    )
    return time.monotonic()


async def visit(browser: Browser, demo: Demo, view: TransferView, round_trip: float) -> Round:
    """One phone, from the scan to the release."""
    context = await browser.new_context()
    try:
        page = await context.new_page()
        await slow(page, round_trip)
        start = time.monotonic()
        await page.goto(view.link, wait_until="commit", timeout=_PATIENCE)
        ready = await shows(page, "pin")
        await page.locator("#code").fill(view.pin)
        await page.locator("form button").click()
        asked = await shows(page, "ask")
        yes = time.monotonic()
        released = asyncio.create_task(release(demo, view))
        await page.locator("main button").first.click()
        told = await shows(page, "released|complete")
        return ready - start, asked - ready, asked - start, await released - yes, told - yes
    finally:
        await context.close()


async def release(demo: Demo, view: TransferView) -> float:
    """When the sender has released it."""
    async with asyncio.timeout(_PATIENCE / 1000):
        while (await demo.sender.transfer(view.tid)).state not in ("RELEASED", "COMPLETE"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return time.monotonic()


def rows(rounds: list[Round], round_trip: float, name: str) -> None:
    """What was measured on one network. Chromium delays answers and not requests, so a way is added to the release."""
    ready, typed, asked, released, told = map(list, zip(*rounds, strict=True))
    trips = f"{_TRIPS} round trips alone are {_TRIPS * round_trip:g} s"
    released = [seconds + round_trip / 2 for seconds in released]
    for what, values, gate, note in (
        ("scan to PIN field", ready, at_most(5.0), ""),
        (
            "PIN to question",
            typed,
            at_most(_AFTER_PIN * round_trip + 0.5),
            f"{_AFTER_PIN} round trips + 0.5 s",
        ),
        ("scan to question", asked, at_most(5.0), trips),
        ("yes to release", released, at_most(round_trip + 0.3), "1 round trip + 0.3 s"),
        ("yes to the page that says so", told, None, "2 round trips"),
    ):
        emit(Row(what=f"phone, {name}: {what}", unit="s", values=values, better="less", gate=gate, note=note))


async def _run(path: str) -> None:
    number = 0
    async with parties() as demo, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGS)
        for name, round_trip in _NETWORKS.items():
            rounds = []
            for _ in range(ROUNDS):
                view = await offered(demo, long_study(8, f"phone{number}"))
                rounds.append(await visit(browser, demo, view, round_trip))
                number += 1
            rows(rounds, round_trip, name)
        await browser.close()


def chromium() -> str | None:
    """Where it is."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def main() -> None:
    """Emits the rows."""
    path = chromium()
    if path is None:
        emit(Row(what="phone: scan to question", note=MISSING))
        return
    asyncio.run(_run(path))
