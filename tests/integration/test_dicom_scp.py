"""The storage SCP as real peers meet it: DCMTK, pynetdicom as it comes, and callers who mean no good."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.scp import (
    INCOMING,
    AssociationClosed,
    Ready,
    Received,
    Refused,
    ScpConfig,
    Start,
    StorageScp,
    scan,
)
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.errors import ConfigError
from clients.module import module
from tests.dicom_kit import (
    call,
    data_set,
    digests,
    free_port,
    instance,
    save,
    sendable,
    storescp,
)
from tests.peers import need
from tests.scp_kit import fragments, peak_memory, rest_of, run, running, store

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.peer
async def test_what_storescu_sends_is_kept_as_it_crossed_the_wire(tmp_path: Path) -> None:
    """The same files to DCMTK's storescp, which writes exactly what it reads, and to ours."""
    storescu = need("storescu")["storescu"]
    files = tmp_path / "files"
    files.mkdir()
    for i, path in enumerate(sendable()):
        (files / f"{i:04}.dcm").symlink_to(path)
    send = [storescu, "-R", "-nh", "-aec", "SCP", "-pdu", "131072", "--max-send-pdu", "131072", "+sd"]
    with storescp(tmp_path / "theirs", "SCP") as (port, _):
        await run(*send, "127.0.0.1", str(port), str(files))
    async with running(tmp_path / "ours") as ours:
        await run(*send, "127.0.0.1", str(ours.port), str(files))
        (closed,) = await ours.until(1)
        refused = [e.code for e in ours.events if isinstance(e, Refused)]
        kept = digests(ours.files)
    theirs = digests((tmp_path / "theirs").iterdir())
    assert isinstance(closed, AssociationClosed)
    assert closed.stored == sum(kept.values()) > 50
    assert closed.refused == len(refused)
    assert kept <= theirs
    assert sum((theirs - kept).values()) == len(refused)
    assert set(refused) <= {"dicom-uid-mismatch", "dicom-uid", "dicom-class"}


async def test_every_real_file_arrives_byte_for_byte_or_is_refused_by_name(tmp_path: Path) -> None:
    """Over the whole corpus, in every transfer syntax that it has."""
    async with running(tmp_path) as scp:
        scu = StoreScu(Destination(aet="SCP", host="127.0.0.1", port=scp.port, calling_aet="US"))
        await scu.start()
        sent: Counter[str] = Counter()
        syntaxes = set()
        for path in sendable():
            h = read_header(path)
            result = await scu.store(path, h.sop_class, h.sop_uid, h.syntax)
            assert result.status is not None
            if result.kind == "ok":
                sent += digests([path])
                syntaxes.add(h.syntax)
        await scu.stop()
        assert digests(scp.files) == sent
        assert sum(sent.values()) == len(sendable())
        assert len(syntaxes) > 10
        assert len([e for e in scp.events if isinstance(e, Received)]) == len(scp.files)
        assert {p.suffix for p in scp.files} == {".dcm"}


async def test_an_event_says_where_the_data_set_is(tmp_path: Path) -> None:
    ds = instance()
    async with running(tmp_path) as scp:
        assert await store(scp.port, ds, calling="CT 1") == 0x0000
        (event,) = await scp.until(1, Received)
        assert isinstance(event, Received)
        raw = (tmp_path / "incoming" / event.name).read_bytes()
        assert raw[event.data_offset :] == data_set(tmp_path / "incoming" / event.name)
        assert event.size == len(raw) - event.data_offset
        assert (event.calling_aet, event.sop_class, event.sop_uid) == (
            "CT 1",
            ds.SOPClassUID,
            ds.SOPInstanceUID,
        )
        assert event.syntax == ExplicitVRLittleEndian
        (closed,) = await scp.until(1)
        assert isinstance(closed, AssociationClosed)
        assert (closed.association, closed.stored, closed.orderly) == (event.association, 1, True)
    (left,) = scan(tmp_path)
    assert (left.name, left.size, left.data_offset) == (event.name, event.size, event.data_offset)


