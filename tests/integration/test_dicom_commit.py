"""Storage commitment in the two children: Orthanc, and PACS that say odd things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from clients.gateway.dicom.commitment import Report
from clients.gateway.dicom.scp import Reported, ScpConfig, StorageScp
from tests.dicom_kit import storescp
from tests.faults.real_pacs import orthanc
from tests.scu_kit import Image, images, scu


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[tuple[int, asyncio.Queue[Report]]]:
    """Our SCP; its port, and the reports that come to it."""
    folder.mkdir()
    scp = StorageScp(ScpConfig(aet="US", port=0), folder)
    _, port = await scp.start()
    reports: asyncio.Queue[Report] = asyncio.Queue()

    async def read() -> None:
        async for event in scp.events():
            if isinstance(event, Reported):
                assert event.calling_aet == "PACS"
                reports.put_nowait(event.report)

    task = asyncio.create_task(read())
    try:
        yield port, reports
    finally:
        await scp.stop()
        await task


@pytest.mark.peer
async def test_orthanc_answers_for_what_it_has(tmp_path: Path) -> None:
    there, missing = images(tmp_path, 3), Image(tmp_path, "missing.dcm")
    async with listening(tmp_path / "us") as (port, reports):
        knows = {"us": ("US", "127.0.0.1", port)}
        with orthanc(tmp_path / "pacs", knows=knows) as pacs:
            async with scu(pacs) as sender:
                for image in there:
                    assert (await image.to(sender)).kind == "ok"
                first, second = str(generate_uid()), str(generate_uid())
                asked = await sender.commit(first, [(i.sop_class, i.uid) for i in there])
                assert asked.ok, asked
                report = await asyncio.wait_for(reports.get(), 30)
                assert (report.transaction, sorted(report.safe)) == (first, sorted(i.uid for i in there))
                assert report.failed == []
                await sender.commit(second, [(i.sop_class, i.uid) for i in (*there, missing)])
                report = await asyncio.wait_for(reports.get(), 30)
                assert (report.transaction, len(report.safe)) == (second, 3)
                assert report.failed == [(missing.uid, 0x0112)]


@pytest.mark.peer
async def test_orthanc_does_not_know_us(tmp_path: Path) -> None:
    (image,) = images(tmp_path, 1)
    with orthanc(tmp_path / "pacs") as pacs:
        async with scu(pacs, response=2.0) as sender:
            asked = await sender.commit(str(generate_uid()), [(image.sop_class, image.uid)])
            assert not asked.ok


@pytest.mark.peer
async def test_a_pacs_without_commitment(tmp_path: Path) -> None:
    with storescp(tmp_path / "out") as (port, _):
        async with scu(port) as sender:
            asked = await sender.commit(str(generate_uid()), [("1.2.840.10008.5.1.4.1.1.2", "1.2.3")])
            assert (asked.ok, asked.code) == (False, "pacs-commit")


async def test_a_pacs_that_serves_one_association_after_the_other(tmp_path: Path) -> None:
    """What is idle makes room: it is not taken for silence. DCMTK's storescp does not accept a second one meanwhile."""
    (image,) = images(tmp_path, 1)
    with storescp(tmp_path / "out") as (port, _):
        async with scu(port, idle=3600.0, association=20.0, response=20.0) as sender:
            assert (await image.to(sender)).status == 0
            for _ in range(2):
                asked = await sender.commit(str(generate_uid()), [(image.sop_class, image.uid)])
                assert asked.code == "pacs-commit"
                assert (await image.to(sender)).status == 0


async def test_a_gateway_is_no_archive_and_says_so(tmp_path: Path) -> None:
    """It aborted, which counts as a PACS that may be on its way down: it was asked three times."""
    async with listening(tmp_path / "spool") as (port, _), scu(port, aet="US") as sender:
        asked = await sender.commit(str(generate_uid()), [("1.2.840.10008.5.1.4.1.1.2", "1.2.3")])
        assert (asked.ok, asked.code) == (False, "pacs-commit")
        assert "0211" in asked.sentence
