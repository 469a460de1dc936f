"""A caller at the DICOM port: PDUs, command sets and data sets on a real socket of the real SCP in its child process.

An input is either raw bytes, or PDUs whose outer lengths are put right so that mutants get further inside; both
with a hang-up at the end. The SCP has to end the association by itself, stay the process it was, take neither much
memory nor processor time for it, leave nothing half written, and still answer a good caller.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import socket
import struct
import tempfile
import threading
from functools import cache
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)  # fmt: skip
from pynetdicom.presentation import build_context

from clients.gateway.dicom.commands import encode_store_request, encode_store_response
from clients.gateway.dicom.scp import ScpConfig, StorageScp
from tests.fuzz.harness import Broken, Harness, peak, reset_peak
from tests.image_kit import encoded, instance

_PATIENCE = 30.0
_MEMORY = 2**26
_SECONDS = 3.0
_EVERY = 40
"""Inputs between two good callers."""
_MARK = b"\n--\n"
_TICKS = os.sysconf("SC_CLK_TCK")
_VERIFICATION = "1.2.840.10008.1.1"


def _associate() -> bytes:
    """The body of an A-ASSOCIATE-RQ with most of what one may hold (PS3.8 9.3.2, PS3.7 D.3)."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "CALLER", "SCP"
    contexts = [
        build_context(_VERIFICATION),
        build_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]),
    ]
    for n, context in enumerate(contexts):
        context.context_id = 2 * n + 1
    primitive.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "1.2.3.4"
    role, extended = SCP_SCU_RoleSelectionNegotiation(), SOPClassExtendedNegotiation()
    user = UserIdentityNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = CTImageStorage, True, False
    extended.sop_class_uid, extended.service_class_application_information = CTImageStorage, b"\2\0\3\0\1\0"
    user.user_identity_type, user.primary_field, user.secondary_field = 2, b"name", b"word"
    primitive.user_information = [length, implementation, role, extended, user]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())[6:]


def _echo() -> bytes:
    """C-ECHO-RQ (PS3.7 9.3.5)."""
    uid = _VERIFICATION.encode() + b"\0"
    body = struct.pack("<HHL", 0, 2, len(uid)) + uid
    body += b"".join(struct.pack("<HHLH", 0, e, 2, v) for e, v in ((0x100, 0x30), (0x110, 7), (0x800, 0x101)))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


@cache
def _samples() -> list[bytes]:
    """Whole calls; the SCP is up. Of a PDU that is put right: type and body; of a P-DATA-TF context, header, value."""
    _scp()
    ds = instance()
    data = encoded(ds)
    store = encode_store_request(9, CTImageStorage, str(ds.SOPInstanceUID))
    rq, release = b"\1" + _associate(), b"\5\0\0\0\0"
    calls = [
        [rq, b"\4\1\3" + _echo(), release],
        [rq, b"\4\3\3" + store, b"\4\3\2" + data, release],
        [
            rq,
            b"\4\3\1" + store[:40],
            b"\4\3\3" + store[40:],
            b"\4\3\0" + data[:100],
            b"\4\3\2" + data[100:],
            release,
        ],
        [rq, b"\4\3\3" + encode_store_response(9, CTImageStorage, "1.2.3", 0), b"\7\0\0\2\0"],
    ]
    put_right = [_MARK.join(call) for call in calls]
    return [*(b"\xff" + call for call in put_right), *(b"\0" + _wire(b"\xff" + call) for call in put_right)]


def _wire(data: bytes) -> bytes:
    """The bytes that go out for an input."""
    if data[:1] < b"\x80":
        return data[1:]
    out = []
    for piece in data[1:].split(_MARK):
        kind, body = piece[:1] or b"\0", piece[1:]
        if kind == b"\4":
            body = (len(body)).to_bytes(4, "big") + body
        out.append(kind + b"\0" + len(body).to_bytes(4, "big") + body)
    return b"".join(out)


class _Scp:
    """The SCP, its events read in a thread of their own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-scp-"))
        atexit.register(shutil.rmtree, self.folder, True)
        config = ScpConfig(
            aet="SCP", port=0, max_associations=200, max_per_address=200, connects_at_once=10**9,
            max_instance_bytes=2**22,
            min_free_bytes=0, stall_seconds=20,
        )  # fmt: skip
        self._scp = StorageScp(config, self.folder)
        self._loop = asyncio.new_event_loop()
        self.address = self._loop.run_until_complete(self._scp.start())
        self.pid = self._scp._door._process.pid  # type: ignore[union-attr]
        self.calls = 0
        threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),), daemon=True).start()

    async def _listen(self) -> None:
        async for _ in self._scp.events():
            pass

    def call(self, data: bytes) -> bytes:
        """Sends all, hangs up, and reads what comes until the other side has hung up as well."""
        with socket.create_connection(self.address, _PATIENCE) as sock:
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has closed before we were through
            out = b""
            try:
                while chunk := sock.recv(65536):
                    out += chunk
            except ConnectionError:
                pass
            except TimeoutError:
                raise Broken("stuck", "the connection is still open") from None
            return out

    def seconds(self) -> float:
        """Processor time that the child has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def tidy(self) -> None:
        """Whole instances are ours to delete; what is half is the SCP's to take away, and it may be about to."""
        for path in (self.folder / "incoming").glob("*.dcm"):
            path.unlink()


@cache
def _scp() -> _Scp:
    return _Scp()


def _call(data: bytes) -> None:
    scp = _scp()
    began, before = scp.seconds(), reset_peak(scp.pid)
    scp.call(_wire(data))
    try:
        took, grown = scp.seconds() - began, peak(scp.pid) - before
    except OSError:
        raise Broken("crash", "the SCP's process has ended") from None
    if took > _SECONDS:
        raise Broken("slow", f"{took:.1f} s of processor time")
    if grown > _MEMORY:
        raise Broken("memory", f"{grown >> 20} MiB more at the peak")
    scp.calls += 1
    if scp.calls % _EVERY == 0:
        scp.tidy()
        if b"\4\0" not in scp.call(_wire(_samples()[0])):
            raise Broken("stuck", "a good caller is not answered")


HARNESSES = [
    Harness(name="dicom-caller", run=_call, samples=_samples, family=(OSError,), apart=True, share=0.06,
    seconds=10.0),
]  # fmt: skip