@pytest.mark.peer
async def test_who_is_not_on_the_list_is_rejected(tmp_path: Path) -> None:
    echoscu = need("echoscu")["echoscu"]
    async with running(tmp_path, allow_aets=("CT1", "MR 2")) as scp:

        async def echo(calling: str, called: str) -> bool:
            return not await run(echoscu, "-aet", calling, "-aec", called, "127.0.0.1", str(scp.port))

        assert await echo("CT1", "SCP")
        assert await echo("MR 2", "SCP")
        assert not await echo("CT3", "SCP")
        assert not await echo("CT1", "OTHER")
        refused = await scp.until(2, Refused)
        assert [(e.code, e.calling_aet) for e in refused if isinstance(e, Refused)] == [
            ("dicom-calling-aet", "CT3"),
            ("dicom-called-aet", "CT1"),
        ]
    async with running(tmp_path) as scp:
        assert await echo("ANYONE", "SCP")


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("claimed", "status", "code"),
    [
        ("../../../outside", 0x0117, "dicom-uid"),
        ("/tmp/outside", 0x0117, "dicom-uid"),
        ("1.2.3.4", 0xA900, "dicom-uid-mismatch"),
    ],
)
async def test_a_hostile_uid_gets_nowhere(tmp_path: Path, claimed: str, status: int, code: str) -> None:
    spool = tmp_path / "a" / "b" / "c"
    async with running(spool) as scp:

        def claim(request: Any) -> None:
            request.AffectedSOPInstanceUID = claimed

        assert await store(scp.port, instance(), claim) == status
        (refused,) = await scp.until(1, Refused)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.status) == (code, status)
        assert await store(scp.port, instance()) == 0
        assert len(scp.files) == 1
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == scp.files


async def test_half_a_data_set_is_not_stored(tmp_path: Path) -> None:
    def cut(request: Any) -> None:
        request.DataSet = BytesIO(request.DataSet.getvalue()[:-1000])

    async with running(tmp_path) as scp:
        assert await store(scp.port, instance(PixelData=bytes(5000)), cut) == 0xC000
        (refused,) = await scp.until(1, Refused)
        assert isinstance(refused, Refused)
        assert refused.code == "dicom-truncated"
        assert scp.files == []


async def test_a_sender_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    ds = instance(PixelData=bytes(2**20))

    def half() -> None:
        assoc = call(scp.port, ds)
        for pdata in fragments(ds)[:20]:
            assoc.dul.send_pdu(pdata)
        assoc.abort()

    async with running(tmp_path) as scp:
        await asyncio.to_thread(half)
        (closed,) = await scp.until(1)
        assert isinstance(closed, AssociationClosed)
        assert (closed.stored, closed.orderly) == (0, False)
        assert scp.files == []


async def test_an_instance_beyond_the_limit_is_told_so(tmp_path: Path) -> None:
    async with running(tmp_path, max_instance_bytes=2**17) as scp:
        assert await store(scp.port, instance(PixelData=bytes(2**17))) == 0xA700
        assert await store(scp.port, instance(PixelData=bytes(2**16))) == 0x0000
        assert len(scp.files) == 1


async def test_a_disk_below_its_margin_says_out_of_resources(tmp_path: Path) -> None:
    async with running(tmp_path, min_free_bytes=2**60) as scp:
        assert await store(scp.port, instance()) == 0xA700
        (refused,) = await scp.until(1, Refused)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.status) == ("disk-full", 0xA700)
        assert scp.files == []


