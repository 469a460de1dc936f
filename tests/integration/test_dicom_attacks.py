"""What was seen to hurt a DICOM port, row by row: each attack against our SCP as it runs, in its own process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from clients.gateway.dicom.commands import encode_store_request
from clients.gateway.dicom.part10 import write_part10
from clients.gateway.dicom.scp import Received, Refused
from clients.gateway.dicom.scu import Destination, StoreScu
from tests.dicom_kit import call, encoded, instance, save
from tests.peers import need
from tests.scp_kit import bare, drip, peak_memory, rest_of, run, running, store, threads

ABORT = b"\7\0\0\0\0\4"
ENDS = {b"", ABORT}
"""What a connection may say before it is closed."""
REQUEST = b"\1\0\0\0\0\x44\0\1\0\0" + b"SCP".ljust(16) + b"X".ljust(16) + bytes(31)
"""Half an A-ASSOCIATE-RQ."""
CT = "1.2.840.10008.5.1.4.1.1.2"


@contextlib.contextmanager
def crowd(port: int, addresses: list[str], each: int) -> Iterator[None]:
    """Connections that say nothing, or three bytes of a header."""
    held = []
    try:
        for i in range(each):
            for address in addresses:
                sock = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
                held.append(sock)
                with contextlib.suppress(OSError):  # it may have had to make room already
                    sock.sendall(b"\1\0\0"[: i % 4])
        yield
    finally:
        for sock in held:
            sock.close()


@pytest.mark.peer
@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], [f"127.0.0.{i}" for i in range(2, 22)]],
    ids=["of the sender's own address", "of twenty others"],
)
async def test_two_hundred_idle_connections_keep_no_sender_out(tmp_path: Path, addresses: list[str]) -> None:
    storescu = need("storescu")["storescu"]
    path = save(instance(), tmp_path / "a.dcm")
    async with running(tmp_path) as scp:
        with crowd(scp.port, addresses, 200 // len(addresses)):
            assert not await run(storescu, "-aec", "SCP", "127.0.0.1", str(scp.port), str(path))
            assert threads(scp.scp._door.pid) < 100  # 400 where each connection has its two
        assert len(scp.files) == 1


async def test_who_connects_again_and_again_has_a_pace_and_others_have_theirs(tmp_path: Path) -> None:
    async with running(tmp_path, connects_at_once=3, connects_per_second=0.001) as scp:
        assert [await store(scp.port, instance()) for _ in range(3)] == [0, 0, 0]

        def meet(address: str) -> bytes:
            with socket.create_connection(("127.0.0.1", scp.port), source_address=(address, 0)) as sock:
                sock.settimeout(60)
                with contextlib.suppress(OSError):
                    sock.sendall(b"\x99\0\0\0\0\0")  # no PDU: who listens says so
                return rest_of(sock)

        assert await asyncio.to_thread(meet, "127.0.0.1") == b""
        assert await asyncio.to_thread(meet, "127.0.0.2") == ABORT


def pdata(context: int, control: int, value: bytes) -> bytes:
    """A P-DATA-TF of one value."""
    body = struct.pack(">LBB", len(value) + 2, context, control) + value
    return struct.pack(">BBL", 4, 0, len(body)) + body


def connected(port: int) -> socket.socket:
    """A bare connection."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(60)
    return sock


def associated(port: int) -> socket.socket:
    """A bare connection with an association for CT images, in context 3."""
    return bare(call(port, instance()))


HALF_DATA = pdata(3, 2, bytes(4000))[:1000]
HALF_MESSAGE = pdata(3, 3, encode_store_request(1, CT, "1.2.3")) + pdata(3, 0, bytes(1000))


BEGUN = {
    "silence": (False, b""),
    "half a header": (False, b"\1\0\0"),
    "half a request": (False, REQUEST),
    "half a later header": (True, b"\4\0\0"),
    "half a P-DATA": (True, HALF_DATA),
    "half a message": (True, HALF_MESSAGE),
}


async def test_what_is_begun_and_not_ended_has_a_deadline(tmp_path: Path) -> None:
    """`idle_seconds` is out of reach: only the deadlines for one PDU and for one message can end it."""
    async with running(tmp_path, request_seconds=0.5, stall_seconds=0.5, idle_seconds=600) as scp:

        def meet(opened: bool, said: bytes, send: Callable[[socket.socket, bytes], None]) -> bytes:
            with associated(scp.port) if opened else connected(scp.port) as sock:
                send(sock, said)
                return rest_of(sock)

        for send in (socket.socket.sendall, drip):
            ends = [asyncio.to_thread(meet, *how, send) for how in BEGUN.values()]
            said = dict(zip(BEGUN, await asyncio.gather(*ends), strict=True))
            assert set(said.values()) <= ENDS, said
        assert scp.files == []


