"""A real relay, real Chromium, and phones and hospitals to bring together.

One relay and one browser serve all tests of a run, on pytest-asyncio's session loop; every test has its own
hospitals (offer, PIN, mailbox) and its own phones (browser contexts). A phone fails its test if its page threw,
broke the content security policy, or called anyone but its relay.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from relay.config import Config, Rate, Rates
from relay.enroll import enroll
from relay.service import Running, start
from tests.peers import need
from tests.web.phone_kit import Hospital
from transfer.messages import Card, sign_message
from transfer.sites import Identity

ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP relay.test 127.0.0.1",
]  # fmt: skip
MANY = Rate(per_second=10_000, burst=10_000)
"""All phones of these tests come from one address."""
EXPECTED = ("Failed to load resource", "net::ERR_")
"""What Chromium's console says of an answer that is not 2xx, or of no answer: tests ask for both."""

expect.set_options(timeout=30_000)  # a busy machine must not fail a test

MakeHospital = Callable[..., Awaitable[Hospital]]
MakePhone = Callable[..., Awaitable[Page]]


@pytest.fixture(scope="session")
def relay_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The relay's folder."""
    return tmp_path_factory.mktemp("relay")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def relay(relay_data: Path) -> AsyncIterator[Running]:
    """A relay that serves the page."""
    rates = Rates(address=MANY, mailbox=MANY)
    running = await start(Config(listen="127.0.0.1:0", data=relay_data, rates=rates, access_log=False))
    try:
        yield running
    finally:
        await running.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(relay: Running, relay_data: Path) -> Identity:
    """A site that the relay knows."""
    identity = Identity(os.urandom(32))
    card = Card(
        v=1, site=identity.site, name="Valley Hospital", place="", relay=relay.url, page="", roles=["send"],
        iat=int(time.time()),
    )  # fmt: skip
    enroll(relay_data, sign_message(card, identity.key))
    return identity


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium."""
    path = need("chromium")["chromium"]
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=path, args=ARGS)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="session")
async def hospital(relay: Running, site: Identity) -> AsyncIterator[MakeHospital]:
    """Makes offers: `await hospital(to="...", seconds=60)`; the words are those of the summary."""
    made: list[Hospital] = []

    async def make(**words: Any) -> Hospital:
        one = Hospital(relay.url, site, **words)
        made.append(one)
        await one.open()
        return one

    yield make
    for one in made:
        await one.close()


@pytest_asyncio.fixture(loop_scope="session")
async def phone(browser: Browser, relay: Running) -> AsyncIterator[MakePhone]:
    """Opens a link on a new phone: `await phone(link, locale="es-MX")`; the rest goes to the browser context."""
    faults: list[str] = []
    async with AsyncExitStack() as ends:

        async def make(link: str = "", *, before: str = "", faulty: bool = False, **context: Any) -> Page:
            settings: dict[str, Any] = {
                "viewport": {"width": 360, "height": 640}, "locale": "en-US", "has_touch": True
            }  # fmt: skip
            opened = await browser.new_context(**settings | context)
            ends.push_async_callback(opened.close)
            page = await opened.new_page()
            page.set_default_timeout(30_000)
            if before:
                await page.add_init_script(before)
            if not faulty:
                page.on("pageerror", lambda error: faults.append(str(error)))
                page.on("console", lambda m: _hear(m.type, m.text, faults))
                page.on("request", lambda r: _watch(r.url, relay.url, faults))
            if link:
                await page.goto(link)
            return page

        yield make
    assert not faults


def _hear(kind: str, text: str, faults: list[str]) -> None:
    if kind in ("error", "warning") and not any(known in text for known in EXPECTED):
        faults.append(text)


def _watch(url: str, relay: str, faults: list[str]) -> None:
    if not url.startswith((f"{relay}/", "data:")):
        faults.append(f"a request left the relay: {url.partition('#')[0]}")
