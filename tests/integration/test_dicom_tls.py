"""DICOM over TLS with real peers: DCMTK in both directions, and callers who have no business here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import structlog
from pynetdicom import AE, evt

from clients.gateway import folder as folders
from clients.gateway.dicom.header import read_header
from clients.gateway.dicom.scp import AssociationClosed, Received, Refused, ScpConfig, StorageScp
from clients.gateway.dicom.scu import Destination, StoreScu
from clients.gateway.dicom.tls import TlsFiles, client_context, server_context
from clients.gateway.errors import ConfigError
from clients.gateway.rooms import Rooms
from tests.certificates import Authority
from tests.dicom_kit import digests, instance, save, sendable, storescp
from tests.gateway_kit import NOWHERE
from tests.peers import need
from tests.scp_kit import drip, rest_of, run, running, threads

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(instance(PixelData=bytes(200_000)), tmp_path / "image.dcm")


def dcmtk(files: TlsFiles) -> tuple[str, ...]:
    """The options of DCMTK's programs."""
    return ("+tls", files.key, files.cert, "+cf", files.ca)


def pacs_at(port: int, tls: TlsFiles, **more: float) -> Destination:
    return Destination(aet="PACS", host="127.0.0.1", port=port, calling_aet="US", tls=tls, **more)


async def sent(to: Destination, path: Path) -> str:
    """What became of an image: "ok", or a code."""
    header = read_header(path)
    scu = StoreScu(to)
    await scu.start()
    result = await scu.store(path, header.sop_class, header.sop_uid, header.syntax)
    await scu.stop()
    return result.code or result.kind


@pytest.mark.peer
async def test_storescu_sends_to_us(tmp_path: Path, ca: Authority) -> None:
    """What it can send over TLS is what its own storescp gets from it without."""
    storescu = need("storescu")["storescu"]
    paths = [path for path in sendable() if path.stat().st_size < 2**20][:30]
    for i, path in enumerate(paths):
        (tmp_path / f"{i:04}.dcm").symlink_to(path)
    names = [str(tmp_path / f"{i:04}.dcm") for i in range(len(paths))]
    send = ("-R", "-nh", "-aec", "SCP", "127.0.0.1")
    with storescp(tmp_path / "theirs", "SCP") as (port, _):
        await run(storescu, *send, str(port), *names)
    async with running(tmp_path / "spool", tls=ca.issue("gate")) as scp:
        await run(storescu, *dcmtk(ca.issue("scanner")), *send, str(scp.port), *names)
        (closed,) = await scp.until(1)
        kept = digests(scp.files)
    assert isinstance(closed, AssociationClosed)
    assert closed.orderly
    assert closed.stored == sum(kept.values()) > 15
    assert kept == digests((tmp_path / "theirs").iterdir())


@pytest.mark.peer
async def test_we_send_to_storescp(tmp_path: Path, ca: Authority) -> None:
    paths = [path for path in sendable() if path.stat().st_size < 2**20][:30]
    with storescp(tmp_path / "out", tls=dcmtk(ca.issue("pacs"))) as (port, _):
        scu = StoreScu(pacs_at(port, ca.issue("gate")))
        assert (await scu.echo()).ok
        headers = [read_header(path) for path in paths]
        results = await asyncio.gather(
            *(
                scu.store(path, h.sop_class, h.sop_uid, h.syntax)
                for path, h in zip(paths, headers, strict=True)
            )
        )
        await scu.stop()
    stored = [path for path, result in zip(paths, results, strict=True) if result.kind == "ok"]
    assert {result.code for result in results} <= {"", "pacs-context"}
    assert len(stored) > 20
    assert digests((tmp_path / "out").iterdir()) == digests(stored)


async def test_a_large_image_from_gateway_to_gateway(tmp_path: Path, ca: Authority) -> None:
    """Many records for each PDU, many PDUs for an image."""
    path = save(instance(PixelData=bytes(range(256)) * 2**15), tmp_path / "large.dcm")
    async with running(tmp_path / "spool", aet="PACS", tls=ca.issue("pacs")) as scp:
        assert await sent(pacs_at(scp.port, ca.issue("gate")), path) == "ok"
        assert digests(scp.files) == digests([path])


