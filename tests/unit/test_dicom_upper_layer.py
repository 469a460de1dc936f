"""pynetdicom's parts that are not documented are where we look for them, and behave as we count on."""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
from collections.abc import Iterator

import pynetdicom.ae
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association as Stock
from pynetdicom.presentation import build_context
from pynetdicom.transport import AssociationServer

from clients.gateway.dicom.race import SoleReader
from clients.gateway.dicom.tls import client_context, server_context
from clients.gateway.dicom.upper_layer import MAX_PDU, Socket, _Views, hang_up, prepare
from tests.certificates import Authority
from tests.dicom_kit import encoded, instance

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def peer() -> Iterator[tuple[AssociationServer, list[bytes]]]:
    got: list[bytes] = []

    def store(event: evt.Event) -> int:
        got.append(event.request.DataSet.getvalue())
        return 0

    ae = AE("PEER")
    ae.maximum_pdu_size = 20000
    ae.add_supported_context(CT, ExplicitVRLittleEndian)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    yield server, got
    server.shutdown()


@pytest.fixture
def ours(
    monkeypatch: pytest.MonkeyPatch, peer: tuple[AssociationServer, list[bytes]]
) -> Iterator[SoleReader]:
    monkeypatch.setattr(pynetdicom.ae, "Association", SoleReader)
    monkeypatch.setattr(pynetdicom.ae, "AssociationSocket", Socket)
    ae = AE("US")
    ae.dimse_timeout, ae.network_timeout = 20, None
    assoc = ae.associate(
        "127.0.0.1",
        peer[0].server_address[1],
        contexts=[build_context(CT, ExplicitVRLittleEndian)],
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: prepare(event.assoc.dul.socket.socket, 30))],
    )
    assert assoc.is_established
    yield assoc
    assoc.part()
    assert not assoc.dul.is_alive()


def test_the_socket_is_where_we_set_its_options(ours: SoleReader) -> None:
    sock = ours.dul.socket.socket
    assert isinstance(sock, socket.socket)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert sock.gettimeout() == 30


def test_the_requestor_has_no_reactor(ours: SoleReader) -> None:
    assert isinstance(ours, Stock)
    assert not ours.is_alive()
    assert ours._is_paused
    assert ours.dul.is_alive()


def test_a_data_set_crosses_in_pieces_that_the_peer_can_take(
    ours: SoleReader, peer: tuple[AssociationServer, list[bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert ours.dimse.maximum_pdu_size == 20000
    path = tmp_path_factory.mktemp("store") / "a"
    body = encoded(instance(PixelData=secrets.token_bytes(300_000)))
    path.write_bytes(b"in front" + body)
    with path.open("rb") as file:
        for _ in range(3):
            assert (
                ours.store(ours.contexts()[(CT, ExplicitVRLittleEndian)], CT, "1.2.3", file.fileno(), 8) == 0
            )
    assert peer[1] == [body] * 3


def test_the_peers_end_is_noticed(ours: SoleReader, peer: tuple[AssociationServer, list[bytes]]) -> None:
    assert ours.tend()
    for assoc in peer[0].active_associations:
        assoc.abort()
    ours.dul.join(20)
    assert ours.is_over()
    assert not ours.tend()


def test_the_peers_release_is_answered(ours: SoleReader, peer: tuple[AssociationServer, list[bytes]]) -> None:
    (theirs,) = peer[0].active_associations
    releasing = threading.Thread(target=theirs.release)
    releasing.start()
    while ours.tend():
        pass
    releasing.join(20)
    assert theirs.is_released


def test_presentation_data_values_are_views_or_refused() -> None:
    values = _Views(bytearray(b"\0\0\0\3\1\3A\0\0\0\4\5\0BC")).to_primitive().presentation_data_value_list
    assert [(context, bytes(value)) for context, value in values] == [(1, b"\3A"), (5, b"\0BC")]
    for bad in (b"\0\0\0\1\1", b"\0\0\0\0\1", b"\xff\xff\xff\xff\1\3A", b"\0\0\0\3\1\3"):
        with pytest.raises((ValueError, Exception)):
            _Views(bytearray(bad))


def test_what_we_announce() -> None:
    assert MAX_PDU == 131072


class Cut:
    """A TLS server whose records can be cut: what it writes is in `out` until somebody carries it over."""

    def __init__(self, ca: Authority, wire: socket.socket) -> None:
        self._wire, self._in, self.out = wire, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server_context(ca.issue("pacs")).wrap_bio(self._in, self.out, server_side=True)

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wire.sendall(self.out.read())
                self._in.write(self._wire.recv(2**16))
        self._wire.sendall(self.out.read())


@pytest.fixture
def wire() -> Iterator[tuple[Socket, socket.socket]]:
    """A connection: our side as an association has it, and the other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    theirs.settimeout(60)
    assoc = SoleReader(AE("US"), "requestor")
    sock = Socket(assoc, client_socket=ours)
    assoc.set_socket(sock)
    yield sock, theirs
    if sock.socket is not None:
        sock.socket.close()
    theirs.close()
    assoc.dul._button.close()
    assoc.dul._bell.close()


def test_half_a_tls_record_is_no_word_to_wait_for(
    wire: tuple[Socket, socket.socket], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nor is a ticket or a key update: who waits for words behind it cannot send, and the peer waits as well."""
    ours, theirs = wire
    ca = Authority(tmp_path_factory.mktemp("ca"))
    peer = Cut(ca, theirs)
    shaking = threading.Thread(target=peer.shake_hands)
    shaking.start()
    ours.begin(600, client_context(ca.issue("gate")), "127.0.0.1", 60)
    shaking.join(60)
    peer.tls.write(b"A whole word")
    record = peer.out.read()
    theirs.sendall(record[:9])
    assert not ours.ready
    theirs.sendall(record[9:])
    while not ours.ready:
        pass
    assert ours.recv(12) == b"A whole word"
    assert not ours.was_cut
    theirs.close()
    while not ours.ready:
        pass
    assert ours.recv(1) == b""
    assert ours.was_cut


class Broken(ssl.SSLContext):
    """A context that fails in a way that nobody foresaw."""

    def wrap_socket(self, *args: object, **kwargs: object) -> ssl.SSLSocket:
        raise RuntimeError


def test_what_does_not_become_tls_is_closed(wire: tuple[Socket, socket.socket]) -> None:
    ours, theirs = wire
    with pytest.raises(RuntimeError):
        ours.begin(30, Broken(ssl.PROTOCOL_TLS_CLIENT), "pacs", 30)
    ours.send_buffers(b"an A-ASSOCIATE-RQ in the clear")
    assert theirs.recv(100) == b""


def test_hanging_up_leaves_nothing_to_be_sent_in_the_clear(
    wire: tuple[Socket, socket.socket], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ours, theirs = wire
    ca = Authority(tmp_path_factory.mktemp("ca"))
    shaking = threading.Thread(target=Cut(ca, theirs).shake_hands)
    shaking.start()
    ours.begin(600, client_context(ca.issue("gate")), "127.0.0.1", 60)
    shaking.join(60)
    assert isinstance(ours.socket, ssl.SSLSocket)
    hang_up(ours.socket)
    assert ours.socket.version() is not None  # `SSLSocket.shutdown` would have left a plain socket here
    ours.send_buffers(b"a name")
    assert b"a name" not in theirs.recv(2**16)
