"""One hospital's rooms without their loops, for the gateway's tests: a real folder, database, vault and identity, a
clock that stands still until it is moved, and messages carried by hand, so that a test can be the relay that lies.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from pydicom.dataset import Dataset

from clients.gateway import folder as folders
from clients.gateway.clock import Signal, system_random
from clients.gateway.dicom.part10 import write_part10
from clients.gateway.peers.dispatch import Dispatch
from clients.gateway.peers.outbox import Outbox
from clients.gateway.peers.pins import Peer, Pins
from clients.gateway.peers.relay import RelayClient, SiteEntry
from clients.gateway.receiving.inbox import Inbox
from clients.gateway.sending.doors import Doors
from clients.gateway.sending.offering import SiteWords
from clients.gateway.sending.offers import Offers
from clients.gateway.sending.studies import Adopted, Arrival, Studies
from clients.gateway.store.database import Database, rows
from clients.gateway.store.vault import Vault
from relay import service
from relay.config import Config, Rate, Rates
from relay.enroll import enroll
from tests.image_kit import EXPLICIT, encoded, image_elements, smooth
from transfer.door import Asked, PhoneDoor
from transfer.ids import BlobKey, Cid, Mailbox, MailboxId, SiteId, Tid, stored_mailbox
from transfer.links import mailbox_of
from transfer.mailbox import Answer, Hello, Point, Refusal, Sealed, Status
from transfer.messages import encode

NOW = 1_800_000_000
HOUR, DAY = 3600, 86400
PATIENCE = 60.0
"""Seconds after which a wait in a test is a failure; nothing is measured by it."""
NOWHERE = "http://127.0.0.1:9"
"""The discard port: a relay that is down."""


class StillClock:
    """A clock that a test moves."""

    def __init__(self, at: int = NOW) -> None:
        self.at = at

    def now(self) -> int:
        return self.at

    def __call__(self) -> int:
        return self.at


class House:
    """One hospital: its stores, and every room that needs no socket."""

    def __init__(self, folder: Path, clock: StillClock, relay_url: str = NOWHERE) -> None:
        self.folder, self.clock, self._relay_url = folder, clock, relay_url

    async def make(self, name: str, **options: object) -> House:
        """Makes the folder and opens it."""
        self.name = name
        await folders.init(
            self.folder, name=name, relay=self._relay_url, dicom="127.0.0.1:0", http="127.0.0.1:0", **options
        )
        await self.open()
        return self

    async def open(self) -> None:
        """Opens what is on disk: again after `close`, as after a restart."""
        self.vault = Vault.load(self.folder)
        self.db = Database(self.folder / "gateway.db")
        await self.db.open()
        self.identity = await self.db.run(lambda con: folders.read_identity(con, self.vault))
        self.site = self.identity.site
        self.card = folders.own_card(self.folder, self.identity, self.clock)
        self.relay = RelayClient(self._relay_url, self.identity.key, self.clock, system_random)
        await self.relay.open()
        self.arrived, self.packed, self.outgoing, self.changed = Signal(), Signal(), Signal(), Signal()
        self.pins = Pins(self.db, self.vault, self.identity, self.relay, self.clock, system_random)
        self.studies = Studies(self.db, self.clock, self.folder, self.arrived, self.changed)
        own = (self.db, self.vault, self.identity)
        self.offers = Offers(*own, self.clock, system_random, self.outgoing, self.changed)
        self.doors = Doors(*own, self.offers, self.clock, system_random, self.outgoing, self.changed)
        self.inbox = Inbox(*own, self.pins, self.clock, self.outgoing, self.changed)
        self.outbox = Outbox(
            self.db, self.relay, self.clock, self.outgoing, self.changed, self.offers.refused
        )
        self.dispatch = Dispatch(
            self.db, self.relay, self.pins, self.doors, self.offers, self.inbox, self.clock
        )
        for name in ("spool", "sealed", "restored"):
            (self.folder / name).mkdir(exist_ok=True)

    async def close(self) -> None:
        await self.relay.close()
        await self.db.close()

    async def restart(self) -> None:
        """What memory held is gone."""
        await self.close()
        await self.open()

    # The database

    async def rows(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        return await self.db.run(lambda con: rows(con, sql, args))

    async def one(self, sql: str, *args: Any) -> sqlite3.Row:
        (row,) = await self.rows(sql, *args)
        return row

    async def value(self, sql: str, *args: Any) -> Any:
        return (await self.one(sql, *args))[0]

    async def execute(self, sql: str, *args: Any) -> None:
        await self.db.run(lambda con: con.execute(sql, args))

    async def send(self, tid: Tid) -> sqlite3.Row:
        """The row of a transfer that this house sends."""
        return await self.one("SELECT * FROM sends WHERE tid=?", tid)

    async def receive(self, tid: Tid) -> sqlite3.Row:
        """The row of a transfer that this house receives."""
        return await self.one("SELECT * FROM receives WHERE tid=?", tid)

    async def alarms(self, tid: bytes | None) -> list[str]:
        """The codes of its alarms."""
        return [r[0] for r in await self.rows("SELECT code FROM alarms WHERE tid IS ? ORDER BY id", tid)]

    async def actions(self, subject: str = "") -> list[str]:
        """What the audit log says of a subject, oldest first."""
        found = await self.rows(
            "SELECT action FROM audit WHERE subject=? OR ''=? ORDER BY seq", subject, subject
        )
        return [r[0] for r in found]

    def on_disk(self, *secrets_: bytes) -> list[str]:
        """The files of the database in which one of `secrets_` can be found."""
        assert secrets_
        assert all(len(x) >= 16 for x in secrets_)
        files = [self.folder / f"gateway.db{end}" for end in ("", "-wal")]
        return [f.name for f in files if f.exists() and any(x in f.read_bytes() for x in secrets_)]

    @asynccontextmanager
    async def full_disk(self) -> AsyncIterator[None]:
        """The database cannot grow (SQLITE_FULL, as on a full disk) until the block ends."""
        pages = await self.value("PRAGMA page_count")
        free = await self.value("PRAGMA freelist_count")
        if free:
            await self.execute("CREATE TABLE IF NOT EXISTS ballast (x BLOB)")
            await self.execute("INSERT INTO ballast VALUES (zeroblob(?))", (free + 1) * 4096)
            pages = await self.value("PRAGMA page_count")
        await self.execute(f"PRAGMA max_page_count={pages}")
        try:
            yield
        finally:
            await self.execute("PRAGMA max_page_count=1073741823")

    # Instances

    def file(self, ds: Dataset | None = None, syntax: str = EXPLICIT, **changes: Any) -> Path:
        """A whole instance, not yet in `incoming`."""
        ds = ds if ds is not None else an_instance(**changes)
        made = self.folder / "made"
        made.mkdir(exist_ok=True)
        path = made / f"{secrets.token_hex(16)}.dcm"
        write_part10(path, encoded(ds, syntax), ds.SOPClassUID, ds.SOPInstanceUID, syntax)
        return path

    def land(self, path: Path) -> Path:
        """In `incoming`, as the SCP leaves it before it tells."""
        return path.rename(self.studies.incoming / path.name)

    async def adopt(self, *files: Path, source: str = "CT1") -> list[Adopted]:
        """Takes files in, in this order, through the running room."""
        async with running(self.studies.run()), asyncio.timeout(PATIENCE):
            await self.studies.adopt(Arrival(self.studies.incoming / "nothing.dcm", source))  # it has swept
            arrivals = [Arrival(self.land(f) if f.parent.name == "made" else f, source) for f in files]
            return list(await asyncio.gather(*map(self.studies.adopt, arrivals)))

    async def a_study(self, instances: int = 3, *, close: bool = True, **changes: Any) -> str:
        """A study of small images; its id here."""
        files = [self.file(InstanceNumber=i + 1, **changes) for i in range(instances)]
        (study,) = {a.study for a in await self.adopt(*files)}
        if close:
            await self.studies.close(study, "test")
        return study

    # Transfers

    async def offer_to(self, peer: House, study: str = "", seconds: int = 2 * HOUR) -> Tid:
        """A transfer in OFFERED; its messages wait in the outbox."""
        study = study or await self.a_study()
        tid = await self.offers.create(study, peer.site, "transfer", "clerk")
        await self.make_offer(tid, peer, seconds)
        return tid

    async def make_offer(self, tid: Tid, peer: House, seconds: int = 2 * HOUR) -> None:
        """The offer, under the newest pre-key of `peer`, which reached us somehow."""
        with suppress(Exception):
            await peer.pins.renew()  # makes one; publishing it may fail, as the relay may be down
        text = await peer.value("SELECT message FROM prekeys ORDER BY exp DESC LIMIT 1")
        prekey = self.pins._verified([text], peer.site)
        assert prekey is not None
        await self.offers.offer(tid, *prekey, SiteWords(self.name, "Ward 3"), seconds)

    async def letters(self, kind: str = "queue") -> list[str]:
        """The messages that wait for other sites, oldest first."""
        return [
            bytes(r[0]).decode()
            for r in await self.rows("SELECT body FROM outbox WHERE kind=? ORDER BY id", kind)
        ]

    async def hear(self, text: str, source: House | SiteId) -> None:
        """One message from the relay's queue, said to come from `source`."""
        site = source.site if isinstance(source, House) else source
        await self.dispatch.handle(SiteEntry(seq=1, at=self.clock.at, body=text, source=site.text))

    async def pin(self, other: House) -> Peer:
        await self.pins.pin(other.card, "test")
        peer = await self.pins.get(other.site)
        assert peer is not None
        return peer


