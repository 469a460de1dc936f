"""The query SCU in its child: against Orthanc and dcmqrscp, and where there is nobody to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.scu import StoreScu
from clients.gateway.dicom.statuses import FindResult
from tests.dicom_kit import free_port, storescp
from tests.faults.real_pacs import dcmqrscp, orthanc
from tests.scu_kit import Image, images, scu


async def ask(sender: StoreScu, image: Image, **other: str) -> FindResult:
    h = read_header(image.path)
    names = {"study": h.study_uid, "series": h.series_uid, "sop_uid": h.sop_uid, **other}
    return await sender.find(**names)


@pytest.mark.peer
@pytest.mark.parametrize("pacs", [orthanc, dcmqrscp])
async def test_what_was_stored_is_found_and_nothing_else(
    tmp_path: Path, pacs: Callable[[Path], AbstractContextManager[int]]
) -> None:
    there, missing = images(tmp_path, 3), Image(tmp_path, "missing.dcm")
    with pacs(tmp_path / "pacs") as port:
        async with scu(port) as sender:
            for image in there:
                assert (await ask(sender, image)).there is False
                assert (await image.to(sender)).kind == "ok"
            found = await asyncio.gather(*(ask(sender, image) for image in (*there, missing)))
            assert [f.there for f in found] == [True, True, True, False]
            assert (await ask(sender, there[0], study="2.25.1")).there is False
            assert (await ask(sender, there[0], sop_uid="*")).there is None


@pytest.mark.peer
async def test_a_pacs_that_does_not_know_us_answers_no_queries(tmp_path: Path) -> None:
    """Orthanc as it is installed takes the query and hangs up; storescp takes no such context."""
    (image,) = images(tmp_path, 1)
    with orthanc(tmp_path / "pacs", find=False) as port:
        async with scu(port) as sender:
            assert (await image.to(sender)).kind == "ok"
            assert [(await ask(sender, image)).code for _ in range(2)] == ["pacs-lost"] * 2
            assert (await image.to(sender)).kind == "ok"
    with storescp(tmp_path / "out") as (port, _):
        async with scu(port) as sender:
            asked = await ask(sender, image)
            assert (asked.there, asked.code) == (None, "pacs-query")
            assert image.uid not in asked.sentence


async def test_a_pacs_that_is_away_is_no_pacs_without_queries(tmp_path: Path) -> None:
    (image,) = images(tmp_path, 1)
    async with scu(free_port()) as sender:
        for _ in range(2):
            asked = await ask(sender, image)
            assert (asked.there, asked.code) == (None, "pacs-down")
    asked = await ask(sender, image)
    assert (asked.there, asked.code) == (None, "dicom-child"), "a stopped sender answers too"