async def test_a_full_disk_loses_nothing_and_keeps_no_half(tmp_path: Path) -> None:
    spool = tmp_path / "small"
    spool.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(spool)]
    if os.geteuid() or await run(*mount):
        pytest.skip("may not mount a small disk here (root is needed)")
    try:
        async with running(spool) as scp:
            statuses = [await store(scp.port, instance(PixelData=os.urandom(300_000))) for _ in range(5)]
            assert statuses == [0, 0, 0, 0xA700, 0xA700]
            assert [p.suffix for p in scp.files] == [".dcm"] * 3
            scp.files[0].unlink()
            assert await store(scp.port, instance(PixelData=os.urandom(300_000))) == 0
    finally:
        assert not await run("umount", "-l", str(spool))


async def test_what_an_earlier_life_left_is_swept_or_found(tmp_path: Path) -> None:
    async with running(tmp_path) as scp:
        assert await store(scp.port, instance()) == 0
    lost = tmp_path / "incoming" / ".landing-of-somebody-who-died"
    lost.mkdir()
    (lost / "half").write_bytes(b"half")
    (tmp_path / "incoming" / "other.dcm").write_bytes(b"no file of ours")
    whole = [p.name for p in scp.files if p.suffix == ".dcm" and p.name != "other.dcm"]
    async with running(tmp_path) as scp:
        assert not lost.exists()
    assert [found.name for found in scan(tmp_path)] == whole


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async with running(tmp_path) as scp:
        with pytest.raises(ConfigError) as caught:
            await StorageScp(ScpConfig(aet="SCP", port=scp.port), tmp_path).start()
        assert caught.value.code == "dicom-port"
    with pytest.raises(ConfigError) as caught:
        await StorageScp(ScpConfig(aet="SCP", host="192.0.2.1", port=0), tmp_path).start()
    assert caught.value.code == "dicom-address"


async def test_a_child_that_is_killed_is_started_again_on_the_same_port(tmp_path: Path) -> None:
    async with running(tmp_path) as scp:
        assert await store(scp.port, instance()) == 0
        (first,) = await scp.until(1, Received)
        os.kill(scp.scp._door.pid, 9)
        again = await scp.until(2, Received)  # told once more, as nobody knows what the child could not tell
        assert again == [first, again[1]]
        assert isinstance(again[1], Received)
        assert isinstance(first, Received)
        assert again[1].name == first.name
        assert await store(scp.port, instance()) == 0
        assert len(scp.files) == 2


OWNER = """
import asyncio, sys
from pathlib import Path
from clients.gateway.dicom.scp import ScpConfig, StorageScp
async def main():
    scp = StorageScp(ScpConfig(aet="SCP", port=int(sys.argv[2])), Path(sys.argv[1]))
    await scp.start()
    print(scp._door.pid, flush=True)
    async for event in scp.events():
        pass
asyncio.run(main())
"""


async def test_kill_9_of_the_owner_frees_the_port(tmp_path: Path) -> None:
    port = free_port()
    children = set()
    for _ in range(3):
        owner = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OWNER, str(tmp_path), str(port), stdout=subprocess.PIPE, cwd=ROOT
        )
        assert owner.stdout is not None
        line = await owner.stdout.readline()  # empty if the port was still taken
        child = int(line)
        children.add(child)
        assert await store(port, instance()) == 0
        with socket.create_connection(("127.0.0.1", port)):  # even with a connection open
            owner.kill()
            await owner.wait()
        assert await asyncio.to_thread(_ends, child)
    assert len(children) == 3
    assert len(scan(tmp_path)) == 3


async def test_a_child_without_its_owner_says_nothing_of_an_image(tmp_path: Path) -> None:
    """Between the end of the owner's pipes and the child's there is a moment: an image that was on disk was answered
    with 0xC211 in it, and no sender tries that again.
    """
    child = _child()
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        start = Start(ScpConfig(aet="SCP", port=0), str(tmp_path / INCOMING))
        child.stdin.write(msgspec.json.encode(start) + b"\n")
        child.stdin.flush()
        ready = msgspec.json.decode(await asyncio.to_thread(child.stdout.readline), type=Ready)
        child.stdout.close()
        image = instance()
        assoc = await asyncio.to_thread(call, ready.port, image)
        answer = await asyncio.to_thread(assoc.send_c_store, save(image, tmp_path / "image"))
        assert "Status" not in answer
        assert await asyncio.to_thread(_ends, child.pid)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
    assert [received.sop_uid for received in scan(tmp_path)] == [image.SOPInstanceUID]


