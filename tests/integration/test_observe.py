"""Real programs: what they log and count of a whole transfer, how they end when they are told to, and a gateway that is
made anew from its backup.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from clients.drill import Phone
from relay.backup import backup
from tests.dicom_kit import free_port
from tests.programs import RECEIVER, SENDER, Gateway, Programs, command, running, write_study
from tests.secrets_kit import found, found_number, of_the_gateways, of_the_study, query

pytestmark = pytest.mark.asyncio(loop_scope="module")
END = 60.0
"""Seconds after which a program that was told to end hangs; the program's own bound is shorter."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Programs]:
    async with running(tmp_path_factory.mktemp("observe")) as programs:
        await asyncio.gather(watch(programs.sender), watch(programs.receiver))
        yield programs


async def watch(site: Gateway) -> None:
    """A gateway with an address for its health and metrics."""
    await site.stop()
    settings = site.folder / "gateway.toml"
    settings.write_text(
        settings.read_text().replace('# listen = "127.0.0.1:9480"', f'listen = "127.0.0.1:{free_port()}"')
    )
    await site.start()


@pytest_asyncio.fixture(loop_scope="module")
async def study(world: Programs, tmp_path: Path) -> Path:
    await world.heal()
    write_study(tmp_path / "study", instances=8, side=128)
    return tmp_path / "study"


def lines(*logs: Path) -> list[dict[str, Any]]:
    """Every line of these logs: each one is JSON."""
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


async def scraped(world: Programs) -> str:
    """All that the gateways say to a monitor."""
    texts = []
    async with aiohttp.ClientSession() as session:
        for site in (world.sender, world.receiver):
            for path in ("/healthz", "/readyz", "/metrics"):
                async with session.get(site.ready["metrics"] + path) as answer:
                    texts.append(await answer.text())
    return "\n".join(texts)


async def test_a_whole_transfer_is_found_by_its_id_and_nothing_else_is(
    world: Programs, study: Path, tmp_path: Path
) -> None:
    """In both gateways' logs; and no name, UID, PIN or key in them, nor in any answer to a monitor on the way."""
    heard = [await scraped(world)]
    view = await world.offer(study)
    await world.receiver.when(view.tid, lambda v: v.state == "SEEN" and v.bytes == v.moved > 0)
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
    needles = {**of_the_study(study), **of_the_gateways(world, view)}
    heard.append(await scraped(world))
    await world.answer(view)
    await world.receiver.until(view.tid, "OPENED", "COMPLETE")
    heard.append(await scraped(world))
    await world.sender.until(view.tid, "COMPLETE")
    heard.append(await scraped(world))

    logs = [world.sender.log, world.receiver.log]
    events = [
        [line["event"] for line in lines(log) if line.get("tid") == view.tid and line["level"] == "info"]
        for log in logs
    ]
    assert [e for e in events[0] if e.startswith(("transfer.", "receipt."))] == [
        "transfer.create", "transfer.offer", "transfer.joined", "transfer.joined", "transfer.approve",
        "receipt.complete",
    ]  # fmt: skip
    assert [e for e in events[1] if e.startswith(("incoming.", "receipt."))] == [
        "incoming.offer", "incoming.opened", "receipt.complete",
    ]  # fmt: skip

    (tmp_path / "heard").write_text("\n".join(heard))
    ((cid,),) = query(world.sender.folder, "SELECT cid FROM sends WHERE tid=?", [bytes.fromhex(view.tid)])
    places = [*logs, world.relay.log, tmp_path / "heard"]
    assert len(needles) > 20
    assert found(needles, *places) == set()
    assert not found_number(view.pin, *places)
    ids = {"tid": bytes.fromhex(view.tid), "cid": bytes(cid)}
    names = {"sender": SENDER.encode(), "receiver": RECEIVER.encode()}
    assert found({**ids, **names}, world.relay.log, tmp_path / "heard") == set(), (
        "a monitor keeps it for years"
    )
    assert found(ids, *logs) == {"tid"}, "the search finds what is there"
    assert stored(heard[-1]) - stored(heard[0]) == 8, "what is searched says something"


def stored(text: str) -> float:
    """Images that PACS took of these gateways."""
    found = re.findall(r'^gateway_pacs_answers_total{kind="ok"} (.*)$', text, re.MULTILINE)
    return sum(map(float, found))


# A polite end


