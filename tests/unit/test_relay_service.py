"""The service: how it starts, what it says, how it ends."""

from __future__ import annotations

import asyncio
import resource
import socket
import sqlite3
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay import config, service
from relay.config import load
from relay.errors import ConfigError
from relay.metastore import Letter
from relay.sqlite import SqliteMeta
from tests.relay_client import Site, pack_bytes, relay_at
from tests.relay_tls import make_certificate


async def test_a_free_port_is_taken_and_said(tmp_path: Path) -> None:
    async with relay_at(tmp_path) as bench:
        assert bench.running.url.startswith("http://127.0.0.1:")
        assert not bench.running.url.endswith(":0")
        assert bench.running.origins == [bench.running.url]
        assert (await bench.http.call("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    ("listen", "origins"),
    [
        ("127.0.0.1:0", ["http://127.0.0.1:{port}"]),
        ("localhost:0", ["http://localhost:{port}"]),
        ("0.0.0.0:0", ["http://127.0.0.1:{port}", "http://localhost:{port}"]),
    ],
)
def test_origins_follow_from_where_it_listens(listen: str, origins: list[str]) -> None:
    made = load(listen=listen)
    with service.listen(made.listen) as sock:
        port = sock.getsockname()[1]
        assert service.names(made, sock)[1] == [o.format(port=port) for o in origins]
        named = load(listen=listen, origins=["https://relay.example.org"])
        assert service.names(named, sock)[1] == ["https://relay.example.org"]


def test_the_socket_uses_bbr_where_the_kernel_has_it() -> None:
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    with service.listen("127.0.0.1:0") as sock:
        if not known.exists() or "bbr" not in known.read_text().split():
            pytest.skip("this kernel has no BBR")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"bbr"


async def test_a_folder_has_one_relay(tmp_path: Path) -> None:
    async with relay_at(tmp_path):
        with pytest.raises(ConfigError, match="Another relay"):
            await service.start(load(listen="127.0.0.1:0", data=tmp_path))
    async with relay_at(tmp_path):
        pass


async def test_what_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "relay.db").write_bytes(b"no database" * 500)
    (tmp_path / "bad.pem").write_text("no certificate")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        attempts: list[dict[str, Any]] = [
            {"listen": f"127.0.0.1:{taken.getsockname()[1]}"},
            {"listen": "no-such-host.invalid:1"},
            {"data": tmp_path / "file"},
            {"data": tmp_path / "broken"},
            {"tls_cert": tmp_path / "bad.pem", "tls_key": tmp_path / "bad.pem"},
            {"tls_cert": tmp_path / "none.pem", "tls_key": tmp_path / "none.pem"},
        ]
        for wrong in attempts:
            options = {"listen": "127.0.0.1:0", "data": tmp_path / "data", **wrong}
            with pytest.raises(ConfigError):
                await service.start(load(**options))
    async with relay_at(tmp_path / "data"):
        pass


async def test_stopping_sends_those_home_who_wait_and_finishes_what_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, real = asyncio.Event(), SqliteMeta.letters

    async def look(*args: Any) -> list[Letter]:
        looked.set()
        return await real(*args)

    monkeypatch.setattr(SqliteMeta, "letters", look)
    async with relay_at(tmp_path) as bench:
        s = bench.site()
        waits = asyncio.create_task(s.call("GET", "/v1/queue?after=0&wait=25"))
        puts = asyncio.create_task(s.call("PUT", f"/v1/packs/{'ab' * 16}/0?kind=D", pack_bytes(20)))
        assert (await puts).status == 201
        await looked.wait()
        await bench.running.stop()
        assert (await waits).json == {"messages": []}
        await bench.running.stop()
    async with relay_at(tmp_path) as again:
        assert (await again.http.call("GET", "/healthz")).status == 200


async def test_its_own_tls_and_a_renewed_certificate(tmp_path: Path) -> None:
    first, second = make_certificate(), make_certificate()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(made: tuple[bytes, bytes]) -> None:
        cert.write_bytes(made[0])
        key.write_bytes(made[1])

    async def trusted(pem: bytes) -> bool:
        tls = ssl.create_default_context(cadata=pem.decode())
        connector = aiohttp.TCPConnector(ssl=tls, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                async with session.get(bench.running.url + "/healthz") as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectorCertificateError:
                return False

    install(first)
    async with relay_at(tmp_path / "data", listen="localhost:0", tls_cert=cert, tls_key=key) as bench:
        assert bench.running.url.startswith("https://localhost:")
        made: Site = bench.site()
        assert (await made.call("GET", "/v1/queue")).status == 200
        assert await trusted(first[0])
        assert not await trusted(second[0])
        install(second)
        options = load(tls_cert=cert, tls_key=key)
        bench.running.read_certificate(options)
        assert await trusted(second[0])
        cert.write_text("broken")
        with pytest.raises(ConfigError):
            bench.running.read_certificate(options)
        assert await trusted(second[0])


async def test_old_tls_is_refused(tmp_path: Path) -> None:
    cert, key = make_certificate()
    (tmp_path / "c.pem").write_bytes(cert)
    (tmp_path / "k.pem").write_bytes(key)
    tls = service.make_tls(config.load(tls_cert=tmp_path / "c.pem", tls_key=tmp_path / "k.pem"))
    assert tls is not None
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_the_database_is_closed_at_the_end(tmp_path: Path) -> None:
    async with relay_at(tmp_path) as bench:
        bench.site()
    assert not (tmp_path / "relay.db-wal").exists()
    con = sqlite3.connect(tmp_path / "relay.db")
    assert con.execute("SELECT count(*) FROM sites").fetchone() == (1,)
    con.close()


def test_as_many_files_may_be_open_as_connections_need() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        service.raise_file_limit(600)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600, before[1])
        service.raise_file_limit(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
