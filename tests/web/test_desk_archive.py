"""The clerk finds a study at the hospital's PACS, fetches it, and offers what a rule prepared; in a real browser."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, expect

from tests.fake_archive import match
from tests.web.desk_kit import axe, desk

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("scripts", [True, False])
async def test_search_get_and_watch(browser: Browser, scripts: bool) -> None:
    """By keyboard; without scripts a reload shows how far it is."""
    async with desk(browser) as made:
        made.engine.archived = [match()]
        page = await made.person("desk1", java_script_enabled=scripts)
        await page.get_by_role("link", name="Get").click()
        await expect(page.get_by_label("Accession number")).to_be_focused()
        await page.keyboard.type("A7701")
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(r"/archive\?s=[0-9a-f]{16}$"))
        assert "A7701" not in page.url
        await expect(page.get_by_role("row", name=re.compile("DOE, JANE"))).to_contain_text("688 images")
        if scripts:
            assert await axe(page) == []
        await page.get_by_role("button", name=re.compile("^Get DOE, JANE")).click()
        await page.wait_for_url(re.compile(r"/pulls/[0-9a-f]{32}$"))
        (ident,) = made.engine.all_pulls
        made.engine.change_pull(ident, here=344, completed=344, remaining=344)
        made.engine.signal.set()
        if not scripts:
            await page.reload()
        await expect(page.get_by_text("344 of 688 here")).to_be_visible()
        study = next(iter(made.engine.all_studies))
        made.engine.change_pull(
            ident, state="COMPLETE", here=688, missing=0, completed=688, remaining=0, study=study,
            ended_at=made.engine.clock.now(), sentence="Everything is here: PACS says 688, here 688.",
        )  # fmt: skip
        made.engine.signal.set()
        if not scripts:
            await page.reload()
        await expect(page.get_by_text("Everything is here: PACS says 688, here 688.")).to_be_visible()
        await expect(page.get_by_role("button", name="Stop")).to_have_count(0)
        await page.get_by_role("link", name="Open the study").click()
        await page.wait_for_url(f"{made.url}/studies/{study}")


async def test_a_prepared_transfer_is_offered_with_one_click(browser: Browser) -> None:
    async with desk(browser) as made:
        study = next(s for s in await made.engine.studies() if not s.transfers)
        made.engine.put_study(replace(study, prepared="Lakeside Trauma Center", prepared_by="rule 1"))
        page = await made.person("desk1")
        await expect(page.get_by_text("for Lakeside Trauma Center, not offered")).to_be_visible()
        assert await axe(page) == []
        await page.get_by_role("button", name=re.compile("^Offer .* to Lakeside Trauma Center$")).click()
        await page.wait_for_url(re.compile(r"/transfers/[0-9a-f]{32}$"))
        assert len(made.engine.all_transfers) == 1