@pytest.mark.parametrize("who", ["sender", "receiver", "relay"])
async def test_sigterm_in_mid_transfer(world: Programs, study: Path, who: str) -> None:
    """It ends in time, with 0 and without a traceback; and a start goes on where it was."""
    world.store.hold("up", 40_000)
    view = await world.offer(study)
    await world.answer(view)
    await world.store.held.wait()
    program = {"sender": world.sender, "receiver": world.receiver, "relay": world.relay}[who]
    begun = len(program.log.read_bytes())
    assert program.process is not None
    program.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(END):
        code = await program.process.wait()
    said = program.log.read_bytes()[begun:].decode()
    assert (code, "Traceback" in said) == (0, False), said
    assert [line for line in said.splitlines() if not line.startswith("{")] == []
    assert program.children() == []
    if isinstance(program, Gateway):
        await program.engine.close()
        assert not (program.folder / "control.sock").exists()
    await program.start()
    world.store.release()
    await world.sender.until(view.tid, "COMPLETE")
    await world.receiver.until(view.tid, "COMPLETE")


async def test_sigterm_while_pages_are_watched(world: Programs, study: Path) -> None:
    """Connections that stay open, to the pages and to the metrics, hold nobody up."""
    site = world.sender
    reader, writer = await asyncio.open_connection("127.0.0.1", int(site.ready["pages"].rpartition(":")[2]))
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 ")
    slow, half = await asyncio.open_connection("127.0.0.1", int(site.ready["metrics"].rpartition(":")[2]))
    half.write(b"GET /metrics HT")
    assert site.process is not None
    site.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(END):
        assert await site.process.wait() == 0
    for each in (writer, half):
        each.close()
    assert await slow.read() == b""
    await site.engine.close()
    await site.start()


async def test_a_thread_that_does_not_end_is_not_waited_for() -> None:
    """As of an import of many files from a slow disc."""
    code = (
        "import asyncio, time; from clients.commands.engine import leave_within; leave_within(0.5);"
        "asyncio.run(asyncio.to_thread(time.sleep, 300))"
    )
    begun = time.monotonic()
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - begun < 100


# From a backup


async def test_a_relay_that_was_lost_is_put_back_and_all_goes_on(
    world: Programs, study: Path, tmp_path: Path
) -> None:
    """By the steps of docs/operate/relay.md, in mid-transfer: a phone that had asked asks again, and nothing else."""
    view = await world.offer(study)
    await world.receiver.until(view.tid, "SEEN")
    await asyncio.to_thread(backup, world.base / "relay", tmp_path / "relay.db")
    async with Phone(view.link, view.pin) as phone:
        await phone.ask()
    await world.relay.kill()
    for file in (world.base / "relay").glob("relay.db*"):
        file.unlink()
    shutil.copy(tmp_path / "relay.db", world.base / "relay" / "relay.db")
    await world.relay.start()
    await world.answer(view)
    await world.sender.until(view.tid, "COMPLETE")
    await world.receiver.until(view.tid, "COMPLETE")


async def test_a_gateway_that_was_lost_is_made_anew(world: Programs, study: Path, tmp_path: Path) -> None:
    """Backed up by the command while it sends; then its disk is gone. The offer is over, and all else works."""
    view = await world.offer(study)
    await world.receiver.until(view.tid, "SEEN")
    file = tmp_path / "backup.tar"
    done = await command("gateway", "backup", str(world.sender.folder), str(file))
    assert (done.code, "guard it like the gateway itself" in done.out) == (0, True), done
    assert file.stat().st_mode & 0o777 == 0o600
    lost = world.sender
    await lost.kill()
    new = Gateway(world.base / "sender-anew")
    done = await command("gateway", "restore", str(file), str(new.folder), "--json")
    assert (done.code, done.value["stopped"], done.value["peers"]) == (0, 1, [RECEIVER]), done
    again = await command("gateway", "restore", str(file), str(new.folder))
    assert (again.code, "not empty" in again.err) == (1, True)
    try:
        await new.start()
        ended = await command("status", str(new.folder), view.tid)
        assert "restored from a backup" in ended.out
        assert (await new.until(view.tid, "REVOKED")).why == "restored"
        await world.receiver.until(view.tid, "REVOKED")
        result = await new.engine.import_path(str(study), "test")
        sent = await new.engine.send(result["studies"][0], RECEIVER, "drill", "test")
        await new.until(sent.tid, "OFFERED")
        shown = await command("status", str(new.folder))
        assert "    It waits for the answer on the patient's phone, until " in shown.out
        await world.answer(await new.engine.transfer(sent.tid))
        await new.until(sent.tid, "COMPLETE")
        await world.receiver.until(sent.tid, "COMPLETE")
    finally:
        await new.stop()
    await lost.start()
