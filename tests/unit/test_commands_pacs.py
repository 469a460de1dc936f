"""Where the demo's images end, and how they are compared."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from clients.commands.pacs import BundledPacs, Pacs, open_pacs
from clients.gateway.errors import GatewayError
from tests.programs import write_study


async def test_the_bundled_one_listens_and_ends(tmp_path: Path) -> None:
    async with open_pacs("bundled", tmp_path / "pacs") as opened:
        aet, _, address = opened.address.partition("@")
        assert aet == "PACS"
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), 10):
            pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), 10)


async def test_compare_counts_what_is_the_same(tmp_path: Path) -> None:
    sent = write_study(tmp_path / "sent", instances=3)
    folder = tmp_path / "pacs"
    folder.mkdir()
    files = sorted((tmp_path / "sent").iterdir())
    (folder / "same.dcm").write_bytes(files[0].read_bytes())
    changed = bytearray(files[1].read_bytes())
    changed[-1] ^= 1
    (folder / "changed.dcm").write_bytes(changed)
    (tmp_path / "sent" / "note.txt").write_text("no image")
    same, of, sentence = await BundledPacs("PACS@x:1", folder).compare(tmp_path / "sent")
    assert (same, of) == (1, len(sent))
    assert sentence.startswith("1 of 3 images")


async def test_of_another_pacs_nothing_more_is_asked(tmp_path: Path) -> None:
    write_study(tmp_path / "sent", instances=2)
    async with open_pacs("ARCHIVE@10.0.0.1:104", tmp_path / "pacs") as opened:
        assert type(opened) is Pacs
        assert opened.address == "ARCHIVE@10.0.0.1:104"
        same, of, sentence = await opened.compare(tmp_path / "sent" / "000.dcm")
    assert (same, of) == (1, 1)
    assert "ARCHIVE@10.0.0.1:104" in sentence


@pytest.mark.parametrize("kind", ["", "pacs", "Orthanc"])
async def test_an_unknown_kind(tmp_path: Path, kind: str) -> None:
    with pytest.raises(GatewayError, match="demo-pacs"):
        async with open_pacs(kind, tmp_path / "pacs"):
            pass


async def test_without_orthanc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *where, **more: None)
    with pytest.raises(GatewayError, match="Orthanc is not installed"):
        async with open_pacs("orthanc", tmp_path / "pacs"):
            pass
