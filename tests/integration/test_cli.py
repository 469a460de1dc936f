"""`send`, `phone`, `status`, `cancel`, `reopen` as scripts use them: what they print, and how they end."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage

from clients.drill import Phone
from tests.programs import RECEIVER, Programs, Running, command, write_study
from transfer import tries
from transfer.links import make_link, make_scan, read_scan

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def world(everybody: Programs) -> Programs:
    await everybody.heal()
    return everybody


@pytest.fixture
def study(tmp_path: Path) -> dict[str, bytes]:
    """A small study at `tmp_path/study`."""
    return write_study(tmp_path / "study")


def sender(world: Programs) -> str:
    return str(world.sender.folder)


@pytest_asyncio.fixture(loop_scope="module")
async def send(world: Programs, study: dict[str, bytes], tmp_path: Path) -> AsyncIterator[Running]:
    """`send --path tmp_path/study`, offered."""
    path = str(tmp_path / "study")
    program = Running("send", tmp_path / "send.log", "send", sender(world), "--path", path, "--to", RECEIVER)
    await program.start()
    await program.event("offered")
    yield program
    await program.stop()


async def offered(send: Running) -> dict[str, Any]:
    return await send.event("offered")


async def phone(link: str, pin: str, *argv: str) -> tuple[int, list[dict[str, Any]]]:
    """`phone LINK --pin PIN ... --json`: exit code and events."""
    done = await command("phone", link, "--pin", pin, *argv, "--json")
    return done.code, done.lines


def other(pin: str) -> str:
    """A PIN that is not this one."""
    return f"{(int(pin) + 1) % 10**6:06d}"


async def test_complete(world: Programs, send: Running, study: dict[str, bytes]) -> None:
    offer = await offered(send)
    code, said = await phone(offer["link"], offer["pin"], "--approve")
    assert code == 0
    assert [e["event"] for e in said] == ["asked", "answered"]
    assert said[0]["to"] == RECEIVER
    assert said[1]["state"] == "RELEASED"
    assert await send.end() == 0
    names = [e["event"] for e in send.events]
    wanted = [
        "created", "offered", "joined", "approved", "released", "first_instance_stored", "stored", "complete",
    ]  # fmt: skip
    assert [n for n in dict.fromkeys(names) if n != "uploaded"] == wanted
    assert names.index("offered") < names.index("uploaded")
    by_name = {e["event"]: e for e in send.events}
    assert by_name["joined"]["check"] == said[0]["check"]
    assert len(by_name["joined"]["check"]) == 4
    assert by_name["uploaded"]["bytes"] == by_name["uploaded"]["of"] > 0
    assert by_name["approved"]["by"] == "patient"
    assert (by_name["stored"]["n"], by_name["stored"]["of"]) == (len(study), len(study))
    times = [e["t"] for e in send.events]
    assert times == sorted(times)
    assert world.at_pacs(study) == {uid: [digest] for uid, digest in study.items()}
    there = await command("status", str(world.receiver.folder), offer["tid"], "--json")
    assert there.value["state"] == "COMPLETE"
    assert there.value["receipt_code"] == by_name["complete"]["receipt"] != ""


@pytest.mark.parametrize("how", ["file", "zip", "study", "latest"])
async def test_other_ways_to_name_a_study(world: Programs, tmp_path: Path, how: str) -> None:
    sent = write_study(tmp_path / "study", instances=1 if how == "file" else 3)
    files = sorted((tmp_path / "study").iterdir())
    if how == "zip":
        with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.name)
    argv = {
        "file": ("--path", str(files[0])),
        "zip": ("--path", str(tmp_path / "study.zip")),
        "latest": ("--latest",),
    }.get(how, ())
    if how in ("study", "latest"):
        # another test's study may still have come in while its clock was turned, and would be the latest
        world.sender.turn_clock(4 * 7300)
        await world.sender.engine.import_path(str(tmp_path / "study"), "test")
        world.sender.turn_clock(0)
    if how == "study":
        argv = ("--study", (await world.sender.engine.studies(limit=1))[0].uid)
    program = Running(
        "send", tmp_path / "log", "send", sender(world), *argv, "--to", RECEIVER, "--reason", "drill"
    )
    await program.start()
    offer = await program.event("offered")
    assert (await phone(offer["link"], offer["pin"], "--approve"))[0] == 0
    assert await program.end() == 0
    assert set(world.at_pacs(sent)) == set(sent)
    assert (await world.sender.engine.transfer(offer["tid"])).reason == "drill"


async def test_deny_and_then_somebody_else_approves(send: Running) -> None:
    offer = await offered(send)
    code, said = await phone(offer["link"], offer["pin"], "--deny")
    assert (code, said[-1]["state"]) == (0, "DENIED")
    assert await send.end() == 4
    assert send.events[-1]["event"] == "denied"
    assert "approved" not in [e["event"] for e in send.events]
    code, said = await phone(
        offer["link"],
        offer["pin"],
        "--approve",
        "--as",
        "proxy",
        "--name",
        "Zoe Proxy",
        "--relationship",
        "parent",
    )
    assert code == 1
    assert [e["event"] for e in said] == ["asked", "decided", "failed"]
    assert said[-1]["code"] == "decided"
    again, said = await phone(offer["link"], offer["pin"], "--deny")
    assert (again, said[-1]["d"]) == (0, "deny")


async def test_wrong_pins_lock_a_reopen_helps_and_a_proxy_answers(world: Programs, send: Running) -> None:
    offer = await offered(send)
    for left in range(tries.MAX - 1, 0, -1):
        code, said = await phone(offer["link"], other(offer["pin"]), "--approve")
        assert (code, said[0]["left"], said[-1]["code"]) == (1, left, "wrong")
    code, said = await phone(offer["link"], other(offer["pin"]), "--approve")
    assert (code, said[-1]["code"]) == (1, "locked")
    code, said = await phone(offer["link"], offer["pin"], "--approve")
    assert (code, said[-1]["code"]) == (1, "locked")
    status = await command("status", sender(world), offer["tid"], "--json")
    assert status.value["locked"]
    assert "Re-open" in status.value["sentence"]
    new = (await command("reopen", sender(world), offer["tid"], "--json")).value
    assert new["link"] != offer["link"]
    code, said = await phone(offer["link"], offer["pin"], "--approve")
    assert (code, said[-1]["code"]) == (1, "ended")
    proxy = ("--as", "proxy", "--name", "Zoe Proxy", "--relationship", "guardian")
    assert (await phone(new["link"], new["pin"], "--approve", *proxy))[0] == 0
    assert await send.end() == 0
    links = [e["link"] for e in send.events if e["event"] == "offered"]
    assert links == [offer["link"], new["link"]]
    assert next(e for e in send.events if e["event"] == "approved")["by"] == "proxy: Zoe Proxy (guardian)"


async def test_cancel(world: Programs, send: Running) -> None:
    offer = await offered(send)
    asked = ("cancel", sender(world), offer["tid"], "--asked-by", "parent")
    assert (await command(*asked)).code == 2, "and why?"
    done = await command(*asked, "--reason", "called at 14:10", "--json")
    assert (done.code, done.value["state"], done.value["link"]) == (0, "REVOKED", "")
    assert done.value["notes"][0]["text"] == "asked to stop by parent: called at 14:10"
    assert await send.end() == 6
    assert send.events[-1]["event"] == "revoked"
    code, said = await phone(offer["link"], offer["pin"], "--approve")
    assert (code, said[-1]["code"]) == (1, "ended")
    again = await command("cancel", sender(world), offer["tid"], "--json")
    assert (again.code, again.value["code"]) == (1, "state")
    reopened = await command("reopen", sender(world), offer["tid"])
    assert (reopened.code, reopened.out) == (1, "")
    assert "[state]" in reopened.err


async def test_expired_and_asked_again(world: Programs, study: dict[str, bytes], tmp_path: Path) -> None:
    await world.sender.restart(clock=-100)
    path = str(tmp_path / "study")
    send = Running("send", tmp_path / "send.log", "send", sender(world), "--path", path, "--to", RECEIVER)
    await send.start()
    offer = await send.event("offered")
    world.sender.turn_clock(7300)
    assert await send.end() == 5
    assert send.events[-1]["event"] == "expired"
    code, said = await phone(offer["link"], offer["pin"], "--approve")
    assert (code, said[-1]["code"]) == (1, "ended")
    world.sender.turn_clock(0)
    again = (await command("reopen", sender(world), offer["tid"], "--json")).value
    assert again["tid"] != offer["tid"]
    assert (await phone(again["link"], again["pin"], "--approve"))[0] == 0
    await world.sender.until(again["tid"], "COMPLETE")


async def test_partial_where_the_pacs_refuses_one(
    world: Programs, send: Running, study: dict[str, bytes]
) -> None:
    offer = await offered(send)
    async with picky_pacs(next(iter(study))) as port:
        target, world.store.target = world.store.target, port
        world.store.cut()
        try:
            assert (await phone(offer["link"], offer["pin"], "--approve"))[0] == 0
            assert await send.end() == 3
        finally:
            world.store.target = target
            world.store.cut()
    end = send.events[-1]
    assert (end["event"], end["stored"], end["gaps"]) == ("partial", len(study) - 1, 1)
    stored = next(e for e in send.events if e["event"] == "stored")
    assert (stored["n"], stored["of"]) == (len(study) - 1, len(study))


@asynccontextmanager
async def picky_pacs(refused: str) -> AsyncIterator[int]:
    """A PACS that takes everything but one instance (0xA900: it does not match its SOP class)."""
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage)

    def store(event: Any) -> int:
        return 0xA900 if event.request.AffectedSOPInstanceUID == refused else 0

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    try:
        yield server.socket.getsockname()[1]
    finally:
        await asyncio.to_thread(server.shutdown)


async def test_links_that_lead_nowhere(world: Programs) -> None:
    relay = f"http://127.0.0.1:{world.up.port}"
    for link in (make_link(relay, os.urandom(16)), f"{relay}/s#1.short", "https://example.org/", "nonsense"):
        code, said = await phone(link, "123456", "--approve")
        assert (code, said[-1]["event"], said[-1]["code"]) == (1, "failed", "link")


async def test_status_of_all_and_of_nothing(world: Programs, send: Running) -> None:
    offer = await offered(send)
    listed = await command("status", sender(world), "--json")
    assert offer["tid"] in [v["tid"] for v in listed.value]
    shown = await command("status", sender(world))
    line = next(line for line in shown.out.splitlines() if line.startswith(offer["tid"]))
    assert "OFFERED" in line
    assert RECEIVER in line
    for tid in ("0" * 32, "../gateway.db", "\N{SNOWMAN}"):
        for name in ("status", "cancel", "reopen"):
            done = await command(name, sender(world), tid, "--json")
            assert (done.code, done.value["event"], done.value["code"]) == (1, "failed", "absent")
    for tid, to, code in (("0" * 32, RECEIVER, "absent"), (offer["tid"], "Nowhere Hospital", "absent")):
        done = await command("divert", sender(world), tid, "--to", to, "--json")
        assert (done.code, done.value["code"]) == (1, code)
    same = await command("divert", sender(world), offer["tid"], "--to", RECEIVER)
    assert (same.code, offer["tid"] in same.out, "PIN" in same.out) == (0, True, True)
    await command("cancel", sender(world), offer["tid"])


async def test_what_send_refuses_before_an_offer(
    world: Programs, study: dict[str, bytes], tmp_path: Path
) -> None:
    path = ("--path", str(tmp_path / "study"))
    for argv in (
        path,
        ("--latest", *path, "--to", RECEIVER),
        ("--to", RECEIVER),
        (*path, "--to", "x", "--reason", "y"),
    ):
        done = await command("send", sender(world), *argv)
        assert (done.code, done.out) == (2, "")
        assert "Usage" in done.err
    done = await command("send", sender(world), *path, "--to", "Nowhere General", "--json")
    assert (done.code, done.lines[-1]["event"], done.lines[-1]["code"]) == (1, "failed", "absent")
    assert "pair" in done.lines[-1]["sentence"].lower()
    done = await command("send", sender(world), "--study", "1.2.3", "--to", RECEIVER)
    assert (done.code, done.out) == (1, "")
    assert "[absent]" in done.err


async def test_phone_typed_wrongly() -> None:
    for argv in (
        (), ("--approve", "--as", "proxy"), ("--approve", "--as", "proxy", "--name", "N", "--relationship", "self"),
        ("--approve", "--as", "doctor"),
        ("--approve", "--as", "proxy", "--relationship", "parent", "--name", "x" * 10_000),
        ("--approve", "--as", "proxy", "--relationship", "parent", "--name", "\u202e\u200b"),
    ):  # fmt: skip
        done = await command("phone", "http://127.0.0.1:1/s#1.AAAA", "--pin", "123456", *argv)
        assert (done.code, done.out) == (2, "")


async def test_the_gateway_stops_while_send_waits(world: Programs, send: Running) -> None:
    """The command cannot know the end: it says that the transfer goes on and how to look, and fails."""
    offer = await offered(send)
    await world.sender.kill()
    assert await send.end() == 1
    assert send.events[-1]["code"] == "busy"
    assert f"status DIR {offer['tid']}" in send.events[-1]["sentence"]
    await world.sender.start()
    await command("cancel", sender(world), offer["tid"])


async def test_without_a_running_gateway_the_command_is_the_engine(
    world: Programs, study: dict[str, bytes], tmp_path: Path
) -> None:
    """`send` holds the folder; `status` works beside it; a gateway is told who holds it; all that is due is said."""
    await world.sender.stop()
    path = str(tmp_path / "study")
    send = Running("send", tmp_path / "send.log", "send", sender(world), "--path", path, "--to", RECEIVER)
    await send.start()
    offer = await send.event("offered")
    beside = await command("status", sender(world), offer["tid"], "--json")
    assert beside.value["state"] == "OFFERED"
    second = await command("gateway", "run", sender(world), "--json")
    assert (second.code, second.value["code"]) == (1, "busy")
    assert (await phone(offer["link"], offer["pin"], "--approve"))[0] == 0
    assert await send.end() == 0
    assert set(world.at_pacs(study)) == set(study)
    there = await world.receiver.until(offer["tid"], "COMPLETE")
    assert there.receipt_code
    with closing(sqlite3.connect(world.sender.folder / "gateway.db")) as con:
        unsaid = con.execute(
            "SELECT kind FROM outbox WHERE kind='relay' OR tid=?", (bytes.fromhex(offer["tid"]),)
        )
        assert unsaid.fetchall() == []


async def test_the_voice_door_for_a_proxy_on_the_telephone(world: Programs, send: Running) -> None:
    offer = await offered(send)
    voice = (await command("door", sender(world), offer["tid"], "voice", "--json")).value
    assert (voice["door"], len(voice["number"]), len(voice["pin"]), voice["tries_left"]) == ("voice", 7, 9, 3)
    assert voice["link"].endswith("/v")
    code, said = await phone(offer["link"], offer["pin"], "--approve")
    assert (code, said[-1]["code"]) == (1, "ended"), "the QR's page says that there is a newer code"
    at = ("--number", voice["number"])
    typo = voice["pin"][:-1] + str((int(voice["pin"][-1]) + 1) % 10)
    code, said = await phone(voice["link"], typo, *at, "--approve")
    assert (code, said[-1]["code"]) == (1, "typo")
    proxy = ("--as", "proxy", "--name", "Zoe Proxy", "--relationship", "spouse")
    code, said = await phone(voice["link"], voice["pin"], *at, "--approve", *proxy)
    assert (code, said[0]["event"], said[-1]["event"]) == (0, "asked", "answered")
    assert await send.end() == 0


async def test_the_scan_door_for_a_phone_that_shows_its_code(world: Programs, send: Running) -> None:
    offer = await offered(send)
    shown = make_scan(os.urandom(16))
    for text, why in (("4711", "scan-rubbish"), (offer["link"], "scan-link")):
        bad = await command("door", sender(world), offer["tid"], "scan", "--scanned", text, "--json")
        assert (bad.code, bad.value["code"]) == (1, why)
    assert (await command("door", sender(world), offer["tid"], "scan")).code == 2
    scanned = (await command("door", sender(world), offer["tid"], "scan", "--scanned", shown, "--json")).value
    assert (scanned["door"], len(scanned["pin"])) == ("scan", 6)
    async with Phone(scanned["link"], scanned["pin"], q=read_scan(shown)) as person:
        await person.ask()
        assert (await person.decide("approve", by="patient", name="", rel="self")).refused == ""
    assert await send.end() == 0
