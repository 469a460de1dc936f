"""The relay's process: what it prints, how it takes signals, how it ends."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from relay.enroll import enroll
from tests.relay_client import Http, Site
from tests.relay_process import RelayProcess
from tests.relay_tls import make_certificate


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_polite_end(tmp_path: Path, signum: int) -> None:
    relay = await RelayProcess.start(tmp_path / "data")
    try:
        async with aiohttp.ClientSession() as session:
            site = Site(Http(session, relay.url), relay.url)
            enroll(tmp_path / "data", site.card())
            assert (await site.call("GET", "/v1/queue")).status == 200
            waits: asyncio.Task[Any] = asyncio.create_task(site.call("GET", "/v1/queue?after=0&wait=25"))
            assert (await site.call("GET", "/v1/queue?after=0&wait=0")).status == 200
            relay.process.send_signal(signum)
            assert await relay.process.wait() == 0
            await asyncio.gather(waits, return_exceptions=True)
        lines = [msgspec.json.decode(x) for x in (tmp_path / "relay.log").read_text().splitlines()]
        assert {x["event"] for x in lines} == {"request"}
        assert not (tmp_path / "data" / "relay.db-wal").exists()
    finally:
        await relay.stop()


async def test_sighup_takes_a_renewed_certificate(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    first, second = make_certificate(), make_certificate()

    def install(made: tuple[bytes, bytes]) -> None:
        cert.write_bytes(made[0])
        key.write_bytes(made[1])

    async def shown() -> bytes:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        port = int(relay.url.rsplit(":", 1)[1])
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return found

    install(first)
    options = ("--tls-cert", str(cert), "--tls-key", str(key))
    relay = await RelayProcess.start(tmp_path / "data", *options)
    try:
        assert relay.url.startswith("https://127.0.0.1:")
        assert await shown() == ssl.PEM_cert_to_DER_cert(first[0].decode())
        install(second)
        relay.process.send_signal(signal.SIGHUP)
        wanted = ssl.PEM_cert_to_DER_cert(second[0].decode())
        async with asyncio.timeout(30):
            while await shown() != wanted:
                pass  # the signal is on its way
        assert await relay.stop() == 0
    finally:
        await relay.stop()


async def test_a_port_that_is_taken_ends_with_a_sentence(tmp_path: Path) -> None:
    relay = await RelayProcess.start(tmp_path / "one")
    try:
        port = relay.url.rsplit(":", 1)[1]
        with pytest.raises(AssertionError, match="address to listen at is taken"):
            await RelayProcess.start(tmp_path / "two", listen=f"127.0.0.1:{port}")
    finally:
        await relay.stop()


async def test_noise_at_the_tls_door_is_not_logged_with_its_address(tmp_path: Path) -> None:
    cert, key = make_certificate()
    (tmp_path / "c.pem").write_bytes(cert)
    (tmp_path / "k.pem").write_bytes(key)
    options = ("--tls-cert", str(tmp_path / "c.pem"), "--tls-key", str(tmp_path / "k.pem"))
    relay = await RelayProcess.start(tmp_path / "data", *options)
    try:
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05nonsense", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rsplit(":", 1)[1]))
            writer.write(noise)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
        assert await relay.stop() == 0
        assert "127.0.0.1" not in (tmp_path / "relay.log").read_text()
    finally:
        await relay.stop()