def _child() -> subprocess.Popen[bytes]:
    """A child of ours, by itself."""
    command = module("clients.gateway.dicom.scp_child", str(os.getpid()))
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _ends(pid: int) -> bool:
    """Waits for the end of a process that is not our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], 60)[0])
    finally:
        os.close(fd)


async def test_silent_connections_do_not_lock_others_out(tmp_path: Path) -> None:
    async with running(tmp_path, max_per_address=4, max_associations=4, request_seconds=1.0) as scp:
        silent = []
        for i in range(40):
            sock = socket.create_connection(("127.0.0.1", scp.port), source_address=("127.0.0.2", 0))
            if i % 2:
                sock.sendall(b"\1\0\0")  # half a header
            silent.append(sock)
        assert await store(scp.port, instance()) == 0

        def ends() -> list[bytes]:
            for sock in silent:
                sock.settimeout(60)
            return [rest_of(sock) for sock in silent]

        assert set(await asyncio.to_thread(ends)) <= {b"", b"\7\0\0\0\0\4"}
        for sock in silent:
            sock.close()
        assert await store(scp.port, instance()) == 0


@pytest.mark.parametrize(
    "said",
    [
        b"\1\0\xff\xff\xff\xff" + bytes(100),
        b"\1\0\0\x20\0\0" + bytes(100),
        b"\4\0\0\0\0\4" + bytes(4),
        b"\x99\0\0\0\0\4" + bytes(4),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\3\1\2\0\1\0\1\xfc\3\3" + bytes(505),
        b"\1\0\0\0\0\x44\0\1\0\0" + b"SCP".ljust(16) + b"X".ljust(16) + bytes(31),
    ],
    ids=["4 GiB", "2 MiB", "data first", "no PDU", "HTTP", "TLS", "half a request"],
)
async def test_what_is_no_association_ends_soon(tmp_path: Path, said: bytes) -> None:
    async with running(tmp_path, request_seconds=1.0, stall_seconds=1.0) as scp:
        with socket.create_connection(("127.0.0.1", scp.port)) as sock:
            sock.settimeout(60)
            sock.sendall(said)
            await asyncio.to_thread(rest_of, sock)
        assert await store(scp.port, instance()) == 0


async def test_a_pdu_longer_than_agreed_is_not_read(tmp_path: Path) -> None:
    async with running(tmp_path) as scp:

        def work() -> bytes:
            assoc = call(scp.port, instance())
            sock = assoc.dul.socket.socket
            assoc.dul._kill_thread = True  # we speak by hand now
            assoc.dul.join()
            sock.sendall(b"\4\0\x03\x20\0\0" + bytes(1000))
            sock.settimeout(60)
            said = rest_of(sock)
            assoc.kill()
            sock.close()
            return said

        assert await asyncio.to_thread(work) in (b"", b"\7\0\0\0\0\4")


async def test_memory_does_not_grow_with_the_instance(tmp_path: Path) -> None:
    path = save(instance(PixelData=bytes(2**26)), tmp_path / "a.dcm")
    h = read_header(path)
    async with running(tmp_path) as scp:
        assert await store(scp.port, instance()) == 0
        scu = StoreScu(Destination(aet="SCP", host="127.0.0.1", port=scp.port, calling_aet="US"))
        await scu.start()
        assert scu._door is not None
        before = peak_memory(scp.scp._door.pid), peak_memory(scu._door.pid)
        assert (await scu.store(path, h.sop_class, h.sop_uid, h.syntax)).kind == "ok"
        after = peak_memory(scp.scp._door.pid), peak_memory(scu._door.pid)
        await scu.stop()
    assert after[0] - before[0] < 2**24
    assert after[1] - before[1] < 2**24
