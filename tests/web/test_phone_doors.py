"""The telephone's page (/v) and the page of a phone that the staff scan (/p), against a real relay."""

from __future__ import annotations

import re

import pytest
import qrcode
from playwright.async_api import Page, expect
from qrcode.constants import ERROR_CORRECT_M

from relay.service import Running
from tests.web.conftest import MakeHospital, MakePhone
from tests.web.phone_kit import Hospital, Trips, enter, shows
from transfer.links import make_scan, spoken
from transfer.messages import Grant

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]
KIB = 1024


def drawn(byte: int) -> str:
    """The phone's q is known: this byte sixteen times; each test has its own."""
    return f"crypto.getRandomValues = (array) => array.fill({byte});"


async def dial(page: Page, number: str, code: str) -> None:
    """Types both and goes on."""
    await page.locator("#number").fill(number)
    await page.locator("#code").fill(code)
    await page.locator("form button").click()


def typo(code: str) -> str:
    """One digit is another."""
    return f"{(int(code[0]) + 1) % 10}{code[1:]}"


async def modules(page: Page) -> set[tuple[int, int]]:
    """The dark modules of the code on the screen."""
    path = await page.locator(".qr .dark").get_attribute("d")
    return {(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", path or "")}


def symbol(text: str) -> set[tuple[int, int]]:
    """The same by another's encoder (ISO/IEC 18004)."""
    code = qrcode.QRCode(version=3, error_correction=ERROR_CORRECT_M, mask_pattern=0, border=0)
    code.add_data(text, optimize=0)
    code.make(fit=False)
    return {(x, y) for y, row in enumerate(code.get_matrix()) for x, dark in enumerate(row) if dark}


# Voice


async def test_a_number_and_a_code_are_typed_and_a_slip_costs_nothing(
    hospital: MakeHospital, phone: MakePhone
) -> None:
    h = await hospital(door="voice")
    page = await phone(h.link)
    await shows(page, "voice")
    await expect(page.locator("#number")).to_be_focused()
    await dial(page, "123456", "1")
    await expect(page.locator("#number-error")).to_contain_text("7 digits")
    await dial(page, h.number, typo(spoken(h.pin)))
    await expect(page.locator("#code-error")).to_contain_text("No try is lost")
    await expect(page.locator("#code")).to_be_focused()
    assert (h.starts, h.proofs) == (0, 0)
    trips = Trips(page)
    await dial(page, h.number, spoken(h.pin))
    await shows(page, "ask")
    assert 2 <= trips.count <= 3
    await expect(page.locator(".check b")).to_have_text(h.check)
    await page.get_by_role("button", name="Yes").click()
    await shows(page, "released")
    wish = await h.wishes.get()
    assert isinstance(wish, Grant)
    assert wish.d == "approve"


async def test_a_number_that_nobody_has_is_asked_for_again(hospital: MakeHospital, phone: MakePhone) -> None:
    h = await hospital(door="voice")
    page = await phone(h.link)
    await page.locator("#number").fill(f"{(int(h.number) + 1) % 10**7:07d}")
    await expect(page.locator("#number-error")).to_contain_text("We do not know this number")
    await dial(page, " ".join(h.number), spoken(h.pin))
    await shows(page, "ask")


async def test_a_wrong_code_is_typed_again_with_its_number(hospital: MakeHospital, phone: MakePhone) -> None:
    h = await hospital(door="voice")
    page = await phone(h.link)
    await dial(page, h.number, spoken(typo(h.pin)))
    await shows(page, "wrong")
    await expect(page.locator("#number")).to_have_value(h.number)
    await expect(page.locator("main")).to_contain_text("You have 4 tries left")
    h.left = 1
    await dial(page, h.number, spoken(typo(h.pin)))
    await shows(page, "locked")


async def test_an_old_code_says_so_and_the_new_one_is_typed(hospital: MakeHospital, phone: MakePhone) -> None:
    old, new = await hospital(door="voice"), await hospital(door="voice")
    await old.end("REOPENED")
    page = await phone(old.link)
    await page.locator("#number").fill(old.number)
    await shows(page, "ended")
    await expect(page.locator("main")).to_contain_text("There is a newer code")
    await page.get_by_role("button", name="Start again").click()
    await shows(page, "voice")
    await dial(page, new.number, spoken(new.pin))
    await shows(page, "ask")


async def test_a_code_whose_time_is_over_says_so_whenever_it_is_typed(
    hospital: MakeHospital, phone: MakePhone
) -> None:
    """Somebody else is at the question, so the mailbox stays: m0 says it, also to who had read it in time."""
    h = await hospital(door="voice")
    early, late = await phone(h.link), await phone(h.link)
    await early.clock.install()
    await early.locator("#number").fill(h.number)
    h.silent.add(2)
    await dial(early, h.number, spoken(h.pin))
    await shows(early, "slow")
    h.exp = 0
    await h.hello()
    await late.locator("#number").fill(h.number)
    await early.clock.run_for(40_000)
    for page in (late, early):
        await shows(page, "ended")
        await expect(page.locator("main")).to_contain_text("call the hospital back")
    await late.get_by_role("button", name="Start again").click()
    await shows(late, "voice")


# Scan


async def test_the_phone_shows_a_code_that_others_read(hospital: MakeHospital, phone: MakePhone) -> None:
    h = await hospital(door="scan")
    page = await phone(h.link, before=drawn(7))
    await shows(page, "show")
    text = make_scan(bytes([7]) * 16)
    assert await modules(page) == symbol(text)
    await h.scan(text)
    await shows(page, "pin")
    trips = Trips(page)
    await enter(page, h.pin)
    await shows(page, "ask")
    assert 2 <= trips.count <= 3
    await page.get_by_role("button", name="No").click()
    await shows(page, "denied")


async def test_another_code_is_another_code(phone: MakePhone, relay: Running) -> None:
    page = await phone(f"{relay.url}/p")
    await shows(page, "show")
    before = await modules(page)
    await page.get_by_role("button", name="New code").click()
    await expect(page.locator("#live")).to_have_text("New code")
    assert await modules(page) != before


async def test_a_poster_of_another_hospital_is_named_after_a_while(phone: MakePhone, relay: Running) -> None:
    """Its address never gets an answer; the page says which address it is."""
    page = await phone()
    await page.clock.install()
    await page.goto(f"{relay.url}/p")
    await shows(page, "show")
    await expect(page.locator(".notice")).to_be_hidden()
    await page.clock.run_for(61_000)
    await expect(page.locator(".notice")).to_contain_text(f"{relay.url.partition('//')[2]}/p")


# Both


@pytest.mark.parametrize(("locale", "requests"), [("en-US", 3), ("es-MX", 4)])
@pytest.mark.parametrize("door", ["voice", "scan"])
async def test_weight(
    door: str, locale: str, requests: int, hospital: MakeHospital, phone: MakePhone
) -> None:
    """Until m1 leaves: as at the QR door."""
    h = await hospital(door=door)
    page = await phone(locale=locale, before=drawn(requests) if door == "scan" else "")
    parts = []
    page.on(
        "response", lambda r: parts.append(r) if "/m/" not in r.url and r.url.startswith("http") else None
    )
    before: list[int] = []
    page.on("request", lambda r: before.append(len(parts)) if r.url.endswith("/1") else None)
    await page.goto(h.link)
    await answered(page, h, requests)
    await shows(page, "ask")
    assert before == [requests]
    sizes = [await part.request.sizes() for part in parts[:requests]]
    assert sum(size["responseBodySize"] for size in sizes) <= 20 * KIB


async def answered(page: Page, h: Hospital, byte: int) -> None:
    """To the question."""
    if h.door == "scan":
        await shows(page, "show")
        await h.scan(make_scan(bytes([byte]) * 16))
        await shows(page, "pin")
        await enter(page, h.pin)
    else:
        await shows(page, "voice")
        await dial(page, h.number, spoken(h.pin))
