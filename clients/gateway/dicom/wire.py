"""The peer's socket under an association (PS3.8 9.1), plain or through TLS (PS3.15 B.12).

Every read has a length and a deadline, and every wait wakes for both sides. A `Socket` is read and written in its
provider's thread only, as a TLS connection has to be; another thread may end it, and leaves its number to the one
that reads: else a file that was opened in between would be read in its place.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import Protocol, cast

from pynetdicom.transport import AssociationSocket

_Connection = socket.socket
_AT_ONCE = 2**16
_MAX_DISCARDED = 2**22
"""Bytes that are read after the end (PS3.8 9.2, Sta13): a peer in the middle of a PDU shall hear that it was ended."""


class Provider(Protocol):
    """What a socket needs of its upper layer's provider (`upper_layer.Dul`)."""

    def rest(self, number: int) -> bool:
        """Waits for the peer (file descriptor `number`, or none), for our side or for a moment; True: the peer."""


class Socket(AssociationSocket):  # type: ignore[misc]
    """The peer's socket: exact reads with a deadline, whole writes, and a `ready` that waits.

    The socket's own time-out (see `prepare`) is what a peer may take for one PDU, either way.
    """

    socket: _Connection | None
    _ahead = b""
    """What was read to find out whether there is something to read."""
    _discarded = 0
    was_cut = False
    """Whether the peer ended the connection, without a word of DICOM."""

    def begin(self, stall: float, tls: ssl.SSLContext | None, name: str, patience: float) -> None:
        """Prepares a connection that we opened, with TLS where a context is given: then the peer's certificate must be
        made out to `name`. Whatever is raised, the connection is closed: nothing is sent in the clear instead.
        """
        sock = cast(socket.socket, self.socket)
        try:
            prepare(sock, patience)
            if tls is not None:
                self.socket = sock = tls.wrap_socket(sock, server_hostname=name)
            sock.settimeout(stall)
        except BaseException:
            hang_up(sock)
            sock.close()
            raise

    @property
    def ready(self) -> bool:
        """True if there is something to read. Waits a moment, less if we have something to send."""
        dul = cast(Provider, self.assoc.dul)
        number = -1 if self.socket is None or not self._is_connected else self.socket.fileno()
        if number < 0:
            dul.rest(-1)
            return False
        if not isinstance(self.socket, ssl.SSLSocket):
            return dul.rest(number)
        return bool(self.socket.pending()) or (dul.rest(number) and self._has_words(self.socket))

    def _has_words(self, sock: ssl.SSLSocket) -> bool:
        """Whether what came is for us. A TLS 1.3 ticket or key update is not, and to wait for words behind it would
        be to wait while the peer waits for ours.
        """
        patience = sock.gettimeout()
        sock.settimeout(0)
        try:
            self._ahead += sock.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:  # whoever reads is told again
            self.was_cut = True
        finally:
            sock.settimeout(patience)
        return True

    def recv(self, nr_bytes: int) -> bytearray:
        """`nr_bytes`, or fewer if the peer went away. Raises `TimeoutError`, also where they come drop by drop."""
        data = bytearray(nr_bytes)
        have = min(nr_bytes, len(self._ahead))
        data[:have], self._ahead = self._ahead[:have], self._ahead[have:]
        view = memoryview(data)
        sock = cast(socket.socket, self.socket)
        until = time.monotonic() + (sock.gettimeout() or 0.0)
        while have < nr_bytes:
            got = sock.recv_into(view[have:])
            if not got:
                self.was_cut = True
                return data[:have]
            have += got
            if have < nr_bytes and time.monotonic() > until:
                raise TimeoutError
        return data

    def discard(self) -> bool:
        """Throws away what is there to read; False if the peer has closed, or goes on and on."""
        try:
            got = len(cast(socket.socket, self.socket).recv(_AT_ONCE))
        except (OSError, AttributeError):
            return False
        self._discarded += got
        return bool(got) and self._discarded < _MAX_DISCARDED

    def send_buffers(self, *buffers: bytes | memoryview) -> None:
        """Writes all of `buffers`. A peer that went away or does not take them becomes Evt17 (PS3.8 9.2.1)."""
        try:
            left = [memoryview(b) for b in buffers]
            sock = cast(socket.socket, self.socket)
            if isinstance(sock, ssl.SSLSocket):  # records of its own, which gather nothing
                sock.sendall(b"".join(left))
                return
            while left:
                sent = sock.sendmsg(left)
                while left and sent >= len(left[0]):
                    sent -= len(left.pop(0))
                if left:
                    left[0] = left[0][sent:]
        except (OSError, AttributeError) as why:
            self.was_cut = not isinstance(why, TimeoutError)
            self.event_queue.put("Evt17")

    def send(self, bytestream: bytes) -> None:
        """Writes one PDU."""
        self.send_buffers(bytestream)

    def close(self) -> None:
        """Ends the connection; over TLS with the alert that says that nothing was cut off (RFC 8446 6.1)."""
        if isinstance(self.socket, ssl.SSLSocket) and threading.current_thread() is self.assoc.dul:
            with contextlib.suppress(OSError, ValueError):
                self.socket.settimeout(0)  # the peer's own alert is not waited for
                self.socket.unwrap()
        super().close()

    def _shutdown_socket(self) -> None:
        """Ends the connection. Its number is free for another file only when nobody reads from it any more, so
        another thread than the provider's leaves the rest to that one.
        """
        if self.socket is None:
            return
        hang_up(self.socket)
        if threading.current_thread() is self.assoc.dul:
            self.socket.close()


def prepare(sock: socket.socket, stall: float) -> None:
    """No Nagle (it costs 40 ms per message: both peers wait for the other), and no call that blocks for ever."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.settimeout(stall)


def hang_up(sock: socket.socket) -> None:
    """Ends a connection from any thread; whoever reads or writes it is told. `SSLSocket.shutdown` would take its TLS
    away first, and a write at that moment would go out in the clear.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
