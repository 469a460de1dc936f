"""The gateway's own queue at the relay: each entry goes to whom it concerns, and leaves the queue when its
effect is on disk.

The relay may repeat, reorder and invent entries. Whoever handles one verifies it under a pinned key, and
the same one again changes nothing; what does not verify is dropped with its code in the log.
"""

from __future__ import annotations

import asyncio

import structlog

from clients.gateway.clock import Clock
from clients.gateway.errors import AbsentError, DiskFullError, GatewayError, RelayDownError
from clients.gateway.log import about
from clients.gateway.peers.outbox import acknowledged
from clients.gateway.peers.pins import Peer, Pins
from clients.gateway.peers.relay import RelayClient, RelayRefusal, SiteEntry
from clients.gateway.receiving.inbox import Inbox
from clients.gateway.sending.doors import Doors
from clients.gateway.sending.offers import Offers
from clients.gateway.store import audit
from clients.gateway.store.database import Database
from transfer.errors import HeaderError, TransferError, UnknownSiteError
from transfer.ids import SiteId
from transfer.messages import Ack, Close, Offer, Receipt, Release, name_of, open_message, peek

log = structlog.get_logger()
_OF_A_TRANSFER: dict[str, type[Offer | Release | Close | Receipt]] = {
    kind.NAME: kind for kind in (Offer, Release, Close, Receipt)
}
_AT_ONCE = 16
_REST = 2.0
"""Seconds before what a full disk did not take is tried again."""


class Dispatch:
    """Waits at the queue and hands out what comes."""

    def __init__(
        self,
        db: Database,
        relay: RelayClient,
        pins: Pins,
        doors: Doors,
        offers: Offers,
        inbox: Inbox,
        clock: Clock,
    ) -> None:
        self._db, self._relay, self._pins, self._clock = db, relay, pins, clock
        self._doors, self._offers, self._inbox = doors, offers, inbox
        self._room = asyncio.Semaphore(_AT_ONCE)
        self.reachable = False
        """The last call to the queue was answered."""

    async def run(self) -> None:
        """Until cancelled.

        Asks for what is new; and, after a quiet while or a failure, for all that is still there: what could not be
        taken comes again so, a relay restored from a backup counts from an older number, and a number that a relay
        once said may have been far too high.
        """
        after, pause = 0, 0.25
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    entries = await self._relay.queue(after)
                except (RelayDownError, RelayRefusal) as why:
                    self.reachable = False
                    log.info("the queue does not answer", code=why.code)
                    await asyncio.sleep(pause)
                    after, pause = 0, min(pause * 2, 5.0)
                    continue
                self.reachable, pause = True, 0.25
                for entry in entries:
                    await self._room.acquire()
                    group.create_task(self._take(entry))
                    after = max(after, entry.seq)
                if not entries:
                    after = 0
                    await asyncio.sleep(pause)

    async def _take(self, entry: SiteEntry) -> None:
        try:
            await self._stored(entry)
            await self._relay.ack([entry.seq])
        except (RelayDownError, RelayRefusal):
            pass  # it comes again, and changes nothing then
        except GatewayError as why:
            log.error("a message waits", code=why.code)
        except Exception as why:  # it holds no other up, and stays at the relay, to be tried again
            log.error("a message failed", kind=type(why).__name__)
        finally:
            self._room.release()

    async def _stored(self, entry: SiteEntry) -> None:
        """`handle`, again while the disk is full: nothing behind it could be stored either."""
        while True:
            try:
                return await self.handle(entry)
            except DiskFullError as why:
                log.error("a message waits", code=why.code)
            await asyncio.sleep(_REST)

    async def handle(self, entry: SiteEntry) -> None:
        """One entry. Raises a `GatewayError` where its effect could not be stored; then it stays in the queue."""
        try:
            if entry.mb:
                await self._doors.handle(entry)
            elif isinstance(entry.body, str):
                await self._message(entry.body, SiteId.parse(entry.source))
        except TransferError as why:
            log.warning("message dropped", code=why.code)

    async def _message(self, text: str, source: SiteId) -> None:
        peer = await self._pins.get(source)
        if peer is None:
            now = self._clock.now()
            error = UnknownSiteError()
            await self._db.run(lambda con: audit.alarm(con, None, error.code, error.sentence, now))
            raise error
        name = name_of(text)
        if name == Ack.NAME:
            ack = open_message(Ack, text, source)
            await self._db.run(lambda con: acknowledged(con, ack.of, source))
            return
        kind = _OF_A_TRANSFER.get(name)
        if kind is None:
            raise HeaderError
        message = peek(kind, text)
        with about(message.tid):
            await self._of_transfer(message, text, peer)

    async def _of_transfer(self, message: Offer | Release | Close | Receipt, text: str, peer: Peer) -> None:
        try:
            match message:
                case Offer():
                    await self._inbox.offer(text, peer)
                case Receipt():
                    await self._offers.receipt(text, peer.site, message.tid)
                case Close(state="DECLINED"):
                    await self._offers.declined(text, peer.site, message.tid)
                case _:
                    await self._inbox.later(text, peer, message.tid)
        except AbsentError:
            log.info("message for a transfer that is not here dropped")
        except TransferError as why:
            log.warning("message dropped", code=why.code)
