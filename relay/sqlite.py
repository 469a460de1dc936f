"""`MetaStore` in one SQLite file, through `relay.ledger`.

Every change is one work: a plain function of the connection, in which nothing can come between its
statements. The tables are in `migrations/`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from relay import metastore
from relay.clock import Clock
from relay.config import Quota
from relay.errors import AbsentError, BusyError, DifferentError, GoneError, QuotaError, RateError
from relay.ledger import Ledger, Row
from relay.metastore import Counts, Hello, Letter, Pack, Posted, Site, check_owner
from transfer.encoding import sha256
from transfer.ids import Cid, Digest, Kid, Nonce, SiteId
from transfer.mailbox import SLOT_CAPS

Con = sqlite3.Connection
PHONE = b""
"""The sender of a phone's letter."""


class SqliteMeta:
    """The store at `path`; what a site may keep is in `quota`."""

    def __init__(self, path: Path, quota: Quota, clock: Clock) -> None:
        self._ledger = Ledger(path)
        self._quota = quota
        self._clock = clock

    async def open(self) -> None:
        """Opens the file, brings its tables up to date."""
        await self._ledger.open(self._clock())

    async def close(self) -> None:
        """Commits what waits, closes the file."""
        await self._ledger.close()

    async def ping(self) -> None:
        """See `MetaStore.ping`: a transaction that changes nothing takes every lock and writes nothing."""
        try:
            await self._ledger.write(lambda con: con.execute("SELECT 1 FROM sites LIMIT 1").fetchone())
        except sqlite3.Error:
            raise BusyError from None

    async def counts(self) -> Counts:
        """See `MetaStore.counts`. From partial indexes: names that are gone cost nothing here."""
        cids = "SELECT count(*), coalesce(sum(packs), 0), coalesce(sum(bytes), 0) FROM cids WHERE gone = 0"
        boxes = "SELECT count(*) FROM mailboxes WHERE gone = 0"
        ((alive, packs, size),) = await self._ledger.read(cids)
        ((letters,),) = await self._ledger.read("SELECT count(*) FROM letters")
        ((mailboxes,),) = await self._ledger.read(boxes)
        return Counts(alive, packs, size, letters, mailboxes)

    # Sites ------------------------------------------------------------------------------------------------

    async def enroll(self, site: Site) -> None:
        await self._ledger.write(lambda con: enroll(con, site))

    async def site(self, site: SiteId) -> Site | None:
        rows = await self._ledger.read("SELECT name, card, at FROM sites WHERE site = ?", (site,))
        return Site(site, *rows[0]) if rows else None

    async def remember(self, site: SiteId, jti: Nonce, now: int) -> bool:
        sql = "INSERT INTO requests (site, jti, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        return await self._ledger.write(lambda con: con.execute(sql, (site, jti, now)).rowcount == 1)

    # Queues -----------------------------------------------------------------------------------------------

    async def post(self, owner: SiteId, sender: SiteId, digest: Digest, body: bytes, now: int) -> int:
        def work(con: Con) -> int:
            if not _rows(con, "SELECT 1 FROM sites WHERE site = ?", owner):
                raise AbsentError
            same = "SELECT seq FROM letters WHERE owner = ? AND sender = ? AND digest = ?"
            if rows := _rows(con, same, owner, sender, digest):
                return int(rows[0][0])
            return self._add_letter(con, owner, sender, digest, body, now)

        return await self._ledger.write(work)

    def _add_letter(
        self, con: Con, owner: bytes, sender: bytes, digest: bytes, body: bytes, now: int,
        where: tuple[str, str, int, int] = ("", "", 0, 0),
    ) -> int:  # fmt: skip
        waiting = "SELECT count(*), coalesce(sum(size), 0) FROM letters WHERE owner = ? AND sender = ?"
        count, size = _rows(con, waiting, owner, sender)[0]
        if count >= self._quota.pair_letters or size + len(body) > self._quota.pair_bytes:
            raise QuotaError
        add = (
            "INSERT INTO letters (owner, sender, digest, at, size, body, mb, run, slot, i)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        row = (owner, sender, digest, now, len(body), body, *where)
        return int(con.execute(add, row).lastrowid or 0)

    async def letters(self, owner: SiteId, after: int, most: int) -> list[Letter]:
        sql = (
            "SELECT seq, at, sender, body, mb, run, slot, i FROM letters"
            " WHERE owner = ? AND seq > ? ORDER BY seq LIMIT ?"
        )
        return [Letter(*row) for row in await self._ledger.read(sql, (owner, after, most))]

    async def ack(self, owner: SiteId, seqs: list[int]) -> None:
        rows = [(owner, seq) for seq in seqs]
        sql = "DELETE FROM letters WHERE owner = ? AND seq = ?"
        await self._ledger.write(lambda con: con.executemany(sql, rows).rowcount)

    # Pre-keys ---------------------------------------------------------------------------------------------

    async def put_prekey(self, site: SiteId, kid: Kid, compact: str, nbf: int, exp: int, now: int) -> None:
        def work(con: Con) -> None:
            con.execute("DELETE FROM prekeys WHERE site = ? AND exp <= ?", (site, now))
            con.execute(
                "INSERT INTO prekeys (site, kid, body, nbf, exp) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (site, kid) DO UPDATE SET body = excluded.body, nbf = excluded.nbf, exp = excluded.exp",
                (site, kid, compact, nbf, exp),
            )
            con.execute(
                "DELETE FROM prekeys WHERE site = ?1 AND kid NOT IN"
                " (SELECT kid FROM prekeys WHERE site = ?1 ORDER BY nbf DESC, kid LIMIT ?2)",
                (site, metastore.PREKEYS),
            )

        await self._ledger.write(work)

    async def prekeys(self, site: SiteId, now: int) -> list[str]:
        if await self.site(site) is None:
            raise AbsentError
        sql = "SELECT body FROM prekeys WHERE site = ? AND exp > ? ORDER BY nbf DESC, kid"
        return [row[0] for row in await self._ledger.read(sql, (site, now))]

    # Packs ------------------------------------------------------------------------------------------------

    async def own(self, cid: Cid, site: SiteId, now: int) -> None:
        await self._ledger.write(lambda con: self._own(con, cid, site, now))

    def _own(self, con: Con, cid: Cid, site: SiteId, now: int) -> None:
        if rows := _rows(con, "SELECT owner, gone FROM cids WHERE cid = ?", cid):
            check_owner(rows[0][0], site, bool(rows[0][1]))
            return
        alive = _rows(con, "SELECT count(*) FROM cids WHERE owner = ? AND gone = 0", site)[0][0]
        if alive >= self._quota.site_cids:
            raise QuotaError
        dies = now + metastore.PACK_LIFE
        con.execute("INSERT INTO cids (cid, owner, dies) VALUES (?, ?, ?)", (cid, site, dies))

    async def find_pack(self, cid: Cid, n: int, owner: SiteId) -> tuple[bool, Pack | None]:
        rows = await self._ledger.read(
            "SELECT c.owner, c.gone, p.n, p.kind, p.size, p.digest, p.arrival"
            " FROM cids c LEFT JOIN packs p ON p.cid = c.cid AND p.n = ? WHERE c.cid = ?",
            (n, cid),
        )
        if not rows:
            return False, None
        check_owner(rows[0][0], owner, bool(rows[0][1]))
        return True, None if rows[0][2] is None else _pack(rows[0][2:])

    async def add_pack(self, cid: Cid, site: SiteId, pack: Pack) -> bool:
        def work(con: Con) -> bool:
            rows = _rows(con, "SELECT owner, gone, packs FROM cids WHERE cid = ?", cid)
            if not rows:
                raise AbsentError
            check_owner(rows[0][0], site, bool(rows[0][1]))
            same = _rows(con, "SELECT kind, digest FROM packs WHERE cid = ? AND n = ?", cid, pack.n)
            if same and same[0] != (pack.kind, pack.digest):
                raise DifferentError
            if same:
                return False
            self._take_room(con, cid, site, rows[0][2], pack.size)
            con.execute(
                "INSERT INTO packs (cid, n, kind, size, digest) VALUES (?, ?, ?, ?, ?)",
                (cid, pack.n, pack.kind, pack.size, pack.digest),
            )
            return True

        return await self._ledger.write(work)

    def _take_room(self, con: Con, cid: Cid, site: SiteId, packs: int, size: int) -> None:
        stored = _rows(con, "SELECT stored FROM sites WHERE site = ?", site)
        if packs >= self._quota.cid_packs or not stored or stored[0][0] + size > self._quota.site_bytes:
            raise QuotaError
        con.execute("UPDATE sites SET stored = stored + ? WHERE site = ?", (size, site))
        con.execute("UPDATE cids SET packs = packs + 1, bytes = bytes + ? WHERE cid = ?", (size, cid))

    async def pack(self, cid: Cid, n: int, reader: SiteId) -> Pack:
        await self._check_reader(cid, reader)
        sql = "SELECT n, kind, size, digest, arrival FROM packs WHERE cid = ? AND n = ?"
        rows = await self._ledger.read(sql, (cid, n))
        if not rows:
            raise AbsentError
        return _pack(rows[0])

    async def packs(self, cid: Cid, reader: SiteId, after: int, most: int) -> list[Pack]:
        await self._check_reader(cid, reader)
        sql = (
            "SELECT n, kind, size, digest, arrival FROM packs"
            " WHERE cid = ? AND arrival > ? ORDER BY arrival LIMIT ?"
        )  # fmt: skip
        return [_pack(row) for row in await self._ledger.read(sql, (cid, after, most))]

    async def every_pack(self, after: int, most: int) -> list[tuple[Cid, Pack]]:
        sql = (
            "SELECT cid, n, kind, size, digest, arrival FROM packs WHERE arrival > ? ORDER BY arrival LIMIT ?"
        )
        return [(Cid(row[0]), _pack(row[1:])) for row in await self._ledger.read(sql, (after, most))]

    async def forget_packs(self, cid: Cid, numbers: list[int]) -> None:
        def work(con: Con) -> None:
            for n in numbers:
                lost = "DELETE FROM packs WHERE cid = ? AND n = ? RETURNING size"
                for (size,) in _rows(con, lost, cid, n):
                    con.execute(
                        "UPDATE cids SET packs = packs - 1, bytes = bytes - ? WHERE cid = ?", (size, cid)
                    )
                    con.execute(
                        "UPDATE sites SET stored = stored - ? WHERE site = (SELECT owner FROM cids WHERE cid = ?)",
                        (size, cid),
                    )

        await self._ledger.write(work)

    async def _check_reader(self, cid: Cid, reader: SiteId) -> None:
        rows = await self._ledger.read(
            "SELECT c.owner, c.gone, EXISTS (SELECT 1 FROM readers r WHERE r.cid = c.cid AND r.site = ?)"
            " FROM cids c WHERE c.cid = ?",
            (reader, cid),
        )
        if not rows:
            raise AbsentError
        owner, gone, named = rows[0]
        if gone:
            raise GoneError
        check_owner(reader if named else owner, reader, gone=False)

    async def add_readers(self, cid: Cid, site: SiteId, readers: list[SiteId], now: int) -> None:
        def work(con: Con) -> None:
            self._own(con, cid, site, now)
            for reader in readers:
                con.execute(
                    "INSERT INTO readers (cid, site) VALUES (?, ?) ON CONFLICT DO NOTHING", (cid, reader)
                )
            if _rows(con, "SELECT count(*) FROM readers WHERE cid = ?", cid)[0][0] > self._quota.cid_readers:
                raise QuotaError

        await self._ledger.write(work)

    async def delete_cid(self, cid: Cid, site: SiteId, now: int) -> None:
        def work(con: Con) -> None:
            rows = _rows(con, "SELECT owner, gone FROM cids WHERE cid = ?", cid)
            if not rows:
                raise AbsentError
            check_owner(rows[0][0], site, gone=False)
            if not rows[0][1]:
                _end_cid(con, cid)

        await self._ledger.write(work)

    # Mailboxes --------------------------------------------------------------------------------------------

    async def put_hello(self, mb: str, site: SiteId, hello: Hello, now: int) -> None:
        def work(con: Con) -> None:
            rows = _rows(con, "SELECT owner, gone, ended FROM mailboxes WHERE mb = ?", mb)
            if not rows:
                self._check_mailboxes(con, site)
                add = "INSERT INTO mailboxes (mb, owner, body, ended, dies) VALUES (?, ?, ?, ?, ?)"
                con.execute(add, (mb, site, hello.body, hello.ended, hello.dies))
                return
            owner, gone, ended = rows[0]
            check_owner(owner, site, bool(gone))
            if ended and not hello.ended:
                raise GoneError
            con.execute(
                "UPDATE mailboxes SET body = ?, ended = ?, dies = iif(ended, dies, ?) WHERE mb = ?",
                (hello.body, hello.ended, hello.dies, mb),
            )

        await self._ledger.write(work)

    def _check_mailboxes(self, con: Con, site: SiteId) -> None:
        alive = _rows(con, "SELECT count(*) FROM mailboxes WHERE owner = ? AND gone = 0", site)[0][0]
        if alive >= self._quota.site_mailboxes:
            raise QuotaError

    async def hello(self, mb: str) -> bytes:
        rows = await self._ledger.read("SELECT body, gone FROM mailboxes WHERE mb = ?", (mb,))
        return bytes(_present(rows))

    async def put_message(
        self, mb: str, run: str, slot: int, body: bytes, digest: Digest, site: SiteId | None, now: int
    ) -> Posted:
        def work(con: Con) -> Posted:
            rows = _rows(con, "SELECT owner, gone, ended FROM mailboxes WHERE mb = ?", mb)
            if not rows:
                raise AbsentError
            owner, gone, ended = rows[0]
            if site is not None:
                check_owner(owner, site, bool(gone))
            elif gone or ended:
                raise GoneError
            before = _rows(
                con, "SELECT i, digest FROM messages WHERE mb = ? AND run = ? AND slot = ?", mb, run, slot
            )
            for i, other in before:
                if other == digest:
                    return Posted(i, SiteId(owner), new=False)
            if len(before) >= SLOT_CAPS[slot]:
                raise DifferentError
            _check_box(con, mb, slot, phone=site is None, now=now)
            i = len(before)
            con.execute(
                "INSERT INTO messages (mb, run, slot, i, at, digest, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (mb, run, slot, i, now, digest, body),
            )
            if site is None:
                name = sha256(f"{mb}/{run}/{slot}/{i}".encode())
                self._add_letter(con, owner, PHONE, name, body, now, (mb, run, slot, i))
            return Posted(i, SiteId(owner), new=True)

        return await self._ledger.write(work)

    async def message(self, mb: str, run: str, slot: int, i: int) -> bytes | None:
        _present(await self._ledger.read("SELECT 1, gone FROM mailboxes WHERE mb = ?", (mb,)))
        sql = "SELECT body FROM messages WHERE mb = ? AND run = ? AND slot = ? AND i = ?"
        rows = await self._ledger.read(sql, (mb, run, slot, i))
        return bytes(rows[0][0]) if rows else None

    async def delete_mailbox(self, mb: str, site: SiteId) -> None:
        def work(con: Con) -> None:
            rows = _rows(con, "SELECT owner FROM mailboxes WHERE mb = ?", mb)
            if not rows:
                raise AbsentError
            check_owner(rows[0][0], site, gone=False)
            _end_mailbox(con, mb)

        await self._ledger.write(work)

    # Sweeping ---------------------------------------------------------------------------------------------

    async def expire(self, now: int, most: int) -> bool:
        def work(con: Con) -> bool:
            counts = [
                con.execute(sql, (limit, most)).rowcount
                for sql, limit in (
                    (_FORGET.format("requests", "site, jti", "at <= ?"), now - metastore.REQUEST_LIFE),
                    (_FORGET.format("letters", "seq", "at <= ?"), now - metastore.LETTER_LIFE),
                    (_FORGET.format("prekeys", "site, kid", "exp <= ?"), now),
                )
            ]
            cids = _rows(con, "SELECT cid FROM cids WHERE gone = 0 AND dies <= ? LIMIT ?", now, most)
            boxes = _rows(con, "SELECT mb FROM mailboxes WHERE gone = 0 AND dies <= ? LIMIT ?", now, most)
            for (cid,) in cids:
                _end_cid(con, cid)
            for (mb,) in boxes:
                _end_mailbox(con, mb)
            counts += [len(cids), len(boxes)]
            return max(counts) >= most

        return await self._ledger.write(work)

    async def doomed(self, most: int) -> list[Cid]:
        rows = await self._ledger.read("SELECT cid FROM cids WHERE gone = 1 LIMIT ?", (most,))
        return [Cid(row[0]) for row in rows]

    async def erased(self, cid: Cid) -> None:
        sql = "UPDATE cids SET gone = 2 WHERE cid = ? AND gone = 1"
        await self._ledger.write(lambda con: con.execute(sql, (cid,)).rowcount)

    async def alive(self, cids: list[Cid]) -> set[Cid]:
        found = set()
        for cid in cids:
            if await self._ledger.read("SELECT 1 FROM cids WHERE cid = ? AND gone < 2", (cid,)):
                found.add(cid)
        return found


_FORGET = "DELETE FROM {0} WHERE ({1}) IN (SELECT {1} FROM {0} WHERE {2} LIMIT ?)"


def enroll(con: Con, site: Site) -> None:
    """Inside a transaction: adds a site, or takes its newer card."""
    con.execute(
        "INSERT INTO sites (site, name, card, at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (site) DO UPDATE SET name = excluded.name, card = excluded.card",
        (site.site, site.name, site.card, site.at),
    )


def _rows(con: Con, sql: str, *args: Any) -> list[Row]:
    return con.execute(sql, args).fetchall()


def _pack(row: Row) -> Pack:
    n, kind, size, digest, arrival = row
    return Pack(n, kind, size, Digest(digest), arrival)


def _present(rows: list[Row]) -> Any:
    if not rows:
        raise AbsentError
    if rows[0][1]:
        raise GoneError
    return rows[0][0]


def _check_box(con: Con, mb: str, slot: int, *, phone: bool, now: int) -> None:
    """That one more message fits into this mailbox."""
    total, phones = _rows(con, "SELECT count(*), coalesce(sum(slot % 2), 0) FROM messages WHERE mb = ?", mb)[
        0
    ]
    if total >= metastore.BOX_MESSAGES or (phone and phones >= metastore.BOX_PHONE_MESSAGES):
        raise QuotaError
    if slot == 1:
        open_runs = _rows(
            con,
            "SELECT count(*) FROM messages m WHERE mb = ? AND slot = 1 AND at > ? AND NOT EXISTS"
            " (SELECT 1 FROM messages a WHERE a.mb = m.mb AND a.run = m.run AND a.slot = 2)",
            mb,
            now - metastore.RUN_PATIENCE,
        )[0][0]
        if open_runs >= metastore.BOX_OPEN_RUNS:
            raise RateError(retry=60)


def _end_cid(con: Con, cid: bytes) -> None:
    """Its rows go, its name stays."""
    con.execute(
        "UPDATE sites SET stored = stored - c.bytes FROM cids c WHERE c.cid = ? AND sites.site = c.owner",
        (cid,),
    )
    con.execute("DELETE FROM packs WHERE cid = ?", (cid,))
    con.execute("DELETE FROM readers WHERE cid = ?", (cid,))
    con.execute("UPDATE cids SET gone = 1, bytes = 0, packs = 0 WHERE cid = ?", (cid,))


def _end_mailbox(con: Con, mb: str) -> None:
    con.execute("DELETE FROM messages WHERE mb = ?", (mb,))
    con.execute("DELETE FROM letters WHERE mb = ? AND mb <> ''", (mb,))
    con.execute("UPDATE mailboxes SET gone = 1, body = x'' WHERE mb = ?", (mb,))
