"""`clients.gateway.dicom.conformance`: the statement is what the code says, and the receiver does what it says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from pynetdicom import AE
from pynetdicom.presentation import AllStoragePresentationContexts, build_context

from clients.gateway.dicom import claims, conformance
from clients.gateway.dicom.contexts import SYNTAXES
from clients.gateway.dicom.scp import ScpConfig
from clients.gateway.dicom.scu import Destination
from tests.dicom_kit import ROOT
from tests.scp_kit import running

CT, PRIVATE, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.276.0.7230010.3.1.0.1", "1.2.840.10008.1.2.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
ACCEPTED, NO_CLASS, NO_SYNTAX = 0, 3, 4
"""Results of a presentation context (PS3.8 9.3.3.2)."""


def test_the_statement_is_what_the_code_says() -> None:
    page = conformance.PAGE.read_text("utf-8")
    assert page == conformance.rendered(page), "python -m clients.gateway.dicom.conformance --write"


def test_every_limit_is_in_it() -> None:
    """A new number of either configuration is a new row."""
    for struct, meanings in ((ScpConfig, claims._RECEIVER), (Destination, claims._SENDER)):
        numbers = {
            field.name
            for field in msgspec.structs.fields(struct)
            if field.type in (int, float) and field.name != "port"
        }
        assert numbers == set(meanings)


def test_the_command_says_when_it_is_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    text = conformance.PAGE.read_text("utf-8")

    def run(what: str) -> tuple[int, str]:
        return conformance.main(["--page", str(page), what]), capsys.readouterr().err

    page.write_text(text.replace("| 131,072 |", "| 1 |"), "utf-8")
    assert page.read_text("utf-8") != text
    code, said = run("--check")
    assert (code, "behind the code" in said) == (1, True)
    assert run("--write") == (0, "")
    assert page.read_text("utf-8") == text
    assert run("--check") == (0, "")
    page.write_text(text.replace("<!-- generated: syntaxes -->", ""), "utf-8")
    code, said = run("--check")
    assert (code, "syntaxes" in said) == (1, True)


def test_it_is_a_command() -> None:
    command = [sys.executable, "-m", "clients.gateway.dicom.conformance", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def negotiated(port: int, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """What the SCP says to each pair of SOP class and transfer syntax."""
    ae = AE("TEST")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    found = {}
    for i in range(0, len(contexts), 128):
        assoc = ae.associate("127.0.0.1", port, contexts=contexts[i : i + 128], ae_title="SCP")
        assert assoc.is_established
        for c in (*assoc.accepted_contexts, *assoc.rejected_contexts):
            found[str(c.abstract_syntax), str(c.transfer_syntax[0])] = int(c.result)
        assoc.release()
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_the_receiver_accepts_what_is_claimed(tmp_path: Path) -> None:
    classes = [(str(c.abstract_syntax), LITTLE) for c in AllStoragePresentationContexts]
    syntaxes = [(CT, syntax) for syntax in sorted(SYNTAXES)]
    odd = [(PRIVATE, LITTLE), (WORKLIST, LITTLE), ("1.2.840.10008.5.1.4.1.1.4", "1.2.276.0.7230010.3.1.0.2")]
    async with running(tmp_path) as scp:
        said = await asyncio.to_thread(negotiated, scp.port, [*classes, *odd])
        spoken = await asyncio.to_thread(negotiated, scp.port, syntaxes)
    assert [said[pair] for pair in odd] == [ACCEPTED, NO_CLASS, NO_SYNTAX]
    assert {said[pair] for pair in classes} == {ACCEPTED}
    assert {spoken[pair] for pair in syntaxes} == {ACCEPTED}
