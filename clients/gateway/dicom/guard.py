"""Who may come in: connections are counted before a thread is started for one, and a caller is judged by its titles.

pynetdicom lets every connection count as an association; two hundred silent ones locked real peers out. Here
each address has a share and a pace, all together have a limit, an accepted socket has a deadline for
everything, and what is beyond is closed at once. Where all places are taken, whoever has waited longest without
an association leaves for the newcomer: a real peer says who it is within milliseconds, a silent one never does.

Titles are not secrets: they keep mistakes out, not attackers. Certificates do (`tls.py`); without them the port
stays inside the hospital, behind its firewall.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from socketserver import TCPServer
from typing import Any

import msgspec
from pynetdicom.transport import AssociationServer

from clients.gateway.dicom.wire import hang_up, prepare
from clients.gateway.networks import Network, admits, counted_as, is_local

_MAX_ORIGINS = 1024
"""Addresses whose pace is remembered; the one that was quiet for longest is forgotten first."""


class Pace:
    """How fast each address may connect: `burst` at once, and `rate` more each second."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, who: str) -> bool:
        """Counts a connection, if it does not come too soon."""
        now = self._clock()
        at, left = self._left.pop(who, (now, float(self._burst)))
        left = min(float(self._burst), left + (now - at) * self._rate)
        allowed = left >= 1
        self._left[who] = now, left - allowed
        if len(self._left) > _MAX_ORIGINS:
            self._left.popitem(last=False)
        return allowed


class _Guest:
    """One connection: where from, and whether it has become an association."""

    def __init__(self, who: str) -> None:
        self.who, self.settled = who, False


class Gate:
    """Which connections are open."""

    def __init__(self, most: int, most_each: int, pace: Pace, networks: Sequence[Network] = ()) -> None:
        self._most, self._most_each, self._pace = most, most_each, pace
        self._networks = networks
        """Whoever is in none of them is hung up on, unread; empty: anybody may knock."""
        self._guests: dict[socket.socket, _Guest] = {}
        """In the order of their arrival."""
        self._lock = threading.Lock()

    def enter(self, sock: socket.socket, address: str) -> bool:
        """Counts a connection in, if there is room for it or another one has to make room."""
        if self._networks and not admits(self._networks, address):
            return False
        who = counted_as(address)
        with self._lock:
            if not self._pace.allows(who):
                return False
            if sum(guest.who == who for guest in self._guests.values()) >= self._most_each:
                room = self._send_away(who)
            else:
                room = len(self._guests) < self._most or self._send_away(self._crowd())
            if room:
                self._guests[sock] = _Guest(who)
            return room

    def _crowd(self) -> str:
        """The address with most connections that are no association."""
        waiting = Counter(guest.who for guest in self._guests.values() if not guest.settled)
        return waiting.most_common(1)[0][0] if waiting else ""

    def _send_away(self, who: str) -> bool:
        """Ends the connection from `who` that has waited longest; whoever serves it notices."""
        for sock, guest in self._guests.items():
            if guest.who == who and not guest.settled:
                del self._guests[sock]
                hang_up(sock)
                return True
        return False

    def settle(self, sock: socket.socket) -> None:
        """A connection has become an association, and leaves for nobody."""
        with self._lock:
            if (guest := self._guests.get(sock)) is not None:
                guest.settled = True

    def leave(self, sock: socket.socket) -> None:
        """Counts a connection out."""
        with self._lock:
            self._guests.pop(sock, None)


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
NOT_TRUSTED = Rejection(
    "dicom-tls",
    "A sender did not get through the TLS handshake: it speaks none, or shows no certificate that dicom.tls_ca trusts.",
    0x01,
)
REJECTIONS = {r.code: r for r in (CALLED_UNKNOWN, CALLING_UNKNOWN, NOT_LOCAL, TOO_MANY, NOT_TRUSTED)}


def admit(
    *, aet: str, allow_aets: tuple[str, ...], called: str, calling: str, address: str
) -> Rejection | None:
    """None if a caller may come in. Without a list of calling titles only this machine may."""
    if called.strip() != aet:
        return CALLED_UNKNOWN
    if not allow_aets:
        return None if is_local(address) else NOT_LOCAL
    return None if calling.strip() in allow_aets else CALLING_UNKNOWN


class GuardedServer(AssociationServer):  # type: ignore[misc]
    """pynetdicom's server behind a `Gate`, and behind TLS where it is given a context.

    The loop that accepts connections waits for nobody: a handshake has a thread of its own, which the gate has
    counted, and a deadline.
    """

    request_queue_size = 64

    def __init__(
        self,
        *args: Any,
        gate: Gate,
        patience: float,
        tls: ssl.SSLContext | None,
        stranger: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        self.gate, self._patience, self._tls, self._stranger = gate, patience, tls, stranger
        super().__init__(*args, **kwargs)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accepts a connection, which has `patience` seconds for its first words."""
        try:
            sock, address = super().get_request()
        except OSError:
            time.sleep(0.1)  # no file descriptors left: let others finish
            raise
        prepare(sock, self._patience)
        if self._tls is None:
            return sock, address
        try:
            return self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), address
        except OSError:  # it is gone already
            sock.close()
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """False closes the connection."""
        return self.gate.enter(request, client_address[0])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts an association, after the handshake where there is one."""
        if self._tls is None:
            super().process_request(request, client_address)
        else:
            threading.Thread(target=self._shake_hands, args=(request, client_address), daemon=True).start()

    def _shake_hands(self, request: ssl.SSLSocket, client_address: Any) -> None:
        try:
            request.do_handshake()  # the socket's time-out is for all of it
        except Exception as why:
            self.gate.leave(request)
            self.shutdown_request(request)
            if isinstance(why, ssl.SSLError) and not isinstance(why, ssl.SSLEOFError):
                self._stranger()  # else it went away, said nothing, or had to make room
            return
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke before it had an association."""
        self.gate.leave(request)
        traceback.print_exc()  # to the owner, who logs where and what kind

    def close(self) -> None:
        """Listens no more."""
        TCPServer.shutdown(self)
        self.server_close()