async def carry(source: House, target: House) -> None:
    """What waits at `source` for `target` arrives, both ways until nothing is left; acks end the outbox entries."""
    for _ in range(10):
        found = await source.rows(
            "SELECT * FROM outbox WHERE kind IN ('queue', 'ack') AND target=? ORDER BY id", target.site.hex()
        )
        for row in found:
            await target.hear(bytes(row["body"]).decode(), source)
            if row["kind"] == "ack":
                await source.execute("DELETE FROM outbox WHERE id=?", row["id"])
        source, target = target, source
        if not found and not await source.rows(
            "SELECT 1 FROM outbox WHERE kind IN ('queue', 'ack') AND target=?", target.site.hex()
        ):
            return


class Handset:
    """A phone at the open door of `tid` at `house`; what it posts goes straight to the doors."""

    def __init__(self, house: House, tid: Tid, q: bytes, pin: str) -> None:
        self.house, self.tid, self.q, self.pin = house, tid, q, pin
        self.door = PhoneDoor(q, pin, system_random)
        self.mailbox: Mailbox = mailbox_of(q)

    @classmethod
    async def scan(cls, house: House, tid: Tid, *, wrong: bool = False) -> Handset:
        """With the PIN that was told, or with a wrong one."""
        row = await house.send(tid)
        pin = house.vault.open("pin", row["pin_sealed"]).decode()
        space = 10 ** len(pin)
        pin = f"{(int(pin) + 1 + secrets.randbelow(space - 1)) % space:0{len(pin)}d}" if wrong else pin
        phone = cls(house, tid, house.vault.open("q", row["q_sealed"]), pin)
        phone.mailbox = stored_mailbox(row["mailbox"])
        return phone

    async def post(self, slot: int, body: bytes) -> None:
        await self.house.doors.handle(
            SiteEntry(
                seq=1, at=self.house.clock.at, body=msgspec.json.decode(body), mb=self.mailbox.name,
                run=self.door.run.hex(), slot=slot,
            )
        )  # fmt: skip

    async def answers(self, slot: int) -> list[bytes]:
        """What S has left for this run in a slot and the relay has not yet taken."""
        found = await self.house.rows(
            "SELECT body FROM outbox WHERE kind='mailbox' AND target=? ORDER BY id",
            f"/m/{self.mailbox.name}/{self.door.run.hex()}/{slot}",
        )
        return [bytes(r[0]) for r in found]

    async def start(self) -> bytes:
        """m1, as it was posted."""
        row = await self.house.send(self.tid)
        hello = Hello(v=1, tid=self.tid, s=self.house.site, exp=row["exp"] or self.house.clock.at)
        self.m1 = encode(self.door.hello(encode(hello)))
        await self.post(1, self.m1)
        return self.m1

    async def prove(self) -> bytes:
        """m3, as it was posted, after m2."""
        (m2,) = await self.answers(2)
        msgspec.json.decode(m2, type=Point, dec_hook=lambda kind, text: kind.parse(text))
        self.m3 = encode(self.door.point(m2))
        await self.post(3, self.m3)
        return self.m3

    async def ask(self) -> Asked:
        """To the question. Raises what the phone's page would show."""
        await self.start()
        await self.prove()
        (m4,) = await self.answers(4)
        return self.door.answer(m4)

    async def decide(self, d: str = "approve", **changes: str) -> Status:
        """To m6."""
        words = {"by": "patient", "name": "", "rel": "self", "lang": "en", **changes}
        self.m5 = encode(self.door.decide(d, t=self.house.clock.at, **words))
        return await self._wish()

    async def stop(self) -> Status:
        self.m5 = encode(self.door.stop())
        return await self._wish()

    async def say(self, plain: str) -> Status:
        """To m6, with whatever a page of their own puts into m5."""
        self.door.state = "DECIDED"
        self.m5 = encode(Sealed(v=1, box=BlobKey(self.door._channel.seal(plain.encode()))))
        return await self._wish()

    async def _wish(self) -> Status:
        before = len(await self.answers(6))
        await self.post(5, self.m5)
        return self.door.status((await self.answers(6))[before])


