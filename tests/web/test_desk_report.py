"""The form for a report, in a real browser: by keyboard, without scripts, on a small screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, expect

from tests.hl7_kit import a_pdf
from tests.web.desk_kit import axe, desk

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]


async def test_a_pdf_from_the_disk_with_scripts_and_without(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "read.pdf").write_bytes(pdf := a_pdf())
    async with desk(browser) as made:
        study = (await made.engine.studies())[0].id
        for user, scripts in (("desk1", True), ("admin", False)):
            page = await made.person(java_script_enabled=scripts)
            await page.goto(made.url + "/sign-in")
            await page.get_by_label("Name").fill(user)
            await page.get_by_label("Password").fill("four unrelated words")
            await page.keyboard.press("Enter")
            await page.wait_for_url(re.compile(r"/desk$"))
            await page.goto(f"{made.url}/studies/{study}")
            await page.get_by_text("Add a report").click()
            await page.get_by_label("Title").fill(f"Outside read of {user}")
            await page.get_by_label("A PDF, up to 50 MB").set_input_files(tmp_path / "read.pdf")
            await page.get_by_role("button", name="Add the report").click()
            await expect(page.get_by_role("status").filter(has_text="The report was added")).to_be_visible()
            assert page.url.endswith(f"/studies/{study}?report=added#report")
        assert made.engine.reports == {
            (study, "Outside read of desk1", "", pdf): "desk1",
            (study, "Outside read of admin", "", pdf): "admin",
        }


async def test_a_text_by_keyboard_alone_and_what_is_being_typed_stays(browser: Browser) -> None:
    """The page follows the gateway: images that arrive meanwhile take nothing away."""
    async with desk(browser) as made:
        study = (await made.engine.studies())[0]
        page = await made.person("dr-lee")
        await page.goto(f"{made.url}/studies/{study.id}")
        await page.get_by_text("Add a report").focus()
        await page.keyboard.press("Enter")
        await page.get_by_label("Or the text").focus()
        await page.keyboard.type("No bleeding.")
        await expect(page.locator("#live")).to_have_attribute("data-live-state", "on")
        first = replace(study.series[0], instances=987_654)
        made.engine.put_study(replace(study, series=[first, *study.series[1:]]))
        await expect(page.locator("#counts")).to_contain_text("987654")
        await expect(page.get_by_label("Or the text")).to_have_value("No bleeding.")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#report-said")).to_contain_text("The report was added")
        assert next(iter(made.engine.reports))[2] == "No bleeding."


async def test_what_is_no_report_is_said_with_the_way_back(browser: Browser) -> None:
    async with desk(browser) as made:
        study = (await made.engine.studies())[0].id
        page = await made.person("desk1")
        await page.goto(f"{made.url}/studies/{study}")
        await page.get_by_text("Add a report").click()
        await page.get_by_role("button", name="Add the report").click()
        await expect(page.get_by_text("Give either a PDF or a text")).to_be_visible()
        assert made.engine.reports == {}


@pytest.mark.parametrize("width", [1280, 320])
async def test_it_is_accessible_and_fits(browser: Browser, width: int) -> None:
    async with desk(browser) as made:
        study = (await made.engine.studies())[0].id
        page = await made.person("desk1", viewport={"width": width, "height": 720})
        await page.goto(f"{made.url}/studies/{study}?report=late")
        await page.get_by_text("Add a report").click()
        assert await axe(page) == []
        assert not await page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
