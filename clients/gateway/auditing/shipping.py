"""Audit messages on their way to the hospital's repository, behind the log.

How far it is, is in the database (`own`, key `audit-shipped`): it moves only after a connection that was closed in good
order, so a crash or a broken connection sends the same lines again and never leaves one out.
"""

from __future__ import annotations

import asyncio
import ssl

import structlog

from clients.gateway.auditing.lines import lines
from clients.gateway.auditing.syslog import SyslogError, ship
from clients.gateway.clock import Clock, Signal
from clients.gateway.config import Config, split_address
from clients.gateway.errors import ConfigError
from clients.gateway.store import audit
from clients.gateway.store.database import Con, Database, value

log = structlog.get_logger()
_BATCH = 500
_QUIET = 5.0
"""Seconds in which lines gather for one connection."""
_RETRIES = (5.0, 15.0, 60.0, 300.0)
_KEY = "audit-shipped"
_ALARM = 3
"""Tries that fail before staff are told."""


class Shipping:
    """Sends what is new, in order, until it is cancelled."""

    def __init__(
        self, db: Database, clock: Clock, changed: Signal, *, address: tuple[str, int], tls: ssl.SSLContext, name: str
    ) -> None:  # fmt: skip
        self._db, self._clock, self._changed = db, clock, changed
        self._address, self._tls, self._name = address, tls, name
        self._failed = 0

    @classmethod
    def of(cls, config: Config, db: Database, clock: Clock, changed: Signal) -> Shipping:
        """As [audit] says. Raises `ConfigError` where a file of it is no certificate or key."""
        given = config.audit
        try:
            tls = ssl.create_default_context(cafile=given.syslog_ca or None)
            if given.syslog_cert:
                tls.load_cert_chain(given.syslog_cert, given.syslog_key)
        except OSError:
            raise ConfigError(
                "audit.syslog_ca, audit.syslog_cert or audit.syslog_key cannot be read. Check these files, and start"
                " again."
            ) from None
        return cls(db, clock, changed, address=split_address(given.syslog), tls=tls, name=config.site.name)

    async def run(self) -> None:
        """Batch after batch; waits for changes where there is nothing to send."""
        while True:
            seen = self._changed.seen
            try:
                more = await self.once()
            except SyslogError as why:
                await self._trouble(why)
                await asyncio.sleep(_RETRIES[min(self._failed, len(_RETRIES)) - 1])
                continue
            self._failed = 0
            if not more:
                await self._changed.wait(seen, 60.0)
                await asyncio.sleep(_QUIET)

    async def once(self) -> int:
        """One batch; how many lines. Raises `SyslogError`."""
        found = await self._db.run(lambda con: lines(con, after=_mark(con), limit=_BATCH))
        if not found:
            return 0
        await asyncio.to_thread(ship, found, address=self._address, tls=self._tls, name=self._name)
        await self._db.run(lambda con: _move(con, found[-1].seq))
        return len(found)

    async def _trouble(self, why: SyslogError) -> None:
        self._failed += 1
        log.warning("audit messages wait", code=why.code)
        if self._failed == _ALARM:
            now = self._clock.now()
            await self._db.run(lambda con: audit.alarm(con, None, why.code, why.sentence, now))


def _mark(con: Con) -> int:
    found = value(con, "SELECT v FROM own WHERE k=?", (_KEY,))
    return int(found) if found is not None else 0


def _move(con: Con, seq: int) -> None:
    con.execute(
        "INSERT INTO own (k, v) VALUES (?,?) ON CONFLICT (k) DO UPDATE SET v=excluded.v",
        (_KEY, str(seq).encode()),
    )