# Who comes to our port


def hello(port: int, context: ssl.SSLContext) -> bytes:
    """A handshake and a word; what is said to it."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(60)
        try:
            with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
                tls.sendall(b"\x99\0\0\0\0\0")  # no PDU: it is answered by an A-ABORT, if anybody listens
                return rest_of(tls)
        except (ssl.SSLError, ConnectionError):
            return b"no"


def without_certificate(ca: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca.file))


def of_tls_1_1(ca: Authority) -> ssl.SSLContext:
    context = client_context(ca.issue("ancient"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


def of_weak_suites(ca: Authority) -> ssl.SSLContext:
    context = client_context(ca.issue("weak"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AES:!AESGCM:@SECLEVEL=0")
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_only_those_with_a_certificate_come_in(tmp_path: Path, ca: Authority, image: Path) -> None:
    strangers: dict[str, ssl.SSLContext] = {
        "no certificate": without_certificate(ca),
        "another CA": client_context(Authority(tmp_path, "other").issue("alien", trusts=ca.file)),
        "expired": client_context(ca.issue("old", expired=True)),
        "TLS 1.1": of_tls_1_1(ca),
        "suites without GCM": of_weak_suites(ca),
    }
    with structlog.testing.capture_logs() as lines:
        async with running(tmp_path / "spool", aet="PACS", tls=ca.issue("gate")) as scp:
            assert await asyncio.to_thread(hello, scp.port, client_context(ca.issue("scanner"))) == (
                b"\7\0\0\0\0\4"
            )
            answers = {
                who: await asyncio.to_thread(hello, scp.port, context) for who, context in strangers.items()
            }
            assert set(answers.values()) <= {b"no", b""}, answers
            refused = await scp.until(len(strangers), Refused)
            assert {e.code for e in refused if isinstance(e, Refused)} == {"dicom-tls"}
            assert [line for line in lines if line["event"] == "dicom refused"] == [
                {"event": "dicom refused", "code": "dicom-tls", "times": 1, "log_level": "warning"}
            ]
            assert await sent(pacs_at(scp.port, ca.issue("scanner")), image) == "ok"
            assert len(scp.files) == 1


@pytest.mark.peer
async def test_dcmtk_without_a_good_certificate_stores_nothing(
    tmp_path: Path, ca: Authority, image: Path
) -> None:
    storescu = need("storescu")["storescu"]
    other = Authority(tmp_path, "other")
    async with running(tmp_path / "spool", tls=ca.issue("gate")) as scp:
        send = ("-aec", "SCP", "127.0.0.1", str(scp.port), str(image))
        assert await run(storescu, *send)  # plain
        assert await run(storescu, "+tla", "-ic", *send)  # no certificate
        assert await run(storescu, *dcmtk(other.issue("alien", trusts=ca.file)), *send)
        assert scp.files == []
        assert not await run(storescu, *dcmtk(ca.issue("scanner")), *send)
        assert len(scp.files) == 1


async def test_what_is_no_handshake_ends(tmp_path: Path, ca: Authority) -> None:
    """At once, or at the deadline where it looks like one that goes on."""
    words = {
        "silence": b"",
        "plain DICOM": b"\1\0\0\0\0\xcd\0\1\0\0" + b"SCP".ljust(16) + b"X".ljust(16) + bytes(169),
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "half a ClientHello": b"\x16\3\1\2\0\1\0\1\xfc\3\3" + bytes(100),
        "a record without end": b"\x16\3\1\xff\xff" + bytes(100),
    }
    async with running(tmp_path / "spool", tls=ca.issue("gate"), request_seconds=0.5) as scp:

        def meet(said: bytes, send: Callable[[socket.socket, bytes], None]) -> bytes:
            with socket.create_connection(("127.0.0.1", scp.port)) as sock:
                sock.settimeout(60)
                send(sock, said)
                return rest_of(sock)

        for send in (socket.socket.sendall, drip):
            ends = await asyncio.gather(*(asyncio.to_thread(meet, word, send) for word in words.values()))
            assert {said[:1] for said in ends} <= {b"", b"\x15"}  # closed, or an alert
        refused = await scp.until(4, Refused)
        assert {e.code for e in refused if isinstance(e, Refused)} == {"dicom-tls"}
    spoke = sum(isinstance(e, Refused) for e in scp.events)
    assert spoke < 2 * len(words)  # who says nothing is nobody to look for


@pytest.mark.peer
async def test_two_hundred_silent_tls_clients_keep_no_sender_out(
    tmp_path: Path, ca: Authority, image: Path
) -> None:
    """Silent from the start, in the middle of a ClientHello, or after a whole handshake."""
    storescu = need("storescu")["storescu"]
    shaken = client_context(ca.issue("other"))
    async with running(tmp_path / "spool", tls=ca.issue("gate")) as scp:

        def crowd() -> list[socket.socket]:
            held: list[socket.socket] = []
            for i in range(200):
                sock = socket.create_connection(
                    ("127.0.0.1", scp.port), source_address=(f"127.0.0.{i % 20 + 1}", 0)
                )
                sock.settimeout(60)
                with contextlib.suppress(OSError):  # it may have to make room at any moment
                    if i % 20 == 7:
                        sock = shaken.wrap_socket(sock, server_hostname="127.0.0.1")
                    elif i % 2:
                        sock.sendall(b"\x16\3\1\2\0\1\0\1\xfc\3\3")
                held.append(sock)
            return held

        held = await asyncio.to_thread(crowd)
        scanner = dcmtk(ca.issue("scanner"))
        assert not await run(storescu, *scanner, "-aec", "SCP", "127.0.0.1", str(scp.port), str(image))
        assert threads(scp.scp._door.pid) < 100
        assert len(scp.files) == 1
        for sock in held:
            sock.close()


async def test_wrong_files_are_named_before_anything_listens(tmp_path: Path, ca: Authority) -> None:
    files = msgspec.structs.replace(ca.issue("gate"), ca=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"dicom\.tls_ca"):
        await StorageScp(ScpConfig(aet="SCP", port=0, tls=files), tmp_path).start()
    with pytest.raises(ConfigError, match=r"pacs\.tls_ca"):
        await StoreScu(pacs_at(1, files)).start()


async def test_a_gateway_does_as_its_file_says(tmp_path: Path, ca: Authority, image: Path) -> None:
    """Both directions, from gateway.toml: the PACS names itself otherwise than by its address."""
    gate, pacs = ca.issue("gate"), ca.issue("pacs", host="10.0.0.1")
    folder = tmp_path / "g"
    async with running(tmp_path / "pacs", aet="PACS", tls=pacs) as scp:
        await folders.init(
            folder, name="Valley ED", relay=NOWHERE, dicom="127.0.0.1:0", pacs=f"PACS@127.0.0.1:{scp.port}"
        )
        text = (folder / "gateway.toml").read_text()
        for key, value in {"cert": gate.cert, "key": gate.key, "ca": gate.ca, "name": "pacs"}.items():
            assert text.count(f'# tls_{key} = ""') == (1 if key == "name" else 2)
            text = text.replace(f'# tls_{key} = ""', f'tls_{key} = "{value}"')
        (folder / "gateway.toml").write_text(text)
        rooms = Rooms(folder)
        await rooms.open()
        try:
            assert rooms.scu is not None
            assert rooms.scp_address is not None
            assert (await rooms.scu.echo()).ok
            scanner = pacs_at(rooms.scp_address[1], ca.issue("scanner"))
            to = msgspec.structs.replace(scanner, aet=rooms.config.dicom.aet)
            assert await sent(to, image) == "ok"
            assert await sent(msgspec.structs.replace(to, tls=None, association=2.0), image) != "ok"
        finally:
            await rooms.close()


# Whom we call


@contextlib.contextmanager
def answering(work: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that treats each connection with `work`, one after the other; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    sock.settimeout(60)
                    with sock, contextlib.suppress(OSError):
                        work(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def tls_1_1(ca: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = ca.issue("ancient")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(files.cert, files.key)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


def limited(context: ssl.SSLContext, most: ssl.TLSVersion) -> ssl.SSLContext:
    context.maximum_version = most
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_a_pacs_that_is_not_ours_gets_nothing(tmp_path: Path, ca: Authority, image: Path) -> None:
    other = Authority(tmp_path, "other")
    gate = ca.issue("gate")
    picky = ca.issue("picky", trusts=other.file)
    pacs: dict[str, tuple[ssl.SSLContext, str]] = {
        "another CA": (server_context(other.issue("alien")), "pacs-certificate"),
        "expired": (server_context(ca.issue("old", expired=True)), "pacs-certificate"),
        "another name": (server_context(ca.issue("else", host="10.0.0.1")), "pacs-certificate"),
        "TLS 1.1": (tls_1_1(ca), "pacs-tls"),
        "does not know us, TLS 1.3": (server_context(picky), "pacs-tls-refused"),
        "does not know us, TLS 1.2": (
            limited(server_context(picky), ssl.TLSVersion.TLSv1_2),
            "pacs-tls-refused",
        ),
    }
    heard: list[bytes] = []

    async def meet(context: ssl.SSLContext) -> str:
        def work(sock: socket.socket) -> None:
            with context.wrap_socket(sock, server_side=True) as tls:
                heard.append(tls.recv(6))

        with answering(work) as port:
            return await sent(pacs_at(port, gate), image)

    codes = await asyncio.gather(*(meet(context) for context, _ in pacs.values()))
    assert dict(zip(pacs, codes, strict=True)) == {who: code for who, (_, code) in pacs.items()}
    assert not heard


async def test_a_pacs_without_tls_gets_nothing_in_the_clear(
    tmp_path: Path, ca: Authority, image: Path
) -> None:
    heard: list[bytes] = []

    def plain(sock: socket.socket) -> None:
        heard.append(sock.recv(3))
        sock.sendall(b"\3\0\0\0\0\4\0\1\1\1")  # an A-ASSOCIATE-RJ
        heard.append(rest_of(sock))

    def silent(sock: socket.socket) -> None:
        heard.append(sock.recv(3))
        rest_of(sock)

    for work in (plain, silent):
        with answering(work) as port:
            assert await sent(pacs_at(port, ca.issue("gate"), association=0.5), image) == "pacs-tls"
    no_name = msgspec.structs.replace(
        ca.issue("gate"), name="."
    )  # no server has it: OpenSSL is not even asked
    with answering(plain) as port:
        assert await sent(pacs_at(port, no_name), image) == "pacs-tls"
    first = [word for word in heard if len(word) == 3]
    assert first == [b"\x16\3\1", b"\x16\3\1"]
    assert not any(b"PACS" in word for word in heard)


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_tls_says_to_tls_is_no_word_for_us(
    ca: Authority, image: Path, most: ssl.TLSVersion
) -> None:
    """A TLS 1.3 server sends tickets of its own accord. Who waits for words behind them waits while the PACS waits.

    `stall` is so long that whoever waits for it is late.
    """
    context = limited(server_context(ca.issue("pacs")), most)
    context.options &= ~ssl.OP_NO_TICKET
    if most == ssl.TLSVersion.TLSv1_3:
        context.num_tickets = 4
    ae = AE("PACS")
    ae.add_supported_context(CT, EXPLICIT)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)]
    )
    try:
        assert server is not None
        port = server.server_address[1]
        assert await sent(pacs_at(port, ca.issue("gate"), stall=600, association=30), image) == "ok"
    finally:
        server.shutdown()


async def test_a_renewed_certificate_is_taken_for_the_next_association(
    tmp_path: Path, ca: Authority, image: Path
) -> None:
    gate = ca.issue("gate", expired=True)
    header = read_header(image)
    async with running(tmp_path / "spool", aet="PACS", tls=ca.issue("pacs")) as scp:
        scu = StoreScu(pacs_at(scp.port, gate))
        first = await scu.store(image, header.sop_class, header.sop_uid, header.syntax)
        assert first.code == "pacs-tls-refused"
        Path(gate.key).unlink()
        again = await scu.store(image, header.sop_class, header.sop_uid, header.syntax)
        assert again.code == "pacs-tls-files"
        assert ca.issue("gate") == gate
        assert (await scu.store(image, header.sop_class, header.sop_uid, header.syntax)).kind == "ok"
        await scu.stop()
        assert [e.sop_uid for e in scp.events if isinstance(e, Received)] == [header.sop_uid]
