"""`demo`: one command, all parties, one CT in a PACS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
from pathlib import Path

import pytest

from clients.drill import Phone
from clients.gateway.dicom.header import read_header
from tests.dicom_kit import storescp
from tests.peers import need
from tests.programs import Running, command, digests, write_study

DEV = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"
ORDER = [
    "pages",
    "offered",
    "joined",
    "approved",
    "released",
    "first_instance_stored",
    "complete",
    "compared",
]


def names(lines: list[dict[str, object]], wanted: list[str]) -> list[str]:
    """The wanted events in their order, each once."""
    return list(dict.fromkeys(str(e["event"]) for e in lines if e["event"] in wanted))


@pytest.mark.parametrize(
    "source",
    [
        "noise",
        pytest.param("head", marks=pytest.mark.skipif(not DEV.is_dir(), reason="no real studies here")),
    ],
)
async def test_headless(tmp_path: Path, source: str) -> None:
    path = tmp_path / "study" if source == "noise" else DEV / "ct_head_trauma_phantom_5mm"
    sent = write_study(path) if source == "noise" else digests(path)
    keep = tmp_path / "keep"
    done = await command("demo", "--headless", "--json", "--path", str(path), "--keep", str(keep))
    assert done.code == 0, done
    lines = done.lines
    assert names(lines, ORDER) == ORDER
    assert lines[-1] == {"event": "kept", "t": lines[-1]["t"], "folder": str(keep.resolve())}
    assert [e["t"] for e in lines] == sorted(e["t"] for e in lines)
    by_name = {e["event"]: e for e in lines}
    assert set(by_name["offered"]) >= {"link", "pin"}
    assert len(by_name["joined"]["check"]) == 4
    assert by_name["uploaded"]["bytes"] > 0
    assert (by_name["stored"]["n"], by_name["stored"]["of"]) == (len(sent), len(sent))
    assert (by_name["compared"]["same"], by_name["compared"]["of"]) == (len(sent), len(sent))
    assert {p.name for p in keep.iterdir() if p.is_dir()} == {"relay", "sender", "receiver", "pacs"}
    assert digests(keep / "pacs") == sent
    assert len(list((keep / "pacs").rglob("*.dcm"))) == len(sent)
    assert done.err == ""
    for log in keep.glob("*.log"):
        assert "Traceback" not in log.read_text()


@pytest.mark.slow
async def test_the_generated_ct(tmp_path: Path) -> None:
    """The default: at least 200 slices of a CT, all of them in the PACS byte for byte, for people."""
    done = await command("demo", "--headless", "--keep", str(tmp_path / "keep"))
    assert done.code == 0, done
    sent = digests(tmp_path / "keep" / "study")
    assert len(sent) >= 200
    assert digests(tmp_path / "keep" / "pacs") == sent
    said = done.out
    assert f"{len(sent)} of {len(sent)} images are in" in said
    assert "byte for byte" in said
    for words in ("Link: http://127.0.0.1:", "PIN (tell it, do not show it): ", "Check code: ", "COMPLETE: "):
        assert words in said


@pytest.mark.peer
async def test_orthanc(tmp_path: Path) -> None:
    need("Orthanc")
    sent = write_study(tmp_path / "study")
    done = await command(
        "demo", "--headless", "--json", "--pacs", "orthanc", "--path", str(tmp_path / "study")
    )
    assert done.code == 0, done
    compared = next(e for e in done.lines if e["event"] == "compared")
    assert (compared["same"], compared["of"]) == (len(sent), len(sent))


@pytest.mark.peer
async def test_a_pacs_that_is_there(tmp_path: Path) -> None:
    sent = write_study(tmp_path / "study")
    with storescp(tmp_path / "archive", "ARCHIVE") as (port, _):
        path = str(tmp_path / "study")
        done = await command(
            "demo", "--headless", "--json", "--pacs", f"ARCHIVE@127.0.0.1:{port}", "--path", path
        )
        assert done.code == 0, done
    found = {}
    for file in (tmp_path / "archive").iterdir():
        header = read_header(file)
        found[header.sop_uid] = hashlib.sha256(file.read_bytes()[header.data_offset :]).digest()
    assert found == sent


async def test_without_headless_somebody_must_answer(tmp_path: Path) -> None:
    """It waits for the phone; here the `phone` command is the person. Ctrl-C would end it, and everybody with it."""
    write_study(tmp_path / "study")
    demo = Running("demo", tmp_path / "demo.log", "demo", "--path", str(tmp_path / "study"))
    await demo.start()
    pages = await demo.event("pages")
    assert pages["desk"] != pages["inbox"]
    offer = await demo.event("offered")
    done = await command("phone", offer["link"], "--pin", offer["pin"], "--deny")
    assert done.code == 0
    await demo.event("denied")
    async with Phone(offer["link"], offer["pin"]) as late:  # a phone that was slow to ask how it ended
        assert (await late.ask()).state == "DENIED"
    assert await demo.end() == 4
    assert demo.events[-1]["event"] == "denied"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_nobody_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int) -> None:
    """Nor does a file, where the demo had the time to tidy up."""
    write_study(tmp_path / "study")
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("TMPDIR", str(mine))
    demo = Running("demo", tmp_path / "demo.log", "demo", "--path", str(tmp_path / "study"))
    await demo.start()
    await demo.event("offered")
    assert len(list(mine.iterdir())) == 1
    assert demo.process is not None
    demo.process.send_signal(signum)
    code = await demo.process.wait()
    assert code == (-signum if signum == signal.SIGKILL else 128 + signum)

    def left() -> list[str]:
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(mine).encode() in file.read_bytes():
                    found.append(file.parent.name)
        return found

    async with asyncio.timeout(30):
        while left():  # noqa: ASYNC110  # a process that ends sets no event
            await asyncio.sleep(0.05)
    assert signum == signal.SIGKILL or not list(mine.iterdir())
    assert "Traceback" not in demo.log.read_text()


async def test_what_it_refuses(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "none").mkdir()
    for argv, code in (
        (("--pacs", "nothing"), "demo-pacs"), (("--keep", str(tmp_path / "full")), "demo-keep"),
        (("--keep", str(tmp_path / "full" / "file")), "demo-keep"),
    ):  # fmt: skip
        done = await command("demo", "--headless", "--json", "--path", str(tmp_path / "none"), *argv)
        assert (done.code, done.value["event"], done.value["code"]) == (1, "failed", code)
    assert (tmp_path / "full" / "file").read_text() == "mine"
    done = await command("demo", "--headless", "--json", "--path", str(tmp_path / "none"))
    assert (done.code, done.lines[-1]["code"]) == (1, "import-nothing")
    done = await command("demo", "--path", str(tmp_path / "absent"))
    assert (done.code, done.out) == (2, "")