def push(sock: socket.socket, head: bytes, size: int) -> int:
    """Sends `size` bytes behind a header until the other side closes; returns how many it took."""
    sent = 0
    try:
        sock.sendall(head)
        while sent < size:
            sent += sock.send(bytes(2**17))
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    ("opened", "head"),
    [(False, b"\1\0\xff\xff\xff\xff"), (True, struct.pack(">BBL", 4, 0, 50 * 2**20))],
    ids=["4 GiB before anybody is known", "50 MiB over the 128 KiB agreed"],
)
async def test_a_pdu_that_is_too_long_takes_no_memory(tmp_path: Path, opened: bool, head: bytes) -> None:
    async with running(tmp_path) as scp:
        assert await store(scp.port, instance()) == 0  # what one association takes is there
        before = peak_memory(scp.scp._door.pid)

        def meet() -> int:
            with associated(scp.port) if opened else connected(scp.port) as sock:
                return push(sock, head, 50 * 2**20)

        assert await asyncio.to_thread(meet) < 50 * 2**20
        assert peak_memory(scp.scp._door.pid) - before < 2**23
        assert await store(scp.port, instance()) == 0


async def test_a_data_set_without_end_is_ended(tmp_path: Path) -> None:
    async with running(tmp_path, max_instance_bytes=2**20) as scp:
        before = peak_memory(scp.scp._door.pid)

        def meet() -> int:
            with associated(scp.port) as sock:
                sock.sendall(pdata(3, 3, encode_store_request(1, CT, "1.2.3")))
                fragment, sent = pdata(3, 0, bytes(2**16)), 0
                try:
                    while sent < 2**27:
                        sock.sendall(fragment)
                        sent += len(fragment)
                except OSError:
                    pass
                return sent

        assert await asyncio.to_thread(meet) < 2**27
        assert scp.files == []
        assert peak_memory(scp.scp._door.pid) - before < 2**24


async def test_bombs_are_opened_one_by_one_and_never_whole(tmp_path: Path) -> None:
    """Four senders at once; each file of 100 KB would be 100 MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = (
        packer.compress(struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 10**8) + bytes(10**8)) + packer.flush()
    )
    for i in range(4):
        write_part10(tmp_path / f"{i}", bomb, CT, f"1.2.3.{i}", DeflatedExplicitVRLittleEndian)
    async with running(tmp_path / "spool") as scp:
        to = Destination(aet="SCP", host="127.0.0.1", port=scp.port, calling_aet="US")
        scu = StoreScu(to, associations=4)
        before = peak_memory(scp.scp._door.pid)
        sent = [
            scu.store(tmp_path / f"{i}", CT, f"1.2.3.{i}", DeflatedExplicitVRLittleEndian) for i in range(4)
        ]
        assert [result.status for result in await asyncio.gather(*sent)] == [0xC000] * 4
        await scu.stop()
        assert {e.code for e in scp.events if isinstance(e, Refused)} == {"dicom-deflate"}
        assert scp.files == []
        assert peak_memory(scp.scp._door.pid) - before < 100 * 2**20


ENDLESS = {
    "fragments": (b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0", "dicom-truncated"),
    "pixels": (b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + bytes(64), "dicom-structure"),
    "a sequence": (b"\x51\0\1\0SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff", "dicom-truncated"),
}
"""Ends of data sets: something of undefined length and no delimiter."""


async def test_undefined_length_without_a_delimiter_is_offered_to_nobody(tmp_path: Path) -> None:
    ds = instance()
    del ds.PixelData
    async with running(tmp_path) as scp:
        for end, _ in ENDLESS.values():

            def spoil(request: Any, end: bytes = end) -> None:
                request.DataSet = BytesIO(encoded(ds) + end)

            assert await store(scp.port, ds, spoil) == 0xC000
        await scp.until(len(ENDLESS))
        refused = [e.code for e in scp.events if isinstance(e, Refused)]
        assert refused == [code for _, code in ENDLESS.values()]
        assert not [e for e in scp.events if isinstance(e, Received)]
        assert scp.files == []


async def test_many_attackers_at_once_hold_up_nobody(tmp_path: Path) -> None:
    """The loop that accepts connections waits for none of them."""
    attacks: list[Callable[[int], socket.socket]] = [
        lambda port: _said(port, b""),
        lambda port: _said(port, b"\1\0\0"),
        lambda port: _said(port, REQUEST),
        lambda port: _said(port, b"\x16\3\1\2\0\1\0\1\xfc\3\3" + bytes(505)),
        lambda port: _said(port, b"\1\0\xff\xff\xff\xff"),
        associated,
    ]
    async with running(tmp_path) as scp:
        held = [await asyncio.to_thread(attack, scp.port) for attack in attacks]
        done: list[int] = []
        stores = [threading.Thread(target=lambda: done.append(_store(scp.port))) for _ in range(3)]
        for one in stores:
            one.start()
        for one in stores:
            await asyncio.to_thread(one.join, 60)
        assert done == [0, 0, 0]
        for sock in held:
            sock.close()


def _said(port: int, what: bytes) -> socket.socket:
    sock = connected(port)
    sock.sendall(what)
    return sock


def _store(port: int) -> int:
    return asyncio.run(store(port, instance()))
