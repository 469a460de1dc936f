"""Loaded again, or left and come back to, on any page of any door: the page is as it was or begins anew, no try is
spent, no answer is lost or given twice, and the person gets to where they were with the same code. And two phones at
once at the doors where `test_phone_flow.py` has one.
"""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.web.conftest import MakeHospital, MakePhone
from tests.web.phone_kit import TRIES, Hospital, enter, shows
from tests.web.test_phone_doors import dial, typo
from transfer.links import Door, make_scan, spoken
from transfer.mailbox import Tombstone
from transfer.messages import encode

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]
FRESH: dict[Door, str] = {"qr": "again", "voice": "voice", "scan": "show"}
"""With what each door's page begins when it has no code any more."""
KEEPS = """
const random = crypto.getRandomValues.bind(crypto);
globalThis.drawn = [];
crypto.getRandomValues = (array) => (random(array), array.length === 16 && drawn.push([...array]), array);
"""
"""What the page draws can be read: while it shows its code, q is the last."""


async def type_code(page: Page, h: Hospital, code: str) -> None:
    """With the number, where there is one."""
    if h.door == "voice":
        await dial(page, h.number, spoken(code))
    else:
        await enter(page, code)


async def come(page: Page, h: Hospital) -> None:
    """To where the code is typed: the link again, or this phone's new code scanned."""
    if h.door == "qr":
        await page.goto("about:blank")
        await page.goto(h.link)
    if h.door == "scan":
        await shows(page, "show")
        await h.scan(make_scan(bytes((await page.evaluate("drawn"))[-1])))
    await shows(page, "voice" if h.door == "voice" else "pin")


async def reach(page: Page, h: Hospital, name: str) -> None:
    """From the field for the code to a page; each is one that a person may well load again."""
    if name in ("wrong", "locked"):
        h.left = TRIES if name == "wrong" else 1
        await type_code(page, h, typo(h.pin))
    elif name != "pin":
        await type_code(page, h, h.pin)
        await shows(page, "ask")
        if name != "ask":
            await page.get_by_role("button", name="No" if name == "denied" else "Yes").click()
        if name == "complete":
            await shows(page, "released")
            await h.tell("COMPLETE")
    await shows(page, name)


PAGES: list[tuple[Door, str]] = [
    *(("qr", name) for name in ("pin", "wrong", "locked", "ask", "released", "denied", "complete")),
    *(("voice", name) for name in ("locked", "complete")), ("scan", "wrong"),
]  # fmt: skip


@pytest.mark.parametrize(("door", "name"), PAGES)
async def test_back_and_forth_and_again(
    door: Door, name: str, hospital: MakeHospital, phone: MakePhone
) -> None:
    h = await hospital(door=door)
    page = await phone(h.link, before=KEEPS if door == "scan" else "")
    if door != "qr":
        await come(page, h)
    await reach(page, h, name)
    before = (h.left, h.proofs, h.wishes.qsize())
    await page.goto("about:blank")
    await page.go_back()
    await expect(page.locator("body")).to_have_attribute("data-page", re.compile(f"^({name}|{FRESH[door]})$"))
    await page.reload()
    await shows(page, FRESH[door])
    assert (h.left, h.proofs, h.wishes.qsize()) == before
    await come(page, h)
    await type_code(page, h, h.pin)
    await shows(
        page,
        {"locked": "locked", "pin": "ask", "voice": "ask", "wrong": "ask", "ask": "ask"}.get(name, "used"),
    )
    assert (h.left, h.wishes.qsize()) == (before[0], before[2])


@pytest.mark.parametrize("slower", ["Yes", "No"])
async def test_two_phones_at_one_number(slower: str, hospital: MakeHospital, phone: MakePhone) -> None:
    """Both type what was read out, both are asked; the first answer counts and the other phone is told of it."""
    h = await hospital(door="voice")
    first, second = await phone(h.link), await phone(h.link)
    for page in (first, second):
        await dial(page, h.number, spoken(h.pin))
        await shows(page, "ask")
    await first.get_by_role("button", name="Yes").click()
    await shows(first, "released")
    h.refuse = "decided"
    await second.get_by_role("button", name=slower).click()
    await shows(second, "used")
    assert "The answer was yes, " in await second.inner_text("main")
    await h.tell("COMPLETE")
    await shows(first, "complete")


async def test_two_phones_that_are_scanned_one_after_the_other(
    hospital: MakeHospital, phone: MakePhone
) -> None:
    """The second takes the first one's place; the first hears so on whatever page it is, and can begin anew."""
    h = await hospital(door="scan")
    first, second = await phone(h.link, before=KEEPS), await phone(h.link, before=KEEPS)
    await come(first, h)
    await h.put("0", encode(Tombstone(v=1, ended="REOPENED")))
    await come(second, h)
    await enter(first, h.pin)
    await shows(first, "ended")
    await expect(first.locator("main")).to_contain_text("There is a newer code")
    await enter(second, h.pin)
    await shows(second, "ask")
    await first.get_by_role("button", name="Start again").click()
    await shows(first, "show")
    assert h.left == TRIES
