"""How complete a study is, who says so, and when it closes by itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clients.gateway.dicom.query import ImageEntry
from clients.gateway.dicom.source import Listing
from clients.gateway.sending.closing import HOLD, close_quiet, is_pulled
from clients.gateway.sending.completeness import words
from clients.gateway.sending.held import held_against, says
from clients.gateway.store.database import Con, one
from tests.gateway_kit import House, StillClock, houses, running


@contextlib.asynccontextmanager
async def a_house(base: Path) -> AsyncIterator[tuple[House, str]]:
    """With one study of three images that a scanner sent."""
    house = await House(base, StillClock()).make("Valley ED")
    try:
        async with running(house.studies.run()):
            study = await house.a_study(3, close=False)
        yield house, study
    finally:
        await house.close()


async def say(house: House, study: str, listed: int, missing: int, code: str = "", at: int = 1) -> None:
    await house.db.run(lambda con: says(con, study, at, code, listed, missing))


async def said(house: House, study: str) -> tuple[str, int]:
    def work(con: Con) -> tuple[str, int]:
        row = one(con, "SELECT * FROM studies WHERE id=?", (study,))
        assert row is not None
        return words(con, row, 3)

    return await house.db.run(work)


async def test_the_desk_says_which(tmp_path: Path) -> None:
    async with a_house(tmp_path) as (house, study):
        assert await said(house, study) == ("still arriving", -1)
        for listed, missing, code, expected in (
            (3, 0, "", ("complete: PACS says 3, here 3", 0)),
            (14, 11, "", ("11 missing: PACS says 14, here 3", 11)),
            (2, 0, "", ("PACS says 2, here 3; still arriving", -1)),
            (0, 0, "", ("the PACS does not have it; still arriving", -1)),
            (-1, -1, "pacs-down", ("the PACS could not be asked (pacs-down); still arriving", -1)),
        ):
            await say(house, study, listed, missing, code)
            assert await said(house, study) == expected
        await house.execute("UPDATE studies SET closed=1, closed_by='quiet'")
        assert (await said(house, study))[0].endswith("nothing new for a while")
        await house.execute("UPDATE studies SET closed_by='clerk'")
        assert (await said(house, study))[0].endswith("closed by clerk")


async def test_missing_images_hold_a_study_open_for_a_while_and_no_longer(tmp_path: Path) -> None:
    async with a_house(tmp_path) as (house, study):
        last = await house.value("SELECT last_at FROM studies")
        await house.db.run(lambda con: says(con, study, last, "", 14, 11))
        assert await house.db.run(lambda con: close_quiet(con, last + 60, last + 61)) == 0
        assert await house.db.run(lambda con: close_quiet(con, last + HOLD, last + HOLD)) == 1
        assert await house.value("SELECT closed_by FROM studies") == "quiet"


async def test_an_open_transfer_hears_of_what_is_missing(tmp_path: Path) -> None:
    async with houses(tmp_path) as (s, r):
        async with running(s.studies.run()):
            study = await s.a_study(close=False)
        tid = await s.offer_to(r, study)
        last = await s.value("SELECT last_at FROM studies")
        await s.db.run(lambda con: says(con, study, last, "", 14, 11))
        await s.db.run(lambda con: close_quiet(con, last + HOLD, last + HOLD))
        assert await s.alarms(tid) == ["archive-missing"]


async def test_a_pull_keeps_its_study_open(tmp_path: Path) -> None:
    async with a_house(tmp_path) as (house, study):
        last = await house.value("SELECT last_at FROM studies")
        await house.execute(
            "INSERT INTO pulls (id, uid, how, actor, at, state)"
            " SELECT 'p', uid, 'move', 'clerk', 1, 'WAITING' FROM studies"
        )
        assert await house.db.run(lambda con: is_pulled(con, study))
        assert await house.db.run(lambda con: close_quiet(con, last + HOLD, last + HOLD)) == 0
        await house.execute("UPDATE pulls SET state='COMPLETE'")
        assert await house.db.run(lambda con: close_quiet(con, last, last)) == 1


def listing(
    images: int, *, by_image: bool = True, series: dict[str, int] | None = None, **more: object
) -> Listing:
    given = {f"1.2.{n}": ImageEntry("1.2", f"1.2.{n}", "") for n in range(images)}
    return Listing(images=given, series=series or {}, by_image=by_image, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "here", "expected"),
    [
        (listing(3), {"1.2.0": "1.2", "1.2.1": "1.2"}, (3, 1)),
        (listing(1), {"1.2.0": "1.2", "1.2.9": "1.2"}, (1, 0)),
        (listing(0, by_image=False, series={"1.2": 2, "1.3": 1}), {"1.2.0": "1.2", "1.2.7": "1.2"}, (3, 1)),
        (listing(0, by_image=False, series={"1.2": 2, "1.3": -1}), {}, (-1, -1)),
        (listing(0, by_image=False), {}, (-1, -1)),
        (listing(3, trouble="source-too-many"), {}, (-1, -1)),
        (listing(0, status=None, trouble="pacs-down"), {}, (-1, -1)),
    ],
)
def test_a_set_is_held_against_a_list(
    found: Listing, here: dict[str, str], expected: tuple[int, int]
) -> None:
    assert held_against(found, here) == expected
