"""`audit verify|export|packet`, as a privacy officer types them, beside a gateway that holds its folder."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from fhir.resources.R4B.bundle import Bundle
from pypdf import PdfReader

from tests.auditing_kit import decided
from tests.gateway_kit import House, houses
from tests.programs import command
from transfer.ids import Tid


@pytest.fixture
async def sent(tmp_path: Path) -> AsyncIterator[tuple[House, Tid]]:
    async with houses(tmp_path) as (s, r):
        yield s, await decided(s, r)


async def test_an_untouched_log(sent: tuple[House, Tid]) -> None:
    done = await command("audit", "verify", str(sent[0].folder), "--json")
    assert done.code == 0
    assert json.loads(done.out)["lines"] == await sent[0].value("SELECT count(*) FROM audit")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET detail='x' WHERE seq=3",
        "UPDATE audit SET at=at-1 WHERE seq=3",
        "DELETE FROM audit WHERE seq=2",
        "INSERT INTO audit SELECT 1000, at, actor, action, subject, detail, hash FROM audit WHERE seq=3",
    ],
)
async def test_any_edit_is_found(sent: tuple[House, Tid], sql: str) -> None:
    """By somebody with the file and no respect for triggers."""
    s = sent[0]
    await s.close()
    con = sqlite3.connect(s.folder / "gateway.db")
    con.execute("DROP TRIGGER audit_no_update")
    con.execute("DROP TRIGGER audit_no_delete")
    assert con.execute(sql).rowcount == 1
    con.commit()
    con.close()
    try:
        done = await command("audit", "verify", str(s.folder), "--json")
        assert (done.code, json.loads(done.out)["code"]) == (1, "audit-changed")
    finally:
        await s.open()


async def test_export_for_a_fhir_server(sent: tuple[House, Tid], tmp_path: Path) -> None:
    s, tid = sent
    whole, one = tmp_path / "whole.json", tmp_path / "one.json"
    assert (await command("audit", "export", str(s.folder), "--out", str(whole))).code == 0
    done = await command(
        "audit", "export", str(s.folder), "--transfer", tid.hex(), "--out", str(one), "--json"
    )
    assert done.code == 0
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    events = Bundle.model_validate_json(whole.read_bytes()).entry
    assert len(events) == await s.value("SELECT count(*) FROM audit")
    kinds = [x["resource"]["resourceType"] for x in json.loads(one.read_bytes())["entry"]]
    assert kinds[:2] == ["Consent", "Provenance"]
    assert len(kinds) - 2 == json.loads(done.out)["lines"] == len(await s.actions(tid.hex()))


async def test_export_of_what_is_new_as_dicom(sent: tuple[House, Tid], tmp_path: Path) -> None:
    s, _ = sent
    out = tmp_path / "new.xml"
    argv = ("audit", "export", str(s.folder), "--format", "dicom", "--after", "2", "--out", str(out))
    assert (await command(*argv)).code == 0
    roots = [fromstring(line) for line in out.read_bytes().splitlines()]
    assert len(roots) == await s.value("SELECT count(*) FROM audit") - 2
    again = await command(*argv, "--json")
    assert (again.code, json.loads(again.out)["code"]) == (1, "audit-out"), "nothing is overwritten"


async def test_the_record_for_the_chart(sent: tuple[House, Tid], tmp_path: Path) -> None:
    s, tid = sent
    out = tmp_path / "record.pdf"
    assert (await command("audit", "packet", str(s.folder), tid.hex(), "--out", str(out))).code == 0
    text = PdfReader(io.BytesIO(out.read_bytes())).pages[0].extract_text()
    assert tid.hex() in text
    assert "approved by patient" in text


@pytest.mark.parametrize("tid", ["00" * 16, "zz", ""])
async def test_a_transfer_that_is_not_there(sent: tuple[House, Tid], tmp_path: Path, tid: str) -> None:
    out = tmp_path / "record.pdf"
    done = await command("audit", "packet", str(sent[0].folder), tid, "--out", str(out), "--json")
    assert (done.code, json.loads(done.out)["code"]) == (1, "absent")
    assert not out.exists()
