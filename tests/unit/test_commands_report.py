"""`report`: a file becomes a document of a study, from the command line."""

from __future__ import annotations

from pathlib import Path

import pydicom

from clients.gateway import folder as folders
from clients.gateway.rooms import Rooms
from tests.gateway_kit import NOWHERE
from tests.hl7_kit import a_pdf
from tests.programs import command
from tests.rooms_kit import write_files


async def test_by_a_gateway_that_does_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    await folders.init(folder, name="Valley ED", relay=NOWHERE, dicom="127.0.0.1:0")
    write_files(tmp_path / "disc", 1)
    rooms = Rooms(folder, dicom=False)
    await rooms.open()
    await rooms.imports.whole(tmp_path / "disc", "test")
    await rooms.close()
    (tmp_path / "read.pdf").write_bytes(a_pdf())
    (tmp_path / "read.doc").write_bytes(b"\xd0\xcf\x11\xe0")
    for same in (False, True):
        done = await command(
            "report", str(folder), "2.25.11", str(tmp_path / "read.pdf"), "--title", "CT head", "--json"
        )
        assert done.code == 0, done
        assert (done.value["same"], done.value["late"]) == (same, False)
    done = await command("report", str(folder), "2.25.11", str(tmp_path / "read.doc"))
    assert done.code == 1
    assert "Export the report as PDF." in done.out + done.err
    found = [pydicom.dcmread(p) for p in (folder / "incoming").glob("*.dcm")]
    assert sorted(d.get("DocumentTitle", "image") for d in found) == ["CT head", "image"]
