"""The rooms around the hospital's own archive, and their part of the engine (`pulled.Archive`)."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clients.gateway.clock import Clock, Signal
from clients.gateway.config import Config, split_address
from clients.gateway.dicom.query import read_terms
from clients.gateway.dicom.scp import INCOMING
from clients.gateway.dicom.scu import Destination
from clients.gateway.dicom.source import Landed, Source
from clients.gateway.dicom.tls import tls_files
from clients.gateway.errors import AbsentError
from clients.gateway.peers.pins import Pins
from clients.gateway.pulled import PullView, SearchView
from clients.gateway.sending.completeness import Completeness
from clients.gateway.sending.prepared import Prepared
from clients.gateway.sending.pull_view import pull_view
from clients.gateway.sending.pull_words import Reach
from clients.gateway.sending.pulls import Pulls
from clients.gateway.sending.studies import Studies
from clients.gateway.store.database import Con, Database, one, rows
from clients.gateway.views import TransferView

if TYPE_CHECKING:
    from clients.gateway.rooms import Rooms


class ArchiveRooms:
    """Pulls, what the archive says of studies here, and what rules prepare. `receives`: our own SCP runs."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        db: Database,
        clock: Clock,
        studies: Studies,
        pins: Pins,
        arrived: Signal,
        changed: Signal,
        *,
        receives: bool,
    ) -> None:
        given, self.source = config.source, None
        if given is not None:
            host, port = split_address(given.address)
            self.source = Source(
                Destination(
                    aet=given.aet, host=host, port=port, calling_aet=config.dicom.aet,
                    tls=tls_files(given, given.tls_name), connect=5.0, association=8.0, response=20.0,
                ),
                Landed(
                    folder=str(folder / INCOMING), min_free_bytes=config.dicom.min_free_bytes,
                    max_instance_bytes=config.dicom.max_instance_bytes,
                ),
                received=lambda event: self.pulls.landed(event),
            )  # fmt: skip
        self.pulls = Pulls(
            db, clock, studies, changed, source=self.source, reach=reach_of(config), receives=receives,
            how=given.retrieve if given is not None else "move",
        )  # fmt: skip
        quiet = config.policy.quiet_seconds
        self.completeness = Completeness(db, clock, self.source, changed, quiet=quiet)
        self._rules = config.prepare
        self.prepared = Prepared(db, clock, pins, config.prepare, studies.incoming, arrived, changed)

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs until the gateway ends."""
        loops: dict[str, Callable[[], Awaitable[None]]] = {}
        if self.source is not None:
            loops |= {
                "pulls": self.pulls.run,
                "pulled": self.pulls.take,
                "completeness": self.completeness.run,
            }
        if self._rules:
            loops["prepared"] = self.prepared.run
        return loops

    async def stop(self) -> None:
        """Ends the child."""
        if self.source is not None:
            await self.source.stop()


def reach_of(config: Config) -> Reach:
    """How the archive has to enter this gateway."""
    host, port = split_address(config.dicom.listen)
    everywhere = not host.strip("0.:")  # 0.0.0.0 and ::
    return Reach(config.dicom.aet, f"{socket.gethostname() if everywhere else host}, port {port}")


class ArchiveEngine:
    """Mixed into `GatewayEngine`."""

    _rooms: Rooms

    async def find_studies(self, terms: dict[str, str], actor: str) -> SearchView:
        """Studies at the archive. Raises `GatewayError` for terms that find too much, and where no archive is set."""
        today = datetime.date.fromtimestamp(self._rooms.clock.now())
        given = {str(key): str(value) for key, value in terms.items()}
        return await self._rooms.archive.pulls.search(read_terms(given, today), actor)

    async def pull(self, uid: str, actor: str) -> PullView:
        """Brings a study here; the pull that is open for it already, where there is one. Raises `GatewayError`."""
        return await self.pull_view(await self._rooms.archive.pulls.begin(uid, actor))

    async def pulls(self, limit: int = 20) -> list[PullView]:
        """Newest first."""
        room = self._rooms.archive.pulls

        def work(con: Con) -> list[PullView]:
            found = rows(con, "SELECT * FROM pulls ORDER BY at DESC, rowid DESC LIMIT ?", (min(limit, 100),))
            return [pull_view(con, row, room.now, room.reach) for row in found]

        return await self._rooms.db.run(work)

    async def pull_view(self, pull: str) -> PullView:
        """One pull. Raises `AbsentError`."""
        room = self._rooms.archive.pulls

        def work(con: Con) -> PullView:
            row = one(con, "SELECT * FROM pulls WHERE id=?", (pull,))
            if row is None:
                raise AbsentError
            return pull_view(con, row, room.now, room.reach)

        return await self._rooms.db.run(work)

    async def stop_pull(self, pull: str, actor: str) -> PullView:
        """What is here stays. Raises `AbsentError`."""
        await self._rooms.archive.pulls.cancel(pull, actor)
        return await self.pull_view(pull)

    async def offer_prepared(self, study: str, actor: str) -> str:
        """Makes the offer that a rule proposed. Raises `GatewayError` where none does."""
        peer, reason = await self._rooms.archive.prepared.wanted(study)
        view = await self.send(study, peer.text, reason, actor)
        await self._rooms.archive.prepared.settle(study, "offered", actor)
        return view.tid

    async def dismiss_prepared(self, study: str, actor: str) -> None:
        """It is not proposed again. Raises `AbsentError`."""
        await self._rooms.archive.prepared.settle(study, "dismissed", actor)

    async def send(self, study_id: str, to: str, reason: str, actor: str) -> TransferView:
        """`GatewayEngine.send`."""
        raise NotImplementedError
