from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clients.gateway.console.server import serve
from clients.gateway.errors import ConfigError
from tests.fake_engine import hospital


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of its own for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return tmp_path / "cert.pem", tmp_path / "key.pem"


async def test_it_serves_on_a_free_port_and_stops() -> None:
    server = await serve(hospital(), "127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        async with session.get(server.url + "/sign-in") as answer:
            assert answer.status == 200
            assert "Sign in" in await answer.text()
            assert answer.headers["Server"] == "trauma-transfer"
        await server.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(server.url + "/sign-in")


async def test_it_stops_while_pages_are_open() -> None:
    engine = hospital()
    server = await serve(engine, "127.0.0.1", 0)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        async with session.get(server.url + "/sign-in") as answer:
            token = next(iter(answer.cookies.values())).value
        fields = {"csrf": token, "name": "desk1", "password": "four unrelated words"}
        async with session.post(server.url + "/sign-in", data=fields) as answer:
            assert answer.url.path == "/desk"
        stream = await session.get(server.url + "/live")
        assert stream.status == 200
        async with asyncio.timeout(30):
            await server.stop()
        assert (await stream.content.read()).startswith(b"retry:")
        assert engine.watchers == 0


async def test_with_a_certificate_it_speaks_tls_and_its_cookies_do_too(
    certificate: tuple[Path, Path],
) -> None:
    server = await serve(hospital(), "127.0.0.1", 0, *certificate)
    try:
        assert server.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(certificate[0]))
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.url + "/sign-in", ssl=context) as answer,
        ):
            assert answer.status == 200
            cookie = next(iter(answer.cookies.values()))
            assert cookie.key.startswith("__Host-")
            assert cookie["secure"]
    finally:
        await server.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "desk.hospital.example"])
async def test_it_does_not_leave_this_machine_without_a_certificate(host: str) -> None:
    with pytest.raises(ConfigError, match="certificate"):
        await serve(hospital(), host, 0)


async def test_a_port_in_use_and_a_broken_certificate_are_said_in_a_sentence(tmp_path: Path) -> None:
    server = await serve(hospital(), "127.0.0.1", 0)
    try:
        with pytest.raises(ConfigError, match="cannot use port"):
            await serve(hospital(), "127.0.0.1", int(server.url.rpartition(":")[2]))
    finally:
        await server.stop()
    (tmp_path / "cert.pem").write_text("no certificate")
    for cert in (tmp_path / "cert.pem", tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match="cannot be read"):
            await serve(hospital(), "127.0.0.1", 0, cert)


async def test_bytes_that_are_no_http_are_refused_and_logged_nowhere(
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = await serve(hospital(), "127.0.0.1", 0)
    try:
        port = int(server.url.rpartition(":")[2])
        for bad in (
            b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nCookie : secret-cookie\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(bad)
            async with asyncio.timeout(30):
                answer = await reader.read()
            assert b"400" in answer.split(b"\r\n")[0]
            assert b"Traceback" not in answer
            writer.close()
            await writer.wait_closed()
    finally:
        await server.stop()
    out, err = capfd.readouterr()
    assert "secret-cookie" not in out + err
    assert out + err == ""