def an_instance(**changes: object) -> Dataset:
    """A small CT image of the one study; `changes` by keyword."""
    number = int(str(changes.get("InstanceNumber", 1)))
    ds = image_elements(smooth((24, 32), seed=number))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.11", "2.25.12"
    ds.SOPInstanceUID = f"2.25.1000{secrets.randbelow(10**12)}"
    ds.PatientID, ds.PatientBirthDate, ds.SeriesNumber, ds.InstanceNumber = "P1", "19700102", "1", number
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


@asynccontextmanager
async def running(*loops: Any) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Loops of rooms, for as long as the block runs."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def houses(
    base: Path, relay_url: str = NOWHERE, clock: StillClock | None = None
) -> AsyncIterator[tuple[House, House]]:
    """Two hospitals that have pinned each other: the sender and the receiver."""
    clock = clock or StillClock()
    s = await House(base / "s", clock, relay_url).make("Valley ED")
    r = await House(base / "r", clock, relay_url).make("Lakeside Trauma Center", pacs="PACS@127.0.0.1:9")
    try:
        await s.pin(r)
        await r.pin(s)
        yield s, r
    finally:
        await s.close()
        await r.close()


@asynccontextmanager
async def a_relay(base: Path, clock: StillClock, *cards: str) -> AsyncIterator[service.Running]:
    """A real relay on `base`, with these sites enrolled."""
    fast = Rate(per_second=1e6, burst=10**6)
    config = Config(
        listen="127.0.0.1:0", data=base, access_log=False,
        rates=Rates(site=fast, address=fast, mailbox=fast, stranger=fast),
    )  # fmt: skip
    for card in cards:
        enroll(base, card, clock=clock)
    relay = await service.start(config, clock=clock)
    try:
        yield relay
    finally:
        await relay.stop()


@asynccontextmanager
async def houses_at_a_relay(base: Path) -> AsyncIterator[tuple[House, House, service.Running]]:
    """The two hospitals enrolled at a relay of their own, whose data is in `base / "relay"`."""
    clock = StillClock()
    async with a_relay(base / "relay", clock) as relay, houses(base, relay.url, clock) as (s, r):
        for house in (s, r):
            enroll(base / "relay", house.card, clock=clock)
        yield s, r, relay


async def eventually(look: Any, *signals: Signal) -> Any:
    """What `look` finds once it finds something; asked again after each change."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.02)


__all__: Sequence[str] = (
    "Answer", "Cid", "MailboxId", "Refusal", "Sealed",
)  # fmt: skip
