"""`clients.gateway.receiving.transcoding`: what a PACS refuses, it gets in a form that loses nothing, or not."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.part10 import encode_meta
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.receiving import remarks
from clients.gateway.receiving.transcoding import Fallback, Transcoder
from tests.delivery_kit import Party, images, party
from tests.dicom_kit import storescp
from tests.image_kit import BUNDLED
from tests.spool_kit import workers
from transfer.ids import Digest
from transfer.messages import ItemEntry

__all__ = ["party", "workers"]
CT, EXPLICIT, IMPLICIT = str(CTImageStorage), str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)


async def takes(party: Party, *kinds: tuple[str, str]) -> None:
    """The PACS takes these from now on."""
    await asyncio.to_thread(party.pacs.stop)
    party.pacs.kinds = list(kinds)
    party.pacs.start()


def pixels(data: bytes, syntax: str, path: Path) -> Any:
    path.write_bytes(encode_meta(CT, "2.25.1", syntax) + data)
    return pydicom.dcmread(path).pixel_array


def in_rle(count: int) -> list[Any]:
    found = images(count)
    for ds in found:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    return found


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT])
async def test_compressed_images_are_decoded_for_a_pacs_that_takes_none(
    party: Party, tmp_path: Path, target: str
) -> None:
    compressed = in_rle(3)
    await party.study(*compressed)
    await takes(party, (CT, target))
    await party.deliver()
    receipt = await party.receipt()
    assert (receipt.state, receipt.gaps) == ("COMPLETE", [])
    rows = await party.r.rows("SELECT proof, syntax FROM ledger")
    assert {(r["proof"], r["syntax"]) for r in rows} == {("store", target)}
    assert set(party.pacs.data) == {str(ds.SOPInstanceUID) for ds in compressed}
    for ds in compressed:
        found = pixels(party.pacs.data[str(ds.SOPInstanceUID)], target, tmp_path / "x.dcm")
        assert np.array_equal(found, ds.pixel_array)
    assert "3 images were stored in the transfer syntax" in await party.r.db.run(
        lambda con: remarks.sentence(con, party.tid)
    )
    line = await party.r.one("SELECT detail FROM audit WHERE action='receipt.complete'")
    assert line["detail"].endswith(f"transcoded 3 to {target}")


async def test_its_own_transfer_syntax_comes_first(party: Party) -> None:
    """A PACS that takes both gets the bytes as they are."""
    await party.study(*in_rle(2))
    await takes(party, (CT, EXPLICIT), (CT, str(RLELossless)))
    await party.deliver()
    assert party.pacs.bytes == await party.originals()
    assert {r["syntax"] for r in await party.r.rows("SELECT syntax FROM ledger")} == {""}
    assert party.transcoder._door is None, "nobody was asked to recode"


async def test_implicit_for_a_pacs_that_takes_nothing_else(party: Party, tmp_path: Path) -> None:
    explicit = images(2)
    wanted = {str(ds.SOPInstanceUID): bytes(ds.PixelData) for ds in explicit}
    await party.study(*explicit)
    await takes(party, (CT, IMPLICIT))
    await party.deliver()
    assert (await party.receipt()).state == "COMPLETE"
    for uid, value in wanted.items():
        assert pixels(party.pacs.data[uid], IMPLICIT, tmp_path / "x.dcm").tobytes() == value


async def test_a_lossy_image_is_a_gap_by_name(party: Party) -> None:
    """And the rest of the study is stored."""
    lossy = pydicom.dcmread(BUNDLED / "JPEG-lossy.dcm")
    for mine, ds in ((lossy, images(1)[0]),):
        mine.StudyInstanceUID, mine.PatientID, mine.PatientName = (
            ds.StudyInstanceUID,
            ds.PatientID,
            ds.PatientName,
        )
    await party.study(*images(2), lossy)
    await takes(party, (CT, EXPLICIT), (str(lossy.SOPClassUID), EXPLICIT))
    await party.deliver()
    receipt = await party.receipt()
    assert (receipt.state, len(receipt.gaps)) == ("PARTIAL", 1)
    failed = await party.r.one("SELECT * FROM ledger WHERE state='failed'")
    assert (failed["sop_uid"], failed["note"], failed["syntax"]) == (
        str(lossy.SOPInstanceUID),
        "pacs-syntax",
        "",
    )
    assert len(party.pacs.data) == 2


async def test_a_class_that_it_takes_in_no_form_is_a_gap(party: Party) -> None:
    await party.study(*in_rle(2))
    await takes(party, ("1.2.840.10008.5.1.4.1.1.4", EXPLICIT))
    await party.deliver()
    assert (await party.receipt()).gaps == [0, 1]
    notes = {r["note"] for r in await party.r.rows("SELECT note FROM ledger")}
    assert notes == {"pacs-context"}


# The child


async def test_a_child_that_dies_is_one_image_without_another_form(tmp_path: Path) -> None:
    source, to = BUNDLED / "MR_small_RLE.dcm", tmp_path / "to.dcm"
    transcoder = Transcoder()
    try:
        assert await transcoder.recode(source, to, EXPLICIT) == ""
        whole = to.read_bytes()
        assert transcoder._door is not None
        os.kill(transcoder._door.pid, signal.SIGKILL)
        assert await transcoder.recode(source, to, EXPLICIT) == "pacs-syntax"
        assert await transcoder.recode(source, to, EXPLICIT) == ""
        assert to.read_bytes() == whole
    finally:
        await transcoder.stop()


async def test_files_that_cannot_be_recoded_are_named(tmp_path: Path) -> None:
    transcoder = Transcoder()
    (tmp_path / "nothing.dcm").write_bytes(b"")
    try:
        for source in (tmp_path / "absent.dcm", tmp_path / "nothing.dcm", BUNDLED / "JPEG-lossy.dcm"):
            assert await transcoder.recode(source, tmp_path / "to.dcm", EXPLICIT) == "pacs-syntax"
        assert (
            await transcoder.recode(BUNDLED / "MR_small_RLE.dcm", Path("/dev/full"), EXPLICIT) == "disk-full"
        )
    finally:
        await transcoder.stop()


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "option", "target"),
    [
        ("MR_small_RLE.dcm", "+x=", EXPLICIT), ("MR_small_jpeg_ls_lossless.dcm", "+x=", EXPLICIT),
        ("MR_small_jp2klossless.dcm", "+xi", IMPLICIT), ("MR_small_bigendian.dcm", "+xi", IMPLICIT),
    ],
)  # fmt: skip
async def test_a_real_peer_that_takes_less(tmp_path: Path, name: str, option: str, target: str) -> None:
    """DCMTK's storescp, told to take what is not compressed, or Implicit VR alone."""
    source = BUNDLED / name
    header = read_header(source)
    path = tmp_path / "0.dcm"
    path.write_bytes(source.read_bytes())
    item = ItemEntry(0, 0, header.sop_class, header.sop_uid, header.syntax, "raw", 0, 1, 1, Digest(bytes(32)))
    transcoder = Transcoder()
    with storescp(tmp_path / "out", more=(option,)) as (port, _):
        scu = StoreScu(Destination(aet="PACS", host="127.0.0.1", port=port, calling_aet="US"))
        try:
            first = await scu.store(path, item.sop_class, item.sop_uid, item.syntax)
            assert first.code == "pacs-context"
            result, syntax = await Fallback(transcoder, scu).store(path, item)
        finally:
            await scu.stop()
            await transcoder.stop()
    assert (result.kind, syntax) == ("ok", target)
    (stored,) = (tmp_path / "out").iterdir()
    there = pydicom.dcmread(stored)
    assert there.SOPInstanceUID == header.sop_uid
    assert bytes(there.PixelData) == bytes(pydicom.dcmread(BUNDLED / "MR_small.dcm").PixelData)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.dcm", "out"], "the other form is gone"
