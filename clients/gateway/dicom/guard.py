"""Who may come in: connections are counted before a thread is started for one, and a caller is judged by its titles.

pynetdicom lets every connection count as an association; two hundred silent ones locked real peers out. Here
each address has a share, all together have a limit, an accepted socket has a deadline for everything, and
what is beyond is closed at once. Titles are not secrets: they keep mistakes out, not attackers. For those the
port stays inside the hospital, behind its firewall.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
import traceback
from socketserver import TCPServer
from typing import Any

import msgspec
from pynetdicom.transport import AssociationServer

from clients.gateway.dicom.upper_layer import prepare


class Gate:
    """How many connections are open, by address."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most, self._most_each = most, most_each
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def enter(self, address: str) -> bool:
        """Counts a connection in, if there is room for it."""
        with self._lock:
            mine = self._open.get(address, 0)
            if mine >= self._most_each or sum(self._open.values()) >= self._most:
                return False
            self._open[address] = mine + 1
            return True

    def leave(self, address: str) -> None:
        """Counts a connection out."""
        with self._lock:
            left = self._open.get(address, 0) - 1
            if left > 0:
                self._open[address] = left
            else:
                self._open.pop(address, None)


class Rejection(msgspec.Struct, frozen=True):
    """Why an association is refused: for us, and what the peer is told (PS3.8 9.3.4)."""

    code: str
    sentence: str
    diagnostic: int
    result: int = 0x01
    source: int = 0x01


CALLED_UNKNOWN = Rejection(
    "dicom-called-aet",
    "A sender called another AE title than this gateway's. Correct it at the sender, or dicom.aet in gateway.toml.",
    0x07,
)
CALLING_UNKNOWN = Rejection(
    "dicom-calling-aet",
    "A sender's AE title is not on the list. Add it to dicom.allow_aets in gateway.toml if it may send.",
    0x03,
)
NOT_LOCAL = Rejection(
    "dicom-not-local",
    "A sender on another machine was refused, as no AE title is allowed yet. Add it to dicom.allow_aets.",
    0x03,
)
TOO_MANY = Rejection(
    "dicom-busy",
    "Too many senders at once; it will try again. Raise dicom.max_associations in gateway.toml if this stays.",
    0x02, result=0x02, source=0x03,
)  # fmt: skip
REJECTIONS = {r.code: r for r in (CALLED_UNKNOWN, CALLING_UNKNOWN, NOT_LOCAL, TOO_MANY)}


def admit(
    *, aet: str, allow_aets: tuple[str, ...], called: str, calling: str, address: str
) -> Rejection | None:
    """None if a caller may come in. Without a list of calling titles only this machine may."""
    if called.strip() != aet:
        return CALLED_UNKNOWN
    if not allow_aets:
        return None if is_local(address) else NOT_LOCAL
    return None if calling.strip() in allow_aets else CALLING_UNKNOWN


def is_local(address: str) -> bool:
    """Whether an address is of this machine."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback


class GuardedServer(AssociationServer):  # type: ignore[misc]
    """pynetdicom's server behind a `Gate`."""

    request_queue_size = 64

    def __init__(self, *args: Any, gate: Gate, patience: float, **kwargs: Any) -> None:
        self.gate, self._patience = gate, patience
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts a connection, which has `patience` seconds for its first words."""
        try:
            sock, address = super().get_request()
        except OSError:
            time.sleep(0.1)  # no file descriptors left: let others finish
            raise
        prepare(sock, self._patience)
        return sock, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """False closes the connection."""
        return self.gate.enter(client_address[0])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke before it had an association."""
        self.gate.leave(client_address[0])
        traceback.print_exc()  # to the owner, who logs where and what kind

    def close(self) -> None:
        """Listens no more."""
        TCPServer.shutdown(self)
        self.server_close()
