"""The control socket: commands beside a running gateway work through it.

`DIR/control.sock` is a UNIX socket that only its owner may open: whoever can open it could read the
database as well, so there is no further sign-in. One POST for each call, method name and arguments in JSON,
the result as the view's JSON; an error has its code and sentence. Here is the side of the commands, which begin
with each call and load no more than they need; `control_server` is the gateway's.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from clients.gateway import pulled
from clients.gateway.errors import BusyError, GatewayError
from clients.gateway.pulled import RemoteArchive
from clients.gateway.views import (
    AuditView,
    CheckView,
    NoticeView,
    PeerView,
    ReportView,
    SessionView,
    StudyView,
    TransferView,
    UserView,
)
from clients.gateway.whose import Candidate, ComparisonView, IdentityView, WorklistView

METHODS: dict[str, Any] = {
    "studies": list[StudyView],
    "study": StudyView,
    "close_study": None,
    "peers": list[PeerView],
    "pin_peer": PeerView,
    "unpin_peer": PeerView,
    "allow_peer": PeerView,
    "call_peer": PeerView,
    "send": TransferView,
    "transfers": list[TransferView],
    "transfer": TransferView,
    "cancel": TransferView,
    "stop_asked": TransferView,
    "divert": TransferView,
    "close_additions": TransferView,
    "reopen": TransferView,
    "note": TransferView,
    "door": TransferView,
    "import_path": dict[str, Any],
    "report_file": ReportView,
    "identity": IdentityView,
    "worklist": WorklistView,
    "compare": ComparisonView,
    "identify": IdentityView,
    "correct": IdentityView,
    "checks": list[CheckView],
    "audit": list[AuditView],
    "record": None,
    "user_add": None,
    "user_remove": None,
    "users": list[UserView],
    **pulled.METHODS,
}
_POLL = 0.2
_PATIENCE = aiohttp.ClientTimeout(total=3600)
"""An import of many discs takes its time."""
_ADDRESS = 100


class ControlEngine(RemoteArchive):
    """An `Engine` over the control socket. Raises `BusyError` where nobody listens."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends = contextlib.ExitStack()
        self._session: aiohttp.ClientSession | None = None
        self.name, self.site, self.policy, self.page, self.add_seconds = "", "", "", "", 0

    async def open(self) -> None:
        """Connects."""
        path = self._ends.enter_context(short_path(self._folder))
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path), timeout=_PATIENCE)
        try:
            async with self._session.get("http://gateway/") as answer:
                hello = await answer.json()
        except (aiohttp.ClientError, OSError):
            await self.close()
            raise BusyError from None
        self.name, self.site, self.policy = hello["name"], hello["site"], hello.get("policy", "")
        self.page = hello.get("page", "")

    async def close(self) -> None:
        """Disconnects."""
        if self._session is not None:
            await self._session.close()
        self._ends.close()

    async def _call(self, method: str, *args: Any) -> Any:
        assert self._session is not None, "not open"
        body = msgspec.json.encode({"method": method, "args": args})
        try:
            async with self._session.post("http://gateway/", data=body) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, OSError):
            raise BusyError("The running gateway does not answer. Look at its log and try again.") from None
        if answer.status != 200:
            error = msgspec.json.decode(data, type=dict[str, str])
            raise GatewayError(error["sentence"], code=error["error"])
        kind = METHODS[method]
        return msgspec.json.decode(data, type=kind) if kind is not None else None

    async def studies(self, query: str = "", limit: int = 100) -> list[StudyView]:
        """See `Engine`; so for all that follow."""
        return await self._call("studies", query, limit)  # type: ignore[no-any-return]

    async def study(self, study_id: str) -> StudyView:
        return await self._call("study", study_id)  # type: ignore[no-any-return]

    async def close_study(self, study_id: str, actor: str) -> None:
        await self._call("close_study", study_id, actor)

    async def peers(self) -> list[PeerView]:
        return await self._call("peers")  # type: ignore[no-any-return]

    async def pin_peer(self, card: str, actor: str) -> PeerView:
        return await self._call("pin_peer", card, actor)  # type: ignore[no-any-return]

    async def unpin_peer(self, name: str, actor: str) -> PeerView:
        return await self._call("unpin_peer", name, actor)  # type: ignore[no-any-return]

    async def call_peer(self, name: str, call: str, actor: str) -> PeerView:
        return await self._call("call_peer", name, call, actor)  # type: ignore[no-any-return]

    async def allow_peer(self, name: str, kinds: list[str], actor: str) -> PeerView:
        return await self._call("allow_peer", name, kinds, actor)  # type: ignore[no-any-return]

    async def send(
        self, study_id: str, to: str, reason: str, actor: str, alt: Sequence[str] = (), add: int | None = None
    ) -> TransferView:
        return await self._call("send", study_id, to, reason, actor, list(alt), add)  # type: ignore[no-any-return]

    async def close_additions(self, tid: str, actor: str) -> TransferView:
        return await self._call("close_additions", tid, actor)  # type: ignore[no-any-return]

    async def divert(self, tid: str, to: str, actor: str) -> TransferView:
        return await self._call("divert", tid, to, actor)  # type: ignore[no-any-return]

    async def transfers(self, role: str = "", limit: int = 100) -> list[TransferView]:
        return await self._call("transfers", role, limit)  # type: ignore[no-any-return]

    async def transfer(self, tid: str) -> TransferView:
        return await self._call("transfer", tid)  # type: ignore[no-any-return]

    async def cancel(self, tid: str, actor: str) -> TransferView:
        return await self._call("cancel", tid, actor)  # type: ignore[no-any-return]

    async def stop_asked(self, tid: str, asker: str, reason: str, actor: str) -> TransferView:
        return await self._call("stop_asked", tid, asker, reason, actor)  # type: ignore[no-any-return]

    async def reopen(self, tid: str, actor: str) -> TransferView:
        return await self._call("reopen", tid, actor)  # type: ignore[no-any-return]

    async def note(self, tid: str, minor: bool, interpreter: str, basis: str, actor: str) -> TransferView:
        return await self._call("note", tid, minor, interpreter, basis, actor)  # type: ignore[no-any-return]

    async def door(self, tid: str, door: str, scanned: str, actor: str) -> TransferView:
        return await self._call("door", tid, door, scanned, actor)  # type: ignore[no-any-return]

    async def import_path(self, path: str, actor: str, early: bool = False) -> dict[str, Any]:
        return await self._call("import_path", path, actor, early)  # type: ignore[no-any-return]

    async def identity(self, tid: str) -> IdentityView:
        return await self._call("identity", tid)  # type: ignore[no-any-return]

    async def worklist(self, patient_id: str, accession: str, name: str) -> WorklistView:
        return await self._call("worklist", patient_id, accession, name)  # type: ignore[no-any-return]

    async def compare(self, tid: str, candidate: Candidate) -> ComparisonView:
        return await self._call("compare", tid, candidate)  # type: ignore[no-any-return]

    async def identify(
        self, tid: str, candidate: Candidate | None, confirmed: list[str], actor: str
    ) -> IdentityView:
        return await self._call("identify", tid, candidate, confirmed, actor)  # type: ignore[no-any-return]

    async def correct(self, tid: str, candidate: Candidate, confirmed: list[str], actor: str) -> IdentityView:
        return await self._call("correct", tid, candidate, confirmed, actor)  # type: ignore[no-any-return]

    async def report_file(self, study_id: str, path: str, title: str, actor: str) -> ReportView:
        return await self._call("report_file", study_id, path, title, actor)  # type: ignore[no-any-return]

    async def checks(self) -> list[CheckView]:
        return await self._call("checks")  # type: ignore[no-any-return]

    async def audit(self, before: int = 0, limit: int = 100) -> list[AuditView]:
        return await self._call("audit", before, limit)  # type: ignore[no-any-return]

    async def record(self, actor: str, action: str, subject: str = "", detail: str = "") -> None:
        await self._call("record", actor, action, subject, detail)

    async def user_add(self, name: str, role: str, password_hash: str, actor: str) -> None:
        await self._call("user_add", name, role, password_hash, actor)

    async def user_remove(self, name: str, actor: str) -> None:
        await self._call("user_remove", name, actor)

    async def users(self) -> list[UserView]:
        return await self._call("users")  # type: ignore[no-any-return]

    async def changes(self) -> AsyncIterator[None]:
        while True:
            yield None
            await asyncio.sleep(_POLL)

    # The pages run in the gateway's own process: these never come through the socket.

    async def add_report(self, study_id: str, title: str, text: str, pdf: bytes, actor: str) -> ReportView:
        raise GatewayError(code="method")

    async def attest(self, tid: str, reason: str, word: str, actor: str) -> TransferView:
        raise GatewayError(code="method")  # here nobody's password was asked for

    async def override(self, tid: str, reason: str, actor: str) -> TransferView:
        raise GatewayError(code="method")

    async def again(self, tid: str, reason: str, actor: str) -> TransferView:
        raise GatewayError(code="method")

    async def notice(self, tid: str) -> NoticeView:
        raise GatewayError(code="method")

    async def user_hash(self, name: str) -> tuple[str, str]:
        raise GatewayError(code="method")

    async def session_put(self, token_hash: str, session: SessionView) -> None:
        raise GatewayError(code="method")

    async def session_get(self, token_hash: str) -> SessionView | None:
        raise GatewayError(code="method")

    async def session_drop(self, token_hash: str) -> None:
        raise GatewayError(code="method")


@contextlib.contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """The socket's path; through the open folder where it is longer than a UNIX address may be (unix(7))."""
    path = str(folder / "control.sock")
    if len(os.fsencode(path)) <= _ADDRESS or not Path("/proc/self/fd").is_dir():
        yield path
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/control.sock"
    finally:
        os.close(fd)


def actor() -> str:
    """Who types a command, for the audit log."""
    try:
        return f"os:{getpass.getuser()}"
    except (KeyError, OSError):
        return f"os:{os.getuid()}"
