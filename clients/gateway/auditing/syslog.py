"""DICOM audit messages over syslog with TLS: RFC 5424 in the framing of RFC 5425, as PS3.15 A.6 asks.

The receiver's certificate is checked. A receiver answers nothing (RFC 5425 has no receipt): what is known is that the
connection took every byte and was closed in good order. Where it broke, all of it is sent again; the same line has the
same number and hash. A receiver that hangs up politely on lines it has not read loses them, and cannot be caught at it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence

from clients.gateway.auditing.dicom import audit_message
from clients.gateway.auditing.lines import Line
from clients.gateway.errors import GatewayError

PORT = 6514
"""RFC 5425 4.1."""
_PRIORITY = 10 * 8 + 5
"""Facility 10 (security), severity 5 (notice): PS3.15 A.6."""
_PATIENCE = 30.0
_APP, _MSGID = "trauma-transfer", "IHE+RFC-3881"


class SyslogError(GatewayError):
    """The receiver of audit messages cannot be had."""

    code = "audit-syslog"
    sentence = "The syslog receiver takes no audit messages. Check its address, port and certificate."


def frame(line: Line, name: str) -> bytes:
    """One message: its length, and RFC 5424's header in front of the XML. The host is this machine's, if it is one."""
    head = f"<{_PRIORITY}>1 {line.when} {_host()} {_APP} {line.seq} {_MSGID} - \ufeff"
    body = head.encode() + audit_message(line, name)
    return f"{len(body)} ".encode() + body


def ship(lines: Sequence[Line], *, address: tuple[str, int], tls: ssl.SSLContext, name: str) -> None:
    """Sends all of `lines` over one connection; blocks. Raises `SyslogError`: then it is not known which arrived."""
    try:
        with (
            socket.create_connection(address, _PATIENCE) as plain,
            tls.wrap_socket(plain, server_hostname=address[0]) as peer,
        ):
            for line in lines:
                peer.sendall(frame(line, name))
            # Our close_notify, then theirs: a reset in between says that something was not read
            with contextlib.suppress(ssl.SSLEOFError):  # many end TCP and say nothing
                peer.unwrap()
    except OSError:  # time-outs and TLS's errors too
        raise SyslogError from None


def _host() -> str:
    """RFC 5424 6.2.4: printable ASCII, or the nil value."""
    name = socket.gethostname()
    return name if name and name.isascii() and name.isprintable() and " " not in name else "-"
