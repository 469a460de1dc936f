"""HL7 as `gateway.toml` wants it: a port for reports, a feed of identities, both, or neither."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from clients.gateway.clock import Clock, Signal
from clients.gateway.config import Hl7Section, split_address
from clients.gateway.errors import ConfigError
from clients.gateway.hl7.adt import IdentityFeed
from clients.gateway.hl7.inbound import Inbound
from clients.gateway.hl7.message import Ends
from clients.gateway.hl7.mllp import MllpServer
from clients.gateway.networks import networks_of
from clients.gateway.sending.reports import Reports
from clients.gateway.store.database import Database


class Hl7Service:
    """What speaks HL7 in one gateway. `address` is where reports are taken, once it listens."""

    def __init__(
        self,
        given: Hl7Section,
        db: Database,
        clock: Clock,
        reports: Reports,
        folder: Path,
        arrived: Signal,
        changed: Signal,
    ) -> None:
        self._given = given
        self.address: tuple[str, int] | None = None
        self._inbound: Inbound | None = None
        self._server: MllpServer | None = None
        if given.listen:
            self._inbound = Inbound(db, clock, reports, folder, arrived, given.wait_seconds)
            allow = networks_of("hl7.allow", given.allow) if given.allow else None
            self._server = MllpServer(self._inbound.handle, allow=allow)
        self._feed: IdentityFeed | None = None
        if given.adt:
            ends = Ends(
                sender=given.application, sender_site=given.facility, receiver=given.adt_application,
                receiver_site=given.adt_facility,
            )  # fmt: skip
            self._feed = IdentityFeed(db, clock, *split_address(given.adt), ends, changed)

    async def start(self) -> None:
        """Listens, where that is wanted. Raises `ConfigError`."""
        if self._server is None:
            return
        host, port = split_address(self._given.listen)
        try:
            self.address = await self._server.start(host, port)
        except OSError:
            raise ConfigError(
                f"HL7 cannot use port {port} of {host}. End the program that uses it, or change hl7.listen."
            ) from None

    async def stop(self) -> None:
        """Hangs up."""
        if self._server is not None:
            await self._server.stop()

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs beside it."""
        loops: dict[str, Callable[[], Awaitable[None]]] = {}
        if self._inbound is not None:
            loops["hl7-reports"] = self._inbound.run
        if self._feed is not None:
            loops["hl7-identities"] = self._feed.run
        return loops
