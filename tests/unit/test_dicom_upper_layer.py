"""pynetdicom's parts that are not documented are where we look for them, and behave as we count on."""

from __future__ import annotations

import secrets
import socket
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
from clients.gateway.dicom.upper_layer import MAX_PDU, _Views
from clients.gateway.dicom.wire import Socket, prepare
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
