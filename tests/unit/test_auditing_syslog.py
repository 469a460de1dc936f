"""`clients.gateway.auditing.syslog` and `shipping`: every line reaches a real receiver, in order; what a broken
connection may have lost is said again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from clients.gateway import folder as folders
from clients.gateway.auditing.lines import Line, lines
from clients.gateway.auditing.shipping import Shipping
from clients.gateway.auditing.syslog import SyslogError, frame, ship
from clients.gateway.errors import ConfigError
from clients.gateway.rooms import Rooms
from clients.gateway.store import audit
from tests.certificates import Authority
from tests.dicom_kit import free_port
from tests.gateway_kit import NOWHERE, PATIENCE, House, eventually, houses
from tests.peers import need


def a_line(seq: int, detail: str = "") -> Line:
    return Line(
        seq=seq, at=1_790_000_000, actor="maria", action="transfer.create", subject="ab", detail=detail, hash=b"h"
    )  # fmt: skip


def trusting(ca: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca.file))


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def rsyslog(ca: Authority, folder: Path) -> Iterator[tuple[int, Path]]:
    """Debian's rsyslog with TLS: its port and the file into which it writes what it got, one a line."""
    program, mine = need("rsyslogd")["rsyslogd"], ca.issue("syslog")
    port, out, conf = free_port(), folder / "out.log", folder / "rsyslog.conf"
    conf.write_text(
        f"""global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{ca.file}" defaultNetstreamDriverCertFile="{mine.cert}"
  defaultNetstreamDriverKeyFile="{mine.key}")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="raw" type="string" string="%rawmsg%\\n")
action(type="omfile" file="{out}" template="raw")
"""
    )
    process = subprocess.Popen(
        [program, "-n", "-f", str(conf), "-i", str(folder / "pid")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield port, out
    finally:
        process.kill()
        process.wait()


@pytest.mark.peer
async def test_rsyslog_gets_each_line(ca: Authority, tmp_path: Path) -> None:
    sent = [a_line(n, "x" * 5000 * (n == 3) + "é\n<&>") for n in range(1, 51)]
    with rsyslog(ca, tmp_path) as (port, out):

        async def taken() -> bool:
            try:
                await asyncio.to_thread(
                    ship, sent, address=("127.0.0.1", port), tls=trusting(ca), name="Valley ED"
                )
            except SyslogError:  # it is still starting
                return False
            return True

        await eventually(taken)

        async def written() -> bool:
            return out.exists() and len(out.read_bytes().splitlines()) == len(sent)

        await eventually(written)
    for line, raw in zip(sent, out.read_text("utf-8").splitlines(), strict=True):
        head, _, xml = raw.partition("\ufeff")
        assert head.startswith("<85>1 2026-09-21T14:13:20Z ")
        assert head.split()[4:] == [str(line.seq), "IHE+RFC-3881", "-"]
        assert xml.encode() in frame(line, "Valley ED")
        assert fromstring(xml).tag == "AuditMessage"


@asynccontextmanager
async def receiver(ca: Authority, *, hangs_up_after: int = 0) -> AsyncIterator[tuple[int, list[bytes]]]:
    """One that may end a connection in the middle; what each connection said."""
    mine, got = ca.issue("receiver"), list[bytes]()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(mine.cert, mine.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if hangs_up_after and not got:
            got.append(await reader.read(hangs_up_after))
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, not FIN
            writer.transport.abort()
            return
        got.append(await reader.read())
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    serving: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], got
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*serving)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with houses(tmp_path) as (s, _):
        for n in range(20):
            await s.db.run(lambda con, n=n: audit.record(con, "maria", "page:view-desk", "", str(n), 1))
        yield s


def shipping(house: House, port: int, ca: Authority) -> Shipping:
    return Shipping(
        house.db, house.clock, house.changed, address=("127.0.0.1", port), tls=trusting(ca), name="Valley"
    )


async def test_what_was_shipped_is_not_shipped_again(house: House, ca: Authority) -> None:
    log = await house.db.run(lambda con: lines(con))
    async with receiver(ca) as (port, got):
        assert await shipping(house, port, ca).once() == len(log)
        assert await shipping(house, port, ca).once() == 0, "not after a restart either"
        await house.db.run(lambda con: audit.record(con, "maria", "user.add", "x", "", 2))
        assert await shipping(house, port, ca).once() == 1
        await eventually(lambda: _is(len(got) == 2))
    assert got[0] == b"".join(frame(x, "Valley") for x in log)


async def _is(there: bool) -> bool:
    return there


async def test_a_connection_that_broke_is_said_again_whole(house: House, ca: Authority) -> None:
    """In the middle of more than any buffer takes."""
    for _ in range(12):
        await house.db.run(lambda con: audit.record(con, "maria", "x", "", "y" * 2**20, 1))
    log = await house.db.run(lambda con: lines(con))
    async with receiver(ca, hangs_up_after=100) as (port, got):
        with pytest.raises(SyslogError):
            await shipping(house, port, ca).once()
        assert await shipping(house, port, ca).once() == len(log)
        assert got[1] == b"".join(frame(x, "Valley") for x in log)


async def test_a_receiver_with_a_strangers_certificate_learns_nothing(
    house: House, ca: Authority, tmp_path: Path
) -> None:
    async with receiver(Authority(tmp_path, "stranger")) as (port, got):
        with pytest.raises(SyslogError):
            await shipping(house, port, ca).once()
    assert got == []


async def test_nobody_is_there(house: House, ca: Authority) -> None:
    with pytest.raises(SyslogError):
        await shipping(house, free_port(), ca).once()


# In a gateway


async def test_a_gateway_ships_what_happens(tmp_path: Path, ca: Authority) -> None:
    folder = tmp_path / "g"
    await folders.init(folder, name="Valley", relay=NOWHERE, dicom="127.0.0.1:0", http="127.0.0.1:0")
    async with receiver(ca) as (port, got):
        text = (folder / "gateway.toml").read_text()
        assert "\n[audit]" in text
        (folder / "gateway.toml").write_text(
            text.replace("\n[audit]", f'\n[audit]\nsyslog = "127.0.0.1:{port}"\nsyslog_ca = "{ca.file}"')
        )
        rooms = Rooms(folder, dicom=False)
        await rooms.open()
        try:
            await rooms.db.run(lambda con: audit.record(con, "maria", "user.add", "joe", "clerk", 2))
            rooms.changed.set()
            await eventually(lambda: _is(b"".join(got).count(b"<AuditMessage>") >= 1))
        finally:
            await rooms.close()


async def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    await folders.init(folder, name="Valley", relay=NOWHERE, dicom="127.0.0.1:0", http="127.0.0.1:0")
    path = folder / "gateway.toml"
    where = f'\n[audit]\nsyslog = "127.0.0.1:6514"\nsyslog_ca = "{path}"'
    path.write_text(path.read_text().replace("\n[audit]", where))
    with pytest.raises(ConfigError, match=r"audit\.syslog_ca"):
        await Rooms(folder, dicom=False).open()
    rooms = Rooms(folder, dicom=False)
    with pytest.raises(ConfigError):  # and not: somebody else holds the folder
        await rooms.open()
