"""The peer's socket over TLS: what is a word for us, and that nothing is ever said in the clear."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from pynetdicom import AE

from clients.gateway.dicom.race import SoleReader
from clients.gateway.dicom.tls import client_context, server_context
from clients.gateway.dicom.wire import Socket, hang_up
from tests.certificates import Authority


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
